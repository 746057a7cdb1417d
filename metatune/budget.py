"""The budget: how much of it is left once the verdict's cost is set aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from metatune.history import History, Trial
from metatune.records.rows import Scored

MARGIN = 1.15  # estimates are from few trials: set a little more aside


def verdict_seconds(
    history: History,
    trainings: int,
    workers: int,
    tasks_ratio: float,
    growth: Callable[[Trial], float] = lambda trial: 1.0,
) -> float:
    """Wall clock that the confirmation and the verdict will take, from what trials took.

    Args:
        history: what was measured so far.
        trainings: how many are to be made.
        workers: trainings at a time.
        tasks_ratio: tasks scored on ``confirm`` and ``test``, over those of ``select``.
        growth: resource of the verdict's trainings over that of a trial.

    Returns:
        Seconds; 0 while no trial has come to its end.
    """
    full = [t for t in history.trials.values() if t.ended and t.ended.state == "completed"]
    if not full:
        return 0.0
    last = max(t.rungs[-1] for t in full)
    costs = [_anew(t, tasks_ratio, growth(t)) for t in full if t.rungs[-1] == last]
    # Finalists may be as slow as the slowest so far.
    each = (sum(costs) / len(costs) + max(costs)) / 2
    waves = -(-trainings // workers)  # rounded up
    return MARGIN * each * waves


def trial_seconds(history: History) -> float:
    """What a trial takes on average, stopped ones included; 0 while none has ended."""
    ended = [t.ended.seconds for t in history.trials.values() if t.ended]
    return sum(ended) / len(ended) if ended else 0.0


def core_seconds(history: History, before: int | None = None) -> float:
    """Seconds of all workers together, training and scoring, verdict included.

    Args:
        history: what was measured so far.
        before: counts the rounds before this one only.
    """
    return sum(
        _used(trial)
        for trial in history.trials.values()
        if before is None or trial.asked.round < before
    )


def _used(trial: Trial) -> float:
    latest = trial.latest()
    if trial.ended is not None:
        own = trial.ended.seconds
    elif latest is not None:
        own = latest.train_seconds + sum(trial.at(rung).score_seconds for rung in trial.rungs)
    else:
        own = 0.0
    elsewhere = [
        row.score_seconds + (row.train_seconds if replica else 0.0)
        for (split, replica, _), row in trial.scores.items()
        if (split, replica) != ("select", 0)
    ]
    return own + sum(elsewhere)


@dataclass(frozen=True)
class Meter:
    """One kind of resource of a run, in seconds.

    Attributes:
        total: the budget.
        reserved: set aside for the verdict.
        before: used before the present round.
        used: so far.
        next: what another trial takes.
    """

    total: float
    reserved: float
    before: float
    used: float
    next: float

    def allows_another(self, rounds: int) -> bool:
        """True if one more trial fits into the present round's share.

        What is left at a round's start is shared evenly by the rounds still to come, this one
        included.
        """
        share = (self.total - self.reserved - self.before) / rounds
        return self.used + self.next < self.before + share


def _anew(trial: Trial, tasks_ratio: float, growth: float) -> float:
    latest: Scored | None = trial.latest()
    assert latest is not None
    return growth * latest.train_seconds + latest.score_seconds * tasks_ratio
