"""Stopping, as pure functions over scores.

``why_stop`` weighs a trial at a rung (asynchronous successive halving, Li et al. 2020).
``why_behind`` weighs a strategy while its tasks are being scored: a race (Maron & Moore 1994).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metatune.objectives import dominated_by
from metatune.statistics import confidence_sequence


@dataclass(frozen=True)
class Standing:
    """A trial as it stood at one rung.

    Attributes:
        score: mean score on the rung's tasks, higher is better.
        structure: its structural family.
        passed: it went on beyond this rung.
        costs: what it took there, one number a cost among the objectives; lower is better.
    """

    score: float
    structure: str
    passed: bool
    costs: tuple[float, ...] = ()


def why_stop(
    trial: str,
    standings: Mapping[str, Standing],
    reduction: int,
    *,
    protected: bool,
    first_rung: bool,
) -> str | None:
    """Why a trial should stop at a rung, in words; None if it should go on.

    A trial ranks behind those that dominate it: behind every better one where there are no costs;
    with costs, behind those alone that are better or cheaper and neither worse nor dearer. So who
    is on the front of the rung goes on.

    Args:
        trial: whose turn it is.
        standings: all trials that were scored at this rung, this one among them.
        reduction: one in so many goes on.
        protected: the run wants this one at full resource whatever it scores.
        first_rung: from there one of each structural family goes on, since some ways of learning
            pay off late.
    """
    own = standings[trial]
    others = standings.items()
    passed = any(s.passed and s.structure == own.structure and name != trial for name, s in others)
    if protected or (first_rung and not passed):
        return None
    if own.costs:
        merits = [_merits(s) for name, s in others if name != trial]
        better = dominated_by(_merits(own), merits)
    else:
        better = sum(s.score > own.score for s in standings.values())
    places = max(1, len(standings) // reduction)
    if better < places:
        return None
    return f"ranked {better + 1} of {len(standings)} at its rung, {places} went on"


def _merits(standing: Standing) -> tuple[float, ...]:
    return (standing.score, *(-cost for cost in standing.costs))


def why_behind(
    own: Sequence[float], leader: Sequence[float], block: int, alpha: float, rivals: int
) -> str | None:
    """Why a strategy should leave the race, in words; None if it should go on.

    Tasks come in blocks of one task a group. What is bounded is the mean paired difference over
    these groups, however many tasks of them will be scored; groups that differ in level or noise
    are allowed for. Ask after each block, or as often as you like: the bound holds at every look.

    The truly best strategy leaves the race with probability at most ``alpha``, over all looks and
    rivals, whoever leads at the time: each of its pairs with a rival may err with
    ``alpha / rivals`` (union bound), and only a pair that errs can stop it. How far that can be
    trusted where scores are skewed, ``confidence_sequence`` tells.

    Args:
        own: scores in the order of the tasks, higher is better.
        leader: those of whoever leads now, on the same tasks.
        block: tasks a block, one of each group in the same order; 1 where there are no groups.
            An unfinished block at the end is left out.
        alpha: probability that the best strategy is stopped in the whole race.
        rivals: how many others are in the race, or will be; fixed before it starts.

    Raises:
        ValueError: different numbers of scores, or nonsense in the other arguments.
    """
    if len(own) != len(leader):
        raise ValueError(f"scores of the same tasks are needed, found {len(own)} and {len(leader)}")
    if block < 1 or rivals < 1:
        raise ValueError(f"block ({block}) and rivals ({rivals}) start at 1")
    blocks = len(own) // block
    scores = np.array([own, leader], dtype=np.float64)[:, : blocks * block]
    if not blocks or not np.isfinite(scores).all():
        return None  # nothing to compare yet, or nothing that compares
    gain = confidence_sequence((scores[0] - scores[1]).tolist(), alpha / rivals, strata=block)
    if gain.high >= 0:
        return None
    return (
        f"behind the leader by {-gain.mean:.3g} (by at least {-gain.high:.3g} with "
        f"{100 * (1 - alpha):.3g} % at every look) after {blocks} blocks"
    )
