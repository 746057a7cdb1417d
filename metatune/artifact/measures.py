"""What an artifact says of errors to come and of tasks like those of the training, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metatune.artifact import members as m
from metatune.artifact.intervals import Calibration, unit
from metatune.artifact.likeness import Likeness, summary
from metatune.errors import ArtifactError
from metatune.learners.interface import to_tensors
from metatune.plan import Plan
from metatune.seeds import derive_seed
from metatune.tasks.base import FamilyInfo, TaskBatch, TaskFamily
from metatune.trial import Fitted

LOOKED_AT = 512  # tasks from which it is known what training tasks are like
CHUNK = 64
CALIBRATED = 256  # tasks of confirm, at most, that intervals come from


@dataclass(frozen=True)
class _Errors:
    """Errors of one task, and its group."""

    group: str
    absolute: Tensor
    support_y: Tensor


def calibration_of(plan: Plan, family: TaskFamily, fitted: Sequence[Fitted]) -> Calibration | None:
    """Errors of the strategy on ``confirm`` tasks, by group; None of classes."""
    info, episode = family.info, plan.space.space.episode
    if info.kind != "regression":
        return None
    groups = family.usable_groups("confirm", episode)
    count = min(CALIBRATED, max(plan.tasks("confirm"), 4 * len(groups)))
    found: list[_Errors] = []
    for start in range(0, count, CHUNK):
        numbers = range(start, min(count, start + CHUNK))
        seeds = [derive_seed(plan.seed, "calibration", number) for number in numbers]
        drawn = family.sample(
            "confirm", episode, seeds, [groups[number % len(groups)] for number in numbers]
        )
        found += _errors(drawn, info, fitted)
    # Where groups mean nothing, each task is what the next one is exchangeable with.
    of_task = [one.group if info.grouped else str(task) for task, one in enumerate(found)]
    names = sorted(set(of_task))
    supports = torch.stack([one.support_y for one in found])
    floor = supports.std(1, correction=0).median(0).values.clamp_min(1e-6)
    scores = [one.absolute / unit(one.support_y, floor) for one in found]
    return Calibration(
        scores=torch.cat(scores),
        group=torch.tensor(
            [names.index(name) for name, own in zip(of_task, scores, strict=True) for _ in own]
        ),
        floor=floor,
    )


def _errors(batch: TaskBatch, info: FamilyInfo, fitted: Sequence[Fitted]) -> list[_Errors]:
    tensors, members = to_tensors(batch), [m.member_of(one) for one in fitted]
    learners = [one.learner for one in fitted]
    predicted = m.predict(members, learners, info.kind == "classification", tensors)
    absolute = (predicted - tensors.query_y).abs().double()
    if not bool(torch.isfinite(absolute).all()):
        raise ArtifactError("confirm: found predictions that are not finite")
    return [
        _Errors(group, absolute[task], tensors.support_y[task].double())
        for task, group in enumerate(batch.groups)
    ]


def likeness_of(plan: Plan, family: TaskFamily) -> Likeness:
    """What the support sets of training tasks are like."""
    episode, found = plan.space.space.episode, []
    for start in range(0, LOOKED_AT, CHUNK):
        seeds = [derive_seed(plan.seed, "likeness", start + number) for number in range(CHUNK)]
        batch = to_tensors(family.sample("train", episode, seeds))
        regression = family.info.kind == "regression"
        found.append(summary(batch.support_x, batch.support_y if regression else None))
    return Likeness.of(torch.cat(found))
