"""The budget: how much of it is left once the verdict's cost is set aside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from statistics import fmean as mean
from time import monotonic

from metatune.history import History, Trial
from metatune.plan import Plan

MARGIN = 1.15  # estimates are from few trials: set a little more aside
ESTIMATE_SECONDS = 5.0  # between two estimates of the time to go, at least
MOST_FOR_VERDICT = 0.5  # of a limited budget, for more than one training of each


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
    full = [t for t in history.trials.values() if t.completed]
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
class Limit:
    """One kind of seconds that a run has so many of.

    Attributes:
        total: the budget.
        before: used before the present round.
        used: so far, with what trials under way are expected to take.
        workers: jobs that use these seconds at a time; 1 where those of all workers are added up.
    """

    total: float
    before: float
    used: float
    workers: int

    def allows_another(self, seconds: float, reserved: float, rounds: int) -> bool:
        """True if one more trial fits into the present round's share.

        What is left at a round's start is shared evenly by the rounds still to come, this one
        included.

        Args:
            seconds: what another trial takes.
            reserved: set aside for the verdict.
            rounds: still to come.
        """
        share = (self.total - reserved - self.before) / rounds
        return self.used + seconds < self.before + share


class Budget:
    """What a run may still use, by what was measured so far.

    Args:
        plan: what is to be done.
        history: what was measured; read anew at each question.
        workers: jobs at a time.
        elapsed: seconds that the run has been driven for.
    """

    def __init__(
        self, plan: Plan, history: History, workers: int, elapsed: Callable[[], float]
    ) -> None:
        self._plan = plan
        self._history = history
        self._workers = workers
        self._elapsed = elapsed

    @property
    def limited(self) -> bool:
        """Whether seconds are limited, be it the clock's or those of all workers together."""
        return bool(self._limits())

    def time_for_another(self, round_: int) -> bool:
        """True if one more trial fits into the round's share of every limit."""
        rounds, each = self._plan.last_round - round_ + 1, trial_seconds(self._history)
        under_way = sum(t.ended is None for t in self._history.of_round(round_))
        return all(
            limit.allows_another(each, self._reserved(limit), rounds)
            for limit in self._limits(under_way * each)
        )

    def room_for(self, trainings: Sequence[float], under_way: float = 0.0) -> bool:
        """True if a few more trainings fit into what is left of every limit.

        Args:
            trainings: seconds of each.
            under_way: seconds of those that were started and have not come to their end.
        """
        return all(
            limit.used + _with_margin(trainings, limit.workers) <= limit.total
            for limit in self._limits(under_way)
        )

    def set_aside(self) -> float:
        """Seconds of the clock that the confirmation and the verdict will need."""
        clock = self._clock()
        if clock is None:
            return _with_margin(self._trainings_left(), self._workers)
        return self._reserved(clock)

    def seconds_left(self) -> float | None:
        """An estimate of the time to go; None while too little is known."""
        each, clock = trial_seconds(self._history), self._clock()
        if not each:
            return None
        ended = sum(t.ended is not None for t in self._history.trials.values())
        search = max(0, self._plan.trials - ended) * each / self._workers
        if clock is not None:
            search = min(search, max(0.0, clock.total - clock.used - self.set_aside()))
        return search + (0.0 if self._history.verdict else self.set_aside())

    def seconds_anew(self, trial: Trial) -> float:
        """What training a completed trial anew and scoring it on ``test`` takes.

        The most that it has taken; before it was trained anew, as the trial itself took.
        """
        known = [row.train_seconds + row.score_seconds for row in trial.trainings]
        return max(known) if known else self._estimated(trial, self._plan.tasks("test"))

    # --- limits ---------------------------------------------------------------------------------

    def _limits(self, under_way: float = 0.0) -> list[Limit]:
        return [limit for limit in (self._clock(), self._cores(under_way)) if limit is not None]

    def _clock(self) -> Limit | None:
        """The wall clock's; None where it has none."""
        if self._plan.minutes is None:
            return None
        turns = self._history.turns
        start = turns[-1].at if turns else 0.0
        return Limit(60 * self._plan.minutes, start, self._elapsed(), self._workers)

    def _cores(self, under_way: float) -> Limit | None:
        """That of the seconds of all workers together; None where there is none."""
        total, turns = self._plan.space.space.budget.core_seconds, self._history.turns
        if total is None:
            return None
        start = core_seconds(self._history, turns[-1].round + 1) if turns else 0.0
        return Limit(total, start, core_seconds(self._history) + under_way, workers=1)

    # --- what the verdict will need -------------------------------------------------------------

    def _reserved(self, limit: Limit) -> float:
        """Seconds of a kind that the confirmation and the verdict will need.

        Of the total at most half, or what one training of each takes: the verdict then trains each
        as often as what is left allows, see ``room_for``.
        """
        wanted = _with_margin(self._trainings_left(), limit.workers)
        if self._history.look_at("test") is not None:
            return wanted
        once = _with_margin(self._trainings_left(seeds=1), limit.workers)
        return min(wanted, max(once, MOST_FOR_VERDICT * limit.total))

    def _trainings_left(self, seeds: int | None = None) -> list[float]:
        """Seconds of each training that the verdict still needs; guessed until ``test`` is opened.

        Args:
            seeds: trainings of each; by default as the space has it.
        """
        plan, history = self._plan, self._history
        verdict, look = plan.space.space.verdict, history.look_at("test")
        if look is not None:
            owed = history.owed(look.trials, verdict.seeds)
            return [self.seconds_anew(t) for t, replica in owed if not t.was_trained(replica)]
        seeds = seeds or verdict.seeds
        tasks = plan.tasks("confirm") + plan.tasks("test")
        # About half of an ensemble's members take part in any case.
        others = verdict.finalists + verdict.ensemble // 2
        each = entrants_seconds(
            history, plan.space.protected, others, lambda trial: self._estimated(trial, tasks)
        )
        # The rival is trained as often as the ensemble has members.
        return each * seeds + [mean(each)] * max(0, verdict.ensemble - seeds) if each else []

    def _estimated(self, trial: Trial, tasks: int) -> float:
        latest = trial.latest()
        assert latest is not None
        growth = self._plan.growth(self._plan.last_round) / self._plan.growth(trial.asked.round)
        scoring = latest.score_seconds * tasks / len(latest.tasks)
        return growth * latest.train_seconds + scoring


def _with_margin(trainings: Sequence[float], workers: int) -> float:
    return MARGIN * wall_clock(trainings, workers)


def seldom(
    estimate: Callable[[], float | None], every: float = ESTIMATE_SECONDS
) -> Callable[[], float | None]:
    """The estimate, made anew at most so often: it looks at every trial.

    Args:
        estimate: seconds to go; None, while it has none, is asked for again.
        every: seconds.
    """
    made, known = -every, None

    def newest() -> float | None:
        nonlocal made, known
        if known is None or monotonic() - made >= every:
            made, known = monotonic(), estimate()
        return known

    return newest
