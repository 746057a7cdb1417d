"""What is taken out of a run, as the plain data of ``strategy.json``: what it is, and whence."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import metatune
from metatune.artifact import files
from metatune.artifact import members as m
from metatune.artifact.measures import Weighed
from metatune.history import Trial
from metatune.plan import Plan
from metatune.records.folder import RunFolder
from metatune.records.reading import read_info
from metatune.tasks.base import Encodes, NamesInputs, ReadsSeries, TaskFamily
from metatune.trial import Fitted

LIBRARIES = ("torch", "numpy", "safetensors", "scikit-learn", "pydantic")


@dataclass(frozen=True)
class Taken:
    """What is taken out of a run.

    Attributes:
        folder, plan, family: the run's.
        trials: the trial, or the members of an ensemble.
        fitted: each after its training.
        refitted: that training was on all groups.
        weighed: what falling back to the best baseline did; None where it was not measured.
        baseline: after its training; None without a fallback.
    """

    folder: RunFolder
    plan: Plan
    family: TaskFamily
    trials: Sequence[Trial]
    fitted: Sequence[Fitted]
    refitted: bool
    weighed: Weighed | None
    baseline: Fitted | None

    def plain(self) -> dict[str, Any]:
        """As ``strategy.json`` has it."""
        family, info = self.family, self.plan.info
        encoding = dict(family.encoding) if isinstance(family, Encodes) else {}
        return {
            "format": files.FORMAT,
            "family": {
                "name": info.name,
                "kind": info.kind,
                "input_shape": list(info.input_shape),
                "outputs": info.outputs,
                "metric": vars(info.metric),
                "views": {name: list(ends) for name, ends in info.views.items()},
                "shared_classes": info.shared_classes,
                "forecasts": dict(info.forecasts),
            },
            "episode": vars(self.plan.space.space.episode),
            "strategies": [_strategy(one) for one in self.fitted],
            "fallback": self._fallback(),
            "inputs": list(family.inputs) if isinstance(family, NamesInputs) else [],
            "target": {
                "name": encoding.get("target", ""),
                "mean": encoding.get("mean", 0.0),
                "spread": encoding.get("spread", 1.0),
                "classes": list(encoding.get("classes", [])),
            },
            "columns": encoding.get("columns", []),
            "series": dict(family.reading) if isinstance(family, ReadsSeries) else None,
            "provenance": self._provenance(),
        }

    def _fallback(self) -> dict[str, Any] | None:
        if self.weighed is None or self.baseline is None:
            return None
        told = self.weighed
        return {
            "name": told.name,
            "strategy": _strategy(self.baseline),
            "tasks_of_confirm": told.tasks,
            "share_taken": told.taken,
            "share_worse_alone": told.alone,
            "share_worse_with_fallback": told.together,
        }

    def _provenance(self) -> dict[str, Any]:
        about, plan = read_info(self.folder), self.plan
        return {
            "run": about["run"],
            "trials": [trial.id for trial in self.trials],
            "names": [trial.asked.name for trial in self.trials],
            "digests": [trial.asked.digest for trial in self.trials],
            "seed": plan.seed,
            "rounds": [trial.asked.round for trial in self.trials],
            "refitted_on_all_groups": self.refitted,
            "resource": [one.resource for one in self.fitted],
            "data": self.family.fingerprint,
            "space_sha256": about["space_sha256"],
            "created": about["created"],
            "versions_of_the_run": about["versions"],
            "versions": {
                "metatune": metatune.__version__,
                "python": platform.python_version(),
                **{name: version(name) for name in LIBRARIES},
            },
            "commit_of_metatune": _commit(Path(metatune.__file__).parent),
            "commit_of_the_space_file": None if plan.code is None else _commit(Path(plan.code)),
        }


def _strategy(fitted: Fitted) -> dict[str, Any]:
    return m.named_in_full(fitted.strategy).model_dump(mode="json")


def _commit(folder: Path) -> str | None:
    """The git commit of a folder, with ``+`` where files were changed since; None without one."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
