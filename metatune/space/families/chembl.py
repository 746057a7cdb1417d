"""The family ``chembl``: how a task is judged."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from metatune.space.families.base import Family


class Chembl(Family):
    """Potency of molecules on protein targets."""

    tag: ClassVar[str] = "chembl"

    name: Literal["chembl"] = Field("chembl", description="chembl")
    metric: Literal["r2", "spearman", "rmse"] = Field(
        "r2",
        description="r2 against the mean of the support, the correlation of ranks, or the root of "
        "the squared error in log units",
    )
