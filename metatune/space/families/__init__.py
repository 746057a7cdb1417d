"""The section ``family`` of a space file: which tasks, of which shape, and what a family has to be
told besides.

A family with options of its own has a room here, and a model under its name in ``OWN``. Its options
go to ``metatune.tasks.registry.open_family`` as plain data, in every process that opens the family.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from metatune.space.families.base import Family, FromFiles, Rotating, Shares
from metatune.space.families.chembl import Chembl
from metatune.space.families.forecast import Forecast
from metatune.space.families.image_folder import ImageFolder
from metatune.space.families.omniglot import Omniglot
from metatune.space.families.own import OwnFamily
from metatune.space.families.table import Table

MODELS: tuple[type[Family], ...] = (Chembl, Forecast, ImageFolder, Omniglot, OwnFamily, Table)
OWN: dict[str, type[Family]] = {model.tag: model for model in MODELS}
"""Families that have options of their own."""


def _tag(value: Any) -> str:
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
    return name if isinstance(name, str) and name in OWN else Family.tag


AnyFamily = Annotated[
    Annotated[Table, Tag(Table.tag)]
    | Annotated[Chembl, Tag(Chembl.tag)]
    | Annotated[Forecast, Tag(Forecast.tag)]
    | Annotated[ImageFolder, Tag(ImageFolder.tag)]
    | Annotated[Omniglot, Tag(Omniglot.tag)]
    | Annotated[OwnFamily, Tag(OwnFamily.tag)]
    | Annotated[Family, Tag(Family.tag)],
    Discriminator(_tag),
]

__all__ = [
    "OWN",
    "AnyFamily",
    "Chembl",
    "Family",
    "Forecast",
    "FromFiles",
    "ImageFolder",
    "Omniglot",
    "OwnFamily",
    "Rotating",
    "Shares",
    "Table",
]
