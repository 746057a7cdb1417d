"""What the columns of a table are, and how they become inputs.

Every statistic comes from rows of ``train`` alone: mean and spread of numbers, the levels of
categories, the first day, and which columns are constant. Of many rows, one column is held at a
time, and one of its inputs; inputs go to the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metatune.errors import DataError
from metatune.tasks.tables.frames import UNNAMED, Frame, Rows, listed

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Whole = NDArray[np.int64]

DATE_FORMATS = ("ISO8601", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
"""Ways to write a date that are recognised, in this order; the first is kind ``date``."""
LOOKS_LIKE = 0.9  # share of cells that must read as numbers (or dates) for a column of them
LOOKED_AT = 10_000  # cells, evenly spread
RARE = 5  # rows of train: a level with fewer is "other"
FARTHEST = 100.0  # standard deviations: beyond that a number is cut
FEW_VALUES = 10  # so many whole numbers are taken for classes
LARGEST = 1e100  # beyond that a number is none
PIECE = 1 << 18  # cells that are worked on at a time, where each stands for itself
BLOCK = 1 << 22  # numbers that are turned from columns into rows at a time


# --- what a column is ----------------------------------------------------------------------------


def guess_kind(name: str, values: pd.Series) -> str:
    """``number``, ``category``, ``date``, ``date FORMAT`` or, where there is nothing, ``skip``."""
    given = np.flatnonzero(values.notna())
    if name.startswith(UNNAMED) or not len(given):
        return "skip"
    known = values.iloc[given[:: -(-len(given) // LOOKED_AT)]]
    if pd.api.types.is_bool_dtype(known):
        return "category"
    if pd.api.types.is_datetime64_any_dtype(known):
        return "date"
    if np.isfinite(as_numbers(known)).mean() >= LOOKS_LIKE:
        return "number"
    for form in DATE_FORMATS:
        if as_dates(known, form).notna().mean() >= LOOKS_LIKE:
            return "date" if form == DATE_FORMATS[0] else f"date {form}"
    return "category"


def guess_target(values: pd.Series) -> Literal["number", "class"]:
    """What to predict: text, booleans and a few whole numbers are classes."""
    if guess_kind("", values) != "number":
        return "class"
    known = as_numbers(values)
    different = np.unique(known[np.isfinite(known)])
    few = 2 <= len(different) <= FEW_VALUES and (different == np.floor(different)).all()
    return "class" if few else "number"


def as_numbers(values: pd.Series) -> Floats:
    """``(R,)``, NaN where a cell is missing or no finite number of sane size."""
    numbers = np.full(len(values), np.nan)
    if not pd.api.types.is_datetime64_any_dtype(values):
        for piece in pieces(len(values)):
            read = pd.to_numeric(values.iloc[piece], errors="coerce")
            found = read.to_numpy(np.float64, na_value=np.nan)
            numbers[piece] = np.where(np.abs(found) <= LARGEST, found, np.nan)
    return numbers


def as_dates(values: pd.Series, form: str) -> pd.Series:
    """Points in time (UTC where a zone is given), NaT where a cell is missing or none."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return pd.to_datetime(values, utc=True)
    return pd.to_datetime(as_text(values), errors="coerce", format=form, utc=True)


def as_text(values: pd.Series) -> pd.Series:
    """Text without surrounding spaces, None where there is none; whole numbers without a point."""
    numbers, words = coded_text(values)
    return pd.Series(words[numbers], index=values.index, dtype="object")


def coded_text(values: pd.Series) -> tuple[Whole, NDArray[Any]]:
    """``as_text`` as places ``(R,)`` in an array of words, in which a word may stand twice."""
    if pd.api.types.is_float_dtype(values):
        numbers = values.to_numpy(np.float64, na_value=np.nan)
        known = numbers[~np.isnan(numbers)]
        if (np.abs(known) < 2**53).all() and (known == np.floor(known)).all():
            values = values.astype("Int64")
    places, different = pd.factorize(values)  # -1 where a cell is missing
    return places, np.array([*(str(cell).strip() or None for cell in different), None], object)


def is_given(values: pd.Series) -> Mask:
    """``(R,)``: the cells that hold more than spaces."""
    given = np.empty(len(values), bool)
    for piece in pieces(len(values)):
        given[piece] = as_text(values.iloc[piece]).notna()
    return given


def pieces(rows: int) -> Iterator[slice]:
    """Slices of so many rows, for what would take much memory of all at once."""
    for start in range(0, rows, PIECE):
        yield slice(start, start + PIECE)


# --- inputs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """How a column becomes inputs, with all that was learned from ``train``: plain data.

    Attributes:
        name: the column.
        kind: what it is, see ``encode``.
        levels: of a category, those with an input of their own.
        first: of dates, the first of train in ISO 8601; None where train has none.
        scales: its inputs by their names: mean and standard deviation of a number, None of what is
            0 or 1. What does not vary in train is not there.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    first: str | None = None
    scales: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Column:
        """From plain data, as JSON has it."""
        scales = {n: None if s is None else (s[0], s[1]) for n, s in plain["scales"].items()}
        return Column(**{**plain, "levels": tuple(plain["levels"]), "scales": scales})


@dataclass(frozen=True)
class Inputs:
    """What learners see of each of ``R`` rows.

    Attributes:
        names: of the ``F`` inputs, the numbers first.
        numbers: how many are numbers; the others are 0 or 1.
        notes: what was left out, or counted as missing, and why.
        made: ``(F, R)`` float32, mapped into memory, in the order in which they were made.
        places: ``(F,)`` where in ``made`` each input is.
        columns: how the inputs of further rows are made, see ``encode_more``.
    """

    names: tuple[str, ...]
    numbers: int
    notes: tuple[str, ...]
    made: NDArray[np.float32]
    places: tuple[int, ...]
    columns: tuple[Column, ...]

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Blocks of rows, ``(B, F)``, one below the other."""
        rows = max(1, BLOCK // max(1, len(self.names)))
        for start in range(0, self.made.shape[1], rows):
            part = self.made[:, start : start + rows]
            yield np.ascontiguousarray(part[list(self.places)].T)


@dataclass(frozen=True)
class _Input:
    """One input: values ``(R,)``, numbers (in standard units later) or true and false."""

    name: str
    values: Floats | Mask

    @property
    def is_number(self) -> bool:
        return self.values.dtype != bool


def encode(
    frame: Frame, kinds: Mapping[str, str], order: Whole, train: Mask, levels: int, scratch: Path
) -> Inputs:
    """Turn columns into inputs.

    A ``number`` is standardised, a missing one is 0. A ``date`` becomes five numbers: year, month,
    day of the week (Monday 0), hour, and days since the first in train. A ``category`` has one
    input for each of its ``levels`` most frequent values in train, and one for all others. Where
    cells are missing, one more input says so.

    Args:
        frame: all rows.
        kinds: the kind of each column that is used.
        order: ``(R,)`` those that are used, in the order of the inputs.
        train: ``(R,)`` of these, the rows that statistics are taken from.
        levels: see above.
        scratch: a folder for the inputs, which is to stay as long as they are used.
    """
    numbers: list[tuple[str, int]] = []
    flags: list[tuple[str, int]] = []
    notes: list[str] = []
    columns: list[Column] = []
    path, count = scratch / "inputs", 0
    with path.open("wb") as file:
        for name, kind in kinds.items():
            cells = frame.rows[name].iloc[order].reset_index(drop=True)
            read = _read(kind, cells)
            unread = _missing(read) & cells.notna().to_numpy()
            if unread.any() and kind != "category":
                first = int(np.flatnonzero(unread)[0])
                place = frame.place(int(order[first]))
                notes.append(_unread(name, kind, cells, unread, f" in {place}"))
            column = _learned(Column(name, kind), read, train, levels)
            scales: dict[str, tuple[float, float] | None] = {}
            for one in _inputs_of(column, read):
                if _varies(one.values[train]):
                    scales[one.name] = _scale(one, train)
                    (numbers if one.is_number else flags).append((one.name, count))
                    _final(one, scales[one.name]).tofile(file)
                    count += 1
            if not scales:
                notes.append(f"{name} is constant in train: left out.")
            else:
                columns.append(replace(column, scales=scales))
    shape, inputs = (count, len(order)), (*numbers, *flags)
    return Inputs(
        names=tuple(name for name, _ in inputs),
        numbers=len(numbers),
        notes=tuple(notes),
        made=np.memmap(path, np.float32, "r", shape=shape) if count else np.empty(shape, "f4"),
        places=tuple(place for _, place in inputs),
        columns=tuple(columns),
    )


def encode_more(
    rows: Rows, columns: Sequence[Column], names: Sequence[str]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The inputs of further rows, as ``encode`` made them: nothing is learned from these.

    Args:
        rows: ``R`` rows.
        columns: see ``Inputs.columns``.
        names: of the ``F`` inputs, in their order.

    Returns:
        ``(R, F)``, and notes on cells that count as missing.

    Raises:
        DataError: a column is not there.
    """
    made: dict[str, NDArray[np.float32]] = {}
    notes: list[str] = []
    for column in columns:
        if column.name not in list(rows.columns):
            raise DataError(f"found no column {column.name!r}; allowed: {listed(rows.columns)}")
        cells = rows[column.name].reset_index(drop=True)
        read = _read(column.kind, cells)
        unread = _missing(read) & cells.notna().to_numpy()
        if unread.any() and column.kind != "category":
            notes.append(_unread(column.name, column.kind, cells, unread, ""))
        for one in _inputs_of(column, read):
            if one.name in column.scales:
                made[one.name] = _final(one, column.scales[one.name])
    return np.stack([made[name] for name in names], 1), tuple(notes)


def _unread(name: str, kind: str, cells: pd.Series, unread: Mask, where: str) -> str:
    what = "dates" if kind.startswith("date") else "numbers"
    cell = str(cells[int(np.flatnonzero(unread)[0])])[:40]
    return (
        f"{name}: {unread.sum()} cells are no {what} (first: {cell!r}{where}): counted as missing."
    )


def _read(kind: str, cells: pd.Series) -> pd.Series:
    """Text, numbers or points in time; none where a cell is missing or cannot be read."""
    if kind == "category":
        return as_text(cells)
    if kind == "number":
        return pd.Series(as_numbers(cells))
    return as_dates(cells, kind.partition(" ")[2] or DATE_FORMATS[0])


def _missing(read: pd.Series) -> Mask:
    return read.isna().to_numpy()


def _learned(column: Column, read: pd.Series, train: Mask, levels: int) -> Column:
    """The column with what has to be known of train before inputs are made."""
    if column.kind == "category":
        counts = read[train].value_counts()
        often = sorted((-int(n), str(level)) for level, n in counts.items() if n >= RARE)
        return replace(column, levels=tuple(level for _, level in often[:levels]))
    if column.kind.startswith("date"):
        first = read[train].min()
        # numpy reads back what it wrote of any year, pandas does not.
        return replace(column, first=None if pd.isna(first) else str(first.to_numpy()))
    return column


def _inputs_of(column: Column, read: pd.Series) -> Iterator[_Input]:
    """The inputs of a column, those that do not vary among them."""
    if column.kind == "category":
        made = _categories(column, read)
    elif column.kind == "number":
        made = iter([_Input(column.name, read.to_numpy(np.float64))])
    else:
        made = _date_parts(column, read)
    return chain(made, [_Input(f"{column.name} is missing", _missing(read))])


def _categories(column: Column, text: pd.Series) -> Iterator[_Input]:
    for level in column.levels:
        yield _Input(f"{column.name} = {level}", (text == level).to_numpy())
    known = text.isin(column.levels)
    yield _Input(f"{column.name} = other", (text.notna() & ~known).to_numpy())


def _date_parts(column: Column, dates: pd.Series) -> Iterator[_Input]:
    first: Any = pd.NaT if column.first is None else _timestamp(column.first, dates)
    parts: dict[str, Callable[[], pd.Series]] = {
        "year": lambda: dates.dt.year,
        "month": lambda: dates.dt.month,
        "weekday": lambda: dates.dt.day_of_week,
        "hour": lambda: dates.dt.hour,
        "days": lambda: (dates - first).dt.total_seconds() / 86_400,
    }
    for part, of in parts.items():
        yield _Input(f"{column.name} {part}", of().to_numpy(np.float64, na_value=np.nan))


def _timestamp(text: str, like: pd.Series) -> Any:
    """A time that numpy wrote down, in the zone of others."""
    time = pd.Timestamp(np.datetime64(text))
    return time if like.dt.tz is None else time.tz_localize("UTC").tz_convert(like.dt.tz)


def moments(values: NDArray[Any]) -> tuple[np.float64, np.float64]:
    """Mean and standard deviation; the values are held no longer than that takes."""
    return values.mean(), values.std()


def _varies(values: Floats | Mask) -> bool:
    known = values[~np.isnan(values)]
    return len(known) > 0 and bool(known.min() < known.max())


def _scale(one: _Input, train: Mask) -> tuple[float, float] | None:
    """Mean and standard deviation of a number in train."""
    if not one.is_number:
        return None
    mean, spread = moments(one.values[train & ~np.isnan(one.values)])
    return float(mean), float(spread)


def _final(one: _Input, scale: tuple[float, float] | None) -> NDArray[np.float32]:
    """What learners see: numbers in standard units, else 0 or 1."""
    if scale is None:
        return one.values.astype(np.float32)
    mean, spread = scale
    final = np.empty(len(one.values), np.float32)
    for piece in pieces(len(final)):
        # What varies by less than rounding shows has no spread: it is 0 throughout train.
        scaled = (one.values[piece] - mean) / (spread if spread > 0 else np.inf)
        final[piece] = np.nan_to_num(np.clip(scaled, -FARTHEST, FARTHEST), nan=0.0)
    return final
