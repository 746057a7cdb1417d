"""Forecasts: nothing is seen too early, each task knows its own support alone, splits are apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from user_tables import plain_series

from metatune.errors import DataError, OptionError
from metatune.learners.interface import to_tensors
from metatune.learners.learner import build_learner
from metatune.presets import preset, presets_for
from metatune.tasks.base import MAE, SPLITS, Episode, Metric, TaskBatch, notes_of
from metatune.tasks.registry import open_family
from metatune.tasks.splits import SHARES
from metatune.tasks.timeseries.forecast import (
    ForecastFamily,
    ForecastOptions,
    Setting,
    open_forecast,
)
from metatune.tasks.timeseries.series import Series
from metatune.tasks.timeseries.steps import Step
from metatune.testing import FamilyConformance

EPISODE = Episode(1, 14, 7)
WHOLE = plain_series(shops=8, days=150).astype(object)
N, LENGTH = 12, 240
SETTING = Setting(ahead=2, season=7, lags=(3, 14), calendar=("weekday",), gap=5)
TENSORS = ("support_x", "support_y", "query_x", "query_y")


def handmade(values: np.ndarray | None = None, **changes: Any) -> ForecastFamily:
    """12 daily series of 240 days, each a group."""
    if values is None:
        values = np.random.default_rng(0).normal(50, 5, (N, LENGTH))
    names = tuple(f"s{n:02d}" for n in range(len(values)))
    start = np.arange(len(values) + 1) * values.shape[1]
    first = np.full(len(values), 19_000)
    series = Series(values.ravel(), start, first, names, names, Step.of("D"))
    return ForecastFamily("handmade", series, replace(SETTING, **changes), "For tests.")


FAMILY = handmade()


class TestConformance(FamilyConformance):
    episode = EPISODE

    @pytest.fixture
    def part(self):
        return FAMILY


def whereabouts(tasks: TaskBatch) -> list[tuple[int, int]]:
    """Series and day of the start of each task, from its name."""
    found = []
    for name in tasks.ids:
        series, day = name.rsplit("-", 1)[0].split("-", 1)
        number = (pd.Timestamp(day) - pd.Timestamp("1970-01-01")).days - 19_000
        found.append((int(series[1:]), number))
    return found


# --- what an example is ---------------------------------------------------------------------------


def test_an_example_holds_earlier_values_and_the_weekday_in_units_of_the_support() -> None:
    tasks = FAMILY.sample("select", EPISODE, range(20))
    raw = FAMILY.series.values.reshape(N, LENGTH)
    assert FAMILY.inputs[:4] == ("lag 2", "lag 3", "lag 7", "lag 14")
    assert FAMILY.info.forecasts == {"seasonal_naive": 2, "last_value": 0}
    for task, (n, start) in enumerate(whereabouts(tasks)):
        support = raw[n, start - 14 : start]
        scaled = (raw[n] - support.mean()) / support.std()
        days = np.arange(start - 14, start + 7)
        y = np.concatenate([tasks.support_y, tasks.query_y], 1)[task, :, 0]
        x = np.concatenate([tasks.support_x, tasks.query_x], 1)[task]
        np.testing.assert_allclose(y, scaled[days], rtol=1e-4, atol=1e-5)
        for column, lag in enumerate((2, 3, 7, 14)):
            np.testing.assert_allclose(x[:, column], scaled[days - lag], rtol=1e-4, atol=1e-5)
        weekday = FAMILY.series.step.times(days + 19_000).day_of_week
        np.testing.assert_array_equal(x[:, 4:].argmax(1), weekday)


def test_lags_of_forecasts_are_known_when_a_forecast_is_made() -> None:
    assert Setting(24, 24, (24, 48), ()).forecasts == {"seasonal_naive": 0}
    assert Setting(30, 12, (), ()).all_lags == (30, 36)
    assert Setting(1, 12, (2,), ()).forecasts == {"seasonal_naive": 2, "last_value": 0}


def test_naive_presets_predict_the_values_that_they_are_named_after() -> None:
    tasks = to_tensors(FAMILY.sample("train", EPISODE, range(5)))
    for name, lag in (("seasonal_naive", 7), ("last_value", 2)):
        learner = build_learner(preset(name, FAMILY.info), FAMILY.info, 1)
        column = FAMILY.inputs.index(f"lag {lag}")
        found = learner.predict(learner.init(0), tasks)[..., 0]
        np.testing.assert_allclose(found, tasks.query_x[..., column], atol=0.01)


def test_baselines_are_offered_and_those_that_are_the_same_are_left_out() -> None:
    assert set(FAMILY.info.baselines) <= set(presets_for(FAMILY.info))
    assert FAMILY.info.baselines[:3] == ("seasonal_naive", "last_value", "ridge")
    daily = handmade(ahead=7)
    assert "last_value" not in (*daily.info.baselines, *presets_for(daily.info))


# --- no leak --------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(split=st.sampled_from(SPLITS), seed=st.integers(0, 2**60), later=st.integers(-40, 10))
def test_a_value_changes_no_input_before_it_is_known(split: Any, seed: int, later: int) -> None:
    """Of a value from the start on, only targets on its day and inputs ``ahead`` later change."""
    tasks = FAMILY.sample(split, EPISODE, [seed])
    ((n, start),) = whereabouts(tasks)
    changed = FAMILY.series.values.reshape(N, LENGTH).copy()
    day = min(start + later, LENGTH - 1)
    changed[n, day] += 100.0
    other = handmade(changed).sample(split, EPISODE, [seed])
    assert tasks.ids == other.ids
    if day < start - 28:
        for name in TENSORS:
            np.testing.assert_array_equal(getattr(tasks, name), getattr(other, name))
    if day >= start:
        np.testing.assert_array_equal(tasks.support_x, other.support_x)
        np.testing.assert_array_equal(tasks.support_y, other.support_y)
        queries = np.arange(start, start + 7)
        early = queries < day + FAMILY._setting.ahead
        np.testing.assert_array_equal(tasks.query_x[0, early], other.query_x[0, early])
        same = queries != day
        np.testing.assert_array_equal(tasks.query_y[0, same], other.query_y[0, same])


def test_other_series_and_later_times_change_no_tensor_of_train() -> None:
    raw = FAMILY.series.values.reshape(N, LENGTH)
    train = [int(name[1:]) for name in FAMILY.info.groups["train"]]
    end = FAMILY._periods["train"][1] - 19_000
    changed = np.random.default_rng(9).normal(0, 1000, raw.shape)
    changed[train, :end] = raw[train, :end]
    one, two = (f.sample("train", EPISODE, range(60)) for f in (FAMILY, handmade(changed)))
    assert one.ids == two.ids
    for name in TENSORS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_what_is_judged_lies_later_than_everything_of_the_splits_before() -> None:
    end = 0
    for split in SPLITS:
        days = [start for _, start in whereabouts(FAMILY.sample(split, EPISODE, range(300)))]
        if split != "train":
            assert min(days) >= end + 5  # the gap
        end = max(days) + EPISODE.query


def test_by_default_tasks_of_two_splits_share_no_time() -> None:
    family = handmade(np.random.default_rng(1).normal(0, 1, (N, 800)), gap=None)
    latest = -1
    for split in SPLITS:
        days = [start for _, start in whereabouts(family.sample(split, EPISODE, range(300)))]
        assert min(days) - 14 - 14 > latest
        latest = max(days) + EPISODE.query - 1


def test_without_periods_splits_are_by_group_alone() -> None:
    family = handmade(periods=None)
    for split in SPLITS:
        days = [start for _, start in whereabouts(family.sample(split, EPISODE, range(400)))]
        assert (min(days), max(days)) == (28, LENGTH - 7)


# --- which tasks there are ------------------------------------------------------------------------


def test_no_task_spans_a_missing_value_and_it_is_told() -> None:
    values = np.random.default_rng(0).normal(0, 1, (N, LENGTH))
    values[:, 60] = np.nan
    family = handmade(values)
    for _, start in whereabouts(family.sample("train", EPISODE, range(300))):
        assert start + 7 <= 60 or start - 28 > 60
    assert any(
        "420 of 2472 stretches are never drawn: a value is missing" in note
        for note in notes_of(family, EPISODE)
    )


@pytest.mark.parametrize("metric", ["mae", "mase"])
def test_no_support_is_constant_and_it_is_told(metric: Any) -> None:
    values = np.random.default_rng(0).normal(0, 1, (N, LENGTH))
    values[:, 30:60] = 7.0
    if metric == "mase":
        values[:, 30:60] = np.arange(30) % 7  # varies, but each week is like the one before
    family = handmade(values, metric=metric)
    tasks = family.sample("train", EPISODE, range(300))
    unit = tasks.support_y[..., 0].std(1)
    if metric == "mase":
        unit = np.abs(tasks.support_x[..., 2] - tasks.support_y[..., 0]).mean(1)
    assert unit.min() > 0.01
    assert np.isfinite(tasks.query_y).all()
    assert any("or one season without change" in note for note in notes_of(family, EPISODE))


def test_what_no_split_can_hold_is_refused_with_its_time() -> None:
    with pytest.raises(
        DataError, match=r"no stretch of 14 \+ 60 \+ 30 steps .* split 'confirm' \(2"
    ):
        FAMILY.check(Episode(1, 60, 30))
    with pytest.raises(DataError, match="allowed: way 1, shot from 2"):
        FAMILY.check(Episode(1, 1, 5))
    with pytest.raises(
        DataError, match="found groups nobody for 1 seeds; allowed: one of the split"
    ):
        FAMILY.sample("test", EPISODE, [1], ["nobody"])
    with pytest.raises(DataError, match="handmade: found 3 groups"):
        handmade(np.random.default_rng(0).normal(0, 1, (3, 100)))


def test_metrics_are_those_that_are_asked_for() -> None:
    assert FAMILY.info.metric == MAE
    assert handmade(metric="mase").info.metric == Metric("mase", -1, naive=2)
    assert handmade(metric="mase").fingerprint != FAMILY.fingerprint


# --- the user's own tables ------------------------------------------------------------------------


def opened(tmp_path: Path, frame: pd.DataFrame, **options: Any) -> ForecastFamily:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
    frame.to_csv(path, index=False)
    asked = {"data": [str(path)], "series": ["shop"], "time": "day", "value": "sold", "ahead": 7}
    return open_forecast(ForecastOptions.of(asked | options))


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> ForecastFamily:
    return opened(tmp_path_factory.mktemp("sales"), plain_series(days=300), gap=0)


class TestSales(FamilyConformance):
    episode = EPISODE

    @pytest.fixture
    def part(self, sales):
        return sales


def test_over_the_folds_each_group_is_in_test_once(tmp_path: Path) -> None:
    frame = plain_series(shops=8, days=200, regions=8)
    folds = [opened(tmp_path, frame, group="region", gap=0, fold=fold) for fold in range(4)]
    tested = [group for family in folds for group in family.info.groups["test"]]
    always = set.intersection(*(set(family.info.groups["train"]) for family in folds))
    assert folds[0].folds == 4
    assert sorted([*tested, *always]) == sorted(set(frame["region"]))
    assert any("this is fold 3" in note for note in notes_of(folds[3], EPISODE))
    with pytest.raises(OptionError, match=r"forecast: fold: found 4; allowed: 0 to 3"):
        opened(tmp_path, frame, group="region", gap=0, fold=4)


def test_what_is_left_out_is_taken_from_the_step_and_stated(sales: ForecastFamily) -> None:
    assert sales.inputs[:2] == ("lag 7", "lag 14")
    assert sales.info.views == {"lags": (0, 2), "calendar": (2, 21)}
    notes = notes_of(sales, EPISODE)
    assert notes[0] == "16 series from 2023-01-01 to 2023-10-27, 4800 steps."
    assert "Steps of D, as their times look; a season is 7 of them." in notes
    assert any(note.startswith("Judged on: train 2023-01-01 to 2023-05-30;") for note in notes)


def test_logarithms_and_changes_are_what_is_predicted(tmp_path: Path) -> None:
    frame = plain_series(days=300)
    family = opened(tmp_path, frame, transform="log", change=7, gap=0)
    tasks = family.sample("train", EPISODE, range(3))
    logs = np.log(frame["sold"].to_numpy().reshape(16, 300))
    np.testing.assert_allclose(family.series.values.reshape(16, 293), logs[:, 7:] - logs[:, :-7])
    np.testing.assert_allclose(tasks.support_y.std(1), 1, rtol=1e-4)


def test_series_that_hold_no_task_are_told(tmp_path: Path) -> None:
    frame = plain_series(days=300)
    late = frame["shop"].isin(["s03"]) & (frame["day"] < "2023-10-01")
    notes = notes_of(opened(tmp_path, frame[~late], gap=0), EPISODE)
    assert any("1 series have no whole task in their split's time: s03." in note for note in notes)


def test_a_family_of_tables_asks_for_them() -> None:
    with pytest.raises(OptionError, match="forecast: data: found nothing; allowed: CSV or Parquet"):
        open_family("forecast")


CELLS = st.one_of(
    st.none(), st.floats(allow_nan=True), st.text(max_size=4),
    st.sampled_from(["2023-01-09", "31.12.2023", "0", "-3", "1e99", "1e-300", "9999-12-31"]),
)  # fmt: skip


@settings(max_examples=25)
@given(
    cells=st.lists(
        st.tuples(st.integers(0, 1199), st.sampled_from(["shop", "region", "day", "sold"]), CELLS),
        max_size=5,
    ),
    dropped=st.sets(st.integers(0, 1199), max_size=10),
    periods=st.sampled_from([None, None, None, SHARES]),
    options=st.fixed_dictionaries({}, optional={
        "group": st.just("region"), "step": st.sampled_from(["D", "h", "W", "MS", "B"]),
        "season": st.integers(1, 9), "lags": st.lists(st.integers(7, 20), max_size=3),
        "calendar": st.lists(st.sampled_from(["month", "hour"]), max_size=2, unique=True),
        "transform": st.just("log"), "change": st.integers(7, 80), "fill": st.integers(0, 3),
        "metric": st.just("mase"), "gap": st.integers(0, 9),
    }),
)  # fmt: skip
def test_a_damaged_table_ends_in_words_or_in_finite_tasks(
    tmp_path_factory: pytest.TempPathFactory,
    cells: Any,
    dropped: Any,
    periods: Any,
    options: Any,
) -> None:
    frame = WHOLE.copy()
    for row, column, cell in cells:
        frame.loc[row, column] = cell
    try:
        frame = frame.drop(index=list(dropped))
        family = opened(tmp_path_factory.mktemp("f"), frame, periods=periods, **options)
        family.check(EPISODE)
    except DataError as error:
        assert str(error).startswith("forecast: ")  # noqa: PT017 - either ending is right
        return
    assert notes_of(family, EPISODE)
    for split in SPLITS:
        tasks = family.sample(split, EPISODE, range(4))
        for name in TENSORS:
            assert np.isfinite(getattr(tasks, name)).all()
        np.testing.assert_allclose(tasks.support_y.std(1), 1, rtol=1e-3)
