"""Which rows of the user's files are used, and what for: task, group and target of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metatune.errors import DataError, OptionError
from metatune.tasks.tables.columns import (
    as_numbers,
    coded_text,
    guess_kind,
    guess_target,
    is_given,
    moments,
    pieces,
)
from metatune.tasks.tables.frames import Frame, listed, read_frame, task_names
from metatune.tasks.tables.options import TableOptions

FILE = "file"
"""As task: each file is a task, unless a column has this name."""
NO_GROUP = "(no group)"
MOST_CLASSES = 1024
FARTHEST = 1e6  # standard deviations of train: beyond that a target is cut


@dataclass(frozen=True)
class Columns:
    """The rows as they were read, and what each column is for."""

    frame: Frame
    kinds: dict[str, str]
    by_file: bool
    notes: tuple[str, ...]

    @staticmethod
    def of(frame: Frame, options: TableOptions) -> Columns:
        names = [str(name) for name in frame.rows.columns]
        used = (options.task, options.target, options.group)
        unknown = [name for name in options.columns if name not in names]
        if unknown:
            raise OptionError("table", "columns", f"no column {unknown[0]!r}", listed(names))
        kinds = {
            name: options.columns.get(name) or guess_kind(name, frame.rows[name])
            for name in names
            if name not in used
        }
        skipped = [name for name, kind in kinds.items() if kind == "skip"]
        unasked = [name for name in skipped if name not in options.columns]
        notes = [f"{', '.join(unasked)}: left out, since empty or without a name."]
        by_file = options.task == FILE and FILE not in names
        return Columns(frame, kinds, by_file, (*frame.notes, *(notes if unasked else ())))


def read_rows(options: TableOptions, files: Sequence[Path], scratch: Path) -> Frame:
    roles = {"task": options.task, "target": options.target, "group": options.group}
    text = {options.task, options.group or ""}
    text |= {name for name, kind in options.columns.items() if kind == "category"}
    required = [
        (role, column)
        for role, column in roles.items()
        if column is not None and (role, column) != ("task", FILE)
    ]
    return read_frame(files, scratch, required, text - {FILE})


@dataclass(frozen=True)
class Named:
    """Text of ``R`` rows, as numbers of names in the names' order; -1 where there is none."""

    of_row: NDArray[np.int32]
    names: tuple[str, ...]

    @staticmethod
    def by(words: NDArray[Any], places: NDArray[np.int64]) -> Named:
        """From the place of each row's word; a word may stand twice, or be None."""
        named = np.array([word is not None for word in words], bool)
        names, numbers = np.unique(words[named].astype(str), return_inverse=True)
        number = np.full(len(words), -1, np.int32)
        number[named] = numbers
        return Named(number[places], tuple(str(name) for name in names))

    def of(self, rows: NDArray[np.int64]) -> Named:
        """Some rows, and the names that they have."""
        of_row = self.of_row[rows]
        found = np.zeros(len(self.names), bool)
        found[of_row] = True
        number = (np.cumsum(found) - 1).astype(np.int32)
        names = tuple(n for n, there in zip(self.names, found, strict=True) if there)
        return Named(number[of_row], names)

    @property
    def known(self) -> NDArray[np.bool_]:
        return self.of_row >= 0


@dataclass(frozen=True)
class Numbers:
    """Numbers of ``R`` rows to predict; NaN where there is none."""

    of_row: NDArray[np.float64]
    names: tuple[str, ...] = ()

    def of(self, rows: NDArray[np.int64]) -> Numbers:
        return Numbers(self.of_row[rows])

    @property
    def known(self) -> NDArray[np.bool_]:
        return np.isfinite(self.of_row)


def usable_rows(
    columns: Columns, options: TableOptions, notes: list[str]
) -> tuple[NDArray[np.bool_], Named, Named | Numbers]:
    """Which rows have a task and a target; both of all rows. Notes say what is left out."""
    frame = columns.frame
    rows = len(frame.rows)
    if rows == 0:
        raise DataError(f"table: found no rows in {len(frame.files)} files; allowed: some")
    task = _tasks(columns, options)
    kept = task.known
    _note_rows(notes, ~kept, rows, f"{options.task}, the task, is missing")
    column = frame.rows[options.target]
    target = _target(column, options)
    given = is_given(column)
    _note_rows(notes, kept & ~given, rows, f"{options.target}, the target, is missing")
    strange = kept & given & ~target.known
    if strange.any():
        first = int(np.flatnonzero(strange)[0])
        cell = str(column.iloc[first])[:40]
        what = f"{options.target}, the target, is no number (first: {cell!r} in "
        _note_rows(notes, strange, rows, f"{what}{frame.place(first)})")
    del column  # as long as the rows
    kept = kept & target.known
    if isinstance(target, Numbers) and options.metric == "r2":
        alike = kept & _same_in_each_task(task, target, kept)
        tasks = len(np.unique(task.of_row[alike]))
        _note_rows(notes, alike, rows, f"the target never changes within their task ({tasks})")
        kept &= ~alike
    if not kept.any():
        raise OptionError(
            "table", "target", f"no row of {rows} to learn from: {' '.join(notes)}", "some"
        )
    return kept, task, target


def _note_rows(notes: list[str], left_out: NDArray[np.bool_], rows: int, why: str) -> None:
    if left_out.any():
        notes.append(f"{left_out.sum()} of {rows} rows are left out: {why}.")


def _tasks(columns: Columns, options: TableOptions) -> Named:
    frame = columns.frame
    if columns.by_file:
        words = np.array(task_names(frame.files), object)
        return Named.by(words, np.repeat(np.arange(len(words)), frame.sizes))
    return _named(frame.rows[options.task])


def _named(column: pd.Series) -> Named:
    places, words = coded_text(column)
    return Named.by(words, places)


def _target(column: pd.Series, options: TableOptions) -> Named | Numbers:
    """The target of each row: a number, or a class."""
    if (options.predict or guess_target(column)) == "number":
        numbers = Numbers(as_numbers(column))
        if not numbers.known.any():
            allowed = "a column of numbers, or predict: class"
            found = f"no number in {options.target!r}"
            raise OptionError("table", "target", found, allowed)
        return numbers
    classes = _named(column)
    count = len(classes.names)
    if not 2 <= count <= MOST_CLASSES:
        allowed = f"2 to {MOST_CLASSES}, or predict: number"
        found = f"{count} classes in {options.target!r}"
        raise OptionError("table", "target", found, allowed)
    return classes


def _same_in_each_task(task: Named, target: Numbers, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows of tasks with one value of the target."""
    same = np.zeros(len(kept), bool)
    of_task, values = task.of_row[kept], target.of_row[kept]
    lowest, highest = np.full((2, len(task.names)), [[np.inf], [-np.inf]])
    np.minimum.at(lowest, of_task, values)
    np.maximum.at(highest, of_task, values)
    same[kept] = (lowest == highest)[of_task]
    return same


def by_task(task: Named, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rows that are kept, task by task."""
    last = len(task.names)
    return np.argsort(np.where(kept, task.of_row, last), kind="stable")[: np.count_nonzero(kept)]


def groups_of(
    frame: Frame, options: TableOptions, order: NDArray[np.int64], task: Named
) -> tuple[str, ...]:
    """The group of each task: the one that its rows name, or the task itself.

    Args:
        frame: all rows.
        options: names the column, or none.
        order: the rows that are used, task by task.
        task: of these.
    """
    if options.group is None:
        return task.names
    group = _named(frame.rows[options.group])
    named = group.of_row[order]
    order = np.flatnonzero(named >= 0)
    tasks, named = task.of_row[order], named[order]
    known, first = np.unique(tasks, return_index=True)
    found = np.full(len(task.names), -1)
    found[known] = named[first]
    wrong = np.flatnonzero(named != found[tasks])
    if len(wrong):
        row = wrong[0]
        one, other = (group.names[n][:60] for n in (found[tasks[row]], named[row]))
        told = f"{one!r} and {other!r} within the task {task.names[tasks[row]]:.60}"
        raise OptionError("table", "group", told, "one group a task")
    return tuple(group.names[number] if number >= 0 else NO_GROUP for number in found)


def target_scale(target: Named | Numbers, train: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean and standard deviation of a number in train; 0 and 1 of classes."""
    if isinstance(target, Named):
        return 0.0, 1.0
    mean, spread = moments(target.of_row[train])
    return float(mean), float(spread) or 1.0


def labels(
    target: Named | Numbers, scale: tuple[float, float], name: str, notes: list[str]
) -> NDArray[np.float32] | NDArray[np.int64]:
    """Numbers in standard units of train, cut far outside of it; or numbers of classes."""
    if isinstance(target, Named):
        return target.of_row.astype(np.int64)
    (mean, spread), cut = scale, 0
    y = np.empty(len(target.of_row), np.float32)
    for piece in pieces(len(y)):
        scaled = (target.of_row[piece] - mean) / (spread or 1.0)
        cut += int(np.count_nonzero(np.abs(scaled) > FARTHEST))
        y[piece] = np.clip(scaled, -FARTHEST, FARTHEST)
    if cut:
        notes.append(
            f"{cut} values of {name}, the target, lie more than {FARTHEST:g} standard deviations "
            "from the mean of train: cut there."
        )
    return y
