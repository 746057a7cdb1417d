"""What all sections of a space file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the space file: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
