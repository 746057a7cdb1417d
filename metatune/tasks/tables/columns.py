"""What the columns of a table are, and how they become inputs.

Every statistic comes from rows of ``train`` alone: mean and spread of numbers, the levels of
categories, the first day, and which columns are constant. Of many rows, one column is held at a
time, and one of its inputs; inputs go to the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metatune.tasks.tables.frames import UNNAMED, Frame

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
class Inputs:
    """What learners see of each of ``R`` rows.

    Attributes:
        names: of the ``F`` inputs, the numbers first.
        numbers: how many are numbers; the others are 0 or 1.
        notes: what was left out, or counted as missing, and why.
        made: ``(F, R)`` float32, mapped into memory, in the order in which they were made.
        places: ``(F,)`` where in ``made`` each input is.
    """

    names: tuple[str, ...]
    numbers: int
    notes: tuple[str, ...]
    made: NDArray[np.float32]
    places: tuple[int, ...]

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
    path, count = scratch / "inputs", 0
    with path.open("wb") as file:
        for name, kind in kinds.items():
            column = frame.rows[name].iloc[order].reset_index(drop=True)
            made, unread = _inputs_of(name, column, kind, train, levels)
            if unread.any():
                what = "dates" if kind.startswith("date") else "numbers"
                first = int(np.flatnonzero(unread)[0])
                cell, place = str(column[first])[:40], frame.place(int(order[first]))
                notes.append(
                    f"{name}: {unread.sum()} cells are no {what} (first: {cell!r} in {place}): "
                    "counted as missing."
                )
            before = count
            for one in made:
                if _varies(one.values[train]):
                    (numbers if one.is_number else flags).append((one.name, count))
                    _final(one, train).tofile(file)
                    count += 1
            if count == before:
                notes.append(f"{name} is constant in train: left out.")
    shape, inputs = (count, len(order)), (*numbers, *flags)
    return Inputs(
        names=tuple(name for name, _ in inputs),
        numbers=len(numbers),
        notes=tuple(notes),
        made=np.memmap(path, np.float32, "r", shape=shape) if count else np.empty(shape, "f4"),
        places=tuple(place for _, place in inputs),
    )


def _inputs_of(
    name: str, column: pd.Series, kind: str, train: Mask, levels: int
) -> tuple[Iterator[_Input], Mask]:
    """The inputs of a column, and the cells that should be numbers or dates and are not."""
    if kind == "category":
        text = as_text(column)
        missing, made = text.isna().to_numpy(), _categories(name, text, train, levels)
        return chain(made, [_Input(f"{name} is missing", missing)]), np.zeros(len(column), bool)
    given = column.notna().to_numpy()
    if kind == "number":
        values = as_numbers(column)
        missing, made = np.isnan(values), iter([_Input(name, values)])
    else:
        dates = as_dates(column, kind.partition(" ")[2] or DATE_FORMATS[0])
        missing, made = dates.isna().to_numpy(), _date_parts(name, dates, train)
    return chain(made, [_Input(f"{name} is missing", missing)]), missing & given


def _categories(name: str, text: pd.Series, train: Mask, levels: int) -> Iterator[_Input]:
    counts = text[train].value_counts()
    often = sorted((-int(n), str(level)) for level, n in counts.items() if n >= RARE)[:levels]
    for _, level in often:
        yield _Input(f"{name} = {level}", (text == level).to_numpy())
    known = text.isin([level for _, level in often])
    yield _Input(f"{name} = other", (text.notna() & ~known).to_numpy())


def _date_parts(name: str, dates: pd.Series, train: Mask) -> Iterator[_Input]:
    first = dates[train].min()
    parts: dict[str, Callable[[], pd.Series]] = {
        "year": lambda: dates.dt.year,
        "month": lambda: dates.dt.month,
        "weekday": lambda: dates.dt.day_of_week,
        "hour": lambda: dates.dt.hour,
        "days": lambda: (dates - first).dt.total_seconds() / 86_400,
    }
    for part, of in parts.items():
        yield _Input(f"{name} {part}", of().to_numpy(np.float64, na_value=np.nan))


def moments(values: NDArray[Any]) -> tuple[np.float64, np.float64]:
    """Mean and standard deviation; the values are held no longer than that takes."""
    return values.mean(), values.std()


def _varies(values: Floats | Mask) -> bool:
    known = values[~np.isnan(values)]
    return len(known) > 0 and bool(known.min() < known.max())


def _final(one: _Input, train: Mask) -> NDArray[np.float32]:
    """What learners see: numbers in standard units, else 0 or 1."""
    if not one.is_number:
        return one.values.astype(np.float32)
    mean, spread = moments(one.values[train & ~np.isnan(one.values)])
    final = np.empty(len(one.values), np.float32)
    for piece in pieces(len(final)):
        # What varies by less than rounding shows has no spread: it is 0 throughout train.
        scaled = (one.values[piece] - mean) / (spread if spread > 0 else np.inf)
        final[piece] = np.nan_to_num(np.clip(scaled, -FARTHEST, FARTHEST), nan=0.0)
    return final
