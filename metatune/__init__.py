"""metatune learns how to learn: it finds the way of learning that does best on unseen problems.

Names are loaded when they are first used, so that ``import metatune`` is quick and brings in
neither Ray nor Optuna nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metatune.artifact.estimators import MetaClassifier, MetaRegressor
    from metatune.artifact.export import export
    from metatune.artifact.loading import load, load_adapted
    from metatune.records.reading import Run, read_run
    from metatune.records.several import Runs, read_runs

__version__ = "0.1.0"

_HOME = {
    "MetaClassifier": "metatune.artifact.estimators",
    "MetaRegressor": "metatune.artifact.estimators",
    "export": "metatune.artifact.export",
    "load": "metatune.artifact.loading",
    "load_adapted": "metatune.artifact.loading",
    "read_run": "metatune.records.reading",
    "read_runs": "metatune.records.several",
    "Run": "metatune.records.reading",
    "Runs": "metatune.records.several",
}

__all__ = [
    "MetaClassifier", "MetaRegressor", "Run", "Runs", "__version__", "export", "load",
    "load_adapted", "read_run", "read_runs",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'metatune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
