"""The section ``family`` of a space file: which tasks, of which shape, and what a family has to be
told besides.

A family with options of its own has a model here, under its name in ``OWN``. Its options go to
``metatune.tasks.registry.open_family`` as plain data, in every process that opens the family.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from metatune.space.sections import Section
from metatune.tasks.base import Episode

COLUMN_KINDS = ("number", "category", "date", "skip")
"""What a column can be; ``date FORMAT`` is a date that is written in another way than ISO 8601."""


class Family(Section):
    """The task family, and the shape of the tasks that strategies are judged on."""

    tag: ClassVar[str] = "plain"
    unopened: ClassVar[tuple[str, str, str]] = ("", "", "")
    """What it predicts, by what that is judged, and what its tasks are, before it is told more."""

    name: str = Field(description="name of the task family, see `metatune families`")
    way: int | None = Field(
        None, ge=1, le=1024, description="classes a task; left out for regression"
    )
    shot: int = Field(
        5, ge=1, le=1024, description="support examples a class (regression: support points a task)"
    )
    query: int = Field(
        5, ge=1, le=1024, description="query examples a class (regression: query points a task)"
    )
    data_dir: str | None = Field(
        None, min_length=1, description="folder of the data, for families that are read from files"
    )

    @property
    def episode(self) -> Episode:
        """The shape of the tasks that strategies are judged on."""
        return Episode(self.way or 1, self.shot, self.query)

    def options(self, base: Path | None) -> dict[str, Any]:
        """What the family has to be told, as plain data.

        Args:
            base: the folder that paths are seen from; None: the current one.
        """
        return {}


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


class Table(Family):
    """Tasks that are the rows of a table: the user's own data. See docs/own_data.md."""

    tag: ClassVar[str] = "table"
    unopened: ClassVar[tuple[str, str, str]] = (
        "either",
        "r2, mse, accuracy",
        "Your own CSV or Parquet files: `metatune init DATA...` writes a space file.",
    )

    name: Literal["table"] = Field("table", description="table")
    way: int | None = Field(
        None, ge=1, le=1024, description="the number of classes; left out for regression"
    )
    shot: int = Field(5, ge=1, le=100_000, description="support rows a task")
    query: int = Field(5, ge=1, le=100_000, description="query rows a task")
    data: tuple[str, ...] = Field(
        min_length=1,
        description="CSV or Parquet files, globs or folders of them, as seen from this file's "
        "folder",
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
    splits: Shares = Field(Shares(), description="shares of the groups in each split")

    @field_validator("data", mode="before")
    @classmethod
    def _one_path(cls, value: Any) -> Any:
        """``data: a.csv`` is short for ``data: [a.csv]``."""
        if isinstance(value, list):
            return tuple(value)
        return (value,) if isinstance(value, str) else value

    @field_validator("data")
    @classmethod
    def _paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not path.strip() or "\0" in path for path in value):
            raise ValueError("found an empty path; allowed: files, globs or folders")
        return value

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
        if self.data_dir is not None:
            raise ValueError("found data_dir; allowed: paths in data, which name the files")
        roles = {"task": self.task, "target": self.target, "group": self.group}
        named = [column for column in roles.values() if column is not None]
        if len(set(named)) < len(named):
            told = ", ".join(f"{role} {column}" for role, column in roles.items() if column)
            raise ValueError(f"found {told}; allowed: a column for each (leave group out if none)")
        for role, column in roles.items():
            if column in self.columns:
                raise ValueError(f"found columns for the {role} {column}; allowed: other columns")
        return self

    @property
    def episode(self) -> Episode:
        """The shape of a task: shot and query are rows, whatever their classes."""
        return Episode(self.way or 1, self.shot, self.query, per_class=False)

    def options(self, base: Path | None) -> dict[str, Any]:
        """As plain data, with absolute paths."""
        plain = self.model_dump(mode="json", exclude=set(Family.model_fields))
        folder = Path.cwd() if base is None else base.absolute()
        return plain | {"data": [str(folder / Path(path).expanduser()) for path in self.data]}


class Omniglot(Family):
    """Handwritten characters, with the full background or one of the official small ones."""

    tag: ClassVar[str] = "omniglot"

    name: Literal["omniglot"] = Field("omniglot", description="omniglot")
    background: Literal["full", "small1", "small2"] = Field(
        "full",
        description="what learners learn from: the background alphabets that are not held out, or "
        "the five of an official small set",
    )

    def options(self, base: Path | None) -> dict[str, Any]:
        """The background."""
        return {"background": self.background}


class ImageFolder(Family):
    """Class folders of image files: the user's own images. See docs/own_images.md."""

    tag: ClassVar[str] = "image_folder"
    unopened: ClassVar[tuple[str, str, str]] = (
        "classification",
        "accuracy",
        "Your own images in class folders: see docs/own_images.md.",
    )

    name: Literal["image_folder"] = Field("image_folder", description="image_folder")
    data: str = Field(
        min_length=1,
        description="the folder that holds the class folders, as seen from this file's folder",
    )
    levels: Literal["class", "group/class"] = Field(
        "class",
        description="group/class where class folders lie in group folders; splits are then made "
        "by whole groups, else by classes",
    )
    size: int = Field(28, ge=8, le=256, description="height and width of images in pixels")
    colour: Literal["grey", "rgb"] = Field("grey", description="one channel or three")
    splits: Shares = Field(
        Shares(train=0.4, select=0.2, confirm=0.2, test=0.2),
        description="shares of the groups (or classes) in each split",
    )

    @field_validator("data")
    @classmethod
    def _path(cls, value: str) -> str:
        if not value.strip() or "\0" in value:
            raise ValueError("found an empty path; allowed: a folder")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> ImageFolder:
        if self.data_dir is not None:
            raise ValueError("found data_dir; allowed: the folder in data")
        return self

    def options(self, base: Path | None) -> dict[str, Any]:
        """As plain data, with an absolute path."""
        plain = self.model_dump(mode="json", exclude=set(Family.model_fields))
        folder = Path.cwd() if base is None else base.absolute()
        return plain | {"data": str(folder / Path(self.data).expanduser())}


OWN: dict[str, type[Family]] = {"table": Table, "omniglot": Omniglot, "image_folder": ImageFolder}
"""Families that have options of their own."""


def _tag(value: Any) -> str:
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
    return OWN[name].tag if isinstance(name, str) and name in OWN else Family.tag


AnyFamily = Annotated[
    Annotated[Table, Tag(Table.tag)]
    | Annotated[Omniglot, Tag(Omniglot.tag)]
    | Annotated[ImageFolder, Tag(ImageFolder.tag)]
    | Annotated[Family, Tag(Family.tag)],
    Discriminator(_tag),
]
