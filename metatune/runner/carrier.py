"""The carrier: a Ray Tune trial that carries one of ours. Actors are reused from trial to trial."""

from __future__ import annotations

from collections.abc import Iterator
from time import sleep
from typing import Any

from ray import tune

from metatune.errors import StorageError
from metatune.jobs import RungResult, job_from_json, result_to_json


class Carrier(tune.Trainable):
    """Runs a job rung by rung; ``config["job"]`` is the job as JSON, or empty to warm up.

    On a node that is unlike those that were looked at (``config["alike"]``) it runs nothing, and
    says why, again and again: so it keeps the place, which would be taken by the next trial.
    It never reports ``done``: whether a trial ends is decided in one place, by the scheduler.
    """

    def setup(self, config: dict[str, Any]) -> None:
        if not hasattr(self, "_unlike"):  # once a process
            from metatune.runner.cluster import why_unlike

            self._unlike = why_unlike(config["alike"]) if config["alike"] else ""
        if self._unlike:
            return
        # Here, and not above: the driver imports this module, and needs no torch.
        from metatune.trial import run_trial

        job = config["job"]
        self._rungs: Iterator[RungResult] | None = run_trial(job_from_json(job)) if job else None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        if self._unlike:
            sleep(1)
            return {"state": "unlike", "rung": 0, "result": self._unlike}
        if self._rungs is None:  # warming up: this process is ready, others may not be
            sleep(0.05)
            return {"state": "warm", "rung": 0, "result": ""}
        try:
            result = next(self._rungs)
        except StorageError as error:  # an end of the run, not of the trial
            return {"state": "storage", "rung": 0, "result": str(error)}
        # One flat message a rung; Tune would unfold and track every number of a nested one.
        return {"state": result.outcome, "rung": result.rung, "result": result_to_json(result)}
