"""The family ``forecast``: the user's own time series, from long tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from metatune.space.families.base import FromFiles, Shares, one_or_more

CalendarField = Literal["hour", "weekday", "monthday", "yearday", "month", "quarter"]
CALENDAR: tuple[str, ...] = get_args(CalendarField)
"""Fields of the calendar that can be inputs; ``metatune.tasks.timeseries.steps`` reads them."""

Steps = Annotated[int, Field(ge=1, le=1_000_000)]


class Forecast(FromFiles):
    """Tasks that are stretches of time series: a series and a start. See docs/forecast.md."""

    tag: ClassVar[str] = "forecast"
    unopened: ClassVar[tuple[str, str, str]] = (
        "regression",
        "mae, mase",
        "Your own time series, from CSV or Parquet files: see docs/forecast.md.",
    )

    name: Literal["forecast"] = Field("forecast", description="forecast")
    shot: int = Field(5, ge=2, le=100_000, description="steps before the start, to learn from")
    query: int = Field(5, ge=1, le=100_000, description="steps from the start on, to be judged on")
    series: tuple[str, ...] = Field(
        min_length=1,
        description="the column, or columns, that tell series apart; `file`: each file is a series",
    )
    time: str = Field(min_length=1, description="the column of points in time")
    value: str = Field(min_length=1, description="the column that is predicted, a number")
    group: str | None = Field(
        None,
        min_length=1,
        description="the column of what series share and a new user will not have seen; splits "
        "are made by whole groups. Left out, each series is a group",
    )
    time_format: str | None = Field(
        None,
        min_length=1,
        description="how times are written, such as %d.%m.%Y; left out: ISO 8601",
    )
    step: str | None = Field(
        None,
        min_length=1,
        description="what lies between two values, a pandas offset alias such as 15min, h, D, B, "
        "W, MS; left out: as times look",
    )
    ahead: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="steps that a forecast looks ahead: nothing later is an input. Left out: "
        "query, one forecast for all of it",
    )
    season: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="steps of the season that the naive forecast repeats; left out: a day of "
        "hours, a week of days, a year of months",
    )
    lags: tuple[Steps, ...] | None = Field(
        None,
        max_length=1000,
        description="values so many steps before, as inputs, each at least `ahead`; left out: one "
        "season before what is predicted, and two",
    )
    calendar: tuple[CalendarField, ...] | None = Field(
        None, description="what a calendar says, as inputs; left out: what suits the step"
    )
    transform: Literal["none", "log"] = Field("none", description="log: values above 0 by factors")
    change: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="predict the change against so many steps before, at least `ahead`",
    )
    fill: int = Field(
        0, ge=0, le=1_000_000, description="gaps of up to so many steps take the value before them"
    )
    metric: Literal["mae", "mase"] = Field(
        "mae",
        description="mean absolute error in units of the support's standard deviation (mae) or of "
        "the seasonal naive forecast's error on the support (mase)",
    )
    periods: Shares | None = Field(
        Shares(),
        description="shares of the time in each split, in this order; null: splits are by group "
        "alone",
    )
    gap: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="steps between the times of two splits; left out: as many as a task looks back",
    )

    @field_validator("series", mode="before")
    @classmethod
    def _one_column(cls, value: Any) -> Any:
        """``series: shop`` is short for ``series: [shop]``."""
        return one_or_more(value)

    @model_validator(mode="after")
    def _roles_differ(self) -> Forecast:
        named = [*self.series, self.time, self.value]
        if len(set(named)) < len(named) or self.group in (self.time, self.value):
            told = f"series {', '.join(self.series)}, time {self.time}, value {self.value}"
            told += f", group {self.group}" if self.group else ""
            raise ValueError(f"found {told}; allowed: a column for each")
        if self.series == (self.group,):
            raise ValueError(f"found group {self.group}, the series; allowed: another, or none")
        return self

    @model_validator(mode="after")
    def _inputs_are_known_ahead(self) -> Forecast:
        ahead = self.looks_ahead
        late = [lag for lag in self.lags or () if lag < ahead]
        if late:
            raise ValueError(
                f"found lags {late[0]}, not known yet in a forecast {ahead} steps ahead; allowed: "
                f"lags from {ahead}, or a smaller ahead"
            )
        if self.change is not None and self.change < ahead:
            raise ValueError(
                f"found change {self.change}, against a value that is not known yet in a forecast "
                f"{ahead} steps ahead; allowed: change from {ahead}, or a smaller ahead"
            )
        return self

    @property
    def looks_ahead(self) -> int:
        """Steps that a forecast looks ahead."""
        return self.query if self.ahead is None else self.ahead

    def plain_options(self, base: Path | None) -> dict[str, Any]:
        """As plain data, with absolute paths."""
        return super().plain_options(base) | {"ahead": self.looks_ahead}
