"""How the values of a series become what is predicted, and how a history that is new is read.

A family's own tables are read by ``series.py``; here is one series, as somebody has it who wants
it forecast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from metatune.errors import DataError
from metatune.tasks.tables.columns import DATE_FORMATS, as_dates, as_numbers
from metatune.tasks.timeseries.series import (
    SPARSE,
    Series,
    changes,
    filled,
    logarithms,
    time_format_of,
)
from metatune.tasks.timeseries.steps import Step

HISTORY = "history"


@dataclass(frozen=True)
class Raw:
    """Raw values: where they stand, and how they become what is predicted.

    Attributes:
        time, value: the columns of a table.
        time_format: how times are written; None: as they look.
        log: logarithms are predicted.
        change: the change against so many steps before is predicted; 0: values are.
        fill: gaps of up to so many steps take the value before them.
    """

    time: str = "time"
    value: str = "value"
    time_format: str | None = None
    log: bool = False
    change: int = 0
    fill: int = 0

    def predicted(self, series: Series) -> Series:
        """What is predicted, of raw values."""
        series = filled(series, self.fill)
        if self.log:
            series = logarithms(series)
        return changes(series, self.change) if self.change else series


def read_history(times: Any, values: Any, step: Step, raw: Raw) -> Series:
    """One series from its first time to its last, NaN where a step has no value.

    Args:
        times: ``(R,)`` datetimes, or text; UTC where a zone is given. In any order.
        values: ``(R,)`` raw numbers.
        step: what lies between two values; the history may begin at another phase of it.
        raw: says how times are written.

    Raises:
        DataError: these are no regular times, or two values stand at one.
    """
    column, numbers = pd.Series(times), as_numbers(pd.Series(values))
    if column.empty or len(column) != len(numbers):
        found = f"{len(column)} times and {len(numbers)} values"
        raise DataError(f"{HISTORY}: found {found}; allowed: as many, one or more")
    dated = pd.api.types.is_datetime64_any_dtype(column)
    form = raw.time_format or (DATE_FORMATS[0] if dated else time_format_of(column, raw.time))
    at = as_dates(column, form).dt.tz_localize(None).astype("datetime64[us]")
    if at.isna().any():
        row = int(np.flatnonzero(at.isna())[0])
        raise DataError(f"{HISTORY}: found {str(column.iloc[row])[:40]!r} in row {row}; "
                        "allowed: a time in each row")  # fmt: skip
    step = step.at(at)
    place, regular = step.numbers(at)
    if not regular.all():
        odd = at.iloc[int(np.flatnonzero(~regular)[0])]
        raise DataError(
            f"{HISTORY}: found {odd} between two steps of {step.alias}; allowed: regular times"
        )
    first, length = int(place.min()), int(place.max() - place.min()) + 1
    if length > SPARSE * len(place):
        found = f"{len(place)} values over {length} steps of {step.alias}"
        raise DataError(f"{HISTORY}: found {found}; allowed: times that mostly follow each other")
    known, counts = np.unique(place, return_counts=True)
    if (counts > 1).any():
        twice = step.times(known[counts > 1][:1])[0]
        raise DataError(f"{HISTORY}: found two values at {twice}; allowed: one, of one series")
    whole = np.full(length, np.nan)
    whole[place - first] = numbers
    name = (raw.value,)
    return Series(whole, np.array([0, length]), np.array([first]), name, name, step)
