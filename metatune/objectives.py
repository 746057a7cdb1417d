"""Objectives: what a run judges strategies by, and who beats whom where there are several.

The score always comes first, as the paired gain over the default. Every further objective is a
*cost*: a positive number for which lower is better, read from what a rung took. A cost is told as
the log of its ratio to the default's at the same rung, so that it can be compared over rounds and
machines.

*Merits* are one number an objective, higher is better in each. One strategy dominates another
that it matches in all of them and exceeds in one; the front is whom nobody dominates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Merits = Sequence[Sequence[float]] | NDArray[np.float64]
"""``(trials, objectives)``, higher is better in each."""

SCORE = "score"
COSTS: Mapping[str, Callable[[Any, Any, Any], Any]] = {
    "adapt_seconds": lambda train_seconds, score_seconds, tasks: score_seconds / tasks,
}
"""Each cost by its name in a space file: how it is read from the seconds of training so far, the
seconds of scoring these tasks and their number; from numbers, or from columns of a frame."""

SHORTEST = 1e-9  # seconds: what a clock may call nothing has a logarithm, too


class Measured(Protocol):
    """What a rung took: a row of the records, or a result on its way there."""

    @property
    def train_seconds(self) -> float: ...

    @property
    def score_seconds(self) -> float: ...

    @property
    def tasks(self) -> Sequence[str]: ...


def cost(name: str, measured: Measured) -> float:
    """A cost in its own unit, such as seconds."""
    found = COSTS[name](measured.train_seconds, measured.score_seconds, len(measured.tasks))
    return float(max(found, SHORTEST))


def log_ratio(name: str, own: Measured, reference: Measured) -> float:
    """The log of a cost over the reference's: negative is cheaper, -0.69 is half."""
    return log(cost(name, own) / cost(name, reference))


def dominated_by(own: Sequence[float] | NDArray[np.float64], merits: Merits) -> int:
    """How many dominate one of ``(objectives,)`` merits; none, if it is on their front."""
    point = np.asarray(own, dtype=np.float64)[:, None]
    others = np.asarray(merits, dtype=np.float64).reshape(-1, len(own)).T
    return int(np.count_nonzero((others >= point).all(axis=0) & (others > point).any(axis=0)))


def dominators(merits: Merits) -> list[int]:
    """By how many others each is dominated."""
    points = np.asfortranarray(merits, dtype=np.float64)  # compared objective by objective
    return [dominated_by(own, points) for own in points]


def on_front(merits: Merits) -> NDArray[np.bool_]:
    """Who is dominated by nobody: where ``dominators`` has none; quicker for many.

    The best by the first merit, of these by the second and so on, is dominated by nobody. What it
    dominates goes, and so on with those that are left. What has no number in a merit, NaN, can
    neither dominate nor be dominated.
    """
    points = np.asfortranarray(merits, dtype=np.float64)
    front: NDArray[np.bool_] = np.asarray(np.isnan(points).any(axis=1))
    left = np.flatnonzero(~front)
    left = left[np.lexsort(-points[left].T[::-1])]
    while left.size:
        best = points[left[0]]
        front[left[0]] = True
        others = points[left]
        beaten = (best >= others).all(axis=1) & (best > others).any(axis=1)
        beaten[0] = True
        left = left[~beaten]
    return front


def spread_over_fronts(merits: Merits, count: int) -> list[int]:
    """Positions of so many, front by front: the first front, then that of the others, and so on.

    Of a front that does not fit whole those are taken that lie evenly over its order by the first
    merit: its best by score, its worst, which is the cheapest where there is one cost, and some
    between.

    Args:
        merits: of each trial.
        count: how many; all where there are fewer.

    Returns:
        Positions in ``merits``; within a front, the best by the first merit first.
    """
    chosen: list[int] = []
    left = sorted(range(len(merits)), key=lambda i: -merits[i][0])
    while left and len(chosen) < count:
        beaten = dominators([merits[i] for i in left])
        front = [i for i, by in zip(left, beaten, strict=True) if by == 0]
        left = [i for i in left if i not in front]
        room = min(count - len(chosen), len(front))
        chosen += [front[round(spot)] for spot in np.linspace(0, len(front) - 1, room)]
    return chosen
