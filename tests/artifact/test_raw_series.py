"""Raw series: a history is learned as the family's own stretches are, and forecast in its unit."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from inline_runner import inline_run
from made import made, stored
from typer.testing import CliRunner
from user_tables import plain_series

import metatune
from metatune.artifact import files
from metatune.artifact.loading import load
from metatune.cli import app
from metatune.errors import ArtifactError
from metatune.presets import preset
from metatune.strategy import Ridge, Strategy
from metatune.tasks.base import Episode
from metatune.tasks.timeseries.forecast import ForecastOptions, open_forecast

EPISODE = Episode(1, 14, 7)
OPTIONS = {"series": ["shop"], "time": "day", "value": "sold", "group": "region", "ahead": 7}
HOW = {
    "values": {},
    "logarithms": {"transform": "log"},
    "changes": {"change": 7},
    "changes of logarithms, filled": {"transform": "log", "change": 14, "fill": 2},
}

pytestmark = pytest.mark.filterwarnings("ignore::metatune.artifact.learner.UnlikeTask")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A long table, and its file."""
    frame = plain_series(shops=8, days=120)
    path = tmp_path_factory.mktemp("series") / "sales.csv"
    frame.to_csv(path, index=False)
    return frame, path


def opened(table, how):
    return open_forecast(ForecastOptions.of({**OPTIONS, "data": [str(table[1])], **HOW[how]}))


def artifact_of(strategy, family, folder):
    """What an export of a run on the family would give."""
    made_up = stored(strategy, family.info, EPISODE)
    plain = json.loads(json.dumps({**made_up.plain, "series": dict(family.reading)}))
    return load(files.write(replace(made_up, plain=plain), folder))


def naive(family):
    return preset("seasonal_naive", family.info)


@pytest.fixture(scope="module")
def plain(table, tmp_path_factory):
    """An artifact that repeats the week before."""
    family = opened(table, "values")
    return artifact_of(naive(family), family, tmp_path_factory.mktemp("plain") / "a")


def history(table, shop="s03", days=60):
    """The first days of a shop: times and values."""
    own = table[0][table[0]["shop"] == shop][:days]
    return own["day"].to_numpy(), own["sold"].to_numpy()


# --- the same as the family -----------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
def test_a_history_becomes_the_task_that_the_family_draws(table, tmp_path, how):
    family = opened(table, how)
    artifact = artifact_of(Strategy(head=Ridge()), family, tmp_path / "a")
    batch = family.sample("train", EPISODE, range(5))
    for task, name in enumerate(batch.ids):
        shop, start = name.split("-")[0], "-".join(name.split("-")[1:4])
        own = table[0][(table[0]["shop"] == shop) & (table[0]["day"] < start)]
        found = artifact.adapt_series(own["day"], own["sold"])
        np.testing.assert_allclose(found.adapted.x, batch.support_x[task], atol=1e-5)
        np.testing.assert_allclose(found.adapted.y, batch.support_y[task], atol=1e-5)
        np.testing.assert_allclose(found.inputs, batch.query_x[task], atol=1e-5)
        assert str(found.times[0])[:10] == start
        assert len(found.times) == 7
        # Targets in the unit of the support are raw values again.
        query = table[0][(table[0]["shop"] == shop) & (table[0]["day"] >= start)]["sold"][:7]
        raw = found._raw(batch.query_y[task, :, 0].astype(float), np.arange(7))
        np.testing.assert_allclose(raw, query, rtol=1e-4)


@pytest.mark.parametrize("how", HOW)
def test_the_seasonal_naive_forecast_is_known_by_hand(table, tmp_path, how):
    family = opened(table, how)
    artifact = artifact_of(naive(family), family, tmp_path / "a")
    times, values = history(table)
    options, now = HOW[how], values
    if "transform" in options:
        now = np.log(now)
    change = options.get("change", 0)
    if change:
        steps = now[change:] - now[:-change]
        expected = now[len(now) - change :][:7] + steps[-7:]
    else:
        expected = now[-7:]
    expected = np.exp(expected) if "transform" in options else expected
    found = artifact.adapt_series(times, values)
    np.testing.assert_allclose(found.predict(), expected, rtol=1e-4)
    ends = found.predict_interval(level=0.5)
    assert (ends[:, 0] < found.predict()).all()
    assert (found.predict() < ends[:, 1]).all()
    assert found.used == "strategy"


# --- how it may come ------------------------------------------------------------------------------


def test_order_zone_and_type_of_times_do_not_matter(plain, table):
    times, values = history(table)
    expected = plain.adapt_series(times, values).predict()
    order = np.random.default_rng(0).permutation(60)
    for given in (
        (times[order], values[order]),
        (pd.to_datetime(times), list(values)),
        (pd.to_datetime(times).tz_localize("UTC"), values),
        (times.astype("datetime64[D]"), values),
    ):
        np.testing.assert_array_equal(plain.adapt_series(*given).predict(), expected)


def test_some_of_the_next_steps_are_asked_for_by_their_times(plain, table):
    found = plain.adapt_series(*history(table))
    every = found.predict()
    assert found.predict("2023-03-02").tolist() == [every[0]]
    assert found.predict(["2023-03-04", "2023-03-03"]).tolist() == [every[2], every[1]]
    assert found.predict(found.times).tolist() == every.tolist()
    said = r"times: found 2023-03-09 .*; allowed: 2023-03-02.* to 2023-03-08.*, the 7 steps after"
    with pytest.raises(ArtifactError, match=said):
        found.predict("2023-03-09")
    with pytest.raises(ArtifactError, match=r"times: found what are no times"):
        found.predict("soon")


def test_gaps_are_filled_as_the_run_filled_its_own(table, tmp_path):
    family = opened(table, "changes of logarithms, filled")
    artifact = artifact_of(naive(family), family, tmp_path / "a")
    times, values = history(table)
    kept = np.delete(np.arange(60), [40, 41])
    whole = values.copy()
    whole[40:42] = whole[39]
    found = artifact.adapt_series(times[kept], values[kept]).predict()
    np.testing.assert_array_equal(found, artifact.adapt_series(times, whole).predict())


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda t, v: (t[:20], v[:20]),
     r"found 20 steps; allowed: 28 or more, of which 14 are learned from"),
    (lambda t, v: (t, np.where(np.arange(60) == 50, np.nan, v)),
     r"found no value at 2023-02-20 00:00:00; allowed: one at each of the last 28 steps"),
    (lambda t, v: (np.delete(t, 50), np.delete(v, 50)), r"found no value at 2023-02-20"),
    (lambda t, v: (t, np.append(v[:-1], np.nan)), r"found no value at 2023-03-01"),
    (lambda t, v: (np.where(np.arange(60) == 9, "2023-01-10 07:00", t), v),
     r"found 2023-01-10 07:00:00 between two steps of D; allowed: regular times"),
    (lambda t, v: (np.where(np.arange(60) == 9, t[8], t), v), r"found two values at 2023-01-09"),
    (lambda t, v: (np.where(np.arange(60) == 9, "1850-01-10", t), v),
     r"found 60 values over 6\d{4} steps of D; allowed: times that mostly follow each other"),
    (lambda t, v: (np.where(np.arange(60) == 9, "soon", t), v), r"found 'soon' in row 9"),
    (lambda t, v: (np.array(["no", "time"] * 30), v), r"time: found 'no'"),
    (lambda t, v: (t, v[:9]), r"found 60 times and 9 values"),
    (lambda t, v: ([], []), r"found 0 times and 0 values"),
    (lambda t, v: (t, np.ones(60)), r"found one value alone in the last 14 steps"),
    (lambda t, v: (t, ["many"] * 60), r"found no value at "),
])  # fmt: skip
def test_a_history_that_does_not_fit_is_told_of_in_a_sentence(plain, table, spoil, said):
    with pytest.raises(ArtifactError, match=said) as caught:
        plain.adapt_series(*spoil(*history(table)))
    assert "\n" not in str(caught.value)


def test_a_value_without_a_logarithm_is_told_of(table, tmp_path):
    family = opened(table, "logarithms")
    artifact = artifact_of(naive(family), family, tmp_path / "a")
    times, values = history(table)
    values = np.where(np.arange(60) == 55, 0.0, values)
    with pytest.raises(ArtifactError, match=r"found no value above 0 at 2023-02-25"):
        artifact.adapt_series(times, values)


def test_other_families_have_no_series(tmp_path, table):
    family = opened(table, "values")
    artifact = made(tmp_path / "a", naive(family), family.info, EPISODE)  # without rules
    with pytest.raises(ArtifactError, match=r"adapt_series: found an artifact of the family"):
        artifact.adapt_series(*history(table))


@pytest.mark.parametrize("change", [
    {"lags": [1]}, {"lags": []}, {"lags": [10**9]}, {"lags": "7"}, {"ahead": 0}, {"log": 1},
    {"step": {}}, {"step": {"alias": "D", "length": -1, "months": 0, "phase": 0}},
    {"step": {"alias": "D", "length": 9, "months": 9, "phase": 0}}, {"change": 3}, {"fill": None},
    {"calendar": [1]}, {"time_format": 3}, {"time": None},
])  # fmt: skip
def test_hostile_rules_are_refused_when_they_are_loaded(table, tmp_path, change):
    family = opened(table, "values")
    made_up = stored(naive(family), family.info, EPISODE)
    rules = json.loads(json.dumps(dict(family.reading))) | change
    files.write(replace(made_up, plain={**made_up.plain, "series": rules}), tmp_path / "a")
    with pytest.raises(ArtifactError, match=r"strategy.json: series"):
        load(tmp_path / "a")


@pytest.mark.parametrize(("change", "said"), [
    ({"calendar": ["os.system"]}, r"calendar: found 'os.system'"),
    ({"calendar": ["weekday"]}, r"x: found 9 inputs a row; allowed: 21 inputs a row"),
    ({"lags": [10**6]}, r"found 60 steps; allowed: 1000014 or more"),
    ({"time_format": "%q"}, r"history|%q"),
])  # fmt: skip
def test_strange_rules_do_no_harm_when_they_are_used(table, tmp_path, change, said):
    family = opened(table, "values")
    made_up = stored(naive(family), family.info, EPISODE)
    rules = json.loads(json.dumps(dict(family.reading))) | change
    files.write(replace(made_up, plain={**made_up.plain, "series": rules}), tmp_path / "a")
    with pytest.raises(ArtifactError, match=said):
        load(tmp_path / "a").adapt_series(*history(table))


# --- from the shell -------------------------------------------------------------------------------


RUN = """\
family: {name: forecast, data: DATA, series: shop, group: region, time: day, value: sold,
  transform: log, shot: 14, query: 7, periods: null, licence: "CC BY 4.0, by the shops"}
resource: {full: 300, rungs: 1}
tasks: {select: 4, confirm: 4, test: 4}
budget: {trials: 1}
rounds: {count: 1}
default: seasonal_ridge
initial: [seasonal_ridge]
strategy:
  prior: {kind: forecast}
  head: {kind: ridge, penalty: {float: [0.1, 10.0], log: true}, learn: false}
  meta: {rule: none}
verdict: {seeds: 1, best_seeds: 1, finalists: 1}
"""


def shell(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_run_becomes_forecasts_by_two_commands(table, tmp_path):
    run = inline_run(RUN.replace("DATA", str(table[1])), tmp_path / "run")
    done = shell("export", run, "-o", tmp_path / "a", "--trial", "r1-0000")
    assert done.exit_code == 0, done.output
    assert "CC BY 4.0, by the shops" in (tmp_path / "a" / "card.md").read_text()
    own = table[0][table[0]["shop"] == "s03"][:60]
    own.to_csv(tmp_path / "history.csv", index=False)
    out = tmp_path / "forecast.csv"
    done = shell("adapt", tmp_path / "a", tmp_path / "history.csv", "-o", out, "--level", "0.5")
    assert done.exit_code == 0, done.output
    assert "(7 predictions, learned from 60 rows)" in " ".join(done.output.split())
    found = pd.read_csv(out)
    assert list(found.columns) == ["time", "prediction", "low", "high"]
    assert found["time"].tolist() == [f"2023-03-0{day}" for day in range(2, 9)]
    expected = metatune.load(tmp_path / "a").adapt_series(own["day"], own["sold"]).predict()
    np.testing.assert_allclose(found["prediction"], expected, rtol=1e-5)
    assert ((found["low"] < found["prediction"]) & (found["prediction"] < found["high"])).all()
    missing = own.drop(columns="sold")
    missing.to_csv(tmp_path / "history.csv", index=False)
    done = shell("adapt", tmp_path / "a", tmp_path / "history.csv", "-o", out)
    assert "adapt: value: found no column 'sold'" in str(done.exception)


def test_without_a_query_other_artifacts_say_that_they_want_one(table_artifact, tmp_path):
    (tmp_path / "s.csv").write_text("y\n1\n")
    done = shell("adapt", table_artifact, tmp_path / "s.csv", "-o", tmp_path / "p.csv")
    assert "query: found none, and an artifact of the family table" in str(done.exception)
