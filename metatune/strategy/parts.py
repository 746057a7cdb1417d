"""What all parts of a strategy have in common, and how a part of the user's own is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel, ConfigDict, Field
else:
    try:
        from pydantic import BaseModel, ConfigDict, Field
    except ImportError:  # an artifact is used without it
        from metatune.strategy.plain import BaseModel, ConfigDict, Field

__all__ = ["Field", "OwnPart", "Part"]


class Part(BaseModel):
    """A part of a strategy: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OwnPart(Part):
    """A part of the user's own."""

    use: str = Field(
        min_length=1,
        description="`module:name`, importable where workers run or in a file beside the space "
        "file; or a name that an installed package registers as an entry point, see "
        "`metatune/own.py`",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="passed on as keywords; their values may be knobs"
    )
