"""The budget: how much of it is left once the verdict's cost is set aside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from metatune.history import History, Trial

MARGIN = 1.15  # estimates are from few trials: set a little more aside


def entrants_seconds(
    history: History, named: Collection[str], others: int, seconds: Callable[[Trial], float]
) -> list[float]:
    """What a training anew of each entrant of the verdict will take, from what trials took.

    Args:
        history: what was measured so far.
        named: names of strategies that take part in any case; they take what they took.
        others: how many more take part. They may be as slow as the slowest of those that lead.
        seconds: what a completed trial's training anew takes.

    Returns:
        Seconds, one an entrant; none while no trial has come to its end.
    """
    full = [t for t in history.trials.values() if t.ended and t.ended.state == "completed"]
    if not full:
        return []
    last = max(t.rungs[-1] for t in full)
    trained = [t for t in full if t.rungs[-1] == last]
    gains = {t.id: history.gain(t, last) or 0.0 for t in trained}
    leading = sorted(trained, key=lambda t: -gains[t.id])[: max(1, 2 * others)]
    costs = [seconds(t) for t in leading]
    each = (sum(costs) / len(costs) + max(costs)) / 2
    own = {t.asked.name: seconds(t) for t in full}  # of several rounds, the newest
    return [own.get(name, each) for name in named] + [each] * others


def wall_clock(trainings: Sequence[float], workers: int) -> float:
    """Seconds of the clock by which workers have made trainings at the latest (Graham 1969)."""
    return sum(trainings) / workers + (1 - 1 / workers) * max(trainings, default=0.0)


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
