"""From a run to an artifact.

After the verdict the winner is trained once more, on the groups of all splits: nothing is left to
be measured then, so its scores are the strategy's, from before. Intervals come from ``confirm``,
by the strategy as the search trained it, which has learned nothing there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from types import ModuleType

import torch
from torch import Tensor

from metatune.analysis import verdict_table
from metatune.artifact import files
from metatune.artifact import members as m
from metatune.artifact.card import Scored, card
from metatune.artifact.fallback import Predict
from metatune.artifact.intervals import Calibration
from metatune.artifact.learner import Artifact
from metatune.artifact.likeness import Likeness
from metatune.artifact.loading import opened
from metatune.artifact.measures import calibration_of, likeness_of, one_by_one, predict_of, weigh
from metatune.artifact.origin import Taken
from metatune.errors import ArtifactError, Diverged
from metatune.history import History, Trial
from metatune.learners.arrays import KINDS
from metatune.learners.interface import Tensors
from metatune.own import load_own, look_in
from metatune.plan import Plan
from metatune.records.folder import RunFolder
from metatune.records.reading import read_rows, read_run
from metatune.seeds import derive_seed
from metatune.session import planned
from metatune.strategy import Pooled, Strategy
from metatune.tasks.base import TaskFamily
from metatune.tasks.registry import open_family
from metatune.tasks.whole import WholeFamily
from metatune.trial import Fitted, fit


def export(
    run: str | Path,
    out: str | Path,
    *,
    trial: str | None = None,
    refit: bool | None = None,
    licence: str | None = None,
) -> Path:
    """Write a run's winner, or a trial of it, as an artifact.

    Args:
        run: the run's folder; its data must be at hand.
        out: the artifact's folder, new or empty.
        trial: whose strategy; by default the verdict's winner.
        refit: train it once more, on the groups of all splits; by default where the run has given
            its verdict. Otherwise it is taken as the search trained it.
        licence: of the data, for the card; by default the space file's, else the family's.

    Returns:
        The artifact's folder.

    Raises:
        RunError, DataError: the run or its data cannot be read.
        ArtifactError: there is no such trial, or it cannot be exported.
    """
    folder_out = files.new_folder(out)
    folder, plan = planned(run)
    history = History(plan.info.metric.sign, read_rows(folder))
    chosen = _chosen(history, trial, folder)
    anew = history.verdict is not None if refit is None else refit
    if plan.code is not None:
        look_in(plan.code)
    space = plan.space.space.family
    family = open_family(space.name, space.data_dir, plan.options)
    whole: TaskFamily = WholeFamily(family) if anew else family
    trials = _trials(history, chosen)
    before = [_as_trained(folder, plan, one, family) for one in trials]
    after = _anew(plan, trials, whole) if anew else before
    predict, rival = predict_of(before, plan.info), _baseline(history, plan, trials)
    weighed, fallback, baseline = None, None, None
    if rival is not None:
        alike = _as_trained(folder, plan, rival, family)
        predict_rival = predict_of([alike], plan.info)
        weighed = weigh(plan, family, predict, predict_rival, rival.asked.name)
        if weighed is not None and weighed.pays:
            fallback = (rival.asked.name, predict_rival)
            baseline = _anew(plan, [rival], whole)[0] if anew else alike
    taken = Taken(folder, plan, family, trials, after, anew, weighed, baseline)
    calibration = calibration_of(plan, family, predict, fallback)
    plain, tensors = taken.plain(), _tensors(taken, likeness_of(plan, whole), calibration)
    told = licence or space.licence or plan.info.licence or None
    text = card(plain, plan.info, _scored(folder, chosen), weighed, calibration, told)
    stored = files.Stored(plain, tensors, text)
    _proved(stored, taken)
    return files.write(stored, folder_out)


def _tensors(
    taken: Taken, likeness: Likeness, calibration: Calibration | None
) -> dict[str, Tensor]:
    """All numbers by name."""
    each = [*enumerate(taken.fitted), *([("fallback", taken.baseline)] if taken.baseline else [])]
    tensors = {
        f"{place}/{name}": tensor
        for place, fitted in each
        for name, tensor in m.to_tensors(m.member_of(fitted)).items()
    }
    tensors |= {f"likeness/{name}": getattr(likeness, name) for name in ("mean", "spread", "limit")}
    if calibration is not None:
        named = ("scores", "group", "floor")
        tensors |= {f"calibration/{name}": getattr(calibration, name) for name in named}
    return tensors


# --- what is exported ----------------------------------------------------------------------------


def _chosen(history: History, name: str | None, folder: RunFolder) -> Trial:
    """The trial or ensemble that is asked for.

    Raises:
        ArtifactError: there is none.
    """
    if name is None:
        if history.verdict is None:
            raise ArtifactError(
                f"{folder.name} has given no verdict: name a trial by --trial, or go on with "
                f"metatune resume {quote(str(folder.where))}"
            )
        return history.find(history.verdict.winner)
    known = {**history.trials, **history.ensembles}
    if name not in known:
        done = [t.id for t in history.trials.values() if t.completed]
        raise ArtifactError(
            f"trial: found {name[:40]!r}, which {folder.name} does not have; allowed: "
            f"{', '.join(done[:8]) or 'none yet'}"
        )
    return known[name]


def _trials(history: History, chosen: Trial) -> list[Trial]:
    """The trial, or the members of an ensemble; each has come to its end."""
    members = [history.trials[name] for name in chosen.asked.members] or [chosen]
    for one in members:
        if not one.completed:
            state = "running" if one.ended is None else one.ended.state
            raise ArtifactError(
                f"trial: found {one.id}, which is {state}; allowed: a completed one"
            )
    return members


def _baseline(history: History, plan: Plan, trials: Sequence[Trial]) -> Trial | None:
    """What it may fall back to: the best preset or baseline as chosen on ``select``.

    None where that is what is exported, or cannot lie in an artifact: parts of somebody's own, a
    pooled model that has no form as arrays.
    """
    if history.verdict is not None:
        rival = history.find(history.verdict.rival)
        best = history.trials[rival.asked.members[0]] if rival.asked.members else rival
    else:
        named = [t for t in history.trials.values() if t.asked.name in plan.space.rivals]
        known = {t.id: history.gain(t, t.rungs[-1]) or 0.0 for t in named if t.completed}
        if not known:
            return None
        best = history.trials[max(known, key=lambda name: known[name])]
    strategy = Strategy.model_validate(best.asked.strategy)
    model = strategy.prior.model if isinstance(strategy.prior, Pooled) else None
    fits = best.completed and not strategy.has_own_part and model in (None, *KINDS)
    same = best.asked.digest in {trial.asked.digest for trial in trials}
    return best if fits and not same else None


def _as_trained(folder: RunFolder, plan: Plan, trial: Trial, family: TaskFamily) -> Fitted:
    """The strategy as the search trained it: from its checkpoint, else trained again alike."""
    job = plan.job(
        trial.asked,
        "select",
        folder=folder.trial(trial.id),
        recorded=trial.rungs[-1],
        train=False,
    )
    return _fitted(partial(fit, job, family), trial)


def _anew(plan: Plan, trials: Sequence[Trial], family: TaskFamily) -> list[Fitted]:
    """Each strategy trained on all groups; one that stands there twice with a seed for each."""
    found = []
    for number, trial in enumerate(trials):
        before = sum(one.asked.digest == trial.asked.digest for one in trials[:number])
        job = plan.job(trial.asked, "select", folder=None, replica=before)  # not judged
        found.append(_fitted(partial(fit, job, family), trial))
    return found


def _fitted(make: Callable[[], Fitted], trial: Trial) -> Fitted:
    try:
        return make()
    except Diverged as error:
        raise ArtifactError(
            f"{trial.id} ({trial.asked.name}) diverged when it was trained once more: {error}; "
            "take it as the search trained it, by --as-trained"
        ) from error


# --- what is told and proved ----------------------------------------------------------------------


def _scored(folder: RunFolder, chosen: Trial) -> Scored | None:
    """What the verdict measured of it; None where it did not."""
    run = read_run(folder.where)
    table = verdict_table(run)
    if chosen.id not in table.index:
        return None
    row = {str(key): value for key, value in table.loc[chosen.id].to_dict().items()}
    final = run.verdicts.iloc[-1]
    tested = run.scores.query("trial == @chosen.id and split == 'test' and replica > 0")
    by_group = tested.groupby("group", observed=True)["score"].mean()
    return Scored(
        score=float(row["score"]),
        low=float(row["low"]),
        high=float(row["high"]),
        trainings=int(row["trainings"]),
        tasks=int(row["tasks"]),
        groups={str(group): float(value) for group, value in by_group.items()},
        claim=str(final["claim"]),
        sentence=str(final["sentence"]),
        winner=str(final["winner"]) == chosen.id,
    )


def _proved(stored: files.Stored, taken: Taken) -> None:
    """Raise ArtifactError unless what was made predicts as what it was made of."""
    plan, fitted = taken.plan, taken.fitted
    seeds = [derive_seed(plan.seed, "proof", number) for number in range(4)]
    tasks = list(one_by_one(taken.family.sample("train", plan.space.space.episode, seeds)))
    plain = json.loads(json.dumps(stored.plain))  # as it will be read
    with _parts_of(fitted) as parts:
        artifact = opened(replace(stored, plain=plain), Path("the artifact"), parts)
        _alike(artifact, artifact.members, predict_of(fitted, plan.info), tasks)
        if taken.baseline is not None and artifact.fallback is not None:
            baseline = predict_of([taken.baseline], plan.info)
            _alike(artifact, artifact.fallback.members, baseline, tasks)


def _alike(
    artifact: Artifact,
    members: tuple[m.Member, ...],
    predict: Predict,
    tasks: Sequence[tuple[str, Tensors]],
) -> None:
    """Raise ArtifactError unless members of the artifact predict tasks as they are to."""
    way = artifact.episode.way if artifact.is_classifier else 1
    for _, task in tasks:
        learned = artifact.learned(task.support_x[0], task.support_y[0], way, members)
        found, expected = learned(task.query_x[0]), predict(task)[0]
        if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
            most = float((found - expected).abs().max())
            raise ArtifactError(
                f"the artifact predicts otherwise than its strategy, by up to {most:.3g}"
            )


@contextmanager
def _parts_of(fitted: Sequence[Fitted]) -> Iterator[ModuleType]:
    """A module that holds all parts of the user's own, for as long as it is needed."""
    module = ModuleType("metatune_parts_of_the_run")
    for one in fitted:
        for place, part in m.own_parts(m.named_in_full(one.strategy)):
            setattr(module, part.use.rpartition(":")[2], load_own(part, m.ROOMS[place]))
    sys.modules[module.__name__] = module
    try:
        yield module
    finally:
        del sys.modules[module.__name__]
