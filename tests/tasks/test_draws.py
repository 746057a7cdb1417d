"""Draws: distinct, even, and each task's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.tasks.draws import DENSE, below, hashed, without_replacement

SEEDS = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=8)


def seeds(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint64)


@given(given_seeds=SEEDS, count=st.integers(1, 40), data=st.data())
def test_numbers_are_distinct_within_range_and_follow_from_the_own_seed(given_seeds, count, data):
    own = np.array(given_seeds, np.uint64)
    limit = st.integers(count, 12 * count) | st.integers(10**6, 2**37)
    sizes = np.array(data.draw(st.lists(limit, min_size=len(own), max_size=len(own))))
    drawn = without_replacement(own, 3, sizes, count)
    assert drawn.shape == (len(own), count)
    assert ((drawn >= 0) & (drawn < sizes[:, None])).all()
    assert all(len(set(row)) == count for row in drawn.tolist())
    for place in range(len(own)):
        alone = without_replacement(own[[place]], 3, sizes[[place]], count)
        np.testing.assert_array_equal(alone[0], drawn[place])


@pytest.mark.parametrize("size", [6, 5 * DENSE, 5 * DENSE + 1, 100])
def test_every_number_is_drawn_equally_often_at_every_place(size):
    drawn = without_replacement(seeds(20_000), 1, np.full(20_000, size), 5)
    for place in range(5):
        counts = np.bincount(drawn[:, place], minlength=size)
        # A chi-squared test at one in a million, by its normal approximation.
        expected = 20_000 / size
        chi = ((counts - expected) ** 2 / expected).sum()
        assert chi < size - 1 + 5 * np.sqrt(2 * (size - 1)) + 12


def test_pairs_are_even_too():
    drawn = without_replacement(seeds(30_000), 1, np.full(30_000, 5), 2)
    counts = np.bincount(drawn[:, 0] * 5 + drawn[:, 1], minlength=25).reshape(5, 5)
    assert (np.diag(counts) == 0).all()
    others = counts[~np.eye(5, dtype=bool)]
    assert abs(others - 1500).max() < 5 * np.sqrt(1500)


def test_a_task_that_is_drawn_whole_is_shuffled_whole():
    drawn = without_replacement(seeds(50), 1, np.full(50, 7), 7)
    assert {tuple(sorted(row)) for row in drawn.tolist()} == {tuple(range(7))}
    assert len({tuple(row) for row in drawn.tolist()}) > 40


@given(given_seeds=SEEDS, count=st.integers(1, 40), data=st.data())
def test_of_fewer_numbers_than_are_asked_for_all_come_and_then_none(given_seeds, count, data):
    own = np.array(given_seeds, np.uint64)
    sizes = np.array(data.draw(st.lists(st.integers(1, 60), min_size=len(own), max_size=len(own))))
    drawn = without_replacement(own, 3, sizes, count)
    for place, size in enumerate(sizes.tolist()):
        whole = without_replacement(own[[place]], 3, sizes[[place]], min(size, count))
        np.testing.assert_array_equal(drawn[place, :size], whole[0])
        assert (drawn[place, size:] == -1).all()


def test_purposes_and_neighbouring_seeds_are_apart():
    own = seeds(1000)
    assert len(set(hashed(own, 1).tolist()) | set(hashed(own, 2).tolist())) == 2000
    a, b = below(own, 1, 1000), below(own, 2, 1000)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.15
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 0.15
    np.testing.assert_array_less(below(own, 1, np.full(1000, 3)), 3)


def test_the_numbers_stay_what_they_are():
    """A change of the rule is a change of every task: of results that were published."""
    own = np.array([0, 2**63 - 1], np.uint64)
    assert without_replacement(own, 3, np.array([9, 999]), 4).tolist() == PINNED


PINNED = [[4, 8, 6, 3], [527, 881, 103, 82]]
