"""The carrier: a Ray Tune trial that carries one of ours. Actors are reused from trial to trial."""

from __future__ import annotations

from collections.abc import Iterator
from time import sleep
from typing import Any

from ray import tune

from metatune.errors import StorageError
from metatune.jobs import RungResult, job_from_json, result_to_json
from metatune.runner.watched import Hung, Watched

BEAT = 30.0
"""Seconds after which a rung that is still worked at says that its worker is there."""


class Carrier(tune.Trainable):
    """Runs a job rung by rung; ``config["job"]`` is the job as JSON, or empty to warm up.

    On a node that is unlike those that were looked at (``config["alike"]``) it runs nothing, and
    says why, again and again: so it keeps the place, which would be taken by the next trial.
    It never reports ``done``: whether a trial ends is decided in one place, by the scheduler.
    Besides ``warm`` and the outcomes of ``RungResult`` it reports the states ``beat``, while a rung
    is worked at, and ``hung``, with where as the result; then it raises, and Tune ends its process.
    """

    def setup(self, config: dict[str, Any]) -> None:
        if not hasattr(self, "_watched"):  # once a process
            from metatune.runner.cluster import why_unlike

            self._watched: Watched[RungResult] = Watched()
            self._hangs = False
            self._unlike = why_unlike(config["alike"]) if config["alike"] else ""
        self._rungs: Iterator[RungResult] | None = None
        self._limit: float | None = None
        if self._unlike:
            return
        # Here, and not above: the driver imports this module, and needs no torch.
        from metatune.trial import run_trial

        if config["job"]:
            job = job_from_json(config["job"])
            self._limit = job.hang_seconds
            self._rungs = run_trial(job, progressed=self._watched.progressed)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        if self._unlike:
            sleep(1)
            return {"state": "unlike", "rung": 0, "result": self._unlike}
        rungs = self._rungs
        if rungs is None:  # warming up: this process is ready, others may not be
            sleep(0.05)
            return {"state": "warm", "rung": 0, "result": ""}
        if self._hangs:
            raise RuntimeError("this process hangs")  # so that Tune ends it
        try:
            done = self._watched.call(lambda: next(rungs), BEAT, self._limit)
        except StorageError as error:  # an end of the run, not of the trial
            return {"state": "storage", "rung": 0, "result": str(error)}
        match done:
            case None:
                return {"state": "beat", "rung": 0, "result": ""}
            case Hung(where):
                self._hangs = True
                return {"state": "hung", "rung": 0, "result": where}
            case RungResult() as result:
                # One flat message a rung; Tune would unfold and track every number of a nested one.
                text = result_to_json(result)
                return {"state": result.outcome, "rung": result.rung, "result": text}
