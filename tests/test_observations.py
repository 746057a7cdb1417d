"""Observations: which are heard, and who beats whom where trials stopped at different rungs."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.observations import (
    MAX_OBSERVATIONS,
    Observation,
    choose_observations,
    shares_beaten,
)

COSTS = ("adapt_seconds",)

# --- which are heard ------------------------------------------------------------------------------

OBSERVATIONS = st.lists(
    st.builds(
        Observation,
        params=st.just({}),
        state=st.sampled_from(["running", "completed", "stopped", "lost"]),
        values=st.dictionaries(st.integers(1, 3), st.integers(-5, 5).map(float), max_size=3),
    ),
    max_size=30,
).map(lambda some: [Observation({"id": i}, o.state, o.values) for i, o in enumerate(some)])


def identities(observations: list[Observation]) -> list[Any]:
    return [o.params["id"] for o in observations]


@given(some=OBSERVATIONS, limit=st.integers(4, 30))
def test_those_under_way_the_best_and_the_newest_are_kept(
    some: list[Observation], limit: int
) -> None:
    kept = identities(choose_observations(some, limit))
    running = [i for i, o in enumerate(some) if o.state == "running"]
    assert kept == sorted(set(kept))  # in the order of their asking
    assert set(running) <= set(kept)
    assert len(kept) == min(len(some), max(limit, len(running)))
    finished = [i for i in range(len(some)) if i not in running]
    room = limit - len(running)
    if finished and room >= 2:

        def rank(i: int) -> tuple[float, float]:
            o = some[i]
            if o.state == "lost" or not o.values:
                return (0, 0.0)
            highest = max(o.values)
            return (math.inf if o.state == "completed" else highest, o.values[highest])

        assert max(rank(i) for i in kept if i in finished) == max(rank(i) for i in finished)
        assert finished[-1] in kept
    if len(some) <= limit:
        assert kept == list(range(len(some)))


def test_a_long_run_keeps_as_many_observations_as_the_limit() -> None:
    many = [Observation({"id": i}, "completed", {1: float(i % 97)}) for i in range(1000)]
    kept = identities(choose_observations(many))
    assert len(kept) == MAX_OBSERVATIONS
    assert set(range(1000 - 100, 1000)) <= set(kept)
    assert {i for i in range(1000) if i % 97 == 96} <= set(kept)


def with_cost(value: float, cost: float) -> Observation:
    return Observation({}, "completed", {3: value}, {"adapt_seconds": {3: cost}})


def test_with_costs_the_best_that_are_kept_are_those_that_few_dominate() -> None:
    front = [with_cost(float(i), float(i)) for i in range(10)]
    behind = [with_cost(i - 0.5, float(i)) for i in range(1, 10)] * 3
    kept = choose_observations([*front, *behind], 20, COSTS)
    assert all(o in kept for o in front)
    plain = choose_observations([*front, *behind], 20)
    assert front[0] not in plain


# --- who beats whom -------------------------------------------------------------------------------


def ended(state: str, *values: float) -> Observation:
    return Observation({}, state, dict(enumerate(values, start=1)))  # type: ignore[arg-type]


def test_trials_are_compared_at_the_highest_rung_to_which_both_have_come() -> None:
    default = ended("completed", 0.0, 0.0, 0.0)  # came to its end though it ranks low
    late = ended("completed", 0.1, 0.5, 0.9)
    early = ended("stopped", 0.3)  # before the default and the late one, as far as it came
    poor = ended("stopped", -0.2, -0.3)
    shares = shares_beaten([default, late, early, poor])
    assert shares == pytest.approx([1 / 3, 2 / 3, 3 / 3, 0 / 3])


def test_draws_are_half() -> None:
    assert shares_beaten([ended("completed", 1.0), ended("stopped", 1.0)]) == [0.5, 0.5]


def test_what_is_known_at_the_last_rung_only_counts_as_it_is_there() -> None:
    lesson = Observation({}, "completed", {3: 0.5})
    shares = shares_beaten([lesson, ended("stopped", 0.4), ended("completed", 0.0, 0.2, 0.6)])
    assert shares == pytest.approx([0.5, 0.5, 0.5])


@pytest.mark.parametrize("state", ["running", "lost"])
def test_who_is_under_way_or_lost_is_compared_with_nobody(state: str) -> None:
    assert shares_beaten([ended(state, 1.0), ended("stopped", 1.0)]) == [None, 0.0]
    assert shares_beaten([ended(state, 1.0)]) == [None]


def test_who_was_stopped_before_it_was_scored_is_compared_with_nobody() -> None:
    assert shares_beaten([ended("stopped"), ended("completed", 1.0)]) == [None, 0.0]


@given(st.permutations([0.0, 1.0, 2.0, 3.0, 4.0]))
def test_where_all_have_come_as_far_the_order_is_that_of_the_values(values: list[float]) -> None:
    shares = shares_beaten([ended("completed", 0.0, value) for value in values])
    assert shares == [value / 4 for value in values]


@given(some=OBSERVATIONS)
def test_shares_of_all_pairs_add_up(some: list[Observation]) -> None:
    shares = [share for share in shares_beaten(some) if share is not None]
    assert all(0 <= share <= 1 for share in shares)
    assert math.isclose(sum(shares), len(shares) / 2 if len(shares) > 1 else 0.0)
