"""What every family has: its name, the shape of its tasks, where its data lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from metatune.space.sections import Section
from metatune.tasks.base import Episode, FamilyInfo


class Family(Section):
    """The task family, and the shape of the tasks that strategies are judged on."""

    tag: ClassVar[str] = "plain"
    """The name of a family that has options of its own."""
    unopened: ClassVar[tuple[str, str, str]] = ("", "", "")
    """What it predicts, by what that is judged, and what its tasks are, before it is told more."""

    name: str = Field(description="name of the task family, see `metatune families`")
    way: int | None = Field(
        None, ge=1, le=1024, description="classes a task; left out for regression"
    )
    shot: int = Field(
        5,
        ge=1,
        le=10_000,
        description="support examples a class (regression: support points a task)",
    )
    query: int = Field(
        5, ge=1, le=10_000, description="query examples a class (regression: query points a task)"
    )
    data_dir: str | None = Field(
        None, min_length=1, description="folder of the data, for families that are read from files"
    )
    licence: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="licence of the data, for the card of what is exported; left out: the "
        "family's, where it is known",
    )

    @property
    def episode(self) -> Episode:
        """The shape of the tasks that strategies are judged on."""
        return Episode(self.way or 1, self.shot, self.query)

    def fitted(self, info: FamilyInfo) -> Family:
        """The same, with the shape of tasks that the opened family draws."""
        return self

    def plain_options(self, base: Path | None) -> dict[str, Any]:
        """What the family has to be told, as plain data: the options that are its own.

        Args:
            base: the folder that paths are seen from; None: the current one.
        """
        return self.model_dump(mode="json", exclude=set(Family.model_fields))


class Shares(Section):
    """Shares of the groups (without groups: of the tasks) in each split; together 1."""

    train: float = Field(0.5, gt=0, lt=1, description="for learners to learn from")
    select: float = Field(0.2, gt=0, lt=1, description="for the search to score on")
    confirm: float = Field(0.1, gt=0, lt=1, description="for leaders to be compared on")
    test: float = Field(0.2, gt=0, lt=1, description="for the verdict")

    @model_validator(mode="after")
    def _sum_to_one(self) -> Shares:
        total = self.train + self.select + self.confirm + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"found shares that sum to {total:g}; allowed: shares that sum to 1")
        return self


class Rotating(Family):
    """A family of the user's own data, whose splits are made by a rule and rotate over folds."""

    splits: Shares = Field(Shares(), description="shares of the groups in each split")
    fold: int = Field(
        0,
        ge=0,
        description="which fold of the splits: over all of them each group but the largest is in "
        "test once; `metatune run --folds` runs them all",
    )


class FromFiles(Rotating):
    """A family of the user's own CSV and Parquet files."""

    data: tuple[str, ...] = Field(
        min_length=1,
        description="CSV or Parquet files, globs or folders of them, as seen from this file's "
        "folder",
    )

    @field_validator("data", mode="before")
    @classmethod
    def _one_path(cls, value: Any) -> Any:
        """``data: a.csv`` is short for ``data: [a.csv]``."""
        return one_or_more(value)

    @field_validator("data")
    @classmethod
    def _paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not path.strip() or "\0" in path for path in value):
            raise ValueError("found an empty path; allowed: files, globs or folders")
        return value

    @model_validator(mode="after")
    def _files_are_named_by_data(self) -> FromFiles:
        if self.data_dir is not None:
            raise ValueError("found data_dir; allowed: paths in data, which name the files")
        return self

    def plain_options(self, base: Path | None) -> dict[str, Any]:
        """As plain data, with absolute paths."""
        return super().plain_options(base) | {"data": [absolute(path, base) for path in self.data]}


def absolute(path: str, base: Path | None) -> str:
    """A path as seen from a folder; None: from the current one."""
    folder = Path.cwd() if base is None else base.absolute()
    return str(folder / Path(path).expanduser())


def one_or_more(value: Any) -> Any:
    """A single text is short for a list of one."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str) else value
