"""What is said of many tests, or of many strategies on the same tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from metatune.statistics.estimates import Claim, unit_means


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p values adjusted for their number, in the order given (Holm 1979).

    Whoever rejects where the adjusted value is at most alpha errs in any of the tests with
    probability at most alpha, however the tests depend on each other.

    Raises:
        ValueError: one is not between 0 and 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values lie between 0 and 1, not {list(p_values)}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return tuple(adjusted.tolist())


def probability_of_improvement(
    values: Sequence[float], groups: Sequence[str], claim: Claim
) -> float:
    """Share of units with a positive paired difference, ties half (Agarwal et al. 2021).

    Args:
        values: paired difference of each task, positive where the first strategy is better.
        groups: group of each task.
        claim: what the unit is.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("a share needs at least one value")
    units = _without_rounding(unit_means(values, groups, claim))
    return float(np.mean((1 + np.sign(units)) / 2))


def share_worse(values: Sequence[float]) -> float:
    """Share of tasks that are made worse: those with a negative paired difference.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("a share needs at least one value")
    return float(np.mean(np.asarray(values) < 0))


def mean_ranks(
    scores: Mapping[str, Sequence[float]], groups: Sequence[str], claim: Claim, sign: int
) -> dict[str, float]:
    """Mean rank over the units of strategies that were scored on the same tasks.

    Args:
        scores: of each strategy, one a task.
        groups: group of each task.
        claim: what the unit is.
        sign: +1 where a higher score is better, -1 where a lower one is.

    Returns:
        By strategy: from 1, always best, to the number of strategies; those that tie share the
        mean of their ranks.

    Raises:
        ValueError: a strategy has not one score a task.
    """
    if not scores:
        return {}
    if counts := {name: len(own) for name, own in scores.items() if len(own) != len(groups)}:
        raise ValueError(f"ranks need one score for each of {len(groups)} tasks, found {counts}")
    from scipy.stats import rankdata

    units = np.stack([unit_means(own, groups, claim) for own in scores.values()])
    ranks = rankdata(-sign * _without_rounding(units), axis=0)
    return dict(zip(scores, ranks.mean(axis=1).tolist(), strict=True))


def _without_rounding(units: NDArray[np.float64]) -> NDArray[np.float64]:
    """In steps of 1e-12 of the largest: means of tied groups differ by their rounding."""
    largest = float(np.abs(units).max())
    return np.round(units / largest, 12) if largest else units
