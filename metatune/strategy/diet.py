"""The task diet: which tasks a learner is trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from metatune.strategy.parts import Field, Part
from metatune.tasks.base import Episode

Where = Literal["both", "support", "query"]


class NoAugmentation(Part):
    """Training tasks as they are."""

    kind: Literal["none"] = "none"


class ImageAugmentation(Part):
    """Images are moved and bent, each by a draw of its own."""

    kind: Literal["image"] = "image"
    shift: float = Field(
        0.0, ge=0, le=0.5, description="largest shift as a share of the side, in each direction"
    )
    rotate: float = Field(0.0, ge=0, le=180, description="largest turn in degrees")
    scale: float = Field(
        0.0,
        ge=0,
        le=2,
        description="largest change of size: factors in [1 / (1 + scale), 1 + scale], log-uniform",
    )
    shear: float = Field(0.0, ge=0, le=45, description="largest shear in degrees")
    elastic: float = Field(
        0.0,
        ge=0,
        le=10,
        description="standard deviation in pixels of a smooth random displacement",
    )
    where: Where = Field("both", description="which sets are changed")
    copies: int = Field(
        0,
        ge=0,
        le=16,
        description="support examples are given this many times more, each augmented anew",
    )


class TableAugmentation(Part):
    """Tables are blurred."""

    kind: Literal["table"] = "table"
    noise: float = Field(
        0.0, ge=0, le=1e3, description="standard deviation of Gaussian noise on each input"
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="chance that a task loses a feature: it is zero in all its examples",
    )
    target_scale: float = Field(
        0.0,
        ge=0,
        le=10,
        description="of regressions: all targets of a task are multiplied by one factor in "
        "[1 / (1 + target_scale), 1 + target_scale], log-uniform, and by a random sign",
    )
    where: Where = Field("both", description="which sets get noise")
    copies: int = Field(
        0,
        ge=0,
        le=16,
        description="support examples are given this many times more, each with its own noise",
    )


Augmentation = Annotated[
    NoAugmentation | ImageAugmentation | TableAugmentation, Field(discriminator="kind")
]


class Diet(Part):
    """The shape of training tasks, where it differs from the test's."""

    way: int | None = Field(
        None, ge=1, le=1024, description="classes a training task; left out: as in the test"
    )
    shot: int | None = Field(
        None, ge=1, le=1024, description="support examples a class; left out: as in the test"
    )
    query: int | None = Field(
        None, ge=1, le=1024, description="query examples a class; left out: as in the test"
    )
    start_way: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="a curriculum: classes a task at the start; moves to `way` over the first half "
        "of the resource",
    )
    start_shot: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="a curriculum: support examples a class at the start; moves to `shot` likewise",
    )
    quarter_turns: bool = Field(
        False,
        description="every class of a task is turned by a random quarter turn, and a turned class "
        "is a class of its own (as the Omniglot papers have it)",
    )
    augment: Augmentation = Field(NoAugmentation(), description="what is done to examples")

    def episode(self, test: Episode, progress: float = 1.0) -> Episode:
        """The training episode for tasks judged as ``test``, at ``progress`` of the resource."""
        share = min(1.0, 2 * progress)

        def between(start: int | None, end: int) -> int:
            return end if start is None else round(start + share * (end - start))

        return replace(
            test,
            way=between(self.start_way, self.way or test.way),
            shot=between(self.start_shot, self.shot or test.shot),
            query=self.query or test.query,
        )

    def episodes(self, test: Episode) -> tuple[Episode, ...]:
        """The episodes at the two ends of the training, for checks before anything starts."""
        return (self.episode(test, 0.0), self.episode(test))
