"""A look at time series: their step, how far to forecast from how much, and what they share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metatune.errors import first_of
from metatune.init.space_file import (
    AMORTISED,
    END,
    HOLD,
    OUTER,
    START,
    Look,
    data_line,
    options_of,
    short_paths,
    word,
    write_space,
)
from metatune.space.families import Forecast
from metatune.tasks.base import SPLITS, notes_of
from metatune.tasks.splits import FEW_GROUPS
from metatune.tasks.timeseries.forecast import ForecastFamily, ForecastOptions, as_forecasts
from metatune.tasks.timeseries.series import read_series, shared_columns
from metatune.tasks.timeseries.steps import Step

FARTHEST = 96  # steps that are forecast, at most: a day of quarters of an hour
WITHOUT_SEASON = 4  # steps that are forecast where nothing repeats
WEEKS = 13  # that are forecast of a year of them: a quarter
SEASONS = 8  # to learn from: two months of days, eight days of hours
FEWEST, MOST = 16, 336  # steps to learn from, before they are halved where series are short


def init_series(
    data: Sequence[str],
    series: Sequence[str],
    time: str,
    value: str,
    *,
    out: str | Path = "space.yaml",
    group: str | None = None,
    step: str | None = None,
    time_format: str | None = None,
    full: int = 400_000,
    trials: int = 32,
    minutes: float = 10,
) -> Look:
    """Look at time series and write a space file.

    Args:
        data: CSV or Parquet files, globs or folders of them.
        series: the columns that tell series apart; ``["file"]``: each file is a series.
        time: the column of points in time.
        value: the column to forecast.
        out: the space file, which must not be there yet.
        group: the column of what series share and a new user will not have seen; None looks for
            one.
        step: what lies between two values, a pandas offset alias; None: as times look.
        time_format: how times are written; None: as they look.
        full: resource of a trial, in steps seen.
        trials, minutes: the run's budget.

    Raises:
        SpaceError, DataError: the data cannot be used so, with the reason.
        RunError: ``out`` is there already, or cannot be written.
    """

    def looked(base: Path) -> Look:
        told = {"group": group, "step": step, "time_format": time_format}
        return look_at_series(data, series, time, value, base=base, **told)

    return write_space(looked, Path(out), full=full, trials=trials, minutes=minutes)


def look_at_series(
    data: Sequence[str],
    series: Sequence[str],
    time: str,
    value: str,
    *,
    group: str | None = None,
    step: str | None = None,
    time_format: str | None = None,
    base: Path | None = None,
) -> Look:
    """Open data as tasks and say what is assumed; arguments and errors as of ``init_series``.

    Args:
        base: the folder that paths of the options are seen from; None: the current one.
    """
    asked: dict[str, Any] = {
        "data": list(data),
        "series": list(series),
        "time": time,
        "value": value,
        "group": group,
        "step": step,
        "time_format": time_format,
    }
    columns = ForecastOptions.of(options_of(Forecast, asked).plain_options(None)).columns()
    read = read_series(columns)
    counts = len(read.names)
    said = [
        f"Forecasts {value} of {counts} series in steps of {read.step.alias}, "
        f"{'as asked' if step else 'as their times look'}."
    ]
    if group is None:
        asked["group"], told = _group(shared_columns(columns), counts)
        said.append(told)
        if asked["group"] is not None:
            read = read_series(replace(columns, group=asked["group"]))
    asked["step"] = read.step.alias

    def opened(shape: Mapping[str, Any]) -> tuple[Forecast, ForecastFamily]:
        options = options_of(Forecast, {**asked, **shape})
        return options, as_forecasts(read, ForecastOptions.of(options.plain_options(None)))

    options, family = _fitting(map(opened, _shapes(read.step)))
    family.check(options.episode)
    setting = family.setting
    said.append(_said_of_shape(options, setting.season, family))
    said.extend(_said_of_times(options))
    by = f"by {options.group}" if options.group else "each series by itself"
    groups = ", ".join(f"{split} {len(family.info.groups[split])}" for split in SPLITS)
    said.append(f"Groups {by}: {groups}.")
    said.extend(notes_of(family, options.episode))
    options = options.model_copy(
        update={
            "data": short_paths(data, base),
            "season": setting.season,
            "lags": setting.lags,
            "calendar": setting.calendar,
        }
    )
    return Look(options, family, options.episode, tuple(said), tuple(_section(options)), SERIES)


# --- what is proposed ----------------------------------------------------------------------------


def _group(shared: Mapping[str, int], series: int) -> tuple[str | None, str]:
    """The column to split by: of those with some series a value, the one with the most values."""
    fitting = {name: count for name, count in shared.items() if 2 * count <= series}
    many = {name: count for name, count in fitting.items() if count >= FEW_GROUPS}
    if many:
        best = max(many, key=lambda name: many[name])
        others = [name for name in fitting if name != best]
        beside = f", as {first_of(others)} would be, too" if others else ""
        told = f"{best}, one of {many[best]} values, is the same throughout each series{beside}"
        return best, f"Split by {best}: {told} (--group says otherwise)."
    if any(count > 1 for count in fitting.values()):
        few = first_of([f"{name} ({count})" for name, count in fitting.items() if count > 1])
        told = f"{few}, the same throughout each series, has fewer than {FEW_GROUPS} values"
        return None, f"Split by series: {told} (--group says otherwise)."
    return None, "Split by series: no column says what several of them share (--group does)."


def shot_and_query(step: Step) -> tuple[int, int]:
    """Steps to learn from and to forecast, where series are long enough.

    One season is forecast (of a year of weeks a quarter), from eight of them.
    """
    season = step.season
    query = {1: WITHOUT_SEASON, 52: WEEKS}.get(season, min(season, FARTHEST))
    return min(MOST, max(FEWEST, SEASONS * season)), query


def _shapes(step: Step) -> Iterator[dict[str, Any]]:
    """Shapes of tasks and splits in time, the best first.

    Splits that share no time come first, then those whose histories may overlap, then splits by
    group alone; in each the support is halved as long as it is two seasons, or eight steps.
    """
    wished, query = shot_and_query(step)
    times: tuple[dict[str, Any], ...] = ({}, {"gap": query}, {"periods": None})
    for split in times:
        least = 2 if "periods" in split else min(wished, max(8, 2 * step.season))
        shot = wished
        while shot >= least:
            yield {"shot": shot, "query": query, **split}
            shot //= 2
    for few in (query // 2, query // 4, 1):
        yield {"shot": max(2, few), "query": max(1, few), "periods": None}


def _fitting(tried: Iterable[tuple[Forecast, ForecastFamily]]) -> tuple[Forecast, ForecastFamily]:
    """The first shape that most groups can hold, else that some can, else the first."""
    kept: list[tuple[float, tuple[Forecast, ForecastFamily]]] = []
    for one in tried:
        share = _held(*one)
        if share >= HOLD:
            return one
        kept.append((share, one))
    return next((one for share, one in kept if share), kept[0][1])


def _held(options: Forecast, family: ForecastFamily) -> float:
    """The share of groups that have a whole task, in the split with the smallest one."""
    groups = family.info.groups
    return min(
        len(family.usable_groups(split, options.episode)) / len(groups[split]) for split in SPLITS
    )


def _said_of_shape(options: Forecast, season: int, family: ForecastFamily) -> str:
    shot, query = options.shot, options.query
    usable = sum(len(family.usable_groups(split, options.episode)) for split in SPLITS)
    whole = sum(len(family.info.groups[split]) for split in SPLITS)
    return (
        f"{shot} support and {query} query steps a task, which {usable} of {whole} groups can "
        f"hold; one forecast looks {query} ahead, and a season is {season} steps."
    )


def _said_of_times(options: Forecast) -> Iterator[str]:
    if options.periods is None:
        yield "Series are too short to be split in time, too: periods is null."
    elif options.gap is not None:
        yield (
            f"Series are too short for splits that share no time: gap {options.gap}, and the "
            "history of a task may reach into the time of the split before."
        )


# --- the space file ------------------------------------------------------------------------------


def _section(options: Forecast) -> Iterator[str]:
    """The section ``family``, a key a line, each with what it means."""
    yield "  name: forecast"
    yield data_line(options.data)
    names = [word(name) for name in options.series]
    yield f"  series: {names[0] if len(names) == 1 else '[' + ', '.join(names) + ']'}"
    yield f"  time: {word(options.time)}"
    if options.time_format is not None:
        yield f"  time_format: {word(options.time_format)}"
    yield f"  value: {word(options.value)}"
    if options.group is None:
        yield "  # group: COLUMN  # what series share and the next user will not have seen"
    else:
        yield f"  group: {word(options.group)}  # splits are made by whole ones"
    yield f"  step: {word(options.step)}  # what lies between two values"
    yield f"  shot: {options.shot}  # steps before the start, to learn from"
    yield f"  query: {options.query}  # steps from the start on, to be judged on"
    yield "  # ahead: 1  # forecast each step from all before it; left out: all of query at once"
    yield f"  season: {options.season}  # steps; the naive forecast repeats the last one"
    yield f"  lags: [{', '.join(map(str, options.lags or ()))}]  # values so many steps before"
    yield f"  calendar: [{', '.join(options.calendar or ())}]  # what a calendar says"
    yield "  # transform: log  # of values that change by factors"
    yield "  # fill: 1  # gaps of up to so many steps take the value before them"
    yield f"  metric: {options.metric}  # or mase: 1 is as good as the seasonal naive forecast"
    if options.periods is None:
        yield "  periods: null  # splits by group alone, not in time"
    elif options.gap is not None:
        yield f"  gap: {options.gap}  # steps between the times of two splits"


SERIES = (
    """
# What everything is compared with: the season before. Then what is tried first.
default: seasonal_naive
initial: [seasonal_naive, seasonal_ridge, pooled_ridge, pooled_trees, cnp]
"""
    + START
    + """\
    alone:                                           # each task's correction of the season before
      prior: {kind: forecast, name: seasonal_naive}
      head: {kind: ridge, intercept: free, learn: false, penalty: {float: [0.1, 1000.0], log: true}}
      meta: {rule: none}
    pooled:                                          # one model for all, corrected for the task
      prior: {kind: pooled, model: {choice: [linear, trees]}}
      head: {kind: ridge, intercept: free, penalty: {float: [1.0, 1000.0], log: true}}
      meta: {rule: first_order}
    features:                                        # a network for all series, a head for each
      prior: {kind: forecast, name: seasonal_naive}
      backbone: {kind: mlp, width: {choice: [32, 64]}, depth: {int: [1, 3]}}
      head: {kind: ridge, intercept: free, penalty: {float: [0.1, 1000.0], log: true}}
      meta: {rule: first_order}
"""
    + AMORTISED
    + OUTER
    + END
    + """\
verdict: {seeds: 3, finalists: 3, presets: [seasonal_ridge]}
"""
)
