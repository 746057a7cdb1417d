"""The family ``omniglot``: which background learners learn from."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from metatune.space.families.base import Family


class Omniglot(Family):
    """Handwritten characters, with the full background or one of the official small ones."""

    tag: ClassVar[str] = "omniglot"

    name: Literal["omniglot"] = Field("omniglot", description="omniglot")
    background: Literal["full", "small1", "small2"] = Field(
        "full",
        description="what learners learn from: the background alphabets that are not held out, or "
        "the five of an official small set",
    )
