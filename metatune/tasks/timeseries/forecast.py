"""Tasks that are stretches of time series: forecast what follows from what came before.

A *task* is a series and a start: the support set is the ``shot`` steps before the start, the query
set the ``query`` steps from it on. A forecast is made at the start, and again after every
``ahead`` steps, for the next ``ahead`` of them: every target, of support and query alike, is
predicted from values at least ``ahead`` steps before it, and from the calendar. Targets and lags
are in units of the support's standard deviation, from its mean, so that nothing else is known of a
series. Splits differ in groups of series and in time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError, OptionError, first_of
from metatune.tasks.base import MAE, SPLITS, Episode, FamilyInfo, Metric, Split, TaskBatch
from metatune.tasks.draws import below
from metatune.tasks.pools import Pool
from metatune.tasks.splits import SHARES, few_groups, folds, group_splits
from metatune.tasks.timeseries.reading import Raw
from metatune.tasks.timeseries.series import (
    NAME,
    Columns,
    Mask,
    Series,
    read_series,
)
from metatune.tasks.timeseries.steps import DAY, SECOND, Whole, calendar_inputs

POOLED = ("pooled_linear", "boosted_trees", "pooled_trees", "pooled_ridge")
FARTHEST = 1e6  # standard deviations of the support: beyond that a value is cut
ROUNDING = 1e-9  # values that differ by a smaller part of themselves are the same


@dataclass(frozen=True)
class Setting:
    """What targets are predicted from, how they are judged, and how series and times are split.

    Attributes:
        ahead: steps that a forecast looks ahead; no target is predicted from later values.
        season: steps of the season that the naive forecast repeats.
        lags: values so many steps before a target are inputs, besides the naive forecasts.
        calendar: fields of the calendar that are inputs, see ``steps.FIELDS``.
        metric: ``mae`` or ``mase``.
        splits: share of the groups in each split.
        periods: share of the time in each split, in the order of ``SPLITS``; None: all of it.
        gap: steps at the beginning of a later split's period on which nothing is judged; None: as
            many as a task looks back, so that tasks of two splits share no time.
        fold: which fold of the splits by groups; None: the only one.
    """

    ahead: int
    season: int
    lags: tuple[int, ...]
    calendar: tuple[str, ...]
    metric: Literal["mae", "mase"] = "mae"
    splits: Mapping[str, float] = field(default_factory=lambda: SHARES)
    periods: Mapping[str, float] | None = field(default_factory=lambda: SHARES)
    gap: int | None = None
    fold: int | None = None

    @property
    def seasonal(self) -> int:
        """The lag of the seasonal naive forecast: whole seasons, no fewer than ``ahead``."""
        return -(-self.ahead // self.season) * self.season

    @property
    def all_lags(self) -> tuple[int, ...]:
        """The lags that are inputs: those asked for, the last known value, the season before."""
        return tuple(sorted({*self.lags, self.ahead, self.seasonal}))

    @property
    def reach(self) -> int:
        """Steps before the support set that its inputs look back to."""
        return max(self.all_lags)

    @property
    def forecasts(self) -> dict[str, int]:
        """The inputs that are naive forecasts; the last value where it is another one."""
        place = {lag: column for column, lag in enumerate(self.all_lags)}
        found = {"seasonal_naive": place[self.seasonal]}
        return found if self.seasonal == self.ahead else found | {"last_value": place[self.ahead]}


# --- the user's own tables -----------------------------------------------------------------------


@dataclass(frozen=True)
class ForecastOptions:
    """What ``metatune.space.families.Forecast`` says, as plain data; the same names and meaning."""

    data: tuple[str, ...]
    series: tuple[str, ...]
    time: str
    value: str
    ahead: int
    group: str | None = None
    time_format: str | None = None
    step: str | None = None
    season: int | None = None
    lags: tuple[int, ...] | None = None
    calendar: tuple[str, ...] | None = None
    transform: Literal["none", "log"] = "none"
    change: int | None = None
    fill: int = 0
    metric: Literal["mae", "mase"] = "mae"
    splits: Mapping[str, float] = field(default_factory=lambda: SHARES)
    periods: Mapping[str, float] | None = field(default_factory=lambda: SHARES)
    gap: int | None = None
    fold: int = 0

    @staticmethod
    def of(plain: Mapping[str, Any]) -> ForecastOptions:
        """From plain data; what is left out takes its default."""
        if not plain:
            allowed = "CSV or Parquet files of series, see docs/forecast.md"
            raise OptionError(NAME, "data", "nothing", allowed)
        lists = ("data", "series", "lags", "calendar")
        tuples = {key: tuple(plain[key]) for key in lists if plain.get(key) is not None}
        return ForecastOptions(**{**plain, **tuples})

    def columns(self) -> Columns:
        """Which columns say what."""
        return Columns(
            self.data,
            self.series,
            self.time,
            self.value,
            self.group,
            self.time_format,
            self.step,
        )

    def raw(self) -> Raw:
        """What values become before they are predicted."""
        log, change = self.transform == "log", self.change or 0
        return Raw(self.time, self.value, self.time_format, log, change, self.fill)


def open_forecast(options: ForecastOptions) -> ForecastFamily:
    """Read a long table and make tasks of it.

    Raises:
        OptionError: an option names what the files do not have.
        DataError: a file cannot be read, or nothing is left to learn from.
    """
    return as_forecasts(read_series(options.columns()), options)


def as_forecasts(series: Series, options: ForecastOptions) -> ForecastFamily:
    """Tasks of series that were read as the options say; errors as of ``open_forecast``."""
    step, raw = series.step, options.raw()
    series = raw.predicted(series)
    season = options.season or step.season
    seasonal = Setting(options.ahead, season, (), ()).seasonal
    setting = Setting(
        ahead=options.ahead,
        season=season,
        lags=(seasonal, seasonal + season) if options.lags is None else options.lags,
        calendar=step.calendar if options.calendar is None else options.calendar,
        metric=options.metric,
        splits=options.splits,
        periods=options.periods,
        gap=options.gap,
        fold=options.fold,
    )
    how = "" if options.step else ", as their times look"
    told = f"Steps of {step.alias}{how}; a season is {season} of them."
    series = series.with_values(series.values, told)
    about = "Your own time series, from CSV or Parquet files, see docs/forecast.md."
    return ForecastFamily(NAME, series, setting, about, raw)


# --- from series to tasks ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Starts:
    """The tasks of a split: where they start, series by series and group by group.

    Attributes:
        series: numbers of the series that have a task.
        first: ``(K + 1,)``: the pool's k-th series starts tasks at
            ``starts[first[k]:first[k + 1]]``.
        starts: places in all values.
    """

    series: Pool
    first: Whole
    starts: Whole


class ForecastFamily:
    """Regression of what follows in a series.

    Args:
        name: of the family.
        series: what is predicted, already as it is predicted (logarithms, changes).
        setting: from what, how it is judged, and how it is split.
        about: one sentence.
        raw: what was made of raw values, so that it can be done to those of a new series.
        licence: of the data; empty where it is not known.

    Raises:
        DataError: fewer than four groups.
    """

    def __init__(
        self,
        name: str,
        series: Series,
        setting: Setting,
        about: str,
        raw: Raw = Raw(),  # noqa: B008 - frozen
        licence: str = "",
    ) -> None:
        sizes = Counter(series.groups)
        splits = group_splits(name, sizes, setting.splits, fold=setting.fold or 0)
        self._series, self._setting, self._raw = series, setting, raw
        self._numbers = series.numbers
        used, self._calendar_row = np.unique(self._numbers, return_inverse=True)
        self._calendar, fields = calendar_inputs(series.step.times(used), setting.calendar)
        self._low = int(used[0])
        self._periods = _periods(self._low, int(used[-1]) + 1, setting.periods)
        self._found: dict[tuple[Split, int, int], _Starts] = {}
        self._starting: dict[tuple[int, int], tuple[Mask, Mask, Mask]] = {}
        lags, forecasts = setting.all_lags, setting.forecasts
        naive = forecasts["seasonal_naive"]
        self.inputs = (*(f"lag {lag}" for lag in lags), *fields)
        views = {"lags": (0, len(lags)), "calendar": (len(lags), len(self.inputs))}
        self.info = FamilyInfo(
            name=name,
            kind="regression",
            input_shape=(len(self.inputs),),
            outputs=1,
            metric=MAE if setting.metric == "mae" else Metric("mase", -1, naive),
            train_classes=0,
            groups={split: {group: sizes[group] for group in splits[split]} for split in SPLITS},
            grouped=True,
            baselines=(*forecasts, "ridge", *POOLED),
            about=about,
            views={view: (a, b) for view, (a, b) in views.items() if a < b},
            forecasts=forecasts,
            licence=licence,
        )

    @property
    def reading(self) -> Mapping[str, Any]:
        """How a history that is new becomes a task: ``metatune.artifact.series.SeriesRules``."""
        step, setting = self._series.step, self._setting
        return {
            "step": {**vars(step)},
            "ahead": setting.ahead,
            "lags": list(setting.all_lags),
            "calendar": list(setting.calendar),
            **vars(self._raw),
        }

    @property
    def series(self) -> Series:
        """What is predicted."""
        return self._series

    @property
    def folds(self) -> int:
        """How many folds the splits have."""
        if self._setting.fold is None:
            return 1
        return folds(Counter(self._series.groups), self._setting.splits)

    @property
    def setting(self) -> Setting:
        """From what, how it is judged, and how it is split."""
        return self._setting

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of values, times, groups and setting, in hex digits."""
        series = self._series
        told = (self.info.name, series.names, series.groups, series.step, self._setting)
        digest = hashlib.sha256(repr(told).encode())
        for array in (series.values, series.start, series.first):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    # --- what it says of itself ------------------------------------------------------------------

    def notes(self, episode: Episode) -> tuple[str, ...]:
        """What the data are, what was left out and why, and what the splits hang on."""
        return tuple(self._notes(episode))

    def _notes(self, episode: Episode) -> Iterator[str]:
        series, setting, info = self._series, self._setting, self.info
        first, last = self._when(self._low), self._when(int(self._numbers.max()))
        yield f"{len(series.names)} series from {first} to {last}, {len(series.values)} steps."
        yield from series.notes
        yield (
            f"A task takes {setting.reach} + {episode.n_support} steps of history and "
            f"{episode.n_query} to be judged on; a forecast looks {setting.ahead} ahead. "
            f"{len(self.inputs)} inputs: {first_of(self.inputs, 20)}."
        )
        if setting.periods is not None:
            yield f"Judged on: {'; '.join(self._judged(s, episode) for s in SPLITS)}."
        fits, whole, varied = self._starts(episode.n_support, episode.n_query)
        for lost, why in (
            (fits & ~whole, "a value is missing within them"),
            (fits & whole & ~varied, "their support has one value, or one season without change"),
        ):
            if lost.any():
                yield f"{lost.sum()} of {fits.sum()} stretches are never drawn: {why}."
        usable = {
            name for s in SPLITS for name in self._names_of(self._starts_of(s, episode).series)
        }
        unused = [name for name in series.names if name not in usable]
        if unused:
            names = first_of(unused)
            yield f"{len(unused)} series have no whole task in their split's time: {names}."
        yield from few_groups(info, setting.splits, setting.fold)

    def _judged(self, split: Split, episode: Episode) -> str:
        start, end = self._period(split, episode)
        return f"{split} {self._when(start)} to {self._when(end - 1)}"

    def _when(self, number: int) -> str:
        return str(self._labels(np.array([number]))[0])

    def _labels(self, numbers: Whole) -> NDArray[np.str_]:
        length = self._series.step.length
        unit: Literal["s", "m", "D"] = (
            "D" if not length % DAY else "m" if not length % (60 * SECOND) else "s"
        )
        return np.datetime_as_string(self._series.step.times(numbers).to_numpy(), unit=unit)

    def _names_of(self, pool: Pool) -> list[str]:
        return [self._series.names[number] for number in pool.members.tolist()]

    # --- which tasks there are -------------------------------------------------------------------

    def usable_groups(self, split: Split, episode: Episode) -> tuple[str, ...]:
        """The groups of a split that have a whole task in its period."""
        return self._starts_of(split, episode).series.groups

    def check(self, episode: Episode) -> None:
        """Raise DataError unless every split has a whole task."""
        name = self.info.name
        if episode.way != 1 or episode.shot < 2 or episode.query < 1:
            found = f"way {episode.way}, shot {episode.shot}, query {episode.query}"
            raise DataError(f"{name}: found {found}; allowed: way 1, shot from 2, query from 1")
        needed = f"{self._setting.reach} + {episode.n_support} + {episode.n_query}"
        for split in SPLITS:
            if not self.usable_groups(split, episode):
                start, end = self._period(split, episode)
                judged = f"{self._when(start)} to {self._when(end - 1)}" if start < end else "none"
                allowed = (
                    "smaller shot, query, lags or gap, a larger fill, other shares in periods, "
                    "periods: null"
                )
                raise DataError(
                    f"{name}: found no stretch of {needed} steps (lags, support, query) with its "
                    f"query in the time of split {split!r} ({judged}); allowed: {allowed}"
                )

    def _period(self, split: Split, episode: Episode) -> tuple[int, int]:
        """The steps [from, to) on which the tasks of a split are judged."""
        start, end = self._periods[split]
        if start == self._low:
            return start, end
        gap = self._setting.gap
        return start + (self._setting.reach + episode.n_support if gap is None else gap), end

    def _starts(self, shot: int, query: int) -> tuple[Mask, Mask, Mask]:
        """Of each value ``(R,)``: can a task start here, without gaps, with a support that varies?

        Each is right where those before it are True.
        """
        if (shot, query) not in self._starting:
            self._starting[shot, query] = self._find_starts(shot, query)
        return self._starting[shot, query]

    def _find_starts(self, shot: int, query: int) -> tuple[Mask, Mask, Mask]:
        series, setting = self._series, self._setting
        values, size = series.values, len(series.values)
        place, lengths = np.arange(size), np.diff(series.start)
        since = place - np.repeat(series.start[:-1], lengths)
        left = np.repeat(series.start[1:], lengths) - place
        fits = (since >= setting.reach + shot) & (left >= query)
        known = _within(~np.isnan(values), place - setting.reach - shot, place + query)
        whole = known == setting.reach + shot + query
        varied = _within(_differs(values, 1), place - shot + 1, place) > 0
        if setting.metric == "mase":
            varied &= _within(_differs(values, setting.seasonal), place - shot, place) > 0
        return fits, whole, varied

    def _starts_of(self, split: Split, episode: Episode) -> _Starts:
        key = (split, episode.n_support, episode.n_query)
        if key not in self._found:
            self._found[key] = self._find(split, episode)
        return self._found[key]

    def _find(self, split: Split, episode: Episode) -> _Starts:
        series, (start, end) = self._series, self._period(split, episode)
        groups = list(self.info.groups[split])
        of_series = np.array([groups.index(g) if g in groups else -1 for g in series.groups])
        fits, whole, varied = self._starts(episode.n_support, episode.n_query)
        inside = (self._numbers >= start) & (self._numbers + episode.n_query <= end)
        chosen = np.repeat(of_series, np.diff(series.start)) >= 0
        starts = np.flatnonzero(fits & whole & varied & inside & chosen)
        number = np.searchsorted(series.start, starts, "right") - 1
        order = np.argsort(of_series[number], kind="stable")
        starts, number = starts[order], number[order]
        first = np.flatnonzero(np.r_[True, np.diff(number) != 0]) if len(number) else number
        members = number[first]
        usable, counts = np.unique(of_series[members], return_counts=True)
        names = tuple(groups[g] for g in usable.tolist())
        pool = Pool(names, np.concatenate([[0], np.cumsum(counts)]), members)
        return _Starts(pool, np.append(first, len(starts)), starts)

    # --- tasks -----------------------------------------------------------------------------------

    def sample(
        self,
        split: Split,
        episode: Episode,
        seeds: Sequence[int],
        groups: Sequence[str] | None = None,
    ) -> TaskBatch:
        """Draw one task a seed: x ``(T, S, F)``, y ``(T, S, 1)``, in units of the support.

        A seed draws its group evenly, then one of the group's series, then where the task starts.
        Examples stand in order of time.

        Raises:
            DataError: where no group, or a group asked for, has such a task.
        """
        found = self._starts_of(split, episode)
        pool, drawn = found.series, np.array([int(seed) for seed in seeds], np.uint64)
        group = pool.draw_groups(self.info.name, split, drawn, groups)
        member = pool.draw(drawn, 2, group)
        first = found.first[member]
        start = found.starts[first + below(drawn, 3, found.first[member + 1] - first)]
        x, y = self._examples(start, episode.n_support, episode.n_query)
        names = [self._series.names[number] for number in pool.members[member].tolist()]
        when = self._labels(self._numbers[start]).tolist()
        shot = episode.n_support
        return TaskBatch(
            support_x=x[:, :shot],
            support_y=y[:, :shot],
            query_x=x[:, shot:],
            query_y=y[:, shot:],
            ids=tuple(
                f"{name}-{time}-{seed:012x}"
                for name, time, seed in zip(names, when, drawn.tolist(), strict=True)
            ),
            groups=pool.names(group),
        )

    def _examples(
        self, start: Whole, shot: int, query: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Inputs ``(T, S + Q, F)`` and targets ``(T, S + Q, 1)`` of tasks, in order of time."""
        reach = self._setting.reach
        window = self._series.values[start[:, None] + np.arange(-reach - shot, query)]
        days = self._calendar[self._calendar_row[start[:, None] + np.arange(-shot, query)]]
        return examples(window, days, self._setting.all_lags, shot)


def examples(
    window: NDArray[np.float64], days: NDArray[np.float32], lags: Sequence[int], shot: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Inputs ``(T, N, F)`` and targets ``(T, N, 1)`` of ``T`` stretches, in units of their support.

    Args:
        window: ``(T, reach + N)`` values, as far back as the longest lag reaches; what is still to
            come may be NaN.
        days: ``(T, N, C)`` what a calendar says of the last ``N``.
        lags: values so many steps before are inputs.
        shot: the first of the ``N`` examples, from which the unit comes.
    """
    reach, end = max(lags), window.shape[1]
    support = window[:, reach : reach + shot]
    scaled = (window - support.mean(1, keepdims=True)) / support.std(1, keepdims=True)
    scaled = np.clip(scaled, -FARTHEST, FARTHEST).astype(np.float32)
    lagged = [scaled[:, reach - lag : end - lag] for lag in lags]
    return np.concatenate([np.stack(lagged, 2), days], 2), scaled[:, reach:, None]


def _periods(
    low: int, end: int, shares: Mapping[str, float] | None
) -> dict[Split, tuple[int, int]]:
    """The steps [from, to) of each split: consecutive parts of the time in the declared shares."""
    if shares is None:
        return dict.fromkeys(SPLITS, (low, end))
    parts = np.cumsum([0.0, *(shares[split] for split in SPLITS)])
    edges = [low + round(float(part) * (end - low)) for part in parts]
    return {split: (edges[n], edges[n + 1]) for n, split in enumerate(SPLITS)}


def _within(flags: Mask, start: Whole, end: Whole) -> Whole:
    """How many flags are set in each range [start, end), as far as there are any."""
    sums = np.concatenate([[0], np.cumsum(flags)])
    limit = len(flags)
    found: Whole = sums[np.clip(end, 0, limit)] - sums[np.clip(start, 0, limit)]
    return found


def _differs(values: NDArray[np.float64], lag: int) -> Mask:
    """Whether each value differs from the one so many places before, by more than rounding."""
    found = np.zeros(len(values), bool)
    now, before = values[lag:], values[: max(0, len(values) - lag)]
    size = np.maximum(np.abs(now), np.abs(before))
    found[lag:] = np.abs(now - before) > ROUNDING * size
    return found
