"""Stopping: a pure function over rung scores (asynchronous successive halving, Li et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """A trial as it stood at one rung.

    Attributes:
        score: mean score on the rung's tasks, higher is better.
        structure: its structural family.
        passed: it went on beyond this rung.
    """

    score: float
    structure: str
    passed: bool


def why_stop(
    trial: str, standings: Mapping[str, Standing], reduction: int, protected: bool
) -> str | None:
    """Why a trial should stop at a rung, in words; None if it should go on.

    Args:
        trial: whose turn it is.
        standings: all trials that were scored at this rung, this one among them.
        reduction: one in so many goes on.
        protected: the run wants this one at full resource whatever it scores.
    """
    own = standings[trial]
    others = [s for name, s in standings.items() if name != trial]
    if protected or not any(s.passed for s in others if s.structure == own.structure):
        # One of each structural family goes on: some ways of learning only pay off late.
        return None
    better = sum(s.score > own.score for s in others)
    places = max(1, len(standings) // reduction)
    if better < places:
        return None
    return f"ranked {better + 1} of {len(standings)} at its rung, {places} went on"
