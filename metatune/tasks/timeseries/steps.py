"""Regular steps of time: points in time as whole numbers, and what a calendar says of them.

A step is named by a pandas offset alias. Hours, days, weeks and their multiples have a fixed
length; months, quarters and years count in months; ``B`` counts the days from Monday to Friday.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

Whole = NDArray[np.int64]

SECOND = 1_000_000  # microseconds, the unit of all lengths here
HOUR, DAY = 3600 * SECOND, 24 * 3600 * SECOND
ALLOWED = "a pandas offset alias such as 15min, h, D, B, W, MS, QS or YS"
MONTHS = {"MS": 1, "ME": 1, "QS": 3, "QE": 3, "YS": 12, "YE": 12}
"""Months in a step of this name."""


@dataclass(frozen=True)
class Step:
    """A regular step of time.

    Attributes:
        alias: the pandas offset alias.
        length: microseconds, where each step has the same length; else 0.
        months: months, where a step is so many; else 0. With neither, a step is a business day.
        phase: microseconds from the start of 1970 at which steps of fixed length fall, modulo
            their length.
    """

    alias: str
    length: int = 0
    months: int = 0
    phase: int = 0

    @staticmethod
    def of(alias: str) -> Step:
        """The step of an alias.

        Raises:
            ValueError: pandas does not know it, or it is no regular step.
        """
        offset = to_offset(alias)
        name = offset.rule_code.partition("-")[0] if offset is not None else ""
        if offset is None or offset.n < 1:
            raise ValueError(f"{alias} is no step forward")
        if name in MONTHS:
            return Step(alias, months=MONTHS[name] * offset.n)
        if name == "B":
            return Step(alias)
        days = {"D": 1, "W": 7}.get(name)
        length = pd.Timedelta(days=days * offset.n) if days else pd.Timedelta(offset)  # type: ignore[arg-type]
        return Step(alias, length=length // pd.Timedelta(1, "us"))

    def at(self, times: pd.Series) -> Step:
        """The same step, with the phase that most times have."""
        if not self.length or times.empty:
            return self
        phases, counts = np.unique(microseconds(times) % self.length, return_counts=True)
        return Step(self.alias, self.length, 0, int(phases[counts.argmax()]))

    def numbers(self, times: pd.Series) -> tuple[Whole, NDArray[np.bool_]]:
        """The number of each time's step ``(R,)``, and whether the time lies on a step."""
        if self.length:
            numbers, rest = np.divmod(microseconds(times) - self.phase, self.length)
            return numbers, rest == 0
        if self.months:
            months = times.dt.year.to_numpy(np.int64) * 12 + times.dt.month.to_numpy(np.int64) - 1
            return months // self.months, np.ones(len(times), bool)
        days = _days(times)
        return np.busday_count("1970-01-01", days).astype(np.int64), np.is_busday(days)

    def times(self, numbers: Whole) -> pd.DatetimeIndex:
        """When steps begin."""
        if self.length:
            return pd.DatetimeIndex((self.phase + numbers * self.length).view("datetime64[us]"))
        if self.months:
            months = (numbers * self.months - 1970 * 12).astype("datetime64[M]")
            return pd.DatetimeIndex(months.astype("datetime64[us]"))
        days = np.busday_offset("1970-01-01", numbers, roll="forward")
        return pd.DatetimeIndex(days.astype("datetime64[us]"))

    @property
    def season(self) -> int:
        """Steps in the season that is usual for it: a day of hours, a week of days, a year."""
        if self.months:
            return 12 // self.months if 12 % self.months == 0 else 1
        if not self.length:
            return 5
        for whole in (DAY, 7 * DAY):
            if self.length < whole and whole % self.length == 0:
                return whole // self.length
        return 52 if self.length == 7 * DAY else 1

    @property
    def calendar(self) -> tuple[str, ...]:
        """Fields of the calendar that usually matter."""
        if self.months:
            return {1: ("month",), 3: ("quarter",)}.get(self.months, ())
        if self.length >= 7 * DAY:
            return ("yearday",)
        if not self.length or self.length >= DAY:
            return ("weekday", "month")
        return ("hour", "weekday")


def microseconds(times: pd.Series) -> Whole:
    """``(R,)`` since the start of 1970."""
    return times.to_numpy("datetime64[us]").astype(np.int64)


def _days(times: pd.Series) -> NDArray[np.datetime64]:
    return times.to_numpy("datetime64[us]").astype("datetime64[D]")


def infer_step(times: pd.Series, series: Whole) -> Step | None:
    """The step that times within series keep, None where they keep none.

    That is the most frequent difference of neighbours where all others are its multiples; else
    months, quarters or years where it is as long as one. Days without any Saturday or Sunday over
    more than a week are business days.

    Args:
        times: ``(R,)`` in order within each series.
        series: ``(R,)`` the number of each time's series, in order.
    """
    differences = np.diff(microseconds(times))[np.diff(series) == 0]
    lengths, counts = np.unique(differences[differences > 0], return_counts=True)
    if not len(lengths):
        return None
    usual = int(lengths[counts.argmax()])
    weekend = times.dt.day_of_week.to_numpy() >= 5
    if usual == DAY and not weekend.any() and lengths.max() >= 3 * DAY:
        return Step("B")
    if not (lengths % usual).any():
        return _of_length(usual).at(times)
    for alias, few, many in (("MS", 28, 31), ("QS", 89, 92), ("YS", 365, 366)):
        if few * DAY <= usual <= many * DAY:
            return Step.of(alias)
    return None


def _of_length(length: int) -> Step:
    """``h`` rather than ``60min``, ``W`` rather than ``7D``."""
    units = {"W": 7 * DAY, "D": DAY, "h": HOUR, "min": 60 * SECOND, "s": SECOND, "us": 1}
    unit, one = next((unit, one) for unit, one in units.items() if length % one == 0)
    count = length // one
    return Step(unit if count == 1 else f"{count}{unit}", length=length)


# --- the calendar --------------------------------------------------------------------------------

MOST_LEVELS = 12
HARMONICS = 3
FIELDS: Mapping[str, tuple[float, int, Callable[[pd.DatetimeIndex], pd.Index]]] = {
    "hour": (24, 0, lambda t: t.hour + t.minute / 60 + t.second / 3600),
    "weekday": (7, 0, lambda t: t.day_of_week),
    "monthday": (31, 1, lambda t: t.day),
    "yearday": (365.25, 1, lambda t: t.day_of_year),
    "month": (12, 1, lambda t: t.month),
    "quarter": (4, 1, lambda t: t.quarter),
}
"""Cycle, first value and reading of each field of the calendar; Monday is weekday 0."""


def calendar_inputs(
    times: pd.DatetimeIndex, fields: Sequence[str]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """What a calendar says of each time, ``(G, C)``, and the names of these inputs.

    A field with up to 12 values has an input of 0 or 1 for each. A longer cycle has sine and cosine
    of its first three harmonics.
    """
    inputs: dict[str, NDArray[np.float64]] = {}
    for field in fields:
        cycle, first, read = FIELDS[field]
        values = np.asarray(read(times), np.float64)
        if cycle <= MOST_LEVELS:
            for level in range(first, first + int(cycle)):
                inputs[f"{field} = {level}"] = (values == level).astype(np.float64)
            continue
        for harmonic in range(1, HARMONICS + 1):
            angle = 2 * np.pi * harmonic * (values - first) / cycle
            inputs[f"{field} sin {harmonic}"] = np.sin(angle)
            inputs[f"{field} cos {harmonic}"] = np.cos(angle)
    table = np.empty((len(times), len(inputs)), np.float32)
    for place, column in enumerate(inputs.values()):
        table[:, place] = column
    return table, tuple(inputs)
