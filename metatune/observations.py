"""What a proposal goes by: observations of trials, which of them are heard, and who beats whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

import numpy as np

from metatune.objectives import dominators
from metatune.space.knobs import Params

MAX_OBSERVATIONS = 250  # a proposal from so many takes some 35 ms, however long the run


@dataclass(frozen=True)
class Observation:
    """What is known of one trial, as far as a proposal is concerned.

    Attributes:
        params: its knobs' values.
        state: ``lost`` for diverged and failed trials, which rank behind all others.
        values: mean paired difference to the default at each rung; higher is better.
        costs: of each cost among the objectives, its log ratio to the default's at each rung;
            lower is better.
        rank: how far it came (0: nowhere, or it is on its way), and the value there.
    """

    params: Params
    state: Literal["running", "completed", "stopped", "lost"]
    values: Mapping[int, float]
    costs: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    rank: tuple[float, float] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        rank = (0.0, 0.0)
        if _was_scored(self):
            rung = max(self.values)
            rank = (inf if self.state == "completed" else rung, self.values[rung])
        object.__setattr__(self, "rank", rank)


def choose_observations(
    observations: Sequence[Observation],
    limit: int = MAX_OBSERVATIONS,
    costs: Sequence[str] = (),
) -> list[Observation]:
    """At most ``limit`` observations: all under way, the best, and the newest of the others."""
    if len(observations) <= limit:
        return list(observations)
    running = {i for i, o in enumerate(observations) if o.state == "running"}
    finished = [i for i in range(len(observations)) if i not in running]
    room = max(0, limit - len(running))
    ranked = best_first([observations[i] for i in finished], costs)
    best = {finished[place] for place in ranked[: room // 2]}
    newest = [i for i in reversed(finished) if i not in best][: room - len(best)]
    return [observations[i] for i in sorted(running | best | set(newest))]


def best_first(observations: Sequence[Observation], costs: Sequence[str]) -> list[int]:
    """Positions: completed ones first, then by the highest rung reached, then by the value there.

    With costs, who is dominated by fewer of those that came as far comes before the value.
    """
    ranks = [o.rank for o in observations]
    if not costs:
        levels, values = np.array(ranks, dtype=np.float64).reshape(-1, 2).T
        # Stable and backwards: who was asked first stands first among equals.
        return [int(i) for i in np.lexsort((-values, -levels))]
    beaten = [0] * len(ranks)
    for level in {level for level, _ in ranks if level}:
        peers = [i for i, rank in enumerate(ranks) if rank[0] == level]
        merits = [
            (ranks[i][1], *(-cost for cost in costs_of(observations[i], costs))) for i in peers
        ]
        for i, by in zip(peers, dominators(merits), strict=True):
            beaten[i] = by

    def key(i: int) -> tuple[float, int, float]:
        return (ranks[i][0], -beaten[i], ranks[i][1])

    return sorted(range(len(ranks)), key=key, reverse=True)


def costs_of(observation: Observation, names: Sequence[str]) -> list[float]:
    """What it cost at the highest rung where its value is known."""
    rung = max(observation.values)
    return [observation.costs[name][rung] for name in names]


def knows(observation: Observation, names: Sequence[str]) -> bool:
    """False where there is a value, but costs that belong to it are not known."""
    if not _was_scored(observation):
        return True
    rung = max(observation.values)
    return all(rung in observation.costs.get(name, {}) for name in names)


def shares_beaten(observations: Sequence[Observation]) -> list[float | None]:
    """The share of all others that each beats at the highest rung to which both have come.

    Trials are stopped at different rungs, and who was let through is not better for that alone: a
    default that must be compared with comes to its end wherever it ranks. So whoever is compared
    is compared where both were scored, and what a trial did further on counts against those alone
    that came as far. A draw is half; what is known at a higher rung only counts as it is there.

    Returns:
        None of those under way, and of those that are lost or were not scored: all others are
        before them.
    """
    rungs = sorted({rung for o in observations for rung in o.values})
    scored = [o for o in observations if _was_scored(o)]
    if not scored:
        return [None] * len(observations)
    known = np.array([[_value_from(o, rung) for rung in rungs] for o in scored])
    last = np.isfinite(known).sum(axis=1) - 1
    both = np.minimum(last[:, None], last[None, :])
    every = np.arange(len(scored))
    own, others = known[every[:, None], both], known[every[None, :], both]
    beats = (own > others) + 0.5 * (own == others)
    shares = iter((beats.sum(axis=1) - 0.5) / max(1, len(scored) - 1))  # less the draw with itself
    return [float(next(shares)) if _was_scored(o) else None for o in observations]


def _was_scored(observation: Observation) -> bool:
    """False where it is on its way, is lost, or ended before it was scored."""
    return bool(observation.values) and observation.state in ("completed", "stopped")


def _value_from(observation: Observation, rung: int) -> float:
    """The value at the first rung from this one on that it is known at; not a number behind all."""
    known = [passed for passed in observation.values if passed >= rung]
    return observation.values[min(known)] if known else float("nan")
