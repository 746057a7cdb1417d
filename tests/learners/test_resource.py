"""Resource: counted in forward-equivalents, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.learners.resource import step_cost, steps_within
from metatune.strategy import MLP, SGD, Diet, Linear, Meta, NoInner, Outer, Prototypes, Strategy
from metatune.tasks.base import Episode

EPISODE = Episode(way=5, shot=1, query=3)  # 5 support and 15 query examples


def gradient(rule: str, steps: int = 2, scope: str = "all", tasks: int = 4) -> Strategy:
    return Strategy(
        backbone=MLP(),
        head=Linear(),
        inner=SGD.model_validate({"steps": steps, "scope": scope}),
        meta=Meta.model_validate({"rule": rule}),
        outer=Outer(tasks_per_batch=tasks),
    )


@pytest.mark.parametrize(("strategy", "cost"), [
    # 3 x 20 examples a task for forward and backward, and 3 x 5 an inner step ..
    (gradient("first_order"), 4 * (60 + 2 * 15)),
    # .. three times over where the meta-gradient passes through it.
    (gradient("second_order"), 4 * (60 + 2 * 45)),
    (gradient("second_order", steps=5, tasks=1), 60 + 5 * 45),
    # A head's steps are next to nothing, and joint training takes none.
    (gradient("second_order", scope="head"), 4 * 60),
    (gradient("joint"), 4 * 60),
])  # fmt: skip
def test_a_step_costs_what_it_passes_forward_and_back(strategy: Strategy, cost: int) -> None:
    assert step_cost(strategy, EPISODE) == cost


def test_a_closed_form_costs_its_examples() -> None:
    strategy = Strategy(backbone=MLP(), head=Prototypes(), inner=NoInner())
    assert step_cost(strategy, EPISODE) == 4 * 60
    assert step_cost(strategy, Diet(way=10).episode(EPISODE)) == 4 * 120


@given(
    resource=st.integers(1, 10**9),
    rule=st.sampled_from(["first_order", "second_order", "joint"]),
    steps=st.integers(1, 50),
    tasks=st.integers(1, 64),
)
def test_as_many_whole_steps_are_taken_as_fit_and_at_least_one(
    resource: int, rule: str, steps: int, tasks: int
) -> None:
    strategy = gradient(rule, steps, tasks=tasks)
    count, cost = steps_within(resource, strategy, EPISODE), step_cost(strategy, EPISODE)
    assert (count + 1) * cost > resource
    assert count == 1 or 1 < count <= resource / cost
