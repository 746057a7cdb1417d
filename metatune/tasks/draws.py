"""Random draws for many tasks at once: each follows from its task's own seed, whatever is beside.

numpy's generators take some ten microseconds to start, once a task; here a draw is a hash of
(seed, what for, number), for all tasks in one array operation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Seeds = NDArray[np.uint64]
Whole = NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NONE = np.iinfo(np.int64).max
_LOW = 24  # bits for numbers of rows or draws beside what they are sorted by
DENSE = 4  # a task with up to so many times the rows that are drawn has all of them shuffled


def hashed(seeds: Seeds, purpose: int, numbers: NDArray[np.uint64] | None = None) -> Seeds:
    """64 random bits for each seed ``(T,)``, or for each seed and number ``(T, N)``.

    The mix is splitmix64's (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
    generators").
    """
    # Arrays wrap around; numpy warns of single numbers that do.
    mixed = _mix(_mix(seeds) + np.array([purpose], np.uint64) * _GOLDEN)
    if numbers is None:
        return mixed
    return _mix(mixed[:, None] + (numbers + np.uint64(1)) * _GOLDEN)


def _mix(z: Seeds) -> Seeds:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def below(seeds: Seeds, purpose: int, limits: Whole | int) -> Whole:
    """A whole number in [0, limit) for each seed, ``(T,)``."""
    return (hashed(seeds, purpose) % np.asarray(limits, np.uint64)).astype(np.int64)


def without_replacement(seeds: Seeds, purpose: int, sizes: Whole, count: int) -> Whole:
    """``(T, count)``: for each seed so many distinct numbers in [0, size), in random order.

    Where the size is below ``count`` all numbers come, and then -1.

    Args:
        seeds: ``(T,)``.
        purpose: tells this draw from others of the same seed.
        sizes: ``(T,)``, each below 2^38.
        count: how many.
    """
    drawn = np.empty((len(seeds), count), np.int64)
    dense = sizes <= DENSE * count
    if dense.any():
        drawn[dense] = _shuffled(seeds[dense], purpose, sizes[dense], count)
    if not dense.all():
        drawn[~dense] = _first_distinct(seeds[~dense], purpose, sizes[~dense], count)
    return drawn


def _shuffled(seeds: Seeds, purpose: int, sizes: Whole, count: int) -> Whole:
    """All numbers below the size in the order of their hashes, cut after ``count``."""
    numbers = np.arange(max(count, int(sizes.max(initial=0))))
    order = (hashed(seeds, purpose, numbers.astype(np.uint64)) >> np.uint64(1)).view(np.int64)
    order = (order >> _LOW << _LOW) + numbers
    order[numbers >= sizes[:, None]] = _NONE
    order.sort(axis=1)
    first = order[:, :count]
    drawn: Whole = first & ((1 << _LOW) - 1)
    if (sizes < count).any():
        drawn[first == _NONE] = -1
    return drawn


def _first_distinct(seeds: Seeds, purpose: int, sizes: Whole, count: int) -> Whole:
    """The first ``count`` distinct numbers of each seed's endless stream of draws."""
    draws = 2 * count + 8
    while True:
        numbers = np.arange(draws)
        stream = (
            hashed(seeds, purpose, numbers.astype(np.uint64)) % sizes.astype(np.uint64)[:, None]
        )
        by_value = (stream.astype(np.int64) << _LOW) + numbers
        by_value.sort(axis=1)
        value, number = by_value >> _LOW, by_value & ((1 << _LOW) - 1)
        by_number = (number << (62 - _LOW)) + value
        by_number[:, 1:][value[:, 1:] == value[:, :-1]] = _NONE  # drawn before
        by_number.sort(axis=1)
        if (by_number[:, count - 1] < _NONE).all():
            return by_number[:, :count] & ((1 << (62 - _LOW)) - 1)
        draws *= 2  # the stream goes on: what was drawn stays
