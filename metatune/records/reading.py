"""Reading a run, finished or going on: as pandas frames to look at, as rows to resume from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pyarrow as pa

from metatune.errors import RunError
from metatune.records.folder import RunFolder
from metatune.records.parquet import COLUMNS, all_rows, snapshot
from metatune.records.rows import STATES, Origin, Row
from metatune.tasks.base import SPLITS

_CATEGORIES: Mapping[str, Sequence[str]] = {
    "split": SPLITS,
    "state": ("running", *STATES),
    "origin": get_args(Origin),
}


@dataclass(frozen=True)
class Run:
    """What a run measured, as it was when read.

    Columns, units and meanings are those of ``metatune.records.parquet.COLUMNS``. Numbers that
    may be missing are ``Int64`` or NaN; ``split``, ``state`` and ``origin`` are categories.

    Attributes:
        path: the run's folder.
        info: its ``run.json``.
    """

    path: Path
    info: dict[str, Any]
    _tables: Mapping[str, pa.Table] = field(repr=False, compare=False)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial, indexed by ``trial``; behind the columns of the table come those of
        the strategy, named like ``head.kind`` and ``outer.lr``, lists as JSON."""
        frame = _frame("trials", self._tables["trials"]).set_index("trial")
        plain = [None if text is None else json.loads(text) for text in _texts(self._tables)]
        return frame.join(_flat_frame(plain, frame.index, frame.columns))

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row a task that a trial was scored on."""
        return _frame("scores", self._tables["scores"])

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row a set of tasks that a trial was scored on at a rung."""
        return _frame("curves", self._tables["curves"])

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row a round that ended; ``incumbents`` and ``moves`` hold lists."""
        return _frame("rounds", self._tables["rounds"])

    @cached_property
    def looks(self) -> pd.DataFrame:
        """One row a time that a reserved split was opened; ``trials`` holds lists."""
        return _frame("looks", self._tables["looks"])

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row a verdict; none before the run has given it."""
        return _frame("verdicts", self._tables["verdicts"])


def read_run(path: str | Path) -> Run:
    """A run's records as frames; also of a run that is going on, or has not measured anything.

    Args:
        path: the run's folder.

    Raises:
        RunError: it is not a run's folder, or its log is damaged before its end.

    >>> read_run("runs/omniglot").trials.nlargest(3, "score")  # doctest: +SKIP
    """
    folder = RunFolder.open(path)
    return Run(folder.path, read_info(folder), snapshot(folder).tables)


def read_rows(folder: RunFolder) -> list[Row]:
    """Every row of a run in order, all drivers' segments: what a resume folds over.

    Raises:
        RunError: the log is damaged before its end, or a part of it is missing.
    """
    return all_rows(folder)


def read_info(folder: RunFolder) -> dict[str, Any]:
    """What ``run.json`` says.

    Raises:
        RunError: it cannot be read.
    """
    try:
        info = json.loads(folder.info.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{folder.info} cannot be read: {error}") from error
    if not isinstance(info, dict):
        raise RunError(f"{folder.info} holds a {type(info).__name__}: expected an object")
    return info


def _texts(tables: Mapping[str, pa.Table]) -> list[str | None]:
    texts: list[str | None] = tables["trials"]["strategy"].to_pylist()
    return texts


def _frame(name: str, table: pa.Table) -> pd.DataFrame:
    return pd.DataFrame({column.name: _series(table, column.name) for column in COLUMNS[name]})


def _series(table: pa.Table, name: str) -> pd.Series:
    values = table[name]
    kind = values.type
    if pa.types.is_list(kind):
        return pd.Series(values.to_pylist(), dtype=object)
    if name in _CATEGORIES:
        return pd.Series(values.to_pylist(), dtype=pd.CategoricalDtype(list(_CATEGORIES[name])))
    if pa.types.is_integer(kind) and table.schema.field(name).nullable:
        return pd.Series(values.to_pylist(), dtype="Int64")
    series: pd.Series = values.to_pandas()
    return series


def _flat_frame(
    strategies: Sequence[dict[str, Any] | None], index: pd.Index, taken: pd.Index
) -> pd.DataFrame:
    """Strategies as columns with dotted names, in the order of their first appearance."""
    flat = [flatten(strategy or {}) for strategy in strategies]
    names = list(dict.fromkeys(name for row in flat for name in row))
    columns = {
        # A strategy's own key must not hide a column of the table.
        f"strategy.{name}" if name in taken else name: _typed([row.get(name) for row in flat])
        for name in names
    }
    return pd.DataFrame({name: column.set_axis(index) for name, column in columns.items()}, index)


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names; lists as JSON."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value) if isinstance(value, list) else value
    return flat


def _typed(values: Sequence[Any]) -> pd.Series:
    """A column of the narrowest type that holds all values; None where a strategy has no such."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean")
    if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):
        return pd.Series(values, dtype="Int64")
    if kinds and kinds <= {int, float}:
        return pd.Series(values, dtype="float64")
    return pd.Series(values, dtype="str" if kinds == {str} else object)
