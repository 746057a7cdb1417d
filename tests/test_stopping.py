"""Stopping: successive halving over rung scores, with some always let through; races over tasks."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.statistics import confidence_sequence
from metatune.stopping import Standing, why_behind, why_stop

PROPERTY = settings(deadline=None, max_examples=50)


def standings(*scores: float, structure: str = "a", passed: bool = True) -> dict[str, Standing]:
    """Trials t0, t1, .. that have passed; t0 has not."""
    return {
        f"t{number}": Standing(score, structure, passed and number > 0)
        for number, score in enumerate(scores)
    }


SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=20)


@PROPERTY
@given(scores=SCORES, reduction=st.integers(2, 5))
def test_who_ranks_within_the_places_goes_on_and_no_one_else(
    scores: list[float], reduction: int
) -> None:
    table = standings(*scores)
    better = sum(score > scores[0] for score in scores)
    places = max(1, len(scores) // reduction)
    goes_on = why_stop("t0", table, reduction, protected=False, first_rung=True) is None
    assert goes_on == (better < places or len(scores) == 1)


@PROPERTY
@given(scores=SCORES, reduction=st.integers(2, 5), more=st.integers(1, 5))
def test_a_higher_score_never_stops_who_a_lower_one_let_through(
    scores: list[float], reduction: int, more: int
) -> None:
    if why_stop("t0", standings(*scores), reduction, protected=False, first_rung=True) is None:
        raised = standings(scores[0] + more, *scores[1:])
        assert why_stop("t0", raised, reduction, protected=False, first_rung=True) is None


@PROPERTY
@given(scores=SCORES, reduction=st.integers(2, 5))
def test_the_best_goes_on(scores: list[float], reduction: int) -> None:
    table = standings(max(scores), *scores)
    assert why_stop("t0", table, reduction, protected=False, first_rung=True) is None


def test_the_reason_names_rank_field_and_places() -> None:
    table = standings(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert (
        why_stop("t0", table, 3, protected=False, first_rung=True)
        == "ranked 6 of 6 at its rung, 2 went on"
    )


def test_equal_scores_share_the_better_rank() -> None:
    assert (
        why_stop("t0", standings(1.0, 1.0, 1.0, 2.0, 0.0, 0.0), 3, protected=False, first_rung=True)
        is None
    )


POINTS = st.lists(
    st.tuples(st.integers(-3, 3).map(float), st.integers(1, 4).map(float)), min_size=1, max_size=15
)


def with_costs(points: list[tuple[float, float]]) -> dict[str, Standing]:
    """As ``standings``, of scores with one cost each."""
    return {
        f"t{number}": Standing(score, "a", number > 0, (cost,))
        for number, (score, cost) in enumerate(points)
    }


@PROPERTY
@given(points=POINTS, reduction=st.integers(2, 5))
def test_with_costs_it_counts_who_is_no_worse_in_anything_and_better_in_something(
    points: list[tuple[float, float]], reduction: int
) -> None:
    own_score, own_cost = points[0]
    beaten_by = sum(
        score >= own_score and cost <= own_cost and (score, cost) != points[0]
        for score, cost in points
    )
    goes_on = (
        why_stop("t0", with_costs(points), reduction, protected=False, first_rung=True) is None
    )
    assert goes_on == (beaten_by < max(1, len(points) // reduction) or len(points) == 1)


def test_who_is_worse_but_cheaper_than_all_others_goes_on() -> None:
    points = [(0.0, 1.0), (5.0, 2.0), (6.0, 3.0), (7.0, 4.0)]
    assert why_stop("t0", with_costs(points), 3, protected=False, first_rung=True) is None
    dearer = [(0.0, 2.0), *points[1:]]
    reason = why_stop("t0", with_costs(dearer), 3, protected=False, first_rung=True)
    assert reason == "ranked 2 of 4 at its rung, 1 went on"
    assert why_stop(
        "t0", standings(*(score for score, _ in points)), 3, protected=False, first_rung=True
    )


def test_who_is_protected_goes_on_whatever_it_scores() -> None:
    table = standings(-100.0, 1.0, 2.0, 3.0)
    assert why_stop("t0", table, 3, protected=True, first_rung=True) is None
    assert why_stop("t0", table, 3, protected=False, first_rung=True) is not None


def test_the_first_of_a_structure_goes_on_and_the_second_is_compared() -> None:
    table = standings(0.0, 5.0, 6.0, 7.0) | {"new": Standing(-1.0, "b", False)}
    assert why_stop("new", table, 3, protected=False, first_rung=True) is None
    table["before"] = Standing(-2.0, "b", True)
    assert why_stop("new", table, 3, protected=False, first_rung=True) is not None


def test_one_of_a_structure_that_did_not_pass_does_not_count() -> None:
    table = standings(0.0, 5.0, 6.0, 7.0)
    table |= {"new": Standing(-1.0, "b", False), "before": Standing(-2.0, "b", False)}
    assert why_stop("new", table, 3, protected=False, first_rung=True) is None


def test_beyond_the_first_rung_a_structure_is_compared_as_any_other() -> None:
    table = standings(0.0, 5.0, 6.0, 7.0) | {"new": Standing(-1.0, "b", False)}
    assert why_stop("new", table, 3, protected=False, first_rung=False) is not None
    assert why_stop("t3", table, 3, protected=False, first_rung=False) is None


def test_whether_it_passed_itself_does_not_matter() -> None:
    table = {"new": Standing(-1.0, "b", True), "best": Standing(1.0, "a", True)}
    assert why_stop("new", table, 3, protected=False, first_rung=True) is None


def test_a_trial_that_is_not_in_the_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        why_stop("t9", standings(1.0), 3, protected=False, first_rung=True)


# --- a race over tasks ----------------------------------------------------------------------------

BLOCK = 6


def run(blocks: int, ahead: float = 0.0, seed: int = 0) -> list[float]:
    """Scores of so many blocks, with a mean of ``ahead`` and a standard deviation of 1."""
    return np.random.default_rng(seed).normal(ahead, 1, blocks * BLOCK).tolist()


def test_the_reason_names_distance_bound_and_blocks() -> None:
    own, leader = [0.0] * 20, [1.0, 1.2, 1.3, 0.9] * 5
    high = confidence_sequence([-score for score in leader], 0.05 / 2, strata=2).high
    assert high < 0
    assert why_behind(own, leader, 2, 0.05, rivals=2) == (
        f"behind the leader by 1.1 (by at least {-high:.3g} with 95 % at every look) "
        "after 10 blocks"
    )


def test_who_is_clearly_behind_leaves_within_a_dozen_blocks() -> None:
    assert why_behind(run(12, -2.0), run(12, seed=1), BLOCK, 0.05, rivals=8) is not None


def test_who_is_ahead_or_level_goes_on() -> None:
    for ahead in (0.0, 2.0):
        assert why_behind(run(30, ahead), run(30, seed=1), BLOCK, 0.05, rivals=1) is None


def test_the_leader_itself_goes_on() -> None:
    assert why_behind(run(30), run(30), BLOCK, 0.05, rivals=1) is None


@PROPERTY
@given(behind=st.floats(0, 4), blocks=st.integers(1, 20), seed=st.integers(0, 99))
def test_of_two_never_both_are_stopped(behind: float, blocks: int, seed: int) -> None:
    one, other = run(blocks, -behind, seed), run(blocks, 0.0, seed + 100)
    reasons = [why_behind(a, b, BLOCK, 0.05, 1) for a, b in ((one, other), (other, one))]
    assert None in reasons


@PROPERTY
@given(behind=st.floats(0, 4), seed=st.integers(0, 99), more=st.floats(0, 2))
def test_who_goes_on_also_does_with_better_scores_more_rivals_or_a_smaller_alpha(
    behind: float, seed: int, more: float
) -> None:
    own, leader = run(10, -behind, seed), run(10, 0.0, seed + 100)
    if why_behind(own, leader, BLOCK, 0.05, rivals=3) is None:
        better = [score + more for score in own]
        assert why_behind(better, leader, BLOCK, 0.05, rivals=3) is None
        assert why_behind(own, leader, BLOCK, 0.05, rivals=30) is None
        assert why_behind(own, leader, BLOCK, 0.01, rivals=3) is None


def test_what_all_find_hard_does_not_matter_since_differences_are_paired() -> None:
    own, leader = run(12, -2.0), run(12, seed=1)
    hard = [1000.0 * (task % 7) for task in range(len(own))]
    moved = [[score + h for score, h in zip(some, hard, strict=True)] for some in (own, leader)]
    assert why_behind(*moved, BLOCK, 0.05, 8) == why_behind(own, leader, BLOCK, 0.05, 8)


def test_an_unfinished_block_waits() -> None:
    own, leader = run(12, -2.0), run(12, seed=1)
    reason = why_behind(own, leader, BLOCK, 0.05, 8)
    assert reason is not None
    assert why_behind([*own, 99.0], [*leader, 0.0], BLOCK, 0.05, 8) == reason
    assert why_behind([-9.0] * (BLOCK - 1), [0.0] * (BLOCK - 1), BLOCK, 0.05, 8) is None
    assert why_behind([], [], BLOCK, 0.05, 8) is None


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_score_that_is_no_number_stops_nobody(bad: float) -> None:
    own, leader = run(12, -2.0), run(12, seed=1)
    assert why_behind([bad, *own[1:]], leader, BLOCK, 0.05, 8) is None
    assert why_behind(own, [bad, *leader[1:]], BLOCK, 0.05, 8) is None


def test_groups_of_different_level_do_not_hide_who_is_behind_in_all_of_them() -> None:
    levels = [0.0, -9.0, 5.0, 20.0, -3.0, 8.0]  # by which this strategy suits each group
    own = [score + levels[task % BLOCK] for task, score in enumerate(run(8, -6.0))]
    leader = run(8, seed=1)
    assert why_behind(own, leader, BLOCK, 0.05, rivals=8) is not None
    # In other orders of groups the levels look like noise, and more tasks are asked for.
    by_block = np.random.default_rng(0).permuted(np.reshape(own, (-1, BLOCK)), axis=1)
    assert why_behind(by_block.ravel().tolist(), leader, BLOCK, 0.05, rivals=8) is None


@pytest.mark.parametrize(("block", "rivals", "first"), [(1, 1, 5), (1, 31, 8), (6, 1, 2)])
def test_few_blocks_stop_nobody_however_far_behind(block: int, rivals: int, first: int) -> None:
    own, leader = run(4, -1000.0), run(4, seed=1)
    lengths = range(block, len(own) + 1, block)
    reasons = [why_behind(own[:n], leader[:n], block, 0.05, rivals) for n in lengths]
    assert [reason is None for reason in reasons].index(False) + 1 == first


def test_scores_of_different_tasks_and_nonsense_are_refused() -> None:
    with pytest.raises(ValueError, match="same tasks"):
        why_behind([1.0], [1.0, 2.0], 1, 0.05, 1)
    for block, rivals in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="start at 1"):
            why_behind([1.0], [2.0], block, 0.05, rivals)


def test_the_best_is_rarely_stopped_though_who_leads_changes() -> None:
    """Eight equals; the one that counts is compared with whoever leads, at every look."""
    rng, stopped, draws, blocks = np.random.default_rng(0), 0, 40, 25
    for _ in range(draws):
        scores = rng.normal(size=(8, blocks * BLOCK))
        for done in range(BLOCK, blocks * BLOCK + 1, BLOCK):
            leader = scores[:, :done].mean(axis=1).argmax()
            own, first = scores[0, :done].tolist(), scores[leader, :done].tolist()
            if why_behind(own, first, BLOCK, 0.05, rivals=7) is not None:
                stopped += 1
                break
    assert stopped <= 0.05 * draws
