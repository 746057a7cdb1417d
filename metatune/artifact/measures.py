"""What an artifact says of errors to come and of tasks like those of the training, measured.

What is measured on ``confirm`` is measured of strategies as the search trained them, which have
learned nothing there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from metatune.artifact import members as m
from metatune.artifact.fallback import Predict, choose
from metatune.artifact.intervals import Calibration, unit
from metatune.artifact.likeness import Likeness, summary
from metatune.errors import ArtifactError
from metatune.evaluation import judge
from metatune.learners.interface import Tensors, to_tensors
from metatune.learners.padding import by_size
from metatune.plan import Plan
from metatune.seeds import derive_seed
from metatune.statistics import Claim, Estimate, claim_for, estimate, share_worse
from metatune.tasks.base import FamilyInfo, TaskBatch, TaskFamily
from metatune.trial import Fitted

LOOKED_AT = 512  # tasks from which it is known what training tasks are like
CHUNK = 64
MEASURED = 256  # tasks of confirm, at most, on which intervals and the fallback are measured


def predict_of(fitted: Sequence[Fitted], info: FamilyInfo) -> Predict:
    """How strategies predict together."""
    members, learners = [m.member_of(one) for one in fitted], [one.learner for one in fitted]
    return partial(m.predict, members, learners, info.kind == "classification")


def one_by_one(batch: TaskBatch) -> Iterator[tuple[str, Tensors]]:
    """Each task by itself, without padding, and its group."""
    tensors = to_tensors(batch)
    alone: dict[int, Tensors] = {}
    for tasks, own in by_size(tensors):
        alone |= {task: own.tasks([number]) for number, task in enumerate(tasks)}
    for task, group in enumerate(batch.groups):
        yield group, alone[task]


def _of_confirm(plan: Plan, family: TaskFamily, purpose: str) -> Iterator[tuple[str, Tensors]]:
    """Tasks of ``confirm`` over which its groups take turns."""
    episode = plan.space.space.episode
    groups = family.usable_groups("confirm", episode)
    count = min(MEASURED, max(plan.tasks("confirm"), 4 * len(groups)))
    for start in range(0, count, CHUNK):
        numbers = range(start, min(count, start + CHUNK))
        seeds = [derive_seed(plan.seed, purpose, number) for number in numbers]
        turns = [groups[number % len(groups)] for number in numbers]
        yield from one_by_one(family.sample("confirm", episode, seeds, turns))


# --- falling back --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weighed:
    """What falling back to a baseline did on tasks of ``confirm``.

    Attributes:
        name: the baseline's.
        tasks: how many there were.
        taken: share of them that the baseline learned.
        alone, together: share that was worse than with the baseline, by the strategy alone and
            with the fallback.
        lowered: by how much it fell, with its 95 % interval.
        gain: change of the mean score; positive is better.
        claim: what the interval is about.
    """

    name: str
    tasks: int
    taken: float
    alone: float
    together: float
    lowered: Estimate
    gain: float
    claim: Claim

    @property
    def pays(self) -> bool:
        """True where fewer tasks were made worse, beyond chance, and the mean score did not fall.

        The second half keeps out what the first half alone lets in: whoever falls back often enough
        is never worse than the baseline, and never better.
        """
        return self.lowered.low > 0 and self.gain >= 0


def weigh(
    plan: Plan, family: TaskFamily, strategy: Predict, baseline: Predict, name: str
) -> Weighed | None:
    """Measure the fallback; None where it cannot be: supports are too small, predictions none."""
    info = family.info
    groups, fell = list[str](), list[bool]()
    own, other = list[float](), list[float]()
    for group, task in _of_confirm(plan, family, "fallback"):
        choice = choose(strategy, baseline, name, task.support_x[0], task.support_y[0], info)
        if choice is None:
            return None
        groups.append(group)
        fell.append(choice.fell_back)
        for found, predict in ((own, strategy), (other, baseline)):
            found.append(info.metric.sign * float(judge(info.metric, predict(task), task)[0]))
    alone, rival, back = torch.tensor(own), torch.tensor(other), torch.tensor(fell)
    if not bool(torch.isfinite(alone).all() and torch.isfinite(rival).all()):
        return None
    together = torch.where(back, rival, alone)
    claim = claim_for(groups) if info.grouped else "new tasks"
    spared = ((alone < rival) & back).double()
    return Weighed(
        name=name,
        tasks=len(groups),
        taken=float(back.double().mean()),
        alone=share_worse((alone - rival).tolist()),
        together=share_worse((together - rival).tolist()),
        lowered=estimate(spared.tolist(), groups, claim),
        gain=estimate((together - alone).tolist(), groups, claim).mean,
        claim=claim,
    )


# --- intervals -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Errors:
    """Errors of one task, and its group."""

    group: str
    absolute: Tensor
    support_y: Tensor


def calibration_of(
    plan: Plan, family: TaskFamily, strategy: Predict, fallback: tuple[str, Predict] | None
) -> Calibration | None:
    """Errors on ``confirm`` tasks, by group, of whoever learns each; None of classes."""
    info = family.info
    if info.kind != "regression":
        return None
    found = [
        _errors(group, task, info, strategy, fallback)
        for group, task in _of_confirm(plan, family, "calibration")
    ]
    # Where groups mean nothing, each task is what the next one is exchangeable with.
    of_task = [one.group if info.grouped else str(task) for task, one in enumerate(found)]
    names = sorted(set(of_task))
    spreads = torch.stack([one.support_y.std(0, correction=0) for one in found])
    floor = spreads.median(0).values.clamp_min(1e-6)
    scores = [one.absolute / unit(one.support_y, floor) for one in found]
    return Calibration(
        scores=torch.cat(scores),
        group=torch.tensor(
            [names.index(name) for name, own in zip(of_task, scores, strict=True) for _ in own]
        ),
        floor=floor,
    )


def _errors(
    group: str,
    task: Tensors,
    info: FamilyInfo,
    strategy: Predict,
    fallback: tuple[str, Predict] | None,
) -> _Errors:
    predict = strategy
    if fallback is not None:
        name, baseline = fallback
        choice = choose(strategy, baseline, name, task.support_x[0], task.support_y[0], info)
        predict = baseline if choice is not None and choice.fell_back else strategy
    absolute = (predict(task) - task.query_y)[0].abs().double()
    if not bool(torch.isfinite(absolute).all()):
        raise ArtifactError("confirm: found predictions that are not finite")
    return _Errors(group, absolute, task.support_y[0].double())


# --- likeness ------------------------------------------------------------------------------------


def likeness_of(plan: Plan, family: TaskFamily) -> Likeness:
    """What the support sets of training tasks are like."""
    episode, found = plan.space.space.episode, []
    regression = family.info.kind == "regression"
    for start in range(0, LOOKED_AT, CHUNK):
        seeds = [derive_seed(plan.seed, "likeness", start + number) for number in range(CHUNK)]
        for _, own in by_size(to_tensors(family.sample("train", episode, seeds))):
            found.append(summary(own.support_x, own.support_y if regression else None))
    return Likeness.of(torch.cat(found))
