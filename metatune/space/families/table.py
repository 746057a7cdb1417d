"""The family ``table``: the rows of tables, a task for each value of a column."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from metatune.space.families.base import FromFiles
from metatune.tasks.base import Episode, FamilyInfo

COLUMN_KINDS = ("number", "category", "date", "skip")
"""What a column can be; ``date FORMAT`` is a date that is written in another way than ISO 8601."""


class Table(FromFiles):
    """Tasks that are the rows of a table: the user's own data. See docs/own_data.md."""

    tag: ClassVar[str] = "table"
    unopened: ClassVar[tuple[str, str, str]] = (
        "either",
        "r2, mse, accuracy",
        "Your own CSV or Parquet files: `metatune init DATA...` writes a space file.",
    )

    name: Literal["table"] = Field("table", description="table")
    way: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="the number of classes; below that of all, each task draws so many of its own "
        "classes. Left out for regression",
    )
    shot: int = Field(
        5, ge=1, le=100_000, description="support rows a task; of each class, where it draws some"
    )
    query: int = Field(
        5, ge=1, le=100_000, description="query rows a task; of each class, where it draws some"
    )
    fewest: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="support rows with which a task that has fewer than shot + query rows takes "
        "part: its rows are divided in their proportion, with so many in the support at least and "
        "one in the query. Left out, such tasks are never drawn",
    )
    task: str = Field(
        min_length=1, description="the column that tells tasks apart; `file`: each file is a task"
    )
    target: str = Field(min_length=1, description="the column that is predicted")
    group: str | None = Field(
        None,
        min_length=1,
        description="the column of what tasks share and a new user will not have seen; splits are "
        "made by whole groups. Left out, each task is a group",
    )
    predict: Literal["number", "class"] | None = Field(
        None,
        description="left out: class where the target is text, a boolean or one of up to 10 whole "
        "numbers, else number",
    )
    metric: Literal["r2", "mse"] = Field(
        "r2",
        description="of numbers: r2 against the mean of the support, or mse in units of the "
        "target's variance in train",
    )
    columns: dict[str, str] = Field(
        {},
        description="column: number, category, date, `date FORMAT` or skip, where it is not what "
        "it looks like",
    )
    levels: int = Field(
        16, ge=1, le=1024, description="values of a category that get an input of their own"
    )

    @field_validator("columns")
    @classmethod
    def _kinds(cls, value: dict[str, str]) -> dict[str, str]:
        for column, kind in value.items():
            if kind not in COLUMN_KINDS and not kind.startswith("date %"):
                allowed = "number, category, date, date FORMAT (such as date %d.%m.%Y), skip"
                raise ValueError(f"found {kind[:60]!r} for {column[:60]!r}; allowed: {allowed}")
        return value

    @model_validator(mode="after")
    def _roles_differ(self) -> Table:
        roles = {"task": self.task, "target": self.target, "group": self.group}
        named = [column for column in roles.values() if column is not None]
        if len(set(named)) < len(named):
            told = ", ".join(f"{role} {column}" for role, column in roles.items() if column)
            raise ValueError(f"found {told}; allowed: a column for each (leave group out if none)")
        for role, column in roles.items():
            if column in self.columns:
                raise ValueError(f"found columns for the {role} {column}; allowed: other columns")
        return self

    @model_validator(mode="after")
    def _fewest_is_no_more_than_shot(self) -> Table:
        if self.fewest is not None and self.fewest > self.shot:
            raise ValueError(
                f"found fewest {self.fewest} above shot {self.shot}; allowed: 1 to shot"
            )
        return self

    _draws: bool = PrivateAttr(default=False)

    @property
    def episode(self) -> Episode:
        """The shape of a task: shot and query are rows, whatever their classes; where each task
        draws classes of its own, they are rows of each class."""
        return Episode(
            self.way or 1, self.shot, self.query, per_class=self._draws, fewest=self.fewest
        )

    def fitted(self, info: FamilyInfo) -> Table:
        """The same, knowing whether tasks draw classes of their own."""
        copy = self.model_copy()
        copy._draws = info.kind == "classification" and not info.shared_classes
        return copy

    def plain_options(self, base: Path | None) -> dict[str, Any]:
        """As plain data, with absolute paths; and the number of classes, which makes the tasks.
        ``fewest`` belongs to the shape of tasks."""
        plain = super().plain_options(base) | {"way": self.way}
        return {name: value for name, value in plain.items() if name != "fewest"}
