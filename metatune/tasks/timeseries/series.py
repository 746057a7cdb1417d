"""Series over regular steps of time, from long tables: one row for each series and time.

Nothing is lost in silence: rows that cannot be used, times that are missing and values without a
logarithm are counted in notes; two values for one time, or a time between two steps, are refused
with file and row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metatune.errors import DataError, OptionError, first_of
from metatune.tasks.tables.columns import DATE_FORMATS, as_dates, as_numbers, as_text, guess_kind
from metatune.tasks.tables.frames import UNNAMED, Frame, find_files, read_frame, task_names
from metatune.tasks.timeseries.steps import ALLOWED, Step, Whole, infer_step

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

NAME = "forecast"  # of the family, in messages
FILE = "file"
"""As series: each file is a series, unless a column has this name."""
NO_GROUP = "(no group)"
SPARSE = 20  # steps a row: a table with more has times that stray far, or another step


@dataclass(frozen=True)
class Series:
    """``N`` series, each with a value at every step from its first to its last.

    Attributes:
        values: ``(R,)`` series by series; NaN where a time is missing.
        start: ``(N + 1,)``: series n's values are ``values[start[n]:start[n + 1]]``.
        first: ``(N,)`` the number of the step of each series' first value.
        names, groups: ``N`` each.
        step: what lies between two values.
        notes: what was left out and why.
    """

    values: Floats
    start: Whole
    first: Whole
    names: tuple[str, ...]
    groups: tuple[str, ...]
    step: Step
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> Whole:
        """``(R,)`` the number of each value's step."""
        lengths = np.diff(self.start)
        return np.arange(len(self.values)) + np.repeat(self.first - self.start[:-1], lengths)

    @property
    def beginnings(self) -> Mask:
        """``(R,)`` True for the first value of each series."""
        found = np.zeros(len(self.values), bool)
        found[self.start[:-1]] = True
        return found

    def with_values(self, values: Floats, *notes: str) -> Series:
        """The same series with other values, and further notes."""
        return replace(self, values=values, notes=(*self.notes, *notes))


# --- other values --------------------------------------------------------------------------------


def filled(series: Series, most: int) -> Series:
    """Gaps of up to so many steps take the value before them; longer ones stay."""
    missing = np.isnan(series.values)
    if not most or not missing.any():
        return series
    runs = np.cumsum(series.beginnings | np.r_[True, missing[1:] != missing[:-1]])
    short = missing & (np.bincount(runs)[runs] <= most)
    before = pd.Series(series.values).ffill().to_numpy()  # no series begins with a gap
    told = f"{short.sum()} missing values, in gaps of up to {most}, take the value before."
    return series.with_values(np.where(short, before, series.values), told)


def logarithms(series: Series) -> Series:
    """Natural logarithms; a value that is not above 0 has none and counts as missing."""
    without = series.values <= 0
    logs = np.log(np.where(without, np.nan, series.values))
    if not without.any():
        return series.with_values(logs)
    place = int(np.flatnonzero(without)[0])
    name = series.names[int(np.searchsorted(series.start, place, "right")) - 1]
    when = series.step.times(series.numbers[[place]])[0]
    told = (
        f"{without.sum()} values are not above 0 and have no logarithm (first: {name:.60}, {when}):"
        " counted as missing."
    )
    return series.with_values(logs, told)


def changes(series: Series, steps: int) -> Series:
    """Each value less the one so many steps before; series begin so many steps later."""
    lengths = np.diff(series.start)
    since = np.arange(len(series.values)) - np.repeat(series.start[:-1], lengths)
    later = np.flatnonzero(since >= steps)
    kept = lengths > steps
    short = [name for name, long in zip(series.names, kept, strict=True) if not long]
    if short:
        told = f"{len(short)} series are too short for a change over {steps}: {first_of(short)}."
        series = series.with_values(series.values, told)
    return replace(
        series,
        values=series.values[later] - series.values[later - steps],
        start=np.concatenate([[0], np.cumsum(lengths[kept] - steps)]),
        first=series.first[kept] + steps,
        names=tuple(name for name, long in zip(series.names, kept, strict=True) if long),
        groups=tuple(group for group, long in zip(series.groups, kept, strict=True) if long),
    )


# --- from files ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """Which columns of a long table say what.

    Attributes:
        data: files, globs or folders, absolute.
        series: the columns that tell series apart; ``(file,)``: each file is a series.
        time: the column of points in time.
        value: the column that is predicted.
        group: the column of what series share; None: each series is a group.
        time_format: how times are written, None: as they look.
        step: a pandas offset alias, None: as times look.
    """

    data: tuple[str, ...]
    series: tuple[str, ...]
    time: str
    value: str
    group: str | None = None
    time_format: str | None = None
    step: str | None = None


def read_series(columns: Columns) -> Series:
    """Read all files and put the values of each series on regular steps.

    Raises:
        OptionError: an option names what the files do not have.
        DataError: a file cannot be read; a time has two values, or lies between two steps.
    """
    with TemporaryDirectory() as scratch:
        return _regular(columns, _read(columns, Path(scratch)))


def shared_columns(columns: Columns) -> dict[str, int]:
    """The other columns that never change within a series, with how many values each has.

    Such a column may say what series share. Cells that are missing do not count.

    Raises:
        OptionError, DataError: as of ``read_series``.
    """
    with TemporaryDirectory() as scratch:
        frame = _read(columns, Path(scratch))
        name, named = _names(frame, columns)
        known = {columns.time, columns.value}
        if len(columns.series) == 1:
            known |= set(columns.series)
        found = {}
        for other in map(str, frame.rows.columns):
            if other in known or other.startswith(UNNAMED):
                continue
            cells = as_text(frame.rows[other]).to_numpy(object)
            pairs = pd.DataFrame({"series": name[named], "cell": cells[named]}).dropna()
            pairs = pairs.drop_duplicates()
            if len(pairs) and not pairs["series"].duplicated().any():
                found[other] = int(pairs["cell"].nunique())
        return found


def _regular(columns: Columns, frame: Frame) -> Series:
    """The values of each series on regular steps."""
    rows = len(frame.rows)
    notes = [*frame.notes]
    if rows == 0:
        raise DataError(f"{NAME}: found no rows in {len(frame.files)} files; allowed: some")
    name, named = _names(frame, columns)
    form = columns.time_format or time_format_of(frame.rows[columns.time], columns.time)
    times = _times(frame, columns, form)
    if form not in (columns.time_format, DATE_FORMATS[0]):
        notes.append(f"{columns.time} is read as {form}.")
    kept = named & times.notna().to_numpy()
    _note(notes, frame, ~named, "the series has no name")
    _note(notes, frame, named & ~kept, f"{columns.time}, the time, is missing or none")
    if not kept.any():
        raise OptionError(NAME, "time", f"no row of {rows} with a series and a time", "some")
    names, number = np.unique(name[kept].astype(str), return_inverse=True)
    order = np.lexsort((times[kept].to_numpy(), number))
    if (np.diff(order) < 0).any():
        notes.append("Rows do not stand in order of series and time: sorted.")
    place = np.flatnonzero(kept)[order]  # of each row in the frame
    sorted_times, of_series = times.iloc[place].reset_index(drop=True), number[order]
    step = _step(columns, frame, sorted_times, of_series, place)
    steps, on_step = step.numbers(sorted_times)
    if not on_step.all():
        row = int(place[int(np.flatnonzero(~on_step)[0])])
        raise DataError(
            f"{NAME}: {columns.time}: found {times.iloc[row]} between two steps of {step.alias} "
            f"({frame.place(row)}); allowed: regular times, or another step"
        )
    cells = frame.rows[columns.value]
    values = as_numbers(cells)[place]
    place, of_series, steps, values = _once(columns, frame, place, of_series, steps, values, notes)
    _note_missing(notes, frame, cells.iloc[place], place, np.isnan(values))
    series = _on_steps(values, of_series, steps, tuple(map(str, names)), step, notes)
    return replace(series, groups=_groups(columns, frame, place, name[place], series.names))


def _read(columns: Columns, scratch: Path) -> Frame:
    roles = [("time", columns.time), ("value", columns.value)]
    roles += [("series", column) for column in columns.series if columns.series != (FILE,)]
    roles += [("group", columns.group)] if columns.group is not None else []
    text = {*columns.series, columns.group or ""} - {FILE}
    files, notes = find_files(columns.data, NAME)
    frame = read_frame(files, scratch, roles, text, NAME)
    return replace(frame, notes=(*notes, *frame.notes))


def _names(frame: Frame, columns: Columns) -> tuple[NDArray[Any], Mask]:
    """The name of each row's series, and whether it has one."""
    if columns.series == (FILE,) and FILE not in frame.rows.columns:
        of_file = np.repeat(np.array(task_names(frame.files), object), frame.sizes)
        return of_file, np.ones(len(of_file), bool)
    parts = pd.DataFrame({column: as_text(frame.rows[column]) for column in columns.series})
    named = parts.notna().all(axis=1).to_numpy()
    text = parts.astype(str)
    name = text.iloc[:, 0]
    for column in columns.series[1:]:
        name = name + " / " + text[column]
    return name.to_numpy(object), named


def time_format_of(column: pd.Series, name: str) -> str:
    """How times are written, as they look."""
    kind = guess_kind(name, column)
    if not kind.startswith("date"):
        first = next((str(cell)[:40] for cell in column.dropna()), "nothing")
        allowed = "dates and times as in 2024-05-31 18:00, or time_format"
        raise OptionError(NAME, "time", f"{first!r} in {name!r}", allowed)
    return kind.partition(" ")[2] or DATE_FORMATS[0]


def _times(frame: Frame, columns: Columns, form: str) -> pd.Series:
    """Points in time, without a zone: those that are given in one are UTC."""
    try:
        times = as_dates(frame.rows[columns.time], form)
    except ValueError as error:
        raise OptionError(NAME, "time_format", f"{form!r} ({error})", "such as %d.%m.%Y") from error
    plain: pd.Series = times.dt.tz_localize(None).astype("datetime64[us]")
    return plain


def _step(columns: Columns, frame: Frame, times: pd.Series, series: Whole, place: Whole) -> Step:
    """The declared step, else the one that times keep."""
    if columns.step is not None:
        try:
            return Step.of(columns.step).at(times)
        except ValueError as error:
            raise OptionError(NAME, "step", f"{columns.step!r} ({error})", ALLOWED) from error
    step = infer_step(times, series)
    if step is None:
        same = np.flatnonzero(np.diff(series) == 0)
        if not len(same):
            raise DataError(f"{NAME}: found one time in each series; allowed: several")
        first = int(same[0])
        told = f"{times[first]} and {times[first + 1]} ({frame.place(int(place[first + 1]))}), ..."
        raise OptionError(NAME, "step", f"nothing, and irregular times: {told}", ALLOWED)
    return step


def _once(
    columns: Columns,
    frame: Frame,
    place: Whole,
    series: Whole,
    steps: Whole,
    values: Floats,
    notes: list[str],
) -> tuple[Whole, Whole, Whole, Floats]:
    """Rows with one for each time; rows that say the same again are noted.

    Raises:
        DataError: two values for one time.
    """
    again = np.r_[False, (np.diff(series) == 0) & (np.diff(steps) == 0)]
    if not again.any():
        return place, series, steps, values
    before = np.roll(values, 1)
    other = again & (values != before) & ~(np.isnan(values) & np.isnan(before))
    if other.any():
        row = int(np.flatnonzero(other)[0])
        when = frame.rows[columns.time].iloc[int(place[row])]
        raise DataError(
            f"{NAME}: {columns.value}: found {before[row]:g} ({frame.place(int(place[row - 1]))}) "
            f"and {values[row]:g} ({frame.place(int(place[row]))}) for one time, {str(when)[:40]}; "
            "allowed: one value for each series and time"
        )
    notes.append(
        f"{again.sum()} rows repeat a series and time with the same value (first: "
        f"{frame.place(int(place[int(np.flatnonzero(again)[0])]))}): counted once."
    )
    return place[~again], series[~again], steps[~again], values[~again]


def _note_missing(
    notes: list[str], frame: Frame, cells: pd.Series, place: Whole, missing: Mask
) -> None:
    """Say how many values are missing or no numbers."""
    if not missing.any():
        return
    strange = missing & cells.notna().to_numpy()
    told = f"{missing.sum()} of {len(missing)} values are missing"
    if strange.any():
        first = int(np.flatnonzero(strange)[0])
        cell, where = str(cells.iloc[first])[:40], frame.place(int(place[first]))
        told += f", {strange.sum()} of them no numbers (first: {cell!r} in {where})"
    notes.append(f"{told}.")


def _on_steps(
    values: Floats,
    series: Whole,
    steps: Whole,
    names: tuple[str, ...],
    step: Step,
    notes: Sequence[str],
) -> Series:
    """Each series from its first known value to its last, with NaN at steps without a row."""
    known = ~np.isnan(values)
    values, series, steps = values[known], series[known], steps[known]
    kept, series = np.unique(series, return_inverse=True)
    notes = [*notes]
    if len(kept) < len(names):
        empty = [name for number, name in enumerate(names) if number not in set(kept.tolist())]
        notes.append(f"{len(empty)} series have no value and are left out: {first_of(empty)}.")
    if not len(kept):
        raise OptionError(NAME, "value", f"no number: {' '.join(notes)}", "some")
    bounds = np.searchsorted(series, np.arange(len(kept) + 1))
    first, last = steps[bounds[:-1]], steps[bounds[1:] - 1]
    lengths = last - first + 1
    if lengths.sum() > SPARSE * len(values):
        worst = int((lengths / np.diff(bounds)).argmax())
        when = step.times(np.array([first[worst], last[worst]]))
        found = (
            f"{np.diff(bounds)[worst]} values of {names[kept[worst]]:.60} from {when[0]} to "
            f"{when[1]}, which are {lengths[worst]} steps of {step.alias}"
        )
        raise OptionError(NAME, "step", found, f"times that mostly follow each other; {ALLOWED}")
    start = np.concatenate([[0], np.cumsum(lengths)])
    whole = np.full(int(start[-1]), np.nan)
    whole[start[series] + steps - first[series]] = values
    gaps = len(whole) - len(values)
    if gaps:
        notes.append(f"{gaps} of {len(whole)} steps between first and last have no value.")
    found_names = tuple(names[number] for number in kept)
    return Series(whole, start, first, found_names, found_names, step, tuple(notes))


def _groups(
    columns: Columns, frame: Frame, place: Whole, name: NDArray[Any], names: tuple[str, ...]
) -> tuple[str, ...]:
    """The group of each series: the one that its rows name, or the series itself.

    Args:
        columns: names the column, or none.
        frame: all rows.
        place: the rows that are used.
        name: the series of each of these.
        names: the series that are used.
    """
    if columns.group is None:
        return names
    group = as_text(frame.rows[columns.group]).to_numpy(object)[place]
    pairs = pd.DataFrame({"series": name.astype(str), "group": group}).drop_duplicates()
    known = pairs.dropna()
    twice = known[known["series"].duplicated(keep=False)]
    if not twice.empty:
        one = twice["series"].iloc[0]
        told = " and ".join(repr(g[:60]) for g in twice["group"][twice["series"] == one].iloc[:2])
        raise OptionError(NAME, "group", f"{told} for the series {one:.60}", "one group a series")
    of_series = dict(zip(known["series"], known["group"], strict=True))
    return tuple(of_series.get(name, NO_GROUP) for name in names)


def _note(notes: list[str], frame: Frame, out: Mask, why: str) -> None:
    if out.any():
        first = frame.place(int(np.flatnonzero(out)[0]))
        notes.append(f"{out.sum()} of {len(out)} rows are left out: {why} (first: {first}).")
