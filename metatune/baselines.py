"""``metatune baselines``: is anything shared across these tasks worth learning?

A few known ways of learning, each task alone and pooled, on ``select`` tasks, against the number
of shots. ``test`` stays closed. Trials run as in a run, in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from metatune.errors import DataError
from metatune.jobs import RungResult, TrialJob
from metatune.presets import preset, presets_for
from metatune.statistics import Estimate, claim_for, estimate, holm, sign_flip_p
from metatune.tasks.base import SPLITS, Episode, FamilyInfo, TaskFamily

SHOTS = (4, 8, 16, 32)
OF_EACH = (1, 2, 4, 8)  # of each class, where tasks draw classes of their own
PARTS = (1 / 4, 1 / 2, 1, 2)
"""Of the support that a look at series proposes."""
TASKS = 120
RESOURCE = 300_000
"""Forward-equivalents of each: what 1,000 tasks of 16 rows take a pooled model with two folds."""
LEVEL = 0.05

ALONE, POOLED, CORRECTED = "each task alone", "pooled", "pooled, corrected for the task"
NUMBERS = {
    "ridge": ALONE,
    "pooled_linear": POOLED,
    "boosted_trees": POOLED,
    "pooled_ridge": CORRECTED,
    "pooled_trees": CORRECTED,
}
SERIES = {
    "seasonal_naive": ALONE,
    "last_value": ALONE,
    "ridge": ALONE,
    "seasonal_ridge": ALONE,
    "pooled_linear": POOLED,
    "boosted_trees": POOLED,
    "pooled_ridge": CORRECTED,
    "pooled_trees": CORRECTED,
}
CLASSES = {
    "support_mean": ALONE,
    "logistic": ALONE,
    "nearest_neighbour": ALONE,
    "pooled_linear": POOLED,
    "boosted_trees": POOLED,
    "pooled_ridge": CORRECTED,
    "protonet": CORRECTED,
    "good_embedding": CORRECTED,
}


@dataclass(frozen=True)
class Measured:
    """One way of learning at one number of shots.

    Attributes:
        name: the preset.
        kind: what it shares across tasks.
        shot: support rows.
        score: the metric, with its 95 % interval over groups.
        gain: paired difference to the best that learns each task alone; positive is better.
        p: of ``gain``, adjusted for all that are compared (Holm 1979); 1 for those alone.
    """

    name: str
    kind: str
    shot: int
    score: Estimate
    gain: Estimate
    p: float


def baselines(
    family: TaskFamily,
    query: int,
    *,
    way: int | None = None,
    shots: Sequence[int] | None = None,
    seed: int = 0,
    tasks: int = TASKS,
    resource: int = RESOURCE,
    watch: Callable[[str, int], None] = lambda name, shot: None,
) -> list[Measured]:
    """Measure them all.

    Args:
        family: where tasks come from; its options need not be known.
        query: query rows a task.
        way: classes a task, where tasks draw classes of their own: rows are then of each class.
        shots: numbers of support rows, of which those that fit are taken; None: ``SHOTS``, or
            ``OF_EACH`` class.
        seed: every draw follows from it.
        tasks: ``select`` tasks that each is judged on.
        resource: what each may use, in forward-equivalents.
        watch: is told what is measured next.

    Raises:
        DataError: no number of shots fits, or a baseline failed.
    """
    info = family.info
    own = info.kind == "classification" and not info.shared_classes
    shots = shots or (OF_EACH if own else SHOTS)
    shape = Episode(way or info.train_classes or 1, shots[0], query, per_class=own)
    episodes = [replace(shape, shot=shot) for shot in shots]
    episodes = [episode for episode in episodes if _fits(family, episode)]
    if not episodes:
        family.check(shape)
    results: dict[tuple[str, int], RungResult] = {}
    for episode in episodes:
        for name in ways_of(info):
            watch(name, episode.shot)
            job = _job(name, family, episode, seed, tasks, resource)
            results[name, episode.shot] = _result(job, family)
    return _compared(info, results)


def ways_of(info: FamilyInfo) -> dict[str, str]:
    """The presets that are compared, with what each shares across tasks."""
    ways = SERIES if info.forecasts else CLASSES if info.kind == "classification" else NUMBERS
    # Where the last value is the season before, it stands once; no pooled model knows classes that
    # each task has of its own.
    offered = presets_for(info)
    return {name: kind for name, kind in ways.items() if name in offered}


def shots_of(info: FamilyInfo, episode: Episode) -> tuple[int, ...] | None:
    """Of series, parts and multiples of the steps that are proposed to learn from; else None."""
    if not info.forecasts:
        return None
    return tuple(sorted({max(2, round(part * episode.shot)) for part in PARTS}))


def _fits(family: TaskFamily, episode: Episode) -> bool:
    try:
        family.check(episode)
    except DataError:
        return False
    return all(family.usable_groups(split, episode) for split in SPLITS)


def _job(
    name: str, family: TaskFamily, episode: Episode, seed: int, tasks: int, resource: int
) -> TrialJob:
    return TrialJob(
        trial=name,
        round=1,
        replica=0,
        strategy=preset(name, family.info).model_dump(mode="json"),
        family=family.info.name,
        data_dir=None,
        episode=episode,
        run_seed=seed,
        rungs=(resource,),
        recorded=0,
        split="select",
        tasks=tasks,
        train=True,
        folder=None,
    )


def _result(job: TrialJob, family: TaskFamily) -> RungResult:
    from metatune.trial import run_trial

    *_, last = run_trial(job, family)
    if last.outcome != "completed":
        reason = last.reason.strip().splitlines()[-1]
        raise DataError(f"{job.trial} at {job.episode.shot} shots {last.outcome}: {reason}")
    return last


def _compared(info: FamilyInfo, results: dict[tuple[str, int], RungResult]) -> list[Measured]:
    """Each against the best of those alone at the same shots."""
    sign, ways = info.metric.sign, ways_of(info)
    found: list[Measured] = []
    tested: list[int] = []
    p_values: list[float] = []
    for (name, shot), own in results.items():
        alone = [results[other, shot] for other, kind in ways.items() if kind == ALONE]
        best = max(alone, key=lambda result: sign * sum(result.scores))
        groups, claim = own.groups, claim_for(own.groups)
        gains = [sign * (a - b) for a, b in zip(own.scores, best.scores, strict=True)]
        if ways[name] != ALONE:
            tested.append(len(found))
            p_values.append(sign_flip_p(gains, groups, claim))
        scores = estimate(own.scores, groups, claim)
        found.append(Measured(name, ways[name], shot, scores, estimate(gains, groups, claim), 1.0))
    for place, p in zip(tested, holm(p_values), strict=True):
        found[place] = replace(found[place], p=p)
    return found


def conclusion(measured: Sequence[Measured]) -> str:
    """The answer in a sentence or two."""
    shared = [one for one in measured if one.kind != ALONE]
    sure = [one for one in shared if one.gain.mean > 0 and one.p <= LEVEL]
    if not sure:
        best = max(shared, key=lambda one: one.gain.mean)
        return (
            f"Nothing shared was found that is sure to help: the most is {best.name} at "
            f"{best.shot} shots, {_told(best)}. A search may still find more."
        )
    best = max(sure, key=lambda one: one.gain.mean)
    shots = sorted({one.shot for one in sure})
    return (
        f"Something is shared, and worth learning: {best.name} at {best.shot} shots is better "
        f"than each task alone, {_told(best)}. So it is at {', '.join(map(str, shots))} shots "
        f"(adjusted p at most {LEVEL})."
    )


def _told(one: Measured) -> str:
    return f"{one.gain.mean:+.3g} [{one.gain.low:+.3g}, {one.gain.high:+.3g}]"
