"""Estimates of many strategies at once: what ``estimates`` says of one, without a loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metatune.statistics.estimates import MIN_GROUPS, Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Estimates:
    """Means with their confidence intervals, one an owner; see ``Estimate``.

    Attributes:
        mean, low, high: ``(owners,)``; NaN for those without values.
        units: ``(owners,)``: groups or tasks, as each one's claim has it.
    """

    mean: Floats
    low: Floats
    high: Floats
    units: Ints

    def __getitem__(self, owner: int) -> Estimate:
        mean, low, high = (float(each[owner]) for each in (self.mean, self.low, self.high))
        return Estimate(mean, low, high, int(self.units[owner]))


def estimate_each(
    values: ArrayLike, groups: ArrayLike, owners: ArrayLike, count: int, level: float = 0.95
) -> Estimates:
    """``estimate`` of the values of each owner, under the claim that its own groups can bear.

    Args:
        values: ``(N,)``, one a task of an owner.
        groups: ``(N,)``: number of the task's group, from 0.
        owners: ``(N,)``: whose it is, from 0.
        count: of owners.
        level: of the intervals.
    """
    value, owner = np.asarray(values, np.float64), np.asarray(owners, np.int64)
    group = np.asarray(groups, np.int64)
    group_mean, of_group = _means_by_group(value, group, owner)
    claims_groups = np.bincount(of_group, minlength=count) >= MIN_GROUPS
    as_groups, as_tasks = claims_groups[of_group], ~claims_groups[owner]
    unit = np.concatenate([group_mean[as_groups], value[as_tasks]])
    whose = np.concatenate([of_group[as_groups], owner[as_tasks]])
    return _intervals(unit, whose, count, level)


def _means_by_group(value: Floats, group: Ints, owner: Ints) -> tuple[Floats, Ints]:
    """The mean of each owner's values in each group, and whose it is."""
    key = owner * (group.max(initial=0) + 1) + group
    if np.any(key[1:] < key[:-1]):
        order = np.argsort(key, kind="stable")
        key, value, owner = key[order], value[order], owner[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])[: len(key)])
    if not len(starts):
        return value, owner
    sizes = np.diff(np.append(starts, len(key)))
    return np.add.reduceat(value, starts) / sizes, owner[starts]


def _intervals(unit: Floats, owner: Ints, count: int, level: float) -> Estimates:
    from scipy.special import stdtrit

    units = np.bincount(owner, minlength=count)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(owner, unit, count) / units
        squares = np.bincount(owner, (unit - mean[owner]) ** 2, count)
        reach = stdtrit(units - 1, (1 + level) / 2) * np.sqrt(squares / (units - 1) / units)
    reach[units == 1] = np.inf
    return Estimates(mean, mean - reach, mean + reach, units)
