"""Adjust, first half: the leaders meet again on ``confirm`` tasks, on which none was chosen.

Nothing is trained here: the learners of the search are scored as they are. A look at ``confirm``
is recorded before it is taken, since a look is spent whatever comes of it.
"""

from __future__ import annotations

from typing import Literal

from metatune.driver import Driver
from metatune.history import Trial, mean_gain
from metatune.jobs import RungResult, TrialJob
from metatune.records.rows import Ended, Looked
from metatune.search import scored

LEADERS = 6  # by ``select``; more would make the look less telling


class Queue:
    """A source of jobs that are known beforehand; results are recorded as they are.

    Args:
        driver: the run.
        jobs: what is to be run.
    """

    def __init__(self, driver: Driver, jobs: list[TrialJob]) -> None:
        self._driver = driver
        self._waiting = list(jobs)
        self._running = 0

    def next_job(self) -> TrialJob | None:
        """The next of the jobs."""
        if not self._waiting:
            return None
        self._running += 1
        return self._waiting.pop(0)

    def on_result(self, job: TrialJob, result: RungResult) -> bool:
        """Record the scores, or that there are none."""
        self._running -= 1
        if result.outcome in ("diverged", "failed"):
            self._lose(job, result.outcome, result.reason)
            return False
        trial = self._driver.history.trials[job.trial]
        self._driver.record(scored(job, result, rung=self._driver.last_rung(trial)))
        return False

    def on_lost(self, job: TrialJob, reason: str) -> None:
        """The worker was lost."""
        self._running -= 1
        self._lose(job, "failed", reason)

    def _lose(self, job: TrialJob, state: Literal["diverged", "failed"], reason: str) -> None:
        """Record a training anew that came to nothing; a trial that was only scored has its end."""
        if job.replica:
            self._driver.record(Ended(job.trial, state, reason, 0.0, job.replica))

    @property
    def exhausted(self) -> bool:
        """All have been run."""
        return not self._waiting and not self._running


def leaders(driver: Driver) -> list[Trial]:
    """The completed trials that lead on ``select``, best first, and the default."""
    history = driver.history
    completed = [
        t for t in history.trials.values() if t.ended is not None and t.ended.state == "completed"
    ]
    ranked: dict[str, Trial] = {}  # one a strategy
    for trial in sorted(completed, key=lambda t: -_gain_on_select(driver, t)):
        ranked.setdefault(trial.asked.digest, trial)
    chosen = list(ranked.values())[:LEADERS]
    default = history.default
    if default is not None and default not in chosen:
        chosen.append(default)
    return chosen


def _gain_on_select(driver: Driver, trial: Trial) -> float:
    gain = driver.history.gain(trial, trial.rungs[-1])
    assert gain is not None, "the default ends before any phase that asks this"
    return gain


def confirmation(driver: Driver, round_: int) -> Queue:
    """The jobs that score the leaders on ``confirm``; those scored already are left out."""
    chosen = _looked_at(driver, round_) or leaders(driver)
    if not _looked_at(driver, round_):
        driver.record(Looked("confirm", round_, [t.id for t in chosen]))
    jobs = [
        driver.job(t, "confirm", recorded=driver.last_rung(t), train=False)
        for t in chosen
        if t.on("confirm") is None
    ]
    return Queue(driver, jobs)


def _looked_at(driver: Driver, round_: int) -> list[Trial]:
    looks = [x for x in driver.history.looks if (x.split, x.round) == ("confirm", round_)]
    return [driver.history.trials[name] for name in looks[0].trials] if looks else []


def confirmed(driver: Driver, round_: int) -> list[Trial]:
    """The leaders as ``confirm`` ranks them, best first."""
    history, default = driver.history, driver.history.default
    assert default is not None
    reference = default.on("confirm")
    ranked = []
    for trial in _looked_at(driver, round_):
        scores = trial.on("confirm")
        if scores is not None and reference is not None:
            ranked.append((mean_gain(scores, reference, history.sign), trial))
    return [trial for _, trial in sorted(ranked, key=lambda pair: -pair[0])]
