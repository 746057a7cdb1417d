"""Statistics: intervals by hand, and coverage as promised where tasks of a group are alike."""

from __future__ import annotations

from itertools import product
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metatune.statistics import (
    MIN_GROUPS,
    Claim,
    Estimate,
    claim_for,
    estimate,
    sign_flip_p,
    unit_means,
)

PROPERTY = settings(deadline=None, max_examples=60)
CLAIMS: list[Claim] = ["new groups", "new tasks"]
VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=15)


def one_each(values: list[float]) -> list[str]:
    """A group of its own for each value, in the order of their names."""
    return [f"{number:03d}" for number in range(len(values))]


# --- estimates ------------------------------------------------------------------------------------


@PROPERTY
@given(values=VALUES, level=st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_an_interval_over_tasks_is_students(values: list[float], level: float) -> None:
    found = estimate(values, one_each(values), "new tasks", level)
    mean, count = np.mean(values), len(values)
    error = np.std(values, ddof=1) / sqrt(count)
    assert found.mean == pytest.approx(mean)
    assert found.units == count
    if error > 1e-9:
        low, high = stats.t.interval(level, count - 1, loc=mean, scale=error)
        assert (found.low, found.high) == pytest.approx((low, high))


def test_an_interval_by_hand() -> None:
    found = estimate([1.0, 2.0, 3.0], ["a", "a", "a"], "new tasks")
    assert found.mean == 2.0
    # sd 1, standard error 1/sqrt 3, and t(0.975; 2) = 4.3027 from a printed table.
    assert found.high == pytest.approx(2 + 4.3027 / sqrt(3), rel=1e-4)
    assert found.low == pytest.approx(2 - 4.3027 / sqrt(3), rel=1e-4)


def test_the_claim_of_new_groups_averages_within_groups_first() -> None:
    values, groups = [0.0, 0.0, 0.0, 3.0, 6.0, 8.0], ["a", "a", "a", "b", "c", "c"]
    found = estimate(values, groups, "new groups")
    assert found == estimate([0.0, 3.0, 7.0], ["x", "y", "z"], "new tasks")
    assert found.units == 3
    assert found.mean == pytest.approx(10 / 3)
    assert estimate(values, groups, "new tasks").mean == pytest.approx(17 / 6)


@PROPERTY
@given(values=VALUES)
def test_groups_of_one_task_make_the_two_claims_one(values: list[float]) -> None:
    groups = one_each(values)
    assert estimate(values, groups, "new groups") == estimate(values, groups, "new tasks")


@PROPERTY
@given(
    pairs=st.lists(st.tuples(st.floats(-9, 9), st.sampled_from("abc")), min_size=2, max_size=12),
    data=st.data(),
)
def test_the_order_of_tasks_does_not_matter(
    pairs: list[tuple[float, str]], data: st.DataObject
) -> None:
    moved = data.draw(st.permutations(pairs))
    for claim in CLAIMS:
        one, other = (
            estimate([value for value, _ in some], [group for _, group in some], claim)
            for some in (pairs, moved)
        )
        assert other.mean == pytest.approx(one.mean, abs=1e-9)
        if one.units > 1:
            assert other.low == pytest.approx(one.low, abs=1e-6)


def test_units_are_in_the_order_of_group_names() -> None:
    values, groups = [1.0, 2.0, 3.0], ["b", "a", "b"]
    assert unit_means(values, groups, "new groups").tolist() == [2.0, 2.0]
    assert unit_means([5.0, 2.0, 3.0], groups, "new groups").tolist() == [2.0, 4.0]
    assert unit_means(values, groups, "new tasks").tolist() == values


def test_a_single_unit_has_no_interval() -> None:
    assert estimate([1.0, 3.0], ["a", "a"], "new groups") == Estimate(2.0, -inf, inf, 1)
    with pytest.raises(ValueError, match="at least one value"):
        estimate([], [], "new tasks")


def test_variance_from_elsewhere_widens_the_interval() -> None:
    values, groups = [1.0, 2.0, 3.0], ["a", "b", "c"]
    plain = estimate(values, groups, "new groups")
    wide = estimate(values, groups, "new groups", extra_variance=1 / 3)  # as much again
    assert wide.mean == plain.mean
    assert wide.high - wide.mean == pytest.approx(sqrt(2) * (plain.high - plain.mean))


@pytest.mark.parametrize("count", [1, MIN_GROUPS - 1, MIN_GROUPS, 30])
def test_few_groups_bear_a_claim_about_tasks_only(count: int) -> None:
    groups = [f"g{number % count}" for number in range(60)]
    assert claim_for(groups) == ("new groups" if count >= 6 else "new tasks")


# --- the sign-flip test ---------------------------------------------------------------------------


@PROPERTY
@given(values=st.lists(st.integers(-20, 20), min_size=2, max_size=9))
def test_small_cases_are_exact_by_enumeration(values: list[int]) -> None:
    flips = [
        abs(sum(sign * v for sign, v in zip(signs, values, strict=True)))
        for signs in product((1, -1), repeat=len(values))
    ]
    expected = sum(total >= abs(sum(values)) for total in flips) / len(flips)
    groups = [str(number) for number in range(len(values))]
    assert sign_flip_p(values, groups, "new tasks") == pytest.approx(min(1.0, expected))


def test_p_values_by_hand() -> None:
    groups = ["a", "b", "c", "d", "e", "f"]
    assert sign_flip_p([1.0] * 6, groups, "new groups") == pytest.approx(2 / 64)
    assert sign_flip_p([-1.0] * 6, groups, "new groups") == pytest.approx(2 / 64)
    assert sign_flip_p([1.0, -1.0], ["a", "b"], "new groups") == 1.0


def test_units_are_flipped_not_tasks() -> None:
    values, groups = [1.0, 2.0] * 6, [name for name in "abcdef" for _ in range(2)]
    assert sign_flip_p(values, groups, "new groups") == pytest.approx(2 / 2**6)
    assert sign_flip_p(values, groups, "new tasks") == pytest.approx(2 / 2**12)


def test_nothing_to_test_gives_one() -> None:
    assert sign_flip_p([0.0] * 8, one_each([0.0] * 8), "new tasks") == 1.0
    assert sign_flip_p([1.0, 2.0], ["a", "a"], "new groups") == 1.0


def test_many_units_are_tested_at_random_and_repeatably() -> None:
    values = np.random.default_rng(0).normal(0.25, 1, size=60).tolist()
    found = [sign_flip_p(values, one_each(values), "new tasks") for _ in range(2)]
    assert found[0] == found[1]
    t_test = float(stats.ttest_1samp(values, 0).pvalue)
    assert 0.001 < t_test < 0.02  # else the comparison would say little
    assert found[0] == pytest.approx(t_test, abs=0.005)


# --- coverage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [8, 20])
def test_intervals_over_groups_cover_as_they_say_and_those_over_tasks_do_not(count: int) -> None:
    """Tasks of a group share half of their variance; the truth is zero."""
    rng = np.random.default_rng(count)
    draws, each = 400, 10
    groups = [f"{number:02d}" for number in range(count) for _ in range(each)]
    covered = dict.fromkeys(CLAIMS, 0)
    for _ in range(draws):
        shared = np.repeat(rng.normal(size=count), each)
        values = (shared + rng.normal(size=count * each)).tolist()
        for claim in CLAIMS:
            interval = estimate(values, groups, claim)
            covered[claim] += interval.low <= 0 <= interval.high
    # 99.9 % bounds of a binomial of 400 at 0.95.
    low, high = stats.binom.interval(0.999, draws, 0.95)
    assert low <= covered["new groups"] <= high
    assert covered["new tasks"] < 0.8 * draws


def test_the_sign_flip_test_of_groups_holds_its_level() -> None:
    rng = np.random.default_rng(0)
    groups = [f"{number:02d}" for number in range(8) for _ in range(5)]
    rejected = 0
    for _ in range(200):
        shared = np.repeat(rng.normal(size=8), 5)
        values = (shared + rng.normal(size=40)).tolist()
        rejected += sign_flip_p(values, groups, "new groups") < 0.05
    assert rejected <= stats.binom.ppf(0.9995, 200, 0.05)
