"""The family ``own``: tasks of the user's own, from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from metatune.space.families.base import Family


class OwnFamily(Family):
    """Tasks of your own, from Python. See docs/own_family.md."""

    tag: ClassVar[str] = "own"
    unopened: ClassVar[tuple[str, str, str]] = (
        "either",
        "as it says",
        "Tasks of your own, from Python: see docs/own_family.md.",
    )

    name: Literal["own"] = Field("own", description="own")
    use: str = Field(
        min_length=1,
        description="`module:Class` of a `metatune.tasks.base.TaskFamily`, importable where "
        "workers run or in a file beside this one; or a name that an installed package registers "
        "as an entry point of `metatune.families`",
    )
    options: dict[str, Any] = Field({}, description="keywords that the class is made with")

    @model_validator(mode="after")
    def _data_are_named_by_options(self) -> OwnFamily:
        if self.data_dir is not None:
            raise ValueError("found data_dir; allowed: options, which the class is made with")
        return self

    def plain_options(self, base: Path | None) -> dict[str, Any]:
        """As plain data; what they mean is the class's business, paths are not changed."""
        return {"use": self.use, "options": self.options}
