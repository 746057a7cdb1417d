"""Meta-training: resumable to the bit, pure, and honest about what does not go well."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metatune.errors import Diverged
from metatune.evaluation import score
from metatune.learners.learner import Learner, Tensors, build_learner, to_tensors
from metatune.learners.training import PATIENCE, TrainingState, start_training, train
from metatune.presets import preset
from metatune.seeds import derive_seed
from metatune.strategy import MLP, SGD, Linear, Meta, NoBackbone, NoInner, Outer, Ridge, Strategy
from metatune.tasks.base import Episode, TaskFamily
from metatune.tasks.sinusoid import SinusoidFamily

SINUSOID = SinusoidFamily()
EPISODE = Episode(way=1, shot=5, query=5)

Batches = Callable[[int], Tensors]


def waves(step: int) -> Tensors:
    seeds = [derive_seed(0, "train", step, task) for task in range(4)]
    return to_tensors(SINUSOID.sample("train", EPISODE, seeds))


def maml(rule: str = "second_order", alpha: float = 0.01, **outer: Any) -> Learner:
    """MAML with two inner steps of rate ``alpha``."""
    strategy = Strategy(
        backbone=MLP(width=8, depth=2),
        head=Linear(start="learned"),
        inner=SGD(steps=2, lr=alpha, scope="all"),
        meta=Meta.model_validate({"rule": rule}),
        outer=Outer.model_validate(outer),
    )
    return build_learner(strategy, SINUSOID.info, 1)


def line(**outer: Any) -> Learner:
    """One weight and one bias, hardly adapted: meta-training is plain regression."""
    strategy = Strategy(
        backbone=NoBackbone(),
        head=Linear(start="learned"),
        inner=SGD(steps=1, lr=1e-30),
        meta=Meta(rule="first_order"),
        outer=Outer.model_validate({"kind": "sgd", "schedule": "constant", **outer}),
    )
    return build_learner(strategy, SINUSOID.info, 1)


def points(x: float, y: float) -> Tensors:
    """One task of one point; the support point, of which nothing is learned, lies opposite."""
    at, target = torch.tensor([[[x]]]), torch.tensor([[[y]]])
    return Tensors(at, -target, at, target, None, None)


def state_of(weight: float, bias: float = 0.0) -> TrainingState:
    params = {"head.weight": torch.tensor([[weight]]), "head.bias": torch.tensor([bias])}
    return TrainingState(0, params, {})


def assert_same(found: TrainingState, expected: TrainingState) -> None:
    assert (found.step, found.hopeless) == (expected.step, expected.hopeless)
    for some, others in ((found.params, expected.params), (found.moments, expected.moments)):
        assert some.keys() == others.keys()
        assert all(torch.equal(value, others[name]) for name, value in some.items())


# --- state in, state out --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adam", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("rule", ["second_order", "first_order", "joint"])
def test_training_in_two_parts_equals_training_at_once_bit_for_bit(
    rule: str, schedule: str, kind: str
) -> None:
    learner = maml(rule, kind=kind, schedule=schedule, weight_decay=0.01, clip=1.0)
    start = start_training(learner, 3)
    at_once, mean = train(learner, start, waves, 20, 20)
    half, first = train(learner, start, waves, 10, 20)
    whole, second = train(learner, half, waves, 20, 20)
    assert_same(whole, at_once)
    assert whole.step == 20
    assert (first + second) / 2 == pytest.approx(mean, rel=1e-12)


def test_images_train_in_two_parts_too(tiny: TaskFamily) -> None:
    strategy = preset("r2d2", tiny.info)
    backbone = strategy.backbone.model_copy(update={"width": 4, "depth": 2})
    episode = Episode(3, 1, 2)
    learner = build_learner(strategy.model_copy(update={"backbone": backbone}), tiny.info, 3)

    def batches(step: int) -> Tensors:
        return to_tensors(tiny.sample("train", episode, [10 * step, 10 * step + 1]))

    start = start_training(learner, 3)
    half, _ = train(learner, start, batches, 3, 6)
    assert_same(train(learner, half, batches, 6, 6)[0], train(learner, start, batches, 6, 6)[0])


def test_the_state_that_goes_in_stays_as_it_is() -> None:
    learner = maml()
    state, _ = train(learner, start_training(learner, 0), waves, 5, 10)
    copies = {name: p.clone() for name, p in (state.params | state.moments).items()}
    train(learner, state, waves, 10, 10)
    assert state.step == 5
    for name, p in (state.params | state.moments).items():
        assert torch.equal(p, copies[name])
        assert not p.requires_grad


def test_nothing_left_to_train_changes_nothing() -> None:
    learner = maml()
    state, _ = train(learner, start_training(learner, 0), waves, 5, 10)
    assert_same(train(learner, state, waves, 5, 10)[0], state)


# --- the meta-optimiser, by hand ------------------------------------------------------------------


def test_a_step_of_sgd_is_the_rate_times_the_gradient() -> None:
    state, loss = train(line(lr=0.1), state_of(2.0), lambda step: points(3.0, 1.0), 1, 1)
    assert loss == pytest.approx(25.0)  # (2 * 3 - 1)^2
    assert state.params["head.weight"].item() == pytest.approx(2 - 0.1 * 2 * 5 * 3)
    assert state.params["head.bias"].item() == pytest.approx(0 - 0.1 * 2 * 5)


def test_the_cosine_takes_the_rate_from_full_to_nothing() -> None:
    def moved(schedule: str) -> list[float]:
        """How far the bias moves at each step under a gradient of always -2e6."""
        learner, state = line(lr=1e-6, schedule=schedule), state_of(0.0)
        steps = []
        for step in range(8):
            after, _ = train(learner, state, lambda _: points(0.0, 1e6), step + 1, 8)
            steps.append(float(after.params["head.bias"] - state.params["head.bias"]))
            state = replace(after, params=state_of(0.0).params)
        return steps

    expected = [2 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert moved("cosine") == pytest.approx(expected, rel=1e-5)
    assert moved("constant") == pytest.approx([2.0] * 8, rel=1e-5)


@pytest.mark.parametrize(("clip", "length"), [(0.0, 2000.0), (1.0, 1.0), (1e5, 2000.0)])
def test_clipping_bounds_the_length_of_the_gradient(clip: float, length: float) -> None:
    state, _ = train(line(lr=1.0, clip=clip), state_of(0.0), lambda _: points(0.0, 1e3), 1, 1)
    assert state.params["head.bias"].item() == pytest.approx(length, rel=1e-4)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_weight_decay_shrinks_weights_by_rate_times_decay(kind: str) -> None:
    fits = points(0.0, 0.0)  # loss and gradient of the weight are zero
    learner = line(kind=kind, lr=0.1, weight_decay=0.5)
    state, _ = train(learner, state_of(2.0), lambda _: fits, 1, 1)
    assert state.params["head.weight"].item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))


def test_adam_moves_by_the_rate_at_its_first_step_whatever_the_gradient() -> None:
    for target in (1e-2, 1e2):
        batch = points(0.0, target)
        state, _ = train(line(kind="adam", lr=0.01), state_of(0.0), [batch].__getitem__, 1, 1)
        assert state.params["head.bias"].item() == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_twenty_steps_equal_those_of_torchs_own_optimiser(kind: str, clip: float) -> None:
    learner = maml(kind=kind, lr=0.01, weight_decay=0.1, clip=clip, schedule="cosine")
    start = start_training(learner, 0)
    state, _ = train(learner, start, waves, 20, 20)

    params = {name: p.clone().requires_grad_() for name, p in start.params.items()}
    make = torch.optim.AdamW if kind == "adam" else torch.optim.SGD
    optimiser = make(params.values(), lr=0.01, weight_decay=0.1)
    for step in range(20):
        optimiser.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * step / 20)) / 2
        optimiser.zero_grad()
        learner.meta_loss(params, waves(step)).backward()  # type: ignore[no-untyped-call]
        if clip:
            torch.nn.utils.clip_grad_norm_(params.values(), clip)
        optimiser.step()
    for name, p in params.items():
        torch.testing.assert_close(state.params[name], p.detach(), rtol=1e-4, atol=1e-5)


def test_what_the_loss_does_not_reach_stays_as_it_was(tiny: TaskFamily) -> None:
    strategy = Strategy(
        backbone=MLP(width=4, depth=1),
        head=Ridge(learn=True),
        inner=NoInner(),
        meta=Meta(rule="joint"),
        outer=Outer(weight_decay=0.5),
    )
    learner = build_learner(strategy, tiny.info, 3)
    start = start_training(learner, 0)
    batch = to_tensors(tiny.sample("train", Episode(3, 1, 1), [1, 2]))
    state, _ = train(learner, start, lambda _: batch, 2, 2)
    for name, p in state.params.items():
        assert torch.equal(p, start.params[name]) == name.startswith("head.")


# --- divergence -----------------------------------------------------------------------------------


def test_an_outer_rate_beyond_reason_diverges() -> None:
    learner = maml(kind="sgd", lr=1e6)
    with pytest.raises(Diverged, match=r"training loss .* at meta-step") as caught:
        train(learner, start_training(learner, 0), waves, 100, 100)
    assert 0 < caught.value.step < 20


def test_an_inner_rate_beyond_reason_diverges_at_the_first_step() -> None:
    learner = maml(alpha=1e9)
    with pytest.raises(Diverged, match="the training loss is not finite at meta-step 0") as caught:
        train(learner, start_training(learner, 0), waves, 100, 100)
    assert caught.value.step == 0


def missed(step: int, hope_at: int | None = None) -> Tensors:
    """Targets about 0, which ``far_off`` misses by 1,000: far more than they vary, but once."""
    spread = 1e3 if step == hope_at else 1.0
    at, target = torch.zeros(1, 2, 1), torch.tensor([[[-spread], [spread]]])
    return Tensors(at, target, at, target, None, None)


def far_off() -> TrainingState:
    return state_of(0.0, bias=1e3)


def test_a_loss_that_stays_hopeless_diverges_when_patience_ends() -> None:
    with pytest.raises(Diverged, match=r"the training loss is hopeless \(1e\+06\)") as caught:
        train(line(lr=1e-30), far_off(), missed, 50, 50)
    assert caught.value.step == PATIENCE - 1


def test_patience_begins_anew_after_a_step_with_hope() -> None:
    with pytest.raises(Diverged) as caught:
        train(line(lr=1e-30), far_off(), lambda step: missed(step, hope_at=5), 50, 50)
    assert caught.value.step == 5 + PATIENCE


def test_patience_is_carried_over_from_one_part_to_the_next() -> None:
    learner = line(lr=1e-30)
    state, _ = train(learner, far_off(), lambda step: missed(step, hope_at=0), 6, 50)
    assert state.hopeless == 5
    with pytest.raises(Diverged) as caught:
        train(learner, state, missed, 50, 50)
    assert caught.value.step == PATIENCE


def test_a_short_first_part_without_any_hope_is_enough() -> None:
    with pytest.raises(Diverged, match="hopeless") as caught:
        train(line(lr=1e-30), far_off(), missed, 3, 50)
    assert caught.value.step == 2
    state, _ = train(line(lr=1e-30), far_off(), lambda step: missed(step, hope_at=1), 3, 50)
    assert state.step == 3


def test_tasks_of_one_point_a_side_are_not_hopeless() -> None:
    """With one query target the variance over queries alone is zero, which any loss exceeds."""
    episode = Episode(1, 1, 1)
    learner = maml()

    def batches(step: int) -> Tensors:
        return to_tensors(SINUSOID.sample("train", episode, [step]))

    state, _ = train(learner, start_training(learner, 0), batches, 2 * PATIENCE, 100)
    assert state.step == 2 * PATIENCE


# --- learning -------------------------------------------------------------------------------------


def mean_score(learner: Learner, params: dict[str, Tensor]) -> float:
    tasks = [SINUSOID.sample("select", Episode(1, 5, 20), range(60))]
    values = score(learner, params, tasks, 0).values
    return sum(values) / len(values)


@pytest.mark.parametrize(("name", "ratio"), [
    ("maml", 0.85), ("r2d2", 0.5), ("baseline", 0.9),
])  # fmt: skip
def test_training_on_sinusoids_learns_to_learn_them(name: str, ratio: float) -> None:
    strategy = preset(name, SINUSOID.info)
    outer = strategy.outer.model_copy(update={"lr": 0.01})
    learner = build_learner(strategy.model_copy(update={"outer": outer}), SINUSOID.info, 1)
    start = start_training(learner, 0)
    state, _ = train(learner, start, waves, 150, 150)
    assert mean_score(learner, state.params) < ratio * mean_score(learner, start.params)
