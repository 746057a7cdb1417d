"""Statistics: intervals by hand, and coverage as promised where tasks of a group are alike."""

from __future__ import annotations

from itertools import product
from math import inf, isinf, sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats

from metatune.statistics import (
    MIN_GROUPS,
    Claim,
    Estimate,
    claim_for,
    confidence_sequence,
    estimate,
    holm,
    mean_ranks,
    probability_of_improvement,
    share_worse,
    sign_flip_p,
    unit_means,
)
from metatune.statistics.sequences import anytime_t

PROPERTY = settings(max_examples=60)
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


def test_trainings_that_differ_widen_the_interval_by_hand() -> None:
    values, groups = [1.0, 2.0, 3.0], ["a", "b", "c"]
    found = estimate(values, groups, "new tasks", trainings=[[1.0, 3.0], [2.0, 2.0, 2.0]])
    # Of the mean: 1/3 from three units, 2/2 from the first's two trainings, 0 from the second's.
    freedom = (1 / 3 + 1) ** 2 / ((1 / 3) ** 2 / 2 + 1**2 / 1)
    assert found.mean == 2.0
    assert found.high - 2 == pytest.approx(stats.t.ppf(0.975, freedom) * sqrt(4 / 3))
    assert found.low == pytest.approx(4 - found.high)


@PROPERTY
@given(a=VALUES, b=VALUES)
def test_a_difference_of_two_samples_is_welchs(a: list[float], b: list[float]) -> None:
    """Units of one sample and trainings of another: the interval of Welch's unequal variances."""
    if min(np.std(a), np.std(b)) > 1e-6:
        found = estimate(a, one_each(a), "new tasks", trainings=[b])
        welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
        assert found.high - found.low == pytest.approx(welch.high - welch.low)


@pytest.mark.parametrize("trainings", [[], [[0.5], [0.7]], [[0.5, 0.5], [0.1, 0.1, 0.1]]])
def test_trainings_that_show_no_luck_change_nothing(trainings: list[list[float]]) -> None:
    values, groups = [1.0, 2.0, 4.0], ["a", "b", "c"]
    plain = estimate(values, groups, "new tasks")
    assert estimate(values, groups, "new tasks", trainings=trainings) == plain


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


@PROPERTY
@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=13))
def test_up_to_thirteen_units_the_p_value_is_scipys(values: list[float]) -> None:
    def mean(x: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.asarray(x.mean(axis=axis))

    kept = [round(value, 3) for value in values]  # ties are exact, or none
    if any(kept):
        test = stats.permutation_test((kept,), mean, permutation_type="samples")
        found = sign_flip_p(kept, one_each(kept), "new tasks")
        assert found == pytest.approx(test.pvalue, abs=2 / 2 ** len(kept))


@PROPERTY
@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_neither_scale_nor_sign_changes_a_p_value(values: list[float]) -> None:
    groups = one_each(values)
    turned = [-2 * value for value in values]
    first, second = (sign_flip_p(v, groups, "new tasks") for v in (values, turned))
    assert 0 < first == second <= 1


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


@pytest.mark.parametrize("count", [2, 3])
def test_the_luck_of_seeds_is_covered_where_it_outweighs_the_groups(count: int) -> None:
    """Few trainings, whose seeds matter four times as much as which groups were drawn."""
    rng = np.random.default_rng(count)
    groups, draws, covered = [f"{number:02d}" for number in range(24)], 1000, 0
    for _ in range(draws):
        trainings = rng.normal(0, sqrt(2 * count / 24), (2, count))
        shift = trainings[0].mean() - trainings[1].mean()
        values = rng.normal(shift, 1, 24).tolist()
        found = estimate(values, groups, "new groups", trainings=trainings.tolist())
        covered += found.low <= 0 <= found.high
    assert covered >= stats.binom.ppf(0.0005, draws, 0.95)


# --- intervals that hold at every look ------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize(("count", "freedom"), [(9, 8), (60, 59), (24, 12.5)])
def test_the_anytime_t_is_where_the_mixed_likelihood_ratio_is_one_over_alpha(
    count: int, freedom: float, alpha: float
) -> None:
    """By numerical integration over effects drawn from N(0, 1), as the paper has it."""
    t = anytime_t(count, freedom, alpha)

    def density(effect: float) -> float:
        return float(stats.nct.pdf(t, freedom, effect * sqrt(count)) * stats.norm.pdf(effect))

    mixed, _ = integrate.quad(density, -8, 8, points=[t / sqrt(count)], limit=200)
    assert mixed / stats.t.pdf(t, freedom) == pytest.approx(1 / alpha, rel=1e-4)


@PROPERTY
@given(
    count=st.integers(2, 500),
    freedom=st.floats(1, 499),
    less=st.floats(0.1, 1),
    alpha=st.floats(1e-5, 0.3),
)
def test_fewer_degrees_of_freedom_or_a_smaller_alpha_reach_no_less_far(
    count: int, freedom: float, less: float, alpha: float
) -> None:
    plain = anytime_t(count, min(freedom, count - 1), alpha)
    assert anytime_t(count, less * min(freedom, count - 1), alpha) >= plain
    assert anytime_t(count, min(freedom, count - 1), less * alpha) >= plain


@pytest.mark.parametrize(("alpha", "first"), [(0.2, 4), (0.05, 5), (0.05 / 31, 8)])
def test_the_first_few_units_bound_nothing(alpha: float, first: int) -> None:
    values = [0.0, 1.0] * 10
    for count in range(1, 21):
        found = confidence_sequence(values[:count], alpha)
        assert isinf(found.high) == isinf(found.low) == (count < first)
        assert found.units == count


def test_strata_tell_more_in_fewer_rounds_but_never_in_one() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 0.0, 1.0] * 3
    assert isinf(confidence_sequence(values[:6], strata=6).high)
    assert not isinf(confidence_sequence([*values[:6], *values[2:8]], strata=6).high)


@pytest.mark.parametrize("strata", [1, 3])
def test_units_that_are_all_alike_bound_nothing(strata: int) -> None:
    assert confidence_sequence([-0.25] * 30, 0.05, strata) == Estimate(-0.25, -inf, inf, 30)
    but_for_rounding = [0.1 + 0.2, 0.3] * 15
    assert isinf(confidence_sequence(but_for_rounding, 0.05, strata).high)


@pytest.mark.parametrize(
    ("values", "alpha", "strata"),
    [([], 0.05, 1), ([1.0, 2.0], 0.0, 1), ([1.0, 2.0], 1.0, 1), ([1.0, 2.0, 3.0], 0.05, 2)],
)
def test_nonsense_is_refused(values: list[float], alpha: float, strata: int) -> None:
    with pytest.raises(ValueError, match="whole rounds are needed, and alpha between 0 and 1"):
        confidence_sequence(values, alpha, strata)


LOOKS = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=6, max_size=30)
ALPHAS = st.sampled_from([0.2, 0.05, 0.001])


@PROPERTY
@given(values=LOOKS, alpha=ALPHAS)
def test_an_interval_for_every_look_contains_the_one_for_a_single_look(
    values: list[float], alpha: float
) -> None:
    found = confidence_sequence(values, alpha)
    single = estimate(values, one_each(values), "new tasks", 1 - alpha)
    assert found.mean == pytest.approx(single.mean)
    assert found.low <= single.low + 1e-9
    assert found.high >= single.high - 1e-9


@PROPERTY
@given(values=LOOKS, alpha=ALPHAS, strata=st.sampled_from([1, 2, 3]))
def test_it_contains_the_exact_interval_of_normal_units(
    values: list[float], alpha: float, strata: int
) -> None:
    values = values[: len(values) // strata * strata]
    units = np.reshape(values, (-1, strata))
    noise = float(units.var(axis=0, ddof=1).mean())  # pooled, as if strata were equally noisy
    assume(noise > 0)  # of none there is no interval
    reach = anytime_t(len(values), len(values) - strata, alpha) * sqrt(noise / len(values))
    found = confidence_sequence(values, alpha, strata)
    assert found.low <= found.mean - reach
    assert found.high >= found.mean + reach


@PROPERTY
@given(values=LOOKS, levels=st.tuples(st.integers(-50, 50), st.integers(-50, 50)))
def test_levels_of_strata_move_it_and_leave_its_width(
    values: list[float], levels: tuple[int, int]
) -> None:
    values = values[: len(values) // 2 * 2]
    moved = [value + levels[number % 2] for number, value in enumerate(values)]
    before, after = (confidence_sequence(v, strata=2) for v in (values, moved))
    assert after.mean == pytest.approx(before.mean + sum(levels) / 2)
    if not isinf(before.high):
        assert after.high - after.low == pytest.approx(before.high - before.low, rel=1e-4)


@PROPERTY
@given(values=LOOKS, scale=st.sampled_from([-3.0, 0.5]), shift=st.integers(-5, 5))
def test_it_moves_and_stretches_with_its_units(
    values: list[float], scale: float, shift: int
) -> None:
    found = confidence_sequence(values)
    ends = [scale * end + shift for end in (found.low, found.high)]
    moved = confidence_sequence([scale * value + shift for value in values])
    assert [moved.low, moved.high] == pytest.approx(sorted(ends), abs=1e-6)


def test_it_narrows_on_the_mean_as_units_come_in() -> None:
    values = np.random.default_rng(0).normal(1, 1, 2000).tolist()
    widths = []
    for count in (10, 50, 200, 2000):
        found = confidence_sequence(values[:count])
        assert found.low < 1 < found.high
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.2


def test_a_long_tail_on_one_side_moves_the_end_of_that_side_more() -> None:
    found = confidence_sequence([0.0, 0.1, 0.0, 0.2, 0.0, 0.1, 3.0, 0.0, 0.1, 0.2])
    assert found.high - found.mean > 2 * (found.mean - found.low)


def test_where_one_stratum_has_all_the_noise_only_its_own_rounds_count() -> None:
    noisy = [1.0, -1.0, 0.5, -0.5]
    for rounds in (2, 4):
        mixed = [value for own in noisy[:rounds] for value in (own, *[0.0] * 7)]
        assert isinf(confidence_sequence(mixed, 0.05 / 31, strata=8).high)
    even = np.random.default_rng(0).normal(size=32).tolist()
    assert not isinf(confidence_sequence(even, 0.05 / 31, strata=8).high)


UNITS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "log-normal": lambda rng, shape: rng.lognormal(size=shape) - np.exp(0.5),
    "t3": lambda rng, shape: rng.standard_t(3, size=shape),
    "uneven": lambda rng, shape: rng.normal(size=shape) * ([1, *[0.05] * 5] * (shape[1] // 6)),
}


@pytest.mark.parametrize("strata", [1, 6])
@pytest.mark.parametrize("name", UNITS)
def test_its_error_over_all_looks_stays_below_alpha(name: str, strata: int) -> None:
    """The first 60 units; ``benchmarks/honesty.py`` measures more, and closer."""
    draws, alpha, wrong = 150, 0.05, 0
    for units in UNITS[name](np.random.default_rng(1), (draws, 60)).tolist():
        looks = range(6, 61, 6)
        found = (confidence_sequence(units[:count], alpha, strata) for count in looks)
        wrong += any(not look.low <= 0 <= look.high for look in found)
    assert wrong <= alpha * draws


# --- many tests, shares, ranks --------------------------------------------------------------------


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            holm([0.5, wrong])


P_VALUES = st.lists(st.floats(0, 1), max_size=12)


@PROPERTY
@given(p=P_VALUES)
def test_holm_lies_between_the_plain_values_and_bonferronis_and_keeps_their_order(
    p: list[float],
) -> None:
    adjusted = holm(p)
    for plain, found in zip(p, adjusted, strict=True):
        assert plain <= found <= min(1, len(p) * plain) + 1e-12
    pairs = sorted(zip(p, adjusted, strict=True))
    assert [found for _, found in pairs] == sorted(adjusted)


@PROPERTY
@given(p=P_VALUES, alpha=st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_step_by_step_as_the_paper_has_it(p: list[float], alpha: float) -> None:
    rejected = 0
    for step, value in enumerate(sorted(p)):
        if value > alpha / (len(p) - step):
            break
        rejected += 1
    near = any(abs(found - alpha) < 1e-9 for found in holm(p))
    assert near or sum(found <= alpha for found in holm(p)) == rejected


def test_the_probability_of_improvement_counts_units_and_halves_ties() -> None:
    values, groups = [3.0, -1.0, -1.0, 0.5, -0.5, 2.0], ["a", "a", "b", "c", "c", "d"]
    assert probability_of_improvement(values, groups, "new groups") == 2.5 / 4
    assert probability_of_improvement(values, groups, "new tasks") == 3 / 6
    assert probability_of_improvement([0.0, 0.0], ["a", "b"], "new tasks") == 0.5
    with pytest.raises(ValueError, match="at least one value"):
        probability_of_improvement([], [], "new tasks")


def test_what_is_zero_but_for_rounding_is_a_tie() -> None:
    values = [0.1, 0.2, -0.3, 1.0]
    assert sum(values[:3]) != 0
    assert probability_of_improvement(values, ["a", "a", "a", "b"], "new groups") == 0.75


@PROPERTY
@given(values=st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12))
def test_improvements_of_the_one_are_losses_of_the_other(values: list[float]) -> None:
    groups, turned = one_each(values), [-value for value in values]
    one, other = (probability_of_improvement(v, groups, "new tasks") for v in (values, turned))
    assert one + other == pytest.approx(1)
    ties = values.count(0) / len(values)
    assert one == pytest.approx(share_worse(turned) + ties / 2)


def test_the_share_made_worse_counts_tasks_and_no_ties() -> None:
    assert share_worse([0.0, -0.1, 0.2, -0.3]) == 0.5
    with pytest.raises(ValueError, match="at least one value"):
        share_worse([])


def test_mean_ranks_by_hand() -> None:
    groups = ["a", "a", "b"]
    scores = {"x": [0.9, 0.7, 0.5], "y": [0.6, 0.6, 0.5], "z": [0.7, 0.9, 0.1]}
    # By group, x and z tie on a: 1.5, 3, 1.5; x and y tie on b: 1.5, 1.5, 3.
    assert mean_ranks(scores, groups, "new groups", 1) == {"x": 1.5, "y": 2.25, "z": 2.25}
    by_task = mean_ranks(scores, groups, "new tasks", 1)
    assert by_task == pytest.approx({"x": 4.5 / 3, "y": 7.5 / 3, "z": 2.0})
    assert mean_ranks({}, groups, "new groups", 1) == {}


def test_where_lower_is_better_ranks_turn_around() -> None:
    scores = {"x": [0.1, 0.2], "y": [0.3, 0.4]}
    assert mean_ranks(scores, ["a", "b"], "new tasks", -1) == {"x": 1.0, "y": 2.0}
    assert mean_ranks(scores, ["a", "b"], "new tasks", 1) == {"x": 2.0, "y": 1.0}


@PROPERTY
@given(data=st.data(), strategies=st.integers(1, 6), tasks=st.integers(1, 8))
def test_mean_ranks_average_to_the_middle(data: st.DataObject, strategies: int, tasks: int) -> None:
    own = st.lists(st.integers(0, 4).map(float), min_size=tasks, max_size=tasks)
    scores = {f"s{number}": data.draw(own) for number in range(strategies)}
    ranks = mean_ranks(scores, [f"g{task % 3}" for task in range(tasks)], "new groups", 1)
    assert np.mean(list(ranks.values())) == pytest.approx((strategies + 1) / 2)
    assert all(1 <= rank <= strategies for rank in ranks.values())


def test_who_was_scored_on_other_tasks_cannot_be_ranked() -> None:
    with pytest.raises(ValueError, match=r"one score for each of 2 tasks, found \{'y': 1\}"):
        mean_ranks({"x": [1.0, 2.0], "y": [1.0]}, ["a", "b"], "new tasks", 1)
