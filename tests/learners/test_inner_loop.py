"""The inner loop: gradients through it are exact where it says so, and constants elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metatune.learners.inner_loop import adapt
from metatune.learners.learner import Learner, Tensors, build_learner
from metatune.strategy import MLP, SGD, Conv4, Linear, Meta, Strategy
from metatune.tasks.base import ACCURACY, MSE, SPLITS, FamilyInfo

PROPERTY = settings(deadline=None, max_examples=50)
RATES = st.floats(1e-3, 0.9)
CURVATURES = st.floats(0.1, 2)


def family(kind: str, shape: tuple[int, ...]) -> FamilyInfo:
    classes = kind == "classification"
    return FamilyInfo(
        name="some",
        kind="classification" if classes else "regression",
        input_shape=shape,
        outputs=0 if classes else 1,
        metric=ACCURACY if classes else MSE,
        train_classes=9 if classes else 0,
        groups={split: {"all": 9} for split in SPLITS},
        grouped=False,
        baselines=(),
        about="some tasks",
    )


def waves(tasks: int = 3, support: int = 4, query: int = 5) -> Tensors:
    """Sine curves in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(tasks, support + query, 1, generator=generator, dtype=torch.float64) * 6 - 3
    phase = torch.rand(tasks, 1, 1, generator=generator, dtype=torch.float64)
    y = 2 * torch.sin(x - phase)
    return Tensors(x[:, :support], y[:, :support], x[:, support:], y[:, support:], None, None)


def classes(shape: tuple[int, ...], tasks: int = 2, way: int = 3) -> Tensors:
    """Two support and three query points a class, in float64."""
    generator = torch.Generator().manual_seed(1)

    def points(count: int) -> tuple[Tensor, Tensor]:
        size = (tasks, way * count, *shape)
        x = torch.randn(size, generator=generator, dtype=torch.float64)
        return x, torch.arange(way).repeat_interleave(count).repeat(tasks, 1)

    return Tensors(*points(2), *points(3), None, None)


def mlp(rule: str, scope: str, start: str, info: FamilyInfo) -> Learner:
    strategy = Strategy(
        backbone=MLP(width=4, depth=2, activation="tanh"),
        head=Linear.model_validate({"start": start}),
        inner=SGD.model_validate({"steps": 3, "lr": 0.15, "scope": scope}),
        meta=Meta.model_validate({"rule": rule}),
    )
    return build_learner(strategy, info, 3)


def start_of(learner: Learner) -> dict[str, Tensor]:
    return {name: p.double().requires_grad_() for name, p in learner.init(0).items()}


def central_differences(
    loss: Callable[[dict[str, Tensor]], Tensor], params: dict[str, Tensor], step: float = 1e-5
) -> Tensor:
    """The gradient of a loss, number by number, flattened."""
    slopes = []
    for name, p in params.items():
        for i in range(p.numel()):
            ends = []
            for sign in (1, -1):
                moved = p.detach().clone()
                moved.view(-1)[i] += sign * step
                ends.append(float(loss({**params, name: moved.requires_grad_()}).detach()))
            slopes.append((ends[0] - ends[1]) / (2 * step))
    return torch.tensor(slopes, dtype=torch.float64)


def gradient(loss: Tensor, params: dict[str, Tensor]) -> Tensor:
    grads = torch.autograd.grad(loss, list(params.values()))
    return torch.cat([grad.flatten() for grad in grads])


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("start", ["learned", "zero"])
@pytest.mark.parametrize("scope", ["all", "head"])
@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_second_order_meta_gradients_equal_central_differences(
    kind: str, scope: str, start: str
) -> None:
    batch = waves() if kind == "regression" else classes((2,))
    learner = mlp("second_order", scope, start, family(kind, batch.support_x.shape[2:]))
    params = start_of(learner)
    found = gradient(learner.meta_loss(params, batch), params)
    expected = central_differences(lambda p: learner.meta_loss(p, batch), params)
    assert relative_error(found, expected) < 1e-6


@pytest.mark.parametrize("norm", ["support", "transductive", "layer", "none"])
def test_second_order_meta_gradients_of_convolutions_equal_central_differences(norm: str) -> None:
    strategy = Strategy(
        backbone=Conv4.model_validate({"width": 2, "depth": 1, "norm": norm}),
        head=Linear(start="learned"),
        inner=SGD(steps=2, lr=0.05, scope="all"),
        meta=Meta(rule="second_order"),
    )
    learner = build_learner(strategy, family("classification", (1, 4, 4)), 3)
    params, batch = start_of(learner), classes((1, 4, 4))
    found = gradient(learner.meta_loss(params, batch), params)
    # Small steps, for ReLU and max-pooling have kinks.
    expected = central_differences(lambda p: learner.meta_loss(p, batch), params, step=1e-6)
    assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize("scope", ["all", "head"])
def test_first_order_meta_gradients_are_those_of_the_query_loss_at_the_adapted_parameters(
    scope: str,
) -> None:
    batch = waves()
    learner = mlp("first_order", scope, "learned", family("regression", (1,)))
    params = start_of(learner)

    def network(p: dict[str, Tensor], x: Tensor) -> Tensor:
        for layer in range(2):
            weight, bias = (p[f"backbone.layer{layer}.{part}"] for part in ("weight", "bias"))
            x = torch.tanh(x @ weight + bias)
        return x @ p["head.weight"] + p["head.bias"]

    total = {name: torch.zeros_like(p) for name, p in params.items()}
    for t in range(len(batch)):
        fast = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
        for _ in range(3):
            loss = (network(fast, batch.support_x[t]) - batch.support_y[t]).square().mean()
            grads = dict(zip(fast, torch.autograd.grad(loss, list(fast.values())), strict=True))
            for name, grad in grads.items():
                if scope == "all" or name.startswith("head."):
                    fast[name] = (fast[name] - 0.15 * grad).detach().requires_grad_()
        loss = (network(fast, batch.query_x[t]) - batch.query_y[t]).square().mean()
        for name, grad in zip(fast, torch.autograd.grad(loss, list(fast.values())), strict=True):
            total[name] += grad / len(batch)

    found = gradient(learner.meta_loss(params, batch), params)
    expected = torch.cat([grad.flatten() for grad in total.values()])
    assert relative_error(found, expected) < 1e-12


@pytest.mark.parametrize("scope", ["all", "head"])
def test_the_two_orders_adapt_alike_and_differ_in_their_gradients(scope: str) -> None:
    batch, info = waves(), family("regression", (1,))
    losses, gradients = [], []
    for rule in ("first_order", "second_order"):
        learner = mlp(rule, scope, "learned", info)
        params = start_of(learner)
        loss = learner.meta_loss(params, batch)
        losses.append(float(loss.detach()))
        gradients.append(gradient(loss, params))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert relative_error(gradients[0], gradients[1]) > 1e-3


@PROPERTY
@given(
    start=st.floats(-3, 3),
    curvature=st.lists(CURVATURES, min_size=1, max_size=4),
    lr=RATES,
    steps=st.integers(0, 5),
)
def test_on_quadratics_steps_and_gradients_are_those_of_the_formula(
    start: float, curvature: list[float], lr: float, steps: int
) -> None:
    """L_t(x) = a_t (x - t)^2 / 2, so x_k - t = (1 - lr a_t)^k (x_0 - t)."""
    a = torch.tensor(curvature, dtype=torch.float64)
    centre = torch.arange(len(a), dtype=torch.float64)
    shrink = (1 - lr * a) ** steps
    for second_order, slope in ((True, shrink.sum()), (False, torch.tensor(float(len(a))))):
        x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        fast = adapt(
            {"x": x}, lambda p: a * (p["x"] - centre) ** 2 / 2, len(a), steps, lr, second_order
        )
        torch.testing.assert_close(fast["x"], centre + shrink * (start - centre))
        # The query loss is x itself: its gradient is the factor that the steps put before it.
        (found,) = torch.autograd.grad(fast["x"].sum(), x)
        torch.testing.assert_close(found, slope.double())


def test_the_starting_point_stays_as_it_was() -> None:
    params = {"x": torch.tensor([1.0, 2.0], requires_grad=True)}
    adapt(params, lambda p: p["x"].square().sum(1), 3, 2, 0.1, True)
    assert params["x"].tolist() == [1.0, 2.0]
    assert params["x"].grad is None


@pytest.mark.parametrize("second_order", [True, False])
def test_a_start_that_is_not_learned_adapts_without_leaving_a_graph(second_order: bool) -> None:
    with torch.no_grad():
        fast = adapt(
            {"x": torch.tensor([1.0])}, lambda p: p["x"].square().sum(1), 2, 2, 0.25, second_order
        )
    assert fast["x"].tolist() == [[0.25], [0.25]]
    assert not fast["x"].requires_grad
