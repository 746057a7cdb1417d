"""``metatune adapt``: a task in a CSV or Parquet file is learned, and another file is predicted.

Of time series one file will do: the history, of which the next steps are forecast.
"""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pandas as pd

from metatune.artifact.learner import Adapted, Artifact
from metatune.artifact.loading import load
from metatune.durable import write_atomically
from metatune.errors import ArtifactError
from metatune.tasks.tables.columns import as_numbers, as_text
from metatune.tasks.tables.frames import read_frame


@dataclass(frozen=True)
class Predicted:
    """What came of it.

    Attributes:
        support, query: rows of each.
        notes: what a person should know, such as that the task is unlike the training tasks.
    """

    support: int
    query: int
    notes: tuple[str, ...]


def adapt_files(
    artifact: Path,
    support: Path,
    query: Path | None,
    out: Path,
    *,
    target: str | None = None,
    level: float | None = None,
    parts: str | None = None,
) -> Predicted:
    """Learn a task and write predictions, a row for each of the query's.

    The file has the column ``prediction``; with ``level`` the ends ``low`` and ``high`` of its
    interval; of classes the probability of each, as ``p(class)``.

    Args:
        artifact: its folder.
        support: a file with the columns of the inputs, and the target.
        query: a file with the columns of the inputs; None: ``support`` is the history of a series,
            and the file that is written has the column ``time``, too.
        out: the CSV file to write.
        target: the column to learn; by default the artifact's.
        level: of intervals; numbers only.
        parts: the module that holds parts of the user's own.

    Raises:
        ArtifactError, DataError: in a sentence.
    """
    loaded = load(artifact, None if parts is None else _module(parts))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if query is None:
            learner, rows, found = _forecast(loaded, support, target, level)
        else:
            learner, rows, found = _learned(loaded, support, query, target, level)
    try:
        write_atomically(out, found.to_csv(index=False))
    except OSError as error:
        raise ArtifactError(f"{out} cannot be written: {error.strerror or error}") from error
    notes = [str(one.message) for one in caught]
    if learner.choice is not None:
        notes.append(f"{learner.choice}.")
    return Predicted(rows, len(found), tuple(notes))


def _learned(
    loaded: Artifact, support: Path, query: Path, target: str | None, level: float | None
) -> tuple[Adapted, int, pd.DataFrame]:
    """Who learned the task, from how many rows, and what is predicted."""
    column = target or loaded.target.name
    if not column:
        raise ArtifactError("target: the artifact names no column; allowed: --target COLUMN")
    seen = _frame(loaded, support, [("target", column)])
    y = as_text(seen[column]) if loaded.is_classifier else as_numbers(seen[column])
    learner = loaded.adapt(seen.drop(columns=column), y)
    asked = _frame(loaded, query, []).drop(columns=column, errors="ignore")
    return learner, len(seen), _predictions(learner, asked, level)


def _forecast(
    loaded: Artifact, history: Path, target: str | None, level: float | None
) -> tuple[Adapted, int, pd.DataFrame]:
    """The same of a series."""
    rules = loaded.series
    if rules is None:
        raise ArtifactError(
            f"query: found none, and an artifact of the family {loaded.info.name}; allowed: "
            "--query FILE (time series alone are forecast from their history)"
        )
    value = target or rules.value
    seen = _frame(loaded, history, [("time", rules.time), ("value", value)])
    learner = loaded.adapt_series(seen[rules.time], seen[value])
    found = pd.DataFrame({"time": learner.times, "prediction": learner.predict()})
    if level is not None:
        ends = learner.predict_interval(level=level)
        found = found.assign(low=ends[:, 0], high=ends[:, 1])
    return learner.adapted, len(seen), found


def _module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except Exception as error:
        raise ArtifactError(f"parts: importing {name!r} says: {error}") from error


def _frame(artifact: Artifact, path: Path, required: list[tuple[str, str]]) -> pd.DataFrame:
    """The columns of a file."""
    if not path.is_file():
        raise ArtifactError(f"{path}: found no such file; allowed: a CSV or Parquet file")
    columns = artifact.stored.plain.get("columns") or []
    text = [one["name"] for one in columns if one.get("kind") == "category"]
    with tempfile.TemporaryDirectory() as scratch:
        frame = read_frame([path], Path(scratch), required, text, family="adapt")
        found = pd.DataFrame({name: frame.rows[name] for name in frame.rows.columns})
        return found.copy()  # nothing of it lies in the scratch folder any more


def _predictions(learner: Adapted, asked: pd.DataFrame, level: float | None) -> pd.DataFrame:
    found = pd.DataFrame({"prediction": learner.predict(asked)})
    if learner.artifact.is_classifier:
        if level is not None:
            learner.predict_interval(asked, level)  # says why there is none
        each = learner.predict_proba(asked)
        named = {f"p({name})": each[:, k] for k, name in enumerate(learner.classes.tolist())}
        return found.assign(**named)
    if level is not None:
        ends = learner.predict_interval(asked, level)
        found = found.assign(low=ends[:, 0], high=ends[:, 1])
    return found
