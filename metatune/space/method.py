"""The method: what a turn of the loop takes and gives back, as plain data.

A run writes it to ``method.yaml`` after each round: the space file with a section ``method``. That
is a space file again, so the loop goes on from it in another run: two rounds in one run are two
runs of one round, the second started from what the first left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pydantic import Field

from metatune.space.region import Region
from metatune.space.sections import Section
from metatune.strategy import Strategy

Params = dict[str, bool | int | float | str | None]


class Incumbent(Section):
    """A strategy that leads, and the name under which it was found."""

    name: str = Field(description="under which it was found")
    strategy: Strategy = Field(description="as plain data")


class Seen(Section):
    """What an earlier round learned of one point of the space."""

    params: Params = Field(description="values of the knobs by name")
    state: Literal["completed", "stopped", "lost"] = Field(
        description="how its trial ended; `lost`: diverged or failed"
    )
    gains: tuple[tuple[int, float], ...] = Field(
        (), description="rung, and mean paired difference to the default there; higher is better"
    )
    costs: dict[str, tuple[tuple[int, float], ...]] = Field(
        default_factory=dict,
        description="by the name of each cost among the objectives: rung, and log ratio to the "
        "default's there; lower is better",
    )


class Method(Section):
    """Where the loop stands."""

    round: int = Field(0, ge=0, le=10_000, description="rounds done")
    incumbents: tuple[Incumbent, ...] = Field(
        (), description="strategies that lead, best first, as `confirm` ranked them"
    )
    region: Region = Field(Region(), description="where the next strategies are looked for")
    evidence: tuple[Seen, ...] = Field((), description="what proposals go by, oldest first")
    tested: tuple[int, ...] = Field((), description="rounds after which `test` was opened")


def method_file(space: Mapping[str, Any], seed: int, method: Method) -> str:
    """The text of ``method.yaml``.

    Args:
        space: the space file as plain data.
        seed: the run's; the file's own may have been overridden.
        method: where the loop stands.
    """
    plain = {**space, "seed": seed, "method": method.model_dump(mode="json")}
    head = "# The space and where the loop stands in it: `metatune run` goes on from here.\n"
    return head + _dumped(plain)


def fold_file(space: Mapping[str, Any], fold: int) -> str:
    """The text of a space file on one fold of its splits.

    Args:
        space: the space file as plain data.
        fold: which.
    """
    head = f"# The space on fold {fold} of its splits.\n"
    return head + _dumped({**space, "family": {**space["family"], "fold": fold}})


def _dumped(plain: Mapping[str, Any]) -> str:
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
