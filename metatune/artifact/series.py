"""Raw series: a history is learned as the tasks of a ``forecast`` run were, and forecast.

pandas is imported inside these functions alone, for calendars and steps of time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metatune.errors import ArtifactError, DataError

if TYPE_CHECKING:
    from metatune.artifact.learner import Adapted, Artifact
    from metatune.tasks.timeseries.series import Series

Array = NDArray[Any]


@dataclass(frozen=True)
class SeriesRules:
    """How a history becomes a task: what the run's family did with its series.

    Attributes:
        step: alias, length, months and phase, as of ``timeseries.steps.Step``.
        ahead: steps that a forecast looks ahead.
        lags: values so many steps before a target are inputs; none is below ``ahead``.
        calendar: fields of the calendar that are inputs.
        time, value, time_format, log, change, fill: as of ``timeseries.reading.Raw``.
    """

    step: tuple[str, int, int, int]
    ahead: int
    lags: tuple[int, ...]
    calendar: tuple[str, ...]
    time: str
    value: str
    time_format: str | None
    log: bool
    change: int
    fill: int


@dataclass(frozen=True)
class AdaptedSeries:
    """A series that was learned from its history; ``Artifact.adapt_series`` makes it.

    Attributes:
        adapted: the last steps of the history as a task, and who learned it.
        times: ``(H,)`` datetime64: the steps after the history that can be forecast.
        inputs: ``(H, F)`` of these.
        level, spread: of the history's last values, which predictions are in units of.
        before: ``(H,)``: what a predicted change is added to; 0 where values are predicted.
        log: logarithms are predicted.
    """

    adapted: Adapted
    times: Array
    inputs: Array = field(repr=False)
    level: float
    spread: float
    before: Array = field(repr=False)
    log: bool

    @property
    def used(self) -> str:
        """As of ``Adapted``."""
        return self.adapted.used

    def predict(self, times: Any = None) -> Array:
        """``(H,)``: the series at some of ``times``, in its own unit.

        Args:
            times: which; None: all.

        Raises:
            ArtifactError: one of them cannot be forecast from this history.
        """
        chosen = self._chosen(times)
        return self._raw(self.adapted.predict(self.inputs[chosen]), chosen)

    def predict_interval(self, times: Any = None, level: float = 0.9) -> Array:
        """``(H, 2)``: the lower and upper end; arguments and errors as of ``predict``.

        Args:
            times: which; None: all.
            level: as of ``Adapted.predict_interval``.
        """
        chosen = self._chosen(times)
        ends = self.adapted.predict_interval(self.inputs[chosen], level)
        return np.stack([self._raw(end, chosen) for end in ends.T], 1)

    def _raw(self, values: Array, chosen: Array) -> Array:
        found: Array = self.level + self.spread * values + self.before[chosen]
        return np.exp(found) if self.log else found

    def _chosen(self, times: Any) -> Array:
        every = np.arange(len(self.times))
        if times is None:
            return every
        try:
            wanted = np.atleast_1d(np.asarray(times, "datetime64[us]"))
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"times: found what are no times ({error})") from error
        place = {time: number for number, time in enumerate(self.times.tolist())}
        strange = [time for time in wanted.tolist() if time not in place]
        if strange or not len(wanted):
            raise ArtifactError(
                f"times: found {strange[0] if strange else 'none'}; allowed: {self.times[0]} to "
                f"{self.times[-1]}, the {len(every)} steps after the history"
            )
        return np.array([place[time] for time in wanted.tolist()])


def learn_series(artifact: Artifact, times: Any, values: Any) -> AdaptedSeries:
    """Learn a series from its history; see ``Artifact.adapt_series``."""
    from metatune.tasks.timeseries.forecast import examples
    from metatune.tasks.timeseries.steps import FIELDS, calendar_inputs

    rules = artifact.series
    if rules is None:
        raise ArtifactError(
            f"adapt_series: found an artifact of the family {artifact.info.name}; allowed: one of "
            "time series. This one takes adapt(x, y)"
        )
    if strange := sorted(set(rules.calendar) - set(FIELDS)):
        raise ArtifactError(f"strategy.json: series: calendar: found {strange[0][:40]!r}")
    try:
        history, predicted = _read(rules, times, values)
    except (DataError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(" ".join(str(error).split())[:400]) from error
    shot, reach = artifact.episode.n_support, max(rules.lags)
    known, before = _window(rules, history, predicted, reach + shot, shot)
    first = int(predicted.first[0]) + len(predicted.values) - shot
    when = predicted.step.times(first + np.arange(shot + rules.ahead))
    days, _ = calendar_inputs(when, rules.calendar)
    window = np.concatenate([known, np.full(rules.ahead, np.nan)])
    x, y = examples(window[None], days[None], rules.lags, shot)
    return AdaptedSeries(
        adapted=artifact.adapt(x[0, :shot], y[0, :shot, 0]),
        times=when[shot:].to_numpy("datetime64[us]"),
        inputs=x[0, shot:],
        level=float(known[reach:].mean()),
        spread=float(known[reach:].std()),
        before=before,
        log=rules.log,
    )


def _read(rules: SeriesRules, times: Any, values: Any) -> tuple[Series, Series]:
    """The history, as logarithms where these are predicted, and what is predicted of it."""
    from metatune.tasks.timeseries.reading import Raw, read_history
    from metatune.tasks.timeseries.series import changes
    from metatune.tasks.timeseries.steps import Step

    how = Raw(rules.time, rules.value, rules.time_format, rules.log, change=0, fill=rules.fill)
    history = how.predicted(read_history(times, values, Step(*rules.step), how))
    return history, changes(history, rules.change) if rules.change else history


def _window(
    rules: SeriesRules, history: Series, predicted: Series, needed: int, shot: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The last values ``(needed,)``, and what a predicted change is added to ``(ahead,)``.

    Raises:
        ArtifactError: one of these is missing, or all that are learned from are alike.
    """
    whole = needed + rules.change
    if len(predicted.values) < needed:
        raise ArtifactError(
            f"history: found {len(history.values)} steps; allowed: {whole} or more, of which "
            f"{shot} are learned from and the others looked back to"
        )
    missing = np.flatnonzero(np.isnan(history.values[-whole:]))
    if len(missing):
        number = history.first[0] + len(history.values) - whole + missing[0]
        above = " above 0" if rules.log else ""
        raise ArtifactError(
            f"history: found no value{above} at {history.step.times(np.array([number]))[0]}; "
            f"allowed: one at each of the last {whole} steps"
        )
    known = predicted.values[-needed:]
    if not known[-shot:].std() > 0:
        raise ArtifactError(
            f"history: found one value alone in the last {shot} steps; allowed: some that differ"
        )
    if not rules.change:
        return known, np.zeros(rules.ahead)
    start = len(history.values) - rules.change
    return known, history.values[start : start + rules.ahead]
