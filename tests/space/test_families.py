"""Options of a family: refused with the line they stand on, carried as plain data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metatune.errors import SpaceError
from metatune.space import Space, load_yaml, parse_space
from metatune.space.families import (
    OWN,
    Chembl,
    Family,
    Forecast,
    ImageFolder,
    Omniglot,
    OwnFamily,
    Table,
)
from metatune.space.families.forecast import CALENDAR
from metatune.space.source import Source
from metatune.tasks.base import Episode
from metatune.tasks.images.image_folder import ImageFolderOptions
from metatune.tasks.splits import SHARES
from metatune.tasks.tables.options import TableOptions
from metatune.tasks.timeseries.forecast import ForecastOptions
from metatune.tasks.timeseries.steps import FIELDS

REST = """
budget: {trials: 4}
default: ridge
strategy: {head: {kind: ridge, penalty: {float: [0.1, 10.0], log: true}}}
"""
TABLE = """\
family:
  name: table
  data: data/*.csv
  task: customer
  target: y
"""
FORECAST = """\
family:
  name: forecast
  shot: 28
  query: 7
  data: sales/*.csv
  series: shop
  time: day
  value: sold
"""


def read(text: str) -> Space:
    data, lines = load_yaml(text + REST, "s.yaml")
    return parse_space(data, Source("s.yaml", lines), ("sinusoid", *OWN))


def test_a_family_without_options_has_none() -> None:
    family = read("family: {name: sinusoid, shot: 3}").family
    assert type(family) is Family
    assert family.plain_options(Path("/base")) == {}
    assert family.episode == Episode(1, 3, 5)


def test_a_table_has_its_defaults_and_paths_as_seen_from_the_file() -> None:
    space = read(TABLE + "  shot: 16\n")
    assert isinstance(space.family, Table)
    assert space.episode == Episode(1, 16, 5, per_class=False)
    options = space.family.plain_options(Path("/base"))
    assert (
        json.loads(json.dumps(options))
        == options
        == {
            "data": ["/base/data/*.csv"],
            "task": "customer",
            "target": "y",
            "group": None,
            "predict": None,
            "metric": "r2",
            "columns": {},
            "levels": 16,
            "splits": SHARES,
            "fold": 0,
            "way": None,
        }
    )
    assert space.family.plain_options(None)["data"] == [str(Path.cwd() / "data/*.csv")]
    several = read(TABLE.replace("data/*.csv", "[/abs/a.csv, b.parquet]")).family
    assert several.plain_options(Path("/base"))["data"] == ["/abs/a.csv", "/base/b.parquet"]


def test_the_fewest_support_rows_of_a_table_are_of_the_shape_of_its_tasks() -> None:
    space = read(TABLE + "  shot: 16\n  query: 8\n  fewest: 3\n")
    assert space.episode == Episode(1, 16, 8, per_class=False, fewest=3)
    assert space.family.plain_options(None) == read(TABLE).family.plain_options(None)


@pytest.mark.parametrize(("text", "told"), [
    (TABLE + "  shot: 4\n  fewest: 5\n",
     "family: found fewest 5 above shot 4; allowed: 1 to shot"),
    (TABLE + "  fewest: 0\n", "family.fewest: found 0; allowed: greater than or equal to 1"),
    (FORECAST + "  fewest: 3\n", "family.fewest: found the unknown key fewest; allowed: "),
    ("family: {name: image_folder, data: d, fewest: 3}", "family.fewest: found the unknown key"),
])  # fmt: skip
def test_fewest_is_refused_where_it_says_nothing(text: str, told: str) -> None:
    with pytest.raises(SpaceError) as refused:
        read(text)
    assert told in str(refused.value)


def test_what_a_table_says_is_what_its_reader_takes() -> None:
    options = read(TABLE).family.plain_options(Path("/base"))
    assert TableOptions.of(options) == TableOptions(("/base/data/*.csv",), "customer", "y")
    assert {
        "table": Table,
        "chembl": Chembl,
        "forecast": Forecast,
        "omniglot": Omniglot,
        "image_folder": ImageFolder,
        "own": OwnFamily,
    } == OWN


def test_a_family_of_ones_own_is_handed_on_with_its_options() -> None:
    text = 'family: {name: own, use: "my_tasks:Springs", options: {materials: 8}, shot: 4}'
    family = read(text).family
    assert family.plain_options(Path("/base")) == {
        "use": "my_tasks:Springs",
        "options": {"materials": 8},
    }
    assert family.episode == Episode(1, 4, 5)
    with pytest.raises(SpaceError, match="found data_dir; allowed: options"):
        read(text.replace("shot: 4", "data_dir: d"))
    with pytest.raises(SpaceError, match="use: found nothing; allowed: `module:Class`"):
        read("family: {name: own}")


def test_what_an_image_folder_says_is_what_its_reader_takes() -> None:
    space = read("family: {name: image_folder, data: pictures, way: 5}")
    options = space.family.plain_options(Path("/base"))
    assert ImageFolderOptions.of(options) == ImageFolderOptions("/base/pictures")
    assert json.loads(json.dumps(options)) == options
    assert space.episode == Episode(5, 5, 5)


@pytest.mark.parametrize(("said", "told"), [
    ("", "family.data: found nothing; allowed: the folder that holds the class folders"),
    ("data: ' '", "family.data: found an empty path; allowed: a folder"),
    ("data: d, data_dir: e", "family: found data_dir; allowed: the folder in data"),
    ("data: d, size: 1000", "family.size: found 1000; allowed: less than or equal to 256"),
    ("data: d, colour: red", 'family.colour: found "red"; allowed: grey or rgb'),
    ("data: d, levels: group", 'family.levels: found "group"; allowed: class or group/class'),
])  # fmt: skip
def test_a_mistake_in_an_image_folder_is_refused(said: str, told: str) -> None:
    with pytest.raises(SpaceError) as refused:
        read(f"family: {{name: image_folder, {said}}}")
    assert told in str(refused.value)


def test_chembl_says_its_metric() -> None:
    family = read("family: {name: chembl, shot: 16}").family
    assert family.plain_options(None) == {"metric": "r2"}
    family = read("family: {name: chembl, shot: 16, metric: rmse}").family
    assert family.plain_options(None) == {"metric": "rmse"}
    with pytest.raises(SpaceError, match=r'family\.metric: found "mae"; allowed: r2, spear'):
        read("family: {name: chembl, shot: 16, metric: mae}")


def test_omniglot_says_its_background() -> None:
    family = read("family: {name: omniglot, way: 5}").family
    assert family.plain_options(None) == {"background": "full"}
    small = read("family: {name: omniglot, way: 5, background: small2}").family
    assert small.plain_options(None) == {"background": "small2"}
    with pytest.raises(SpaceError, match=r"s.yaml:1: family.background: found \"small3\"; allowed"):
        read("family: {name: omniglot, way: 5, background: small3}")


@pytest.mark.parametrize(("old", "new", "told"), [
    ("  target: y\n", "", "s.yaml:1: family.target: found nothing; allowed: the column that is"),
    ("data/*.csv", "[]", "s.yaml:3: family.data: found an empty list"),
    ("data/*.csv", "''", "s.yaml:3: family.data: found an empty path; allowed: files, globs"),
    ("data/*.csv", "7", "s.yaml:3: family.data: found 7; allowed: a list"),
    ("y\n", "y\n  levls: 3\n", "s.yaml:6: family.levls: found the unknown key levls; allowed: "
     "name, way, shot, query, data_dir, licence, splits, fold, data, fewest, task"),
    ("y\n", "y\n  predict: numbers\n", 's.yaml:6: family.predict: found "numbers"; allowed:'),
    ("y\n", "y\n  levels: 0\n", "s.yaml:6: family.levels: found 0"),
    ("y\n", "y\n  columns: {a: text}\n", "s.yaml:6: family.columns: found 'text' for 'a'"),
    ("y\n", "y\n  columns: {y: number}\n", "s.yaml:1: family: found columns for the target y"),
    ("y\n", "customer\n", "s.yaml:1: family: found task customer, target customer; allowed: a"),
    ("y\n", "y\n  group: y\n", "s.yaml:1: family: found task customer, target y, group y; allowed"),
    ("y\n", "y\n  data_dir: /d\n", "s.yaml:1: family: found data_dir; allowed: paths in data"),
    ("y\n", "y\n  splits: {train: 0.9}\n", "s.yaml:6: family.splits: found shares that sum to 1.4"),
    ("y\n", "y\n  splits: {tain: 0.9}\n", "s.yaml:6: family.splits.tain: found the unknown key "
     "tain; allowed: train, select, confirm, test"),
    ("name: table", "name: sinusoid", "s.yaml:3: family.data: found the unknown key data; allowed: "
     "name, way, shot, query, data_dir"),
    ("name: table", "name: tabel", 's.yaml:3: family.data: found the unknown key data'),
    ("name: table", "name: [table]", "s.yaml:2: family.name: found a list of 1"),
])  # fmt: skip
def test_a_mistake_is_refused_where_it_stands(old: str, new: str, told: str) -> None:
    with pytest.raises(SpaceError) as refused:
        read(TABLE.replace(old, new, 1))
    assert told in str(refused.value)


def test_a_family_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(SpaceError, match="family: found 7; allowed: a mapping"):
        read("family: 7")


# --- time series ----------------------------------------------------------------------------------


def test_what_a_forecast_says_is_what_its_reader_takes() -> None:
    family = read(FORECAST).family
    assert isinstance(family, Forecast)
    assert family.episode == Episode(1, 28, 7)
    plain = family.plain_options(Path("/base"))
    options = ForecastOptions.of(json.loads(json.dumps(plain)))
    assert options == ForecastOptions(("/base/sales/*.csv",), ("shop",), "day", "sold", ahead=7)
    assert plain.keys() == vars(options).keys()
    assert set(CALENDAR) == set(FIELDS)


def test_without_ahead_a_forecast_is_made_for_the_whole_query() -> None:
    assert read(FORECAST).family.plain_options(None)["ahead"] == 7
    assert read(FORECAST + "  ahead: 1\n  lags: [1, 7]\n").family.plain_options(None)["ahead"] == 1
    several = read(FORECAST + "  periods: null\n  calendar: [month]\n").family.plain_options(None)
    assert (several["periods"], several["calendar"]) == (None, ["month"])


@pytest.mark.parametrize(("old", "new", "told"), [
    ("  value: sold\n", "", "s.yaml:1: family.value: found nothing; allowed: the column that is"),
    ("value: sold", "value: day", "s.yaml:1: family: found series shop, time day, value day; a"),
    ("sold\n", "sold\n  group: shop\n", "found group shop, the series; allowed: another, or none"),
    ("sold\n", "sold\n  lags: [3, 7]\n", "found lags 3, not known yet in a forecast 7 "
     "steps ahead; allowed: lags from 7, or a smaller ahead"),
    ("sold\n", "sold\n  change: 1\n", "found change 1, against a value that is not known yet"),
    ("sold\n", "sold\n  calendar: [moon]\n", 's.yaml:9: family.calendar[0]: found "moon"; allowed: '
     "hour, weekday"),
    ("sold\n", "sold\n  periods: {train: 0.9}\n", "family.periods: found shares that sum to 1.4"),
    ("sold\n", "sold\n  metric: r2\n", 'family.metric: found "r2"; allowed: mae or mase'),
    ("sold\n", "sold\n  data_dir: /d\n", "found data_dir; allowed: paths in data"),
    ("sold\n", "sold\n  way: 2000\n", "s.yaml:9: family.way: found 2000"),
])  # fmt: skip
def test_a_mistake_in_a_forecast_is_refused_where_it_stands(old: str, new: str, told: str) -> None:
    with pytest.raises(SpaceError) as refused:
        read(FORECAST.replace(old, new, 1))
    assert told in str(refused.value)
