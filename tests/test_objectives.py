"""Objectives: how costs are read and told, who dominates whom, who stands for a front."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.objectives import (
    COSTS,
    Measured,
    cost,
    dominated_by,
    dominators,
    log_ratio,
    on_front,
    spread_over_fronts,
)

Point = tuple[float, float]
NUMBERS = st.integers(-3, 3).map(float)  # few, so that some are equal
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12)


def took(score_seconds: float, tasks: int, train_seconds: float = 5.0) -> Measured:
    return SimpleNamespace(
        train_seconds=train_seconds, score_seconds=score_seconds, tasks=["t"] * tasks
    )


# --- costs ----------------------------------------------------------------------------------------


def test_adapt_seconds_are_the_seconds_of_scoring_a_task() -> None:
    assert cost("adapt_seconds", took(6.0, 60)) == pytest.approx(0.1)
    assert cost("adapt_seconds", took(6.0, 60, train_seconds=9.0)) == pytest.approx(0.1)


def test_a_cost_is_told_as_the_log_of_its_ratio_so_that_machines_compare() -> None:
    half = log_ratio("adapt_seconds", took(1.0, 10), took(2.0, 10))
    assert half == pytest.approx(math.log(0.5))
    elsewhere = log_ratio("adapt_seconds", took(7.0, 10), took(14.0, 10))  # seven times slower
    assert elsewhere == pytest.approx(half)
    assert log_ratio("adapt_seconds", took(0.5, 5), took(6.0, 60)) == pytest.approx(0.0)


def test_what_the_clock_calls_nothing_has_a_finite_log_ratio() -> None:
    assert -50 < log_ratio("adapt_seconds", took(0.0, 10), took(2.0, 10)) < 0
    assert log_ratio("adapt_seconds", took(0.0, 10), took(0.0, 10)) == 0


@pytest.mark.parametrize("name", COSTS)
def test_every_cost_is_read_from_columns_as_from_rows(name: str) -> None:
    rows = [took(6.0, 60, train_seconds=1.0), took(8.0, 40, train_seconds=2.0)]
    columns = [pd.Series([1.0, 2.0]), pd.Series([6.0, 8.0]), pd.Series([60, 40])]
    assert COSTS[name](*columns).to_list() == pytest.approx([cost(name, row) for row in rows])


# --- domination -----------------------------------------------------------------------------------


def dominates(a: Point, b: Point) -> bool:
    """The definition, for two objectives."""
    return a[0] >= b[0] and a[1] >= b[1] and a != b


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS | st.just(math.nan)), max_size=20))
def test_on_the_front_is_whom_nobody_dominates(points: list[tuple[float, ...]]) -> None:
    by = dominators(points) if points else []
    merits = np.array(points).reshape(-1, 3)
    assert on_front(merits).tolist() == [number == 0 for number in by]


@given(POINTS)
def test_dominators_are_counted_as_defined(points: list[Point]) -> None:
    expected = [sum(dominates(other, own) for other in points) for own in points]
    assert dominators(points) == expected
    assert [dominated_by(own, points) for own in points] == expected


@given(POINTS.filter(bool))
def test_someone_is_on_the_front_and_everybody_else_is_dominated_by_someone_there(
    points: list[Point],
) -> None:
    front = [p for p, by in zip(points, dominators(points), strict=True) if by == 0]
    assert max(points) in front
    assert all(p in front or any(dominates(f, p) for f in front) for p in points)


@given(st.lists(NUMBERS, max_size=12))
def test_with_one_objective_dominators_are_the_better_ones(scores: list[float]) -> None:
    expected = [sum(other > own for other in scores) for own in scores]
    assert dominators([(score,) for score in scores]) == expected


def test_what_has_no_score_yet_is_behind_whoever_is_no_dearer() -> None:
    assert dominators([(-math.inf, -1.0), (0.0, -1.0), (-5.0, -2.0)]) == [1, 0, 1]


# --- who stands for a front -----------------------------------------------------------------------


def test_a_front_that_is_too_long_is_represented_from_its_best_to_its_cheapest() -> None:
    front = [(float(score), -float(score)) for score in (3, 8, 1, 5, 7, 2, 6, 4, 0)]
    assert [front[i][0] for i in spread_over_fronts(front, 5)] == [8, 6, 4, 2, 0]
    assert [front[i][0] for i in spread_over_fronts(front, 2)] == [8, 0]
    assert [front[i][0] for i in spread_over_fronts(front, 1)] == [8]


def test_the_second_front_follows_the_first() -> None:
    points = [(1.0, 3.0), (3.0, 1.0), (0.5, 2.5), (2.5, 0.5), (0.0, 0.0)]
    assert spread_over_fronts(points, 5) == [1, 0, 3, 2, 4]
    assert spread_over_fronts(points, 3) == [1, 0, 3]


@given(points=POINTS, count=st.integers(0, 15))
def test_so_many_are_chosen_and_none_before_one_that_dominates_it(
    points: list[Point], count: int
) -> None:
    chosen = spread_over_fronts(points, count)
    assert len(set(chosen)) == len(chosen) == min(count, len(points))
    for place, i in enumerate(chosen):
        assert not any(dominates(points[later], points[i]) for later in chosen[place:])
        left_out = set(range(len(points))) - set(chosen)
        assert not any(dominates(points[other], points[i]) for other in left_out)


@given(points=POINTS.filter(bool), count=st.integers(1, 15))
def test_the_best_by_the_first_objective_comes_first(points: list[Point], count: int) -> None:
    assert points[spread_over_fronts(points, count)[0]] == max(points)
