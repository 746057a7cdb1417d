"""The family ``image_folder``: the user's own images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from metatune.space.families.base import Rotating, Shares, absolute


class ImageFolder(Rotating):
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

    def plain_options(self, base: Path | None) -> dict[str, Any]:
        """As plain data, with an absolute path."""
        return super().plain_options(base) | {"data": absolute(self.data, base)}
