"""A carrier that brings along what Python's logging and warnings were told in its process."""

from __future__ import annotations

from typing import Any

from metatune.jobs import job_from_json
from metatune.logs import WorkerLog
from metatune.runner.carrier import Carrier


class LoggedCarrier(Carrier):
    """A ``Carrier`` whose every report has a ``log``, see ``metatune.logs.pass_on``."""

    def setup(self, config: dict[str, Any]) -> None:
        if not hasattr(self, "_log"):
            self._log = WorkerLog()
        self._begin(config["job"])
        super().setup(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config["job"])
        return super().reset_config(new_config)

    def step(self) -> dict[str, Any]:
        report = super().step()
        return {**report, "log": self._log.take()}

    def _begin(self, job: str) -> None:
        if job:
            begun = job_from_json(job)
            self._log.begin(begun.trial, begun.replica)
