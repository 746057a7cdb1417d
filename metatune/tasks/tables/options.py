"""What is told of a table of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from metatune.errors import OptionError
from metatune.tasks.splits import SHARES


@dataclass(frozen=True)
class TableOptions:
    """What ``metatune.space.families.Table`` says, as plain data; the same names and meaning.

    Attributes:
        data: files, globs or folders, absolute.
        task: column, or ``file``.
        target: column.
        group: column; None: each task is a group.
        predict: None: classes where the target is text, a boolean or one of up to 10 whole
            numbers, else a number.
        metric: of numbers.
        columns: the kind of columns that are not what they look like.
        levels: values of a category with an input of their own.
        splits: share of each split.
        fold: which fold of the splits.
        way: classes a task; below the number of all, a task draws so many of its own.
    """

    data: tuple[str, ...]
    task: str
    target: str
    group: str | None = None
    predict: Literal["number", "class"] | None = None
    metric: Literal["r2", "mse"] = "r2"
    columns: Mapping[str, str] = field(default_factory=dict)
    levels: int = 16
    splits: Mapping[str, float] = field(default_factory=lambda: SHARES)
    fold: int = 0
    way: int | None = None

    @staticmethod
    def of(plain: Mapping[str, Any]) -> TableOptions:
        """From plain data; what is left out takes its default."""
        if not plain:
            allowed = "CSV or Parquet files; `metatune init DATA` writes a space file for yours"
            raise OptionError("table", "data", "nothing", allowed)
        return TableOptions(**{**plain, "data": tuple(plain["data"])})
