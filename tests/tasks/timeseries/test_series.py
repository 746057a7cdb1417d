"""Series from long tables: on regular steps, and nothing lost in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from user_tables import plain_series

from metatune.errors import DataError, MetatuneError, OptionError
from metatune.tasks.timeseries.series import (
    NO_GROUP,
    Columns,
    Series,
    changes,
    filled,
    logarithms,
    read_series,
)
from metatune.tasks.timeseries.steps import Step

PLAIN = plain_series(shops=3, days=40)


def read(tmp_path: Path, frame: pd.DataFrame, **options: Any) -> Series:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
    frame.to_csv(path, index=False)
    asked = {"series": ("shop",), "time": "day", "value": "sold"} | options
    return read_series(Columns(data=(str(path),), **asked))


def same(one: Series, other: Series) -> None:
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.numbers, other.numbers)
    assert (one.names, one.groups, one.step) == (other.names, other.groups, other.step)


def test_values_stand_series_by_series_in_order_of_time(tmp_path: Path) -> None:
    series = read(tmp_path, PLAIN, group="region")
    assert series.names == ("s00", "s01", "s02")
    assert series.groups == ("r0", "r1", "r2")
    assert series.step == Step.of("D")
    np.testing.assert_allclose(series.values, PLAIN["sold"])
    assert series.step.times(series.numbers)[0] == pd.Timestamp("2023-01-01")
    assert series.notes == ()


def test_rows_out_of_order_are_sorted_and_repeated_ones_counted_once(tmp_path: Path) -> None:
    whole = read(tmp_path, PLAIN)
    mixed = PLAIN.sample(frac=1, random_state=0)
    sorted_ = read(tmp_path, mixed)
    same(whole, sorted_)
    assert sorted_.notes == ("Rows do not stand in order of series and time: sorted.",)
    twice = read(tmp_path, pd.concat([PLAIN, PLAIN.iloc[[4]]]))
    same(whole, twice)
    assert "1 rows repeat a series and time with the same value" in twice.notes[1]


def test_parquet_and_several_name_columns_are_read_alike(tmp_path: Path) -> None:
    whole = read(tmp_path, PLAIN)
    path = tmp_path / "a.parquet"
    typed = PLAIN.assign(day=pd.to_datetime(PLAIN["day"]), chain=1)
    typed.to_parquet(path)
    found = read_series(Columns((str(path),), ("chain", "shop"), "day", "sold"))
    np.testing.assert_array_equal(found.values, whole.values)
    assert found.names == ("1 / s00", "1 / s01", "1 / s02")


def test_each_file_is_a_series_where_that_is_said(tmp_path: Path) -> None:
    for name, rows in PLAIN.groupby("shop"):
        rows.drop(columns="shop").to_csv(tmp_path / f"{name}.csv", index=False)
    found = read_series(Columns((str(tmp_path),), ("file",), "day", "sold"))
    assert found.names == ("s00", "s01", "s02")
    assert len(found.values) == len(PLAIN)


def test_missing_times_and_values_are_holes_that_are_counted(tmp_path: Path) -> None:
    frame = PLAIN.astype({"sold": object})
    frame.loc[5, "sold"] = None
    frame.loc[6, "sold"] = "closed"
    frame = frame.drop(index=[10, 11])
    series = read(tmp_path, frame)
    assert np.flatnonzero(np.isnan(series.values)).tolist() == [5, 6, 10, 11]
    assert any("2 of 118 values are missing, 1 of them no numbers (first: 'closed' in" in note
               for note in series.notes)  # fmt: skip
    assert "4 of 120 steps between first and last have no value." in series.notes
    short = filled(series, 1)
    same(short, series.with_values(short.values, *short.notes[len(series.notes) :]))
    assert np.isnan(short.values).sum() == 4  # both gaps are of two
    whole = filled(series, 2)
    assert whole.values[5] == whole.values[6] == series.values[4]
    assert whole.notes[-1] == "4 missing values, in gaps of up to 2, take the value before."


def test_rows_without_series_or_time_are_left_out_and_counted(tmp_path: Path) -> None:
    frame = PLAIN.astype(object)
    frame.loc[3, "shop"] = None
    frame.loc[[7, 8], "day"] = [None, "never"]
    notes = read(tmp_path, frame).notes
    assert any(note.startswith("1 of 120 rows are left out: the series has no name (first: ")
               and note.endswith("row 4).") for note in notes)  # fmt: skip
    assert any("2 of 120 rows are left out: day, the time, is missing or none" in n for n in notes)


@pytest.mark.parametrize(("change", "options", "told"), [
    ({"row": pd.DataFrame({"shop": ["s00"], "day": ["2023-01-03"], "sold": [-1.0]})}, {},
     r"sold: found .* row 3\) and -1 .*row 121\) for one time, 2023-01-03; allowed: one value"),
    ({"row": pd.DataFrame({"shop": ["s00"], "day": ["2023-01-03 06:00"], "sold": [1.0]})},
     {"step": "D"}, r"found 2023-01-03 06:00:00 between two steps of D \(.*row 121\)"),
    ({}, {"step": "fortnight"}, "step: found 'fortnight'"),
    ({}, {"value": "sold2"}, r"value: found no column 'sold2' in .*; allowed: shop, region, day"),
    ({}, {"value": "shop"}, "value: found no number"),
    ({}, {"time": "sold"}, r"time: found '.*' in 'sold'; allowed: dates and times"),
    ({"row": pd.DataFrame({"shop": ["s00"], "region": "r9", "day": ["2023-03-01"], "sold": [1]})},
     {"group": "region"}, "group: found 'r0' and 'r9' for the series s00; allowed: one group"),
    ({"row": pd.DataFrame({"shop": ["s09"] * 2, "day": ["1900-01-01", "2099-01-01"], "sold": 1})},
     {}, "step: found 2 values of s09 from 1900-01-01"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_place(
    tmp_path: Path, change: Any, options: Any, told: str
) -> None:
    frame = pd.concat([PLAIN, change["row"]]) if change else PLAIN
    with pytest.raises(DataError, match=told):
        read(tmp_path, frame, **options)


def test_irregular_times_need_a_declared_step(tmp_path: Path) -> None:
    days = ["2023-01-01", "2023-01-02", "2023-01-02 07:00", "2023-01-05 01:00"]
    frame = pd.DataFrame({"shop": "a", "day": days, "sold": [1, 2, 3, 4]})
    with pytest.raises(OptionError, match="step: found nothing, and irregular times: 2023-01-01"):
        read(tmp_path, frame)
    one = PLAIN.groupby("shop").head(1)
    with pytest.raises(DataError, match="one time in each series; allowed: several"):
        read(tmp_path, one)


def test_a_series_without_a_group_has_one_of_its_own_kind(tmp_path: Path) -> None:
    frame = PLAIN.assign(region=PLAIN["region"].where(PLAIN["shop"] != "s01"))
    assert read(tmp_path, frame, group="region").groups == ("r0", NO_GROUP, "r2")


# --- other values ---------------------------------------------------------------------------------


def test_changes_and_logarithms_do_not_cross_series(tmp_path: Path) -> None:
    series = read(tmp_path, PLAIN)
    found = changes(logarithms(series), 2)
    logs = np.log(series.values.reshape(3, 40))
    np.testing.assert_allclose(found.values.reshape(3, 38), logs[:, 2:] - logs[:, :-2])
    np.testing.assert_array_equal(found.numbers.reshape(3, 38)[0], series.numbers[2:40])
    assert len(found.start) == len(found.names) + 1 == 4


def test_series_that_are_too_short_for_a_change_are_told(tmp_path: Path) -> None:
    frame = pd.concat([PLAIN, PLAIN.iloc[:3].assign(shop="tiny")])
    found = changes(read(tmp_path, frame), 3)
    assert found.names == ("s00", "s01", "s02")
    assert found.notes[-1] == "1 series are too short for a change over 3: tiny."


def test_values_without_a_logarithm_are_told(tmp_path: Path) -> None:
    frame = PLAIN.assign(sold=PLAIN["sold"].where(PLAIN.index != 50, -2.0))
    found = logarithms(read(tmp_path, frame))
    assert np.flatnonzero(np.isnan(found.values)).tolist() == [50]
    assert (
        "1 values are not above 0 and have no logarithm (first: s01, 2023-01-11" in found.notes[-1]
    )


# --- whatever a table holds -----------------------------------------------------------------------

CELLS = st.one_of(
    st.none(), st.integers(-5, 5), st.floats(allow_nan=True), st.text(max_size=4),
    st.sampled_from(["2023-01-09", "2023-02-30", "31.12.2023", "1e400", "9999-12-31", "0001-1-1"]),
)  # fmt: skip


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changed=st.lists(
        st.tuples(st.integers(0, 119), st.sampled_from(["shop", "region", "day", "sold"]), CELLS),
        max_size=6,
    ),
    dropped=st.sets(st.integers(0, 119), max_size=40),
    group=st.sampled_from([None, "region"]),
)
def test_a_damaged_table_is_read_or_refused_in_words(tmp_path, changed, dropped, group) -> None:
    """Every known value is where its row says, or the table is refused; no row gets lost."""
    frame = PLAIN.astype(object)
    for row, column, cell in changed:
        frame.loc[row, column] = cell
    frame = frame.drop(index=list(dropped))
    try:
        series = read(tmp_path, frame, group=group)
    except MetatuneError:
        return
    assert len(series.start) == len(series.names) + 1 == len(series.groups) + 1
    sound = frame.drop(index=[row for row, _, _ in changed if row in frame.index])
    numbers, _ = series.step.numbers(pd.Series(pd.to_datetime(sound["day"].astype(str))))
    for name, number, sold in zip(sound["shop"], numbers, sound["sold"], strict=True):
        n = series.names.index(name)
        assert series.values[series.start[n] + number - series.first[n]] == sold
