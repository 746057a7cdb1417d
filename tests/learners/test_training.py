"""Meta-training: resumable to the bit, pure, and honest about what does not go well."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from families import WAVES, random_tasks
from torch import Tensor

from metatune.errors import Diverged
from metatune.evaluation import score
from metatune.learners.interface import Learner, Tensors, to_tensors
from metatune.learners.learner import build_learner
from metatune.learners.meta_optimiser import averaged
from metatune.learners.training import (
    PATIENCE,
    Course,
    TrainingState,
    is_hopeless,
    rate_at,
    start_training,
    train,
)
from metatune.presets import preset
from metatune.seeds import derive_seed
from metatune.strategy import MLP, Linear, Meta, NoBackbone, NoInner, Outer, Ridge, Steps, Strategy
from metatune.tasks.base import Episode, FamilyInfo, TaskFamily
from metatune.tasks.formulas.sinusoid import SinusoidFamily

SINUSOID = SinusoidFamily()
EPISODE = Episode(way=1, shot=5, query=5)
COST = 10  # of a step

Batches = Callable[[int], Tensors]


def waves(step: int) -> Tensors:
    seeds = [derive_seed(0, "train", step, task) for task in range(4)]
    return to_tensors(SINUSOID.sample("train", EPISODE, seeds))


def gradient(rule: str = "second_order", alpha: float = 0.01, **outer: Any) -> Strategy:
    """MAML with two inner steps of rate ``alpha``."""
    return Strategy(
        backbone=MLP(width=8, depth=2),
        head=Linear(start="learned"),
        inner=Steps(steps=2, lr=alpha, scope="all"),
        meta=Meta.model_validate({"rule": rule}),
        outer=Outer.model_validate(outer),
    )


def line(**outer: Any) -> Strategy:
    """One weight and one bias, hardly adapted: meta-training is plain regression."""
    return Strategy(
        backbone=NoBackbone(),
        head=Linear(start="learned"),
        inner=Steps(steps=1, lr=1e-30),
        meta=Meta(rule="first_order"),
        outer=Outer.model_validate({"kind": "sgd", "schedule": "constant", **outer}),
    )


def trained(
    strategy: Strategy,
    state: TrainingState | None,
    batches: Batches,
    steps: int,
    full: int,
    info: FamilyInfo = SINUSOID.info,
) -> tuple[TrainingState, float | None]:
    """Up to so many steps of ``full``, each of the same cost; from None at the random start."""
    learner = build_learner(strategy, info, 3 if info.kind == "classification" else 1)
    course = Course(lambda step, progress: batches(step), lambda progress: COST, COST * full)
    state = state or start_training(learner, 0)
    return train(learner, info, strategy.outer, state, course, COST * steps)


def points(x: float, y: float) -> Tensors:
    """One task of one point; the support point, of which nothing is learned, lies opposite."""
    at, target = torch.tensor([[[x]]]), torch.tensor([[[y]]])
    return Tensors(at, -target, at, target)


def state_of(weight: float, bias: float = 0.0) -> TrainingState:
    params = {"head.weight": torch.tensor([[weight]]), "head.bias": torch.tensor([bias])}
    return TrainingState(0, params, {})


def assert_same(found: TrainingState, expected: TrainingState) -> None:
    numbers = [(s.step, s.hopeless, s.spent) for s in (found, expected)]
    assert numbers[0] == numbers[1]
    for name in ("params", "moments", "average"):
        some, others = getattr(found, name), getattr(expected, name)
        assert some.keys() == others.keys()
        assert all(torch.equal(value, others[key]) for key, value in some.items())


# --- state in, state out --------------------------------------------------------------------------


@pytest.mark.parametrize("outer", [
    {"kind": "adam"}, {"kind": "sgd", "schedule": "constant"}, {"average": 0.9},
])  # fmt: skip
@pytest.mark.parametrize(
    "rule", ["second_order", "first_order", "truncated", "implicit", "reptile", "joint"]
)
def test_training_in_two_parts_equals_training_at_once_bit_for_bit(
    rule: str, outer: dict[str, Any]
) -> None:
    strategy = gradient(rule, weight_decay=0.01, clip=1.0, **outer)
    if rule == "implicit":
        strategy = strategy.model_copy(update={"inner": Steps(steps=2, lr=0.01, proximal=2.0)})
    at_once, mean = trained(strategy, None, waves, 20, 20)
    half, first = trained(strategy, None, waves, 10, 20)
    whole, second = trained(strategy, half, waves, 20, 20)
    assert_same(whole, at_once)
    assert (whole.step, whole.spent) == (20, 20 * COST)
    assert first is not None
    assert second is not None
    assert (first + second) / 2 == pytest.approx(mean, rel=1e-12)


def test_images_train_in_two_parts_too(tiny: TaskFamily) -> None:
    strategy = preset("r2d2", tiny.info)
    backbone = strategy.backbone.model_copy(update={"width": 4, "depth": 2})
    strategy = strategy.model_copy(update={"backbone": backbone})

    def batches(step: int) -> Tensors:
        return to_tensors(tiny.sample("train", Episode(3, 1, 2), [10 * step, 10 * step + 1]))

    half, _ = trained(strategy, None, batches, 3, 6, tiny.info)
    whole, _ = trained(strategy, half, batches, 6, 6, tiny.info)
    assert_same(whole, trained(strategy, None, batches, 6, 6, tiny.info)[0])


def test_the_state_that_goes_in_stays_as_it_is() -> None:
    strategy = gradient(average=0.9)
    state, _ = trained(strategy, None, waves, 5, 10)
    tensors = state.params | state.moments | {f"average {n}": p for n, p in state.average.items()}
    copies = {name: p.clone() for name, p in tensors.items()}
    trained(strategy, state, waves, 10, 10)
    assert (state.step, state.spent) == (5, 5 * COST)
    for name, p in tensors.items():
        assert torch.equal(p, copies[name])
        assert not p.requires_grad


def test_nothing_left_to_train_changes_nothing() -> None:
    state, _ = trained(gradient(), None, waves, 5, 10)
    again, loss = trained(gradient(), state, waves, 5, 10)
    assert_same(again, state)
    assert loss is None


def test_what_the_loss_does_not_reach_stays_as_it_was(tiny: TaskFamily) -> None:
    strategy = Strategy(
        backbone=MLP(width=4, depth=1),
        head=Ridge(learn=True),
        inner=NoInner(),
        meta=Meta(rule="joint"),
        outer=Outer(weight_decay=0.5),
    )
    start = start_training(build_learner(strategy, tiny.info, 3), 0)
    batch = to_tensors(tiny.sample("train", Episode(3, 1, 1), [1, 2]))
    state, _ = trained(strategy, start, lambda _: batch, 2, 2, tiny.info)
    for name, p in state.params.items():
        assert torch.equal(p, start.params[name]) == name.startswith("head.")


def test_what_is_used_is_the_average_where_there_is_one() -> None:
    state, _ = trained(gradient(), None, waves, 3, 3)
    assert state.usable is state.params
    outer, expected = Outer(average=0.5), {}
    for step in range(3):
        state, _ = trained(gradient(average=0.5), None, waves, step + 1, 3)
        expected = averaged(outer, expected, state.params, step)
    assert state.usable is state.average
    for name, p in expected.items():
        torch.testing.assert_close(state.average[name], p)


# --- by resource ----------------------------------------------------------------------------------


def course_of(cost: Callable[[float], int], full: int) -> tuple[Course, list[tuple[int, float]]]:
    """A course, and the steps and shares of the resource at which it was asked for tasks."""
    asked: list[tuple[int, float]] = []

    def batches(step: int, progress: float) -> Tensors:
        asked.append((step, progress))
        return points(1.0, 1.0)

    return Course(batches, cost, full), asked


@pytest.mark.parametrize(("until", "steps"), [(99, 9), (100, 10), (109, 10), (0, 1), (-50, 1)])
def test_as_many_whole_steps_are_taken_as_fit_and_at_least_one(until: int, steps: int) -> None:
    course, _ = course_of(lambda progress: COST, 200)
    learner, outer = build_learner(line(lr=1e-3), SINUSOID.info, 1), line(lr=1e-3).outer
    state, _ = train(learner, SINUSOID.info, outer, state_of(0.5), course, until)
    assert (state.step, state.spent) == (steps, steps * COST)
    # A later part that has no room for a step takes none.
    assert train(learner, SINUSOID.info, outer, state, course, until)[0].step == steps


def test_tasks_and_costs_are_those_at_a_share_of_the_full_resource() -> None:
    course, asked = course_of(lambda progress: 40 if progress < 0.5 else 10, 100)
    learner, outer = build_learner(line(lr=1e-3), SINUSOID.info, 1), line(lr=1e-3).outer
    state, _ = train(learner, SINUSOID.info, outer, state_of(0.5), course, 100)
    assert asked == [(0, 0.0), (1, 0.4), (2, 0.8), (3, 0.9)]
    assert state.spent == 100


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.99])
def test_the_cosine_takes_the_rate_from_full_to_nothing(progress: float) -> None:
    expected = 2.0 * (1 + math.cos(math.pi * progress)) / 2
    assert rate_at(Outer(lr=2.0, schedule="cosine"), progress) == pytest.approx(expected)
    assert rate_at(Outer(lr=2.0, schedule="constant"), progress) == 2.0


def test_each_step_is_taken_at_its_rate() -> None:
    def moved(schedule: str) -> list[float]:
        """How far the bias moves at each step under a gradient of always -2e6."""
        strategy, state = line(lr=1e-6, schedule=schedule), state_of(0.0)
        steps = []
        for step in range(8):
            after, _ = trained(strategy, state, lambda _: points(0.0, 1e6), step + 1, 8)
            steps.append(float(after.params["head.bias"] - state.params["head.bias"]))
            state = replace(after, params=state_of(0.0).params)
        return steps

    expected = [2 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert moved("cosine") == pytest.approx(expected, rel=1e-5)
    assert moved("constant") == pytest.approx([2.0] * 8, rel=1e-5)


def test_a_step_follows_the_gradient_of_the_loss_that_is_told() -> None:
    state, loss = trained(line(lr=0.1), state_of(2.0), lambda step: points(3.0, 1.0), 1, 1)
    assert loss == pytest.approx(25.0)  # (2 * 3 - 1)^2
    assert state.params["head.weight"].item() == pytest.approx(2 - 0.1 * 2 * 5 * 3)
    assert state.params["head.bias"].item() == pytest.approx(0 - 0.1 * 2 * 5)


# --- divergence -----------------------------------------------------------------------------------


def test_an_outer_rate_beyond_reason_diverges() -> None:
    with pytest.raises(Diverged, match=r"training loss .* at meta-step") as caught:
        trained(gradient(kind="sgd", lr=1e6), None, waves, 100, 100)
    assert 0 < caught.value.step < 20


def test_an_inner_rate_beyond_reason_diverges_at_the_first_step() -> None:
    with pytest.raises(Diverged, match="the training loss is not finite at meta-step 0") as caught:
        trained(gradient(alpha=1e9), None, waves, 100, 100)
    assert caught.value.step == 0


def missed(step: int, hope_at: int | None = None) -> Tensors:
    """Targets about 0, which ``far_off`` misses by 1,000: far more than they vary, but once."""
    spread = 1e3 if step == hope_at else 1.0
    at, target = torch.zeros(1, 2, 1), torch.tensor([[[-spread], [spread]]])
    return Tensors(at, target, at, target)


def far_off() -> TrainingState:
    return state_of(0.0, bias=1e3)


STILL = line(lr=1e-30)


def test_a_loss_that_stays_hopeless_diverges_when_patience_ends() -> None:
    with pytest.raises(Diverged, match=r"the training loss is hopeless \(1e\+06\)") as caught:
        trained(STILL, far_off(), missed, 50, 50)
    assert caught.value.step == PATIENCE - 1


def test_patience_begins_anew_after_a_step_with_hope() -> None:
    with pytest.raises(Diverged) as caught:
        trained(STILL, far_off(), lambda step: missed(step, hope_at=5), 50, 50)
    assert caught.value.step == 5 + PATIENCE


def test_patience_is_carried_over_from_one_part_to_the_next() -> None:
    state, _ = trained(STILL, far_off(), lambda step: missed(step, hope_at=0), 6, 50)
    assert state.hopeless == 5
    with pytest.raises(Diverged) as caught:
        trained(STILL, state, missed, 50, 50)
    assert caught.value.step == PATIENCE


def test_a_short_first_part_without_any_hope_is_enough() -> None:
    with pytest.raises(Diverged, match="hopeless") as caught:
        trained(STILL, far_off(), missed, 3, 50)
    assert caught.value.step == 2
    state, _ = trained(STILL, far_off(), lambda step: missed(step, hope_at=1), 3, 50)
    assert state.step == 3


def test_tasks_of_one_point_a_side_are_not_hopeless() -> None:
    """With one query target the variance over queries alone is zero, which any loss exceeds."""

    def batches(step: int) -> Tensors:
        return to_tensors(SINUSOID.sample("train", Episode(1, 1, 1), [step]))

    state, _ = trained(gradient(), None, batches, 2 * PATIENCE, 100)
    assert state.step == 2 * PATIENCE


def test_a_squared_error_is_hopeless_at_1_000_times_the_targets_variance() -> None:
    batch = random_tasks(WAVES, EPISODE)
    variance = float(torch.cat([batch.support_y, batch.query_y], 1).var(correction=0))
    assert not is_hopeless(WAVES, 0.99e3 * variance, batch)
    assert is_hopeless(WAVES, 1.01e3 * variance, batch)


@pytest.mark.parametrize(("classes", "way", "worst"), [(12, 3, 12), (2, 3, 3), (1, 1, 2)])
def test_a_cross_entropy_is_hopeless_at_100_000_times_that_of_guessing(
    tiny: TaskFamily, classes: int, way: int, worst: int
) -> None:
    info = replace(tiny.info, train_classes=classes)
    batch = to_tensors(tiny.sample("train", Episode(way, 1, 1), [0]))
    assert not is_hopeless(info, 0.99e5 * math.log(worst), batch)
    assert is_hopeless(info, 1.01e5 * math.log(worst), batch)


# --- learning -------------------------------------------------------------------------------------


def mean_score(learner: Learner, params: dict[str, Tensor]) -> float:
    tasks = [SINUSOID.sample("select", Episode(1, 5, 20), range(60))]
    values = score(learner, SINUSOID.info, params, tasks, 0).values
    return sum(values) / len(values)


@pytest.mark.parametrize(("name", "ratio"), [
    ("maml", 0.85), ("r2d2", 0.5), ("baseline", 0.9), ("deep_kernel", 0.7), ("anp", 0.9),
])  # fmt: skip
def test_training_on_sinusoids_learns_to_learn_them(name: str, ratio: float) -> None:
    strategy = preset(name, SINUSOID.info)
    outer = strategy.outer.model_copy(update={"lr": 0.01})
    strategy = strategy.model_copy(update={"outer": outer})
    learner = build_learner(strategy, SINUSOID.info, 1)
    start = start_training(learner, 0)
    state, _ = trained(strategy, start, waves, 150, 150)
    assert mean_score(learner, state.usable) < ratio * mean_score(learner, start.params)
