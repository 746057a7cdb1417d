"""Means with their intervals, and the p value of no difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Claim = Literal["new groups", "new tasks"]
MIN_GROUPS = 6  # with fewer, an interval over groups says next to nothing
EXACT_FLIPS = 13  # units whose 2^13 sign flips are all looked at
RANDOM_FLIPS = 9_999  # drawn where there are more


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
    trainings: Sequence[Sequence[float]] = (),
) -> Estimate:
    """Mean and t interval of task values under a claim.

    The luck of a training's seed moves all tasks together, so the units do not show it. Where each
    strategy was trained several times, its variance is added, and the degrees of freedom are those
    of Welch (1947) and Satterthwaite (1946): a variance known from two trainings is hardly known.

    Args:
        values: one a task, each over all trainings.
        groups: group of each task.
        claim: what the unit is.
        level: of the interval.
        trainings: for each strategy that the values are of, the mean score of each of its
            trainings. One training alone shows no luck: the interval then speaks of that training.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("an estimate needs at least one value")
    units = unit_means(values, groups, claim)
    mean, count = float(units.mean()), len(units)
    if count == 1:
        return Estimate(mean, -inf, inf, 1)
    from scipy.special import stdtrit  # the t quantile; scipy.stats takes seconds to import

    samples = [units, *(np.asarray(scores, np.float64) for scores in trainings if len(scores) > 1)]
    errors = [float(sample.var(ddof=1)) / len(sample) for sample in samples]
    squares = sum(e**2 / (len(sample) - 1) for e, sample in zip(errors, samples, strict=True))
    freedom = sum(errors) ** 2 / squares if squares else count - 1
    reach = float(stdtrit(freedom, (1 + level) / 2)) * sqrt(sum(errors))
    return Estimate(mean, mean - reach, mean + reach, count)


def sign_flip_p(values: Sequence[float], groups: Sequence[str], claim: Claim) -> float:
    """Two-sided p value of a zero mean by flipping the signs of the units.

    Exact up to 2^13 flips, beyond that by 9,999 random ones (seeded; Phipson & Smyth 2010 for the
    one that is added).
    """
    units = unit_means(values, groups, claim)
    if len(units) < 2 or not units.any():
        return 1.0
    # What is equal but for rounding counts as equal.
    reached = abs(units.sum()) - 1e-12 * float(np.abs(units).sum())
    if len(units) <= EXACT_FLIPS:
        sums = units[:1]  # all flips come in pairs of opposites: the first sign may stay
        for unit in units[1:]:
            sums = np.concatenate([sums + unit, sums - unit])
        return float(np.mean(np.abs(sums) >= reached))
    rng, hits, rows = np.random.default_rng(0), 0, max(1, 2_000_000 // len(units))
    for start in range(0, RANDOM_FLIPS, rows):  # in portions, for the memory's sake
        shape = (min(rows, RANDOM_FLIPS - start), len(units))
        signs = rng.integers(0, 2, shape, dtype=np.int8) * 2 - 1
        hits += int(np.sum(np.abs(signs @ units) >= reached))
    return (hits + 1) / (RANDOM_FLIPS + 1)
