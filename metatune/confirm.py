"""Adjust, first half: the leaders meet again on ``confirm`` tasks, on which none was chosen.

Nothing is trained here: the learners of the search are scored as they are. A look at ``confirm``
is recorded before it is taken, since a look is spent whatever comes of it. Each round looks at
fresh tasks, and of groups that no round has looked at as long as there are enough
(``evaluation.confirm_groups``); the look of round r tests at the level 0.05 / (r (r + 1)), which
adds up to 0.05 over all rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from metatune.driver import Driver
from metatune.history import Trial, differences, mean_gain, merits
from metatune.jobs import RungResult, TrialJob, cut_short
from metatune.objectives import dominators, spread_over_fronts
from metatune.records.rows import FINDING_OUT, Ended, Looked, Row
from metatune.search import scored
from metatune.space import Method
from metatune.statistics import claim_for, estimate
from metatune.tasks.base import Split

LEADERS = 6  # by ``select``; more would make the look less telling


def as_they_are(job: TrialJob, result: RungResult) -> list[Row]:
    """The row of a job's scores; that a training anew came to nothing, where there are none."""
    if result.outcome in ("diverged", "failed"):
        # A trial that was only scored has its end already.
        ended = Ended(job.trial, result.outcome, result.reason, 0.0, job.replica)
        return [ended] if job.replica else []
    return [scored(job, result, rung=result.rung)]


class Queue:
    """A source of jobs, one after the other, of which each has one result.

    Args:
        driver: the run.
        jobs: what is to be run; looked at as late as may be, so that one may depend on what came
            of those before it.
        rows: what is recorded of a job and its result.
    """

    def __init__(
        self,
        driver: Driver,
        jobs: Iterable[TrialJob],
        rows: Callable[[TrialJob, RungResult], Sequence[Row]] = as_they_are,
    ) -> None:
        self._driver = driver
        self._rows = rows
        self._jobs = iter(jobs)
        self._next: TrialJob | None = None
        self._running = 0

    def next_job(self) -> TrialJob | None:
        """The next of the jobs."""
        job = self._peek()
        self._next = None
        self._running += job is not None
        return job

    def _peek(self) -> TrialJob | None:
        self._next = self._next or next(self._jobs, None)
        return self._next

    def on_result(self, job: TrialJob, result: RungResult) -> bool:
        """Record the scores, or that there are none."""
        self._running -= 1
        if rows := self._rows(job, result):
            self._driver.record(*rows)
        return False

    def on_lost(self, job: TrialJob, reason: str) -> None:
        """The worker was lost."""
        self.on_result(job, cut_short(0, "failed", reason))

    @property
    def exhausted(self) -> bool:
        """All have been run."""
        return not self._running and self._peek() is None


def leaders(driver: Driver, method: Method) -> list[Trial]:
    """The completed trials that lead on ``select``, best first; the default, and who led before.

    Where there are costs, the front comes first, and where it is longer, those that lie evenly
    over it.
    """
    history, round_ = driver.history, method.round + 1
    ranked: dict[str, Trial] = {}  # one a strategy
    for trial in sorted(_completed(driver, round_), key=lambda t: -_gain_on_select(driver, t)):
        ranked.setdefault(trial.asked.digest, trial)
    chosen = _first(driver, list(ranked.values()), "select", LEADERS)
    led = ranked.get(method.incumbents[0].strategy.digest()) if method.incumbents else None
    in_any_case = [t for t in (history.default_of(round_), led) if t is not None]
    return chosen + [t for t in in_any_case if t not in chosen]


def _completed(driver: Driver, round_: int) -> list[Trial]:
    """Those of a round that may lead: the completed ones, less those that only find out."""
    return [
        t
        for t in driver.history.of_round(round_)
        if t.completed and t.asked.origin not in FINDING_OUT
    ]


def _first(driver: Driver, ranked: list[Trial], split: Split, count: int) -> list[Trial]:
    """So many of trials that are ranked by score: the first, with costs over their fronts."""
    if not driver.plan.space.space.costs:
        return ranked[:count]
    known = [_merits(driver, trial, split) for trial in ranked]
    return [ranked[i] for i in spread_over_fronts(known, count)]


def _merits(driver: Driver, trial: Trial, split: Split) -> tuple[float, ...]:
    """How a trial compares with its round's default in every objective, where that was scored."""
    history = driver.history
    default = history.default_of(trial.asked.round)
    assert default is not None
    own, reference = trial.on(split), default.on(split)
    assert own is not None
    assert reference is not None
    return merits(own, reference, history.sign, driver.plan.space.space.costs)


def front(driver: Driver, round_: int, split: Split = "select") -> list[Trial]:
    """The trials that no other matches in every objective and exceeds in one, best by score first.

    Args:
        driver: the run.
        round_: whose trials.
        split: ``select``: of the completed ones; ``confirm``: of the leaders.

    Returns:
        Nobody where the score is the only objective: the first of a ranking says it all then.
    """
    if not driver.plan.space.space.costs:
        return []
    trials = _completed(driver, round_) if split == "select" else confirmed(driver, round_)
    known = [_merits(driver, trial, split) for trial in trials]
    unbeaten = [i for i, by in enumerate(dominators(known)) if by == 0]
    return [trials[i] for i in sorted(unbeaten, key=lambda i: -known[i][0])]


def finalists(driver: Driver, round_: int) -> list[Trial]:
    """The leaders that take part in the verdict: the best on ``confirm``, with costs as leaders
    are chosen; the best by score comes first."""
    count = driver.plan.space.space.verdict.finalists
    return _first(driver, confirmed(driver, round_), "confirm", count)


def _gain_on_select(driver: Driver, trial: Trial) -> float:
    gain = driver.history.gain(trial, trial.rungs[-1])
    assert gain is not None, "the default ends before any phase that asks this"
    return gain


def confirmation(driver: Driver, method: Method) -> Queue:
    """The jobs that score the leaders on ``confirm``; those scored already are left out."""
    round_ = method.round + 1
    chosen = _looked_at(driver, round_) or leaders(driver, method)
    if not _looked_at(driver, round_):
        driver.record(Looked("confirm", round_, [t.id for t in chosen]))
    jobs = [
        driver.job(t, "confirm", recorded=driver.last_rung(t), train=False)
        for t in chosen
        if t.on("confirm") is None
    ]
    return Queue(driver, jobs)


def _looked_at(driver: Driver, round_: int) -> list[Trial]:
    look = driver.history.look_at("confirm", round_)
    return [driver.history.trials[name] for name in look.trials] if look else []


def confirmed(driver: Driver, round_: int) -> list[Trial]:
    """The leaders as ``confirm`` ranks them, best first."""
    history, default = driver.history, driver.history.default_of(round_)
    assert default is not None
    reference = default.on("confirm")
    ranked = []
    for trial in _looked_at(driver, round_):
        scores = trial.on("confirm")
        if scores is not None and reference is not None:
            ranked.append((mean_gain(scores, reference, history.sign), trial))
    return [trial for _, trial in sorted(ranked, key=lambda pair: -pair[0])]


def borne_out(driver: Driver, method: Method) -> bool:
    """True where ``confirm`` bears out that the round after ``method`` brought something.

    That is, a strategy that is new leads, and beats the best of those that led before by a paired
    one-sided test at the level of this look. The first round has nothing before it.
    """
    if not method.incumbents:
        return True
    round_ = method.round + 1
    before = {incumbent.strategy.digest() for incumbent in method.incumbents}
    ranking = confirmed(driver, round_)
    led = next((t for t in ranking if t.asked.digest in before), None)
    if led is None:
        return True  # none of them could be trained again
    challenger = ranking[0]
    if challenger.asked.digest in before:
        return False
    own, other = challenger.on("confirm"), led.on("confirm")
    assert own is not None
    assert other is not None
    level = 1 - 2 * look_level(round_)
    gain = estimate(
        differences(own, other, driver.history.sign), own.groups, claim_for(own.groups), level
    )
    return gain.low > 0


def look_level(round_: int) -> float:
    """The level at which the look of a round tests; over all rounds they add up to 0.05."""
    return 0.05 / (round_ * (round_ + 1))
