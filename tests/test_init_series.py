"""``metatune init`` for time series: what it proposes, and that it runs as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from inline_runner import inline_run
from user_tables import plain_series

from metatune import session
from metatune.errors import DataError, OptionError, RunError, SpaceError
from metatune.init import init_series, look_at_series, shot_and_query, space_text
from metatune.records.reading import read_run
from metatune.space import load_space, load_yaml
from metatune.tasks.timeseries.steps import Step


def saved(tmp_path: Path, frame: pd.DataFrame, name: str = "a.csv") -> list[str]:
    frame.to_csv(tmp_path / name, index=False)
    return [str(tmp_path / name)]


def in_steps(step: str, count: int = 400, series: int = 16) -> pd.DataFrame:
    """Random values at regular times."""
    rng = np.random.default_rng(0)
    times = pd.date_range("2001-01-01", periods=count, freq=step)
    return pd.concat(
        pd.DataFrame({"shop": f"s{n}", "day": times, "sold": rng.normal(size=count)})
        for n in range(series)
    )


# --- from files to a verdict ----------------------------------------------------------------------


def test_series_go_from_init_to_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_series(shops=24, days=90, regions=12).to_csv(tmp_path / "sales.csv", index=False)
    monkeypatch.chdir(tmp_path)
    init_series(["sales.csv"], ["shop"], "day", "sold", out="spaces/own.yaml")
    plan, _ = session.plan_of(load_space("spaces/own.yaml"))  # as it is
    assert plan.options["data"] == [str(tmp_path / "spaces" / "../sales.csv")]
    space = yaml.safe_load((tmp_path / "spaces" / "own.yaml").read_text())
    space |= {"resource": {"full": 2000, "rungs": 2, "reduction": 3}, "rounds": {"count": 1}}
    space["tasks"] = {"select": 12, "confirm": 12, "test": 12}
    space["verdict"] |= {"seeds": 1, "finalists": 1}
    run = read_run(inline_run(yaml.safe_dump(space), tmp_path / "spaces" / "run", trials=9))
    assert {"seasonal_naive", "seasonal_ridge", "pooled_ridge"} <= set(run.trials["name"])
    assert len(run.verdicts) == 1


# --- what it proposes -----------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "proposed"), [
    ("15min", (336, 96)), ("h", (192, 24)), ("D", (56, 7)), ("B", (40, 5)), ("W", (336, 13)),
    ("MS", (96, 12)), ("QS", (32, 4)), ("YS", (16, 4)), ("12h", (16, 2)),
])  # fmt: skip
def test_a_season_is_forecast_from_eight(step: str, proposed: tuple[int, int]) -> None:
    assert shot_and_query(Step.of(step)) == proposed


@pytest.mark.parametrize(("step", "season", "calendar"), [
    ("h", 24, ["hour", "weekday"]), ("D", 7, ["weekday", "month"]), ("MS", 12, ["month"]),
])  # fmt: skip
def test_step_season_lags_and_calendar_are_written_down(
    tmp_path: Path, step: str, season: int, calendar: list[str]
) -> None:
    init_series(saved(tmp_path, in_steps(step)), ["shop"], "day", "sold", out=tmp_path / "s.yaml")
    plain = load_yaml(tmp_path / "s.yaml")[0]["family"]
    assert (plain["step"], plain["season"], plain["calendar"]) == (step, season, calendar)
    assert (plain["query"], plain["lags"]) == (season, [season, 2 * season])


@pytest.mark.parametrize(("days", "split"), [
    (1200, {}), (300, {"gap": 7}), (60, {"periods": None}),
])  # fmt: skip
def test_splits_share_as_little_time_as_series_are_long_enough_for(
    tmp_path: Path, days: int, split: dict
) -> None:
    found = look_at_series(saved(tmp_path, plain_series(days=days)), ["shop"], "day", "sold")
    given = found.options.model_dump(include={"gap", "periods"}, exclude_defaults=True)
    assert given == split
    text = space_text(found, 1000, 5, 1)
    assert [f"{key}:" in text for key in ("  gap", "  periods")] == [
        "gap" in split, "periods" in split
    ]  # fmt: skip


def test_a_column_that_several_series_share_makes_the_splits(tmp_path: Path) -> None:
    frame = plain_series(shops=36, days=120, regions=12)
    frame["country"] = frame["region"].map(lambda r: f"c{int(r[1:]) % 3}")
    frame["weather"] = frame.index % 5  # changes within a shop
    frame["address"] = frame["shop"] + " street"  # each shop its own
    data = saved(tmp_path, frame)
    found = look_at_series(data, ["shop"], "day", "sold")
    assert found.options.group == "region"
    assert (
        "Split by region: region, one of 12 values, is the same throughout each series, as country "
        "would be, too (--group says otherwise)."
    ) in found.said
    few = look_at_series(saved(tmp_path, frame.drop(columns="region")), ["shop"], "day", "sold")
    assert few.options.group is None
    assert any("country (3), the same throughout each series, has fewer" in s for s in few.said)
    asked = look_at_series(saved(tmp_path, frame), ["shop"], "day", "sold", group="address")
    assert asked.options.group == "address"


def test_a_day_that_could_be_a_month_is_told(tmp_path: Path) -> None:
    frame = plain_series(shops=8, days=120)
    frame["day"] = pd.to_datetime(frame["day"]).dt.strftime("%d/%m/%Y")
    found = look_at_series(saved(tmp_path, frame), ["shop"], "day", "sold")
    assert "day is read as %d/%m/%Y." in found.said


def test_the_file_says_what_was_assumed(tmp_path: Path) -> None:
    found = look_at_series(saved(tmp_path, plain_series()), ["shop"], "day", "sold")
    text = space_text(found, 1000, 5, 1)
    head = " ".join(line.removeprefix("#").strip() for line in text.splitlines()[:30])
    for sentence in found.said:
        assert " ".join(sentence.split()) in " ".join(head.split())


# --- what is refused ------------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    data = saved(tmp_path, plain_series(days=30))
    with pytest.raises(SpaceError, match="found series day, time day, value sold; allowed"):
        look_at_series(data, ["day"], "day", "sold")
    with pytest.raises(OptionError, match="time: found no column 'when' in"):
        look_at_series(data, ["shop"], "when", "sold")
    with pytest.raises(OptionError, match="value: found no number"):
        look_at_series(data, ["shop"], "day", "region")
    with pytest.raises(RunError, match="exists already"):
        init_series(data, ["shop"], "day", "sold", out=data[0])


def test_irregular_times_ask_for_a_step(tmp_path: Path) -> None:
    frame = plain_series(shops=8, days=120)
    times = pd.to_datetime(frame["day"]) + pd.to_timedelta(frame.index**2 % 7, unit="h")
    data = saved(tmp_path, frame.assign(day=times))
    with pytest.raises(OptionError, match="step: found nothing, and irregular times"):
        look_at_series(data, ["shop"], "day", "sold")


def test_series_without_a_whole_task_are_refused(tmp_path: Path) -> None:
    data = saved(tmp_path, plain_series(days=10))
    with pytest.raises(DataError, match=r"found no stretch of .* steps"):
        look_at_series(data, ["shop"], "day", "sold")
