"""Retries: a job whose worker was lost begins again, where another try can help.

A worker is lost when its process is killed, runs out of memory, exits or hangs, or its node goes.
Much of that passes. What a strategy's own code raises does not, and is never tried again: it comes
as a result, see ``trial.run_trial``.
"""

from __future__ import annotations

from dataclasses import replace

from metatune.driver import Driver
from metatune.history import History
from metatune.jobs import JobSource, RungResult, TrialJob
from metatune.records.rows import Retried


class Retrying:
    """A source whose lost jobs go on from their last recorded rung, before any other job.

    A job that was lost ``faults.max_retries`` times since that rung is lost to ``source``, too. The
    count is one of recorded rows, so that a resume goes on counting.

    Args:
        driver: the run.
        source: where jobs come from.
    """

    def __init__(self, driver: Driver, source: JobSource) -> None:
        self._driver = driver
        self._source = source
        self._again: list[TrialJob] = []

    def next_job(self) -> TrialJob | None:
        """A lost job, else the next of the source."""
        return self._again.pop(0) if self._again else self._source.next_job()

    def on_result(self, job: TrialJob, result: RungResult) -> bool:
        """The source's to take."""
        return self._source.on_result(job, result)

    def on_lost(self, job: TrialJob, reason: str) -> None:
        """Record the loss and begin again, or leave it to the source."""
        history, most = self._driver.history, self._driver.plan.space.space.faults.max_retries
        job = replace(job, recorded=recorded_of(job, history))
        before = history.retried.get((job.trial, job.split, job.replica, job.recorded), 0)
        if before < most:
            row = Retried(job.trial, job.split, job.replica, job.recorded, reason)
            self._driver.record(row)
            self._again.append(job)
        elif before:
            self._source.on_lost(job, f"lost {before + 1} times, the last time: {reason}")
        else:
            self._source.on_lost(job, reason)

    @property
    def exhausted(self) -> bool:
        """Neither has a job left."""
        return not self._again and self._source.exhausted


def recorded_of(job: TrialJob, history: History) -> int:
    """The rung that a job that is begun again goes on from: the last that is recorded of it."""
    if job.trial not in history.trials or not job.train:
        return job.recorded
    scores = history.trials[job.trial].scores
    rungs = [rung for split, of, rung in scores if (split, of) == (job.split, job.replica)]
    return max([job.recorded, *rungs])
