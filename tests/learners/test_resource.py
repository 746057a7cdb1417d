"""Resource: counted in forward-equivalents, by hand."""

from __future__ import annotations

from typing import Any

import pytest
from families import MOLECULES, TABLES, WAVES
from hypothesis import given
from hypothesis import strategies as st

from metatune.learners.resource import pooled_cost, pooled_tasks, step_cost
from metatune.strategy import (
    GP,
    MLP,
    Diet,
    ImageAugmentation,
    Linear,
    Meta,
    NoInner,
    Outer,
    Pooled,
    Prototypes,
    Ridge,
    Seeds,
    Steps,
    Strategy,
    TableAugmentation,
)
from metatune.tasks.base import Episode

EPISODE = Episode(way=5, shot=1, query=3)  # 5 support and 15 query examples
POINTS = Episode(way=1, shot=5, query=15)


def gradient(rule: str, tasks: int = 4, meta: Any = None, **inner: Any) -> Strategy:
    return Strategy(
        backbone=MLP(),
        head=Linear(),
        inner=Steps.model_validate({"steps": 2, **inner}),
        meta=Meta.model_validate({"rule": rule, **(meta or {})}),
        outer=Outer(tasks_per_batch=tasks),
    )


@pytest.mark.parametrize(("strategy", "cost"), [
    # 3 x 20 examples a task for forward and backward, and 3 x 5 an inner step ..
    (gradient("first_order"), 4 * (60 + 2 * 15)),
    # .. three times over where the meta-gradient passes through it.
    (gradient("second_order"), 4 * (60 + 2 * 45)),
    (gradient("second_order", steps=5, tasks=1), 60 + 5 * 45),
    (gradient("second_order", scope="context"), 4 * (60 + 2 * 45)),
    # Of five steps through the last two alone; of two through no more than there are.
    (gradient("truncated", steps=5, meta={"truncate": 2}), 4 * (60 + 5 * 15 + 2 * 30)),
    (gradient("truncated", meta={"truncate": 9}), 4 * (60 + 2 * 45)),
    # A conjugate gradient step is a Hessian times a vector.
    (gradient("implicit", steps=5, meta={"truncate": 3}), 4 * (60 + 5 * 15 + 3 * 30)),
    # The query loss after every step.
    (gradient("second_order", steps=3, meta={"multi_step_until": 0.1}),
     4 * (60 + 3 * 45 + 2 * 45)),
    # Steps on all examples of a task, and its query loss for the record.
    (gradient("reptile"), 4 * (45 + 2 * 60)),
    # A head's steps are next to nothing, and joint training takes none.
    (gradient("second_order", scope="head"), 4 * 60),
    (gradient("joint"), 4 * 60),
])  # fmt: skip
def test_a_step_costs_what_it_passes_forward_and_back(strategy: Strategy, cost: int) -> None:
    assert step_cost(strategy, TABLES, EPISODE) == cost


def test_a_closed_form_costs_its_examples() -> None:
    strategy = Strategy(backbone=MLP(), head=Prototypes(), inner=NoInner())
    assert step_cost(strategy, TABLES, EPISODE) == 4 * 60
    assert step_cost(strategy, TABLES, Diet(way=10).episode(EPISODE)) == 4 * 120


@pytest.mark.parametrize("augment", [ImageAugmentation(copies=2), TableAugmentation(copies=2)])
def test_copies_of_support_examples_are_examples(
    augment: ImageAugmentation | TableAugmentation,
) -> None:
    diet = Diet(augment=augment)
    strategy = gradient("first_order").model_copy(update={"diet": diet})
    assert step_cost(strategy, TABLES, EPISODE) == 4 * (3 * (15 + 15) + 2 * 3 * 15)


def test_each_member_of_an_ensemble_costs_as_much_as_one() -> None:
    alone = gradient("second_order")
    five = alone.model_copy(update={"combination": Seeds(members=5)})
    assert step_cost(five, TABLES, EPISODE) == 5 * step_cost(alone, TABLES, EPISODE)


def test_copies_of_the_backbone_cost_as_much_as_the_one_that_is_used() -> None:
    strategy = Strategy(backbone=MLP(), head=GP(), meta=Meta(folds=3))
    alone = strategy.model_copy(update={"meta": Meta(cross_fit="none")})
    assert step_cost(strategy, MOLECULES, POINTS) == 4 * step_cost(alone, MOLECULES, POINTS)
    assert step_cost(strategy, WAVES, POINTS) == step_cost(alone, WAVES, POINTS)


# --- pooled models --------------------------------------------------------------------------------


def pooled(tasks: int = 1000, folds: int = 2) -> Strategy:
    return Strategy(prior=Pooled(tasks=tasks), head=Ridge(), meta=Meta(folds=folds))


def test_a_pooled_model_costs_the_query_points_that_it_is_fitted_on() -> None:
    assert pooled_cost(pooled(), WAVES, POINTS, 7) == 7 * 3 * 15
    # On all but one of three folds each, and on all.
    assert pooled_cost(pooled(folds=3), MOLECULES, POINTS, 7) == 7 * 3 * 15 * 3
    assert pooled_cost(pooled(), WAVES, POINTS, 0) == 0


@given(rung=st.integers(1, 10**8), tasks=st.integers(1, 10**5), folds=st.integers(2, 4))
def test_a_pooled_model_is_fitted_on_what_a_third_of_a_rung_pays_for(
    rung: int, tasks: int, folds: int
) -> None:
    strategy = pooled(tasks, folds)
    found = pooled_tasks(strategy, MOLECULES, POINTS, rung)
    assert 1 <= found <= tasks
    if found > 1:
        assert pooled_cost(strategy, MOLECULES, POINTS, found) <= rung / 3
    if found < tasks:
        assert pooled_cost(strategy, MOLECULES, POINTS, found + 1) > rung / 3


def test_nothing_is_pooled_where_no_pooled_model_is() -> None:
    assert pooled_tasks(Strategy(head=Ridge()), MOLECULES, POINTS, 10**6) == 0
