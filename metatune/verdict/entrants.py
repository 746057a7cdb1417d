"""Who meets at the verdict, and which two of them it is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from metatune.confirm import confirmed, finalists
from metatune.driver import Driver
from metatune.errors import RunError
from metatune.history import Trial


@dataclass(frozen=True)
class Entrant:
    """A strategy at the verdict, averaged over its trainings.

    Attributes:
        trial: whose strategy; or the ensemble, whose trainings are its blends.
        scores: of each test task, the mean over trainings; empty if every training was lost.
        groups: group of each test task.
        replicas: mean score of each training.
    """

    trial: Trial
    scores: tuple[float, ...]
    groups: tuple[str, ...]
    replicas: tuple[float, ...]


def entrant_of(trial: Trial) -> Entrant:
    """The entrant's scores over its trainings."""
    rows = trial.trainings
    if not rows:
        return Entrant(trial, (), (), ())
    scores = np.array([row.scores for row in rows])
    return Entrant(
        trial, tuple(scores.mean(0)), tuple(rows[0].groups), tuple(scores.mean(1).tolist())
    )


def entrants(driver: Driver, round_: int, members: Iterable[Trial] = ()) -> list[Trial]:
    """Finalists and ``members`` of an ensemble, then the default, then presets and baselines.

    One a strategy: where a finalist repeats a named strategy, the named trial stands for both.
    """
    space = driver.plan.space
    trials = driver.history.of_round(round_)
    named = [t for t in trials if t.asked.name in space.protected and t.completed]
    found = [*finalists(driver, round_), *members, *named]
    return list({trial.asked.digest: trial for trial in found}.values())


def trained(driver: Driver) -> dict[str, Trial]:
    """By the hash of its strategy, each entrant that came through a training anew.

    Raises:
        RunError: the default did not.
    """
    history = driver.history
    looked, default = history.look_at("test"), history.default
    assert looked is not None
    assert default is not None
    trials = history.trained_for(looked.trials)
    found = {trial.asked.digest: trial for trial in trials if trial.trainings}
    if default.asked.digest not in found:
        raise RunError(
            f"the default strategy {default.asked.name} could not be trained anew for the verdict: "
            f"{_why_lost(default)}"
        )
    return found


def two_best(driver: Driver, round_: int) -> tuple[Trial, Trial]:
    """The finalist that ``confirm`` put first and its rival; no score on ``test`` has a say.

    Who lost every training has its place taken by the next.

    Raises:
        RunError: the default lost every training.
    """
    known, default = trained(driver), driver.history.default
    assert default is not None
    order = [t for t in confirmed(driver, round_) if t.asked.digest in known]
    first = known[(order or [default])[0].asked.digest]
    rival = rival_of(driver, [trial.id for trial in known.values()])
    return first, known[rival.asked.digest]


def rival_of(driver: Driver, present: list[str]) -> Trial:
    """The best preset or baseline as chosen on ``select``; the default where there is none."""
    history = driver.history
    named = [
        trial
        for trial in history.trials.values()
        if trial.asked.name in driver.plan.space.rivals and trial.id in present
    ]
    gains = {t.id: history.gain(t, t.rungs[-1]) for t in named}
    default = history.default
    assert default is not None
    return max(named, key=lambda t: gains[t.id] or 0.0, default=default)


def _why_lost(trial: Trial) -> str:
    reasons = [f"{end.state}: {end.reason.strip()}" for end in trial.replicas.values()]
    return reasons[0].splitlines()[-1] if reasons else "its scores are missing"
