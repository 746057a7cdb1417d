"""What the columns of a table are, and how they become inputs.

Every statistic comes from rows of ``train`` alone: mean and spread of numbers, the levels of
categories, the first day, and which columns are constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metatune.tasks.frames import UNNAMED, Frame

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

DATE_FORMATS = ("ISO8601", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
"""Ways to write a date that are recognised, in this order; the first is kind ``date``."""
LOOKS_LIKE = 0.9  # share of cells that must read as numbers (or dates) for a column of them
LOOKED_AT = 10_000  # cells, evenly spread
RARE = 5  # rows of train: a level with fewer is "other"
FARTHEST = 100.0  # standard deviations: beyond that a number is cut
FEW_VALUES = 10  # so many whole numbers are taken for classes
LARGEST = 1e100  # beyond that a number is none


# --- what a column is ----------------------------------------------------------------------------


def guess_kind(name: str, values: pd.Series) -> str:
    """``number``, ``category``, ``date``, ``date FORMAT`` or, where there is nothing, ``skip``."""
    known = values.dropna()
    if name.startswith(UNNAMED) or known.empty:
        return "skip"
    known = known.iloc[:: -(-len(known) // LOOKED_AT)]
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
    if pd.api.types.is_datetime64_any_dtype(values):
        return np.full(len(values), np.nan)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return np.where(np.abs(numbers) <= LARGEST, numbers, np.nan)


def as_dates(values: pd.Series, form: str) -> pd.Series:
    """Points in time (UTC where a zone is given), NaT where a cell is missing or none."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return pd.to_datetime(values, utc=True)
    return pd.to_datetime(as_text(values), errors="coerce", format=form, utc=True)


def as_text(values: pd.Series) -> pd.Series:
    """Text without surrounding spaces, None where there is none; whole numbers without a point."""
    if pd.api.types.is_float_dtype(values):
        numbers = values.to_numpy(np.float64, na_value=np.nan)
        known = numbers[~np.isnan(numbers)]
        if (np.abs(known) < 2**53).all() and (known == np.floor(known)).all():
            values = values.astype("Int64")
    numbers, different = pd.factorize(values)  # -1 where a cell is missing
    words = np.array([*(str(cell).strip() or None for cell in different), None], object)
    cells = words[numbers]
    return pd.Series(cells, index=values.index, dtype="object")


# --- inputs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """What learners see of each row.

    Attributes:
        x: ``(R, F)`` float32, the numbers first.
        names: of each input.
        numbers: how many are numbers; the others are 0 or 1.
        notes: what was left out, or counted as missing, and why.
    """

    x: NDArray[np.float32]
    names: tuple[str, ...]
    numbers: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Input:
    """One input: values ``(R,)`` and whether it is a number in standard units or a 0 / 1."""

    name: str
    values: Floats
    is_number: bool = False


def encode(frame: Frame, kinds: Mapping[str, str], train: Mask, levels: int) -> Inputs:
    """Turn columns into inputs.

    A ``number`` is standardised, a missing one is 0. A ``date`` becomes five numbers: year, month,
    day of the week (Monday 0), hour, and days since the first in train. A ``category`` has one
    input for each of its ``levels`` most frequent values in train, and one for all others. Where
    cells are missing, one more input says so.

    Args:
        frame: the rows.
        kinds: the kind of each column that is used.
        train: ``(R,)`` the rows that statistics are taken from.
        levels: see above.
    """
    numbers: list[_Input] = []
    flags: list[_Input] = []
    notes: list[str] = []
    for name, kind in kinds.items():
        column = frame.rows[name]
        made, unread = _inputs_of(name, column, kind, train, levels)
        if unread.any():
            what = "dates" if kind.startswith("date") else "numbers"
            first = int(np.flatnonzero(unread)[0])
            notes.append(
                f"{name}: {unread.sum()} cells are no {what} (first: {str(column[first])[:40]!r} "
                f"in {frame.place(first)}): counted as missing."
            )
        useful = [one for one in made if _varies(one.values[train])]
        if not useful:
            notes.append(f"{name} is constant in train: left out.")
        numbers += [one for one in useful if one.is_number]
        flags += [one for one in useful if not one.is_number]
    x = np.empty((len(frame.rows), len(numbers) + len(flags)), np.float32)
    for place, one in enumerate((*numbers, *flags)):
        x[:, place] = _standardised(one.values, train) if one.is_number else one.values
    names = tuple(one.name for one in (*numbers, *flags))
    return Inputs(x, names, len(numbers), tuple(notes))


def _inputs_of(
    name: str, column: pd.Series, kind: str, train: Mask, levels: int
) -> tuple[list[_Input], Mask]:
    """The inputs of a column, and the cells that should be numbers or dates and are not."""
    given = column.notna().to_numpy()
    if kind == "category":
        text = as_text(column)
        missing = text.isna().to_numpy()
        made, unread = list(_categories(name, text, train, levels)), np.zeros(len(column), bool)
    elif kind == "number":
        values = as_numbers(column)
        missing = np.isnan(values)
        made, unread = [_Input(name, values, is_number=True)], missing & given
    else:
        dates = as_dates(column, kind.partition(" ")[2] or DATE_FORMATS[0])
        missing = dates.isna().to_numpy()
        made, unread = list(_date_parts(name, dates, train)), missing & given
    made.append(_Input(f"{name} is missing", missing.astype(np.float64)))
    return made, unread


def _categories(name: str, text: pd.Series, train: Mask, levels: int) -> Iterator[_Input]:
    counts = text[train].value_counts()
    often = sorted((-int(n), str(level)) for level, n in counts.items() if n >= RARE)[:levels]
    for _, level in often:
        yield _Input(f"{name} = {level}", (text == level).to_numpy().astype(np.float64))
    known = text.isin([level for _, level in often])
    yield _Input(f"{name} = other", (text.notna() & ~known).to_numpy().astype(np.float64))


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
        yield _Input(f"{name} {part}", of().to_numpy(np.float64, na_value=np.nan), is_number=True)


def _varies(values: Floats) -> bool:
    known = values[~np.isnan(values)]
    return len(known) > 0 and bool(known.min() < known.max())


def _standardised(values: Floats, train: Mask) -> Floats:
    known = values[train & ~np.isnan(values)]
    spread = known.std()
    # What varies by less than rounding shows has no spread: it is 0 throughout train.
    scaled = (values - known.mean()) / (spread if spread > 0 else np.inf)
    bounded: Floats = np.nan_to_num(np.clip(scaled, -FARTHEST, FARTHEST), nan=0.0)
    return bounded
