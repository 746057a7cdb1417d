"""Steps of time: numbers and back, found in times as they stand, and what a calendar says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.tasks.timeseries.steps import FIELDS, Step, calendar_inputs, infer_step

ALIASES = ("h", "15min", "2h", "D", "3D", "W", "B", "MS", "ME", "QS", "YS", "2MS", "s")


def times_of(alias: str, periods: int = 60, start: str = "2020-03-02") -> pd.Series:
    return pd.Series(pd.date_range(start, periods=periods, freq=alias)).astype("datetime64[us]")


@pytest.mark.parametrize("alias", ALIASES)
def test_times_one_step_apart_have_numbers_one_apart(alias: str) -> None:
    times = times_of(alias)
    step = Step.of(alias).at(times)
    numbers, on_step = step.numbers(times)
    assert on_step.all()
    assert (np.diff(numbers) == 1).all()
    back, _ = step.numbers(pd.Series(step.times(numbers)))
    np.testing.assert_array_equal(back, numbers)
    if alias not in ("ME",):
        assert step.times(numbers)[0] <= times[0] < step.times(numbers + 1)[0]


@pytest.mark.parametrize("alias", [*ALIASES[:-5], "MS", "QS", "YS"])
def test_a_step_is_found_in_times_with_holes(alias: str) -> None:
    whole = times_of(alias)
    times = whole[np.arange(60) % 7 != 3].reset_index(drop=True)
    found = infer_step(times, np.zeros(len(times), np.int64))
    expected = Step.of(alias).at(times)
    assert found is not None
    assert (found.length, found.months, found.phase) == (
        expected.length, expected.months, expected.phase,
    )  # fmt: skip


def test_irregular_times_keep_no_step() -> None:
    minutes = pd.Series(pd.to_datetime([0, 10, 20, 33, 47, 50], unit="m"))
    assert infer_step(minutes, np.zeros(6, np.int64)) is None
    assert infer_step(minutes, np.arange(6)) is None  # one time a series


@pytest.mark.parametrize("alias", ["fortnight", "-1h", "0h", ""])
def test_what_is_no_step_is_refused(alias: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Step.of(alias)


def test_times_between_two_steps_are_told() -> None:
    times = times_of("h").astype("datetime64[us]")
    times[7] += pd.Timedelta("10min")
    _, on_step = Step.of("h").at(times).numbers(times)
    assert np.flatnonzero(~on_step).tolist() == [7]
    saturday = pd.Series(pd.to_datetime(["2024-01-05", "2024-01-06"]))
    assert Step.of("B").numbers(saturday)[1].tolist() == [True, False]


@pytest.mark.parametrize(("alias", "season", "calendar"), [
    ("15min", 96, ("hour", "weekday")), ("h", 24, ("hour", "weekday")),
    ("D", 7, ("weekday", "month")), ("B", 5, ("weekday", "month")), ("W", 52, ("yearday",)),
    ("MS", 12, ("month",)), ("QS", 4, ("quarter",)), ("YS", 1, ()), ("3D", 1, ("weekday", "month")),
    ("7h", 24, ("hour", "weekday")),
])  # fmt: skip
def test_each_step_has_its_usual_season_and_calendar(
    alias: str, season: int, calendar: tuple[str, ...]
) -> None:
    step = Step.of(alias)
    assert step.calendar == calendar
    assert step.season == season


@settings(max_examples=20)
@given(field=st.sampled_from(sorted(FIELDS)), start=st.datetimes(
    pd.Timestamp("1950-01-01").to_pydatetime(), pd.Timestamp("2090-01-01").to_pydatetime()
))  # fmt: skip
def test_calendar_inputs_are_bounded_and_repeat_with_their_cycle(field: str, start: object) -> None:
    times = pd.date_range(start, periods=800, freq="D")
    table, names = calendar_inputs(times, [field])
    assert table.shape == (800, len(names))
    assert np.abs(table).max() <= 1
    if FIELDS[field][0] <= 12:
        np.testing.assert_array_equal(table.sum(1), 1)
    if field == "weekday":
        np.testing.assert_array_equal(table[7:], table[:-7])
        assert table[:, 0][times.day_of_week == 0].all()
