"""Estimates with intervals, for two claims that are never mixed.

*New groups*: the unit is the group. Tasks are averaged within their group, groups with each other,
and the t interval has G - 1 degrees of freedom. *New tasks* of known groups: the unit is the task.
Task-level intervals used for the first claim cover far less than they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Claim = Literal["new groups", "new tasks"]
MIN_GROUPS = 6  # with fewer, an interval over groups says next to nothing


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval.

    Attributes:
        mean: over the units.
        low, high: ends of the interval; infinite with a single unit.
        units: groups or tasks, as the claim has it.
    """

    mean: float
    low: float
    high: float
    units: int


def claim_for(groups: Sequence[str]) -> Claim:
    """The claim that these tasks' groups can bear."""
    return "new groups" if len(set(groups)) >= MIN_GROUPS else "new tasks"


def unit_means(values: Sequence[float], groups: Sequence[str], claim: Claim) -> NDArray[np.float64]:
    """One number a unit: the mean of each group in the order of their names, or the values."""
    array = np.asarray(values, dtype=np.float64)
    if claim == "new tasks":
        return array
    names = np.asarray(groups)
    return np.array([array[names == group].mean() for group in sorted(set(groups))])


def estimate(
    values: Sequence[float],
    groups: Sequence[str],
    claim: Claim,
    level: float = 0.95,
    extra_variance: float = 0.0,
) -> Estimate:
    """Mean and t interval of task values under a claim.

    Args:
        values: one a task.
        groups: group of each task.
        claim: what the unit is.
        level: of the interval.
        extra_variance: of the mean, from what the units do not show, such as training seeds.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("an estimate needs at least one value")
    units = unit_means(values, groups, claim)
    mean, count = float(units.mean()), len(units)
    if count == 1:
        return Estimate(mean, -np.inf, np.inf, 1)
    from scipy.special import stdtrit  # the t quantile; scipy.stats takes seconds to import

    error = sqrt(float(units.var(ddof=1)) / count + extra_variance)
    reach = float(stdtrit(count - 1, (1 + level) / 2)) * error
    return Estimate(mean, mean - reach, mean + reach, count)


def sign_flip_p(values: Sequence[float], groups: Sequence[str], claim: Claim) -> float:
    """Two-sided p value of a zero mean by flipping the signs of the units.

    Exact up to 2^13 flips, beyond that by 9,999 random ones (seeded).
    """
    from scipy import stats

    units = unit_means(values, groups, claim)
    if len(units) < 2 or not units.any():
        return 1.0

    def mean(x: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.asarray(x.mean(axis=axis))

    test = stats.permutation_test(
        (units,), mean, permutation_type="samples", n_resamples=9_999, rng=0
    )
    return float(test.pvalue)
