"""The inner loop: steps are those of the formula, and gradients know of them what they should."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metatune.learners.inner_loop import FIRST_ORDER, SECOND_ORDER, Through, adapt, init_rates
from metatune.strategy import Steps

PROPERTY = settings(deadline=None, max_examples=50)
RATES = st.floats(1e-3, 0.9)
CURVATURES = st.floats(0.1, 2)


def quadratics(curvature: list[float]) -> tuple[Tensor, Tensor, Callable[..., Tensor]]:
    """L_t(x) = a_t (x - t)^2 / 2 for tasks t = 0, 1, ..: curvatures, centres, losses."""
    a = torch.tensor(curvature, dtype=torch.float64)
    centre = torch.arange(len(a), dtype=torch.float64)
    return a, centre, lambda p: a * (p["x"] - centre) ** 2 / 2


def copies(start: float, tasks: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A number to learn, and one copy of it a task."""
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    return x, {"x": x.expand(tasks)}


# --- on quadratics, by the formula ----------------------------------------------------------------


@PROPERTY
@given(
    start=st.floats(-3, 3),
    curvature=st.lists(CURVATURES, min_size=1, max_size=4),
    lr=RATES,
    steps=st.integers(1, 5),
    last=st.none() | st.integers(0, 6),
)
def test_on_quadratics_steps_and_gradients_are_those_of_the_formula(
    start: float, curvature: list[float], lr: float, steps: int, last: int | None
) -> None:
    """x_k - t = (1 - lr a_t)^k (x_0 - t), and each step that is seen puts a factor to the slope."""
    a, centre, loss = quadratics(curvature)
    x, each = copies(start, len(a))
    path = adapt(Steps(steps=steps, lr=lr), each, loss, {}, steps, Through(last=last))
    for k, fast in enumerate(path, start=1):
        torch.testing.assert_close(fast["x"], centre + (1 - lr * a) ** k * (start - centre))
    # The query loss is x itself: its gradient is the factor that the steps put before it.
    (found,) = torch.autograd.grad(path[-1]["x"].sum(), x)
    seen = steps if last is None else min(last, steps)
    torch.testing.assert_close(found, ((1 - lr * a) ** seen).sum())


@PROPERTY
@given(
    start=st.floats(-3, 3),
    curvature=st.lists(CURVATURES, min_size=1, max_size=4),
    pull=st.floats(0.5, 3),
)
def test_the_implicit_optimum_lies_between_task_and_start_as_pull_and_curvature_weigh(
    start: float, curvature: list[float], pull: float
) -> None:
    """argmin a (x - t)^2 / 2 + p (x - x_0)^2 / 2 = (a t + p x_0) / (a + p)."""
    a, centre, loss = quadratics(curvature)
    x, each = copies(start, len(a))
    inner = Steps(lr=0.15, proximal=pull)
    (fast,) = adapt(inner, each, loss, {}, 250, Through(implicit=5))
    torch.testing.assert_close(fast["x"], (a * centre + pull * start) / (a + pull))
    (found,) = torch.autograd.grad(fast["x"].sum(), x)
    torch.testing.assert_close(found, (pull / (a + pull)).sum())


@PROPERTY
@given(start=st.floats(-3, 3), pull=st.floats(0, 1), lr=st.floats(0.01, 0.3))
def test_the_pull_goes_to_the_start_and_not_to_the_last_step(
    start: float, pull: float, lr: float
) -> None:
    a, centre, loss = quadratics([0.5, 1.5])
    _, each = copies(start, 2)
    *_, fast = adapt(Steps(lr=lr, proximal=pull), each, loss, {}, 4, FIRST_ORDER)
    expected = torch.full((2,), start, dtype=torch.float64)
    for _ in range(4):
        expected = expected - lr * (a * (expected - centre) + pull * (expected - start))
    torch.testing.assert_close(fast["x"], expected)


# --- momentum and Adam ----------------------------------------------------------------------------


@pytest.mark.parametrize(("inner", "make"), [
    (Steps(lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    (Steps(kind="momentum", lr=0.1, beta=0.8), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8)),
    (Steps(kind="adam", lr=0.1, beta=0.9), lambda p: torch.optim.Adam(p, lr=0.1)),
    (Steps(kind="adam", lr=0.1, beta=0.0), lambda p: torch.optim.Adam(p, 0.1, (0.0, 0.999))),
])  # fmt: skip
def test_each_task_takes_the_steps_of_torchs_own_optimiser(
    inner: Steps, make: Callable[[list[Tensor]], torch.optim.Optimizer]
) -> None:
    target = torch.tensor([[1.0, -2.0], [0.3, 5.0], [0.0, 0.0]], dtype=torch.float64)
    start = {"w": torch.ones(3, 2, dtype=torch.float64)}
    path = adapt(inner, start, lambda p: (p["w"] - target).pow(4).sum(1), {}, 6, FIRST_ORDER)
    for task in range(3):
        w = torch.ones(2, dtype=torch.float64, requires_grad=True)
        optimiser = make([w])
        for fast in path:
            optimiser.zero_grad()
            (w - target[task]).pow(4).sum().backward()
            optimiser.step()
            torch.testing.assert_close(fast["w"][task], w.detach(), rtol=1e-6, atol=1e-7)


def test_adam_stands_still_where_the_gradient_is_zero_and_has_a_finite_derivative() -> None:
    x, each = copies(1.0, 2)
    inner = Steps(kind="adam", lr=0.1)
    *_, fast = adapt(inner, each, lambda p: (p["x"] - 1) ** 2, {}, 2, SECOND_ORDER)
    assert fast["x"].tolist() == [1.0, 1.0]
    (found,) = torch.autograd.grad(fast["x"].sum(), x)
    assert bool(torch.isfinite(found))


# --- rates ----------------------------------------------------------------------------------------

ADAPTED = {
    "backbone.layer0.weight": torch.ones(2, 3), "backbone.layer0.bias": torch.ones(3),
    "head.weight": torch.ones(3, 1), "head.bias": torch.ones(1),
}  # fmt: skip


@pytest.mark.parametrize(("rate", "shapes"), [
    ("fixed", {}),
    ("learned", {"log_rate": ()}),
    ("per_layer", {"backbone.layer0.log_rate": (), "head.log_rate": ()}),
    ("per_layer_step", {"backbone.layer0.log_rate": (4,), "head.log_rate": (4,)}),
    ("per_parameter", {f"{name}.log_rate": tuple(p.shape) for name, p in ADAPTED.items()}),
])  # fmt: skip
def test_learned_rates_are_as_many_as_they_are_said_to_be_and_start_alike(
    rate: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    inner = Steps.model_validate({"steps": 4, "lr": 0.2, "rate": rate})
    found = init_rates(inner, ADAPTED)
    assert {name: tuple(p.shape) for name, p in found.items()} == shapes
    assert all(bool((p.exp() - 0.2).abs().max() < 1e-6) for p in found.values())


@pytest.mark.parametrize("rate", ["learned", "per_layer", "per_layer_step", "per_parameter"])
def test_learned_rates_that_have_not_moved_take_the_steps_of_the_fixed_one(rate: str) -> None:
    each = {name: p.double().expand(2, *p.shape) for name, p in ADAPTED.items()}

    def loss(p: dict[str, Tensor]) -> Tensor:
        return torch.stack([value.flatten(1).pow(3).sum(1) for value in p.values()]).sum(0)

    found = []
    for kind in ("fixed", rate):
        inner = Steps.model_validate({"steps": 3, "lr": 0.05, "rate": kind})
        rates = {name: p.double() for name, p in init_rates(inner, ADAPTED).items()}
        found.append(adapt(inner, each, loss, rates, 3, FIRST_ORDER)[-1])
    for name in ADAPTED:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-6, atol=1e-7)


def test_each_step_may_have_a_rate_of_its_own() -> None:
    rates = {"x.log_rate": torch.tensor([log(0.5), log(0.25)])}
    inner = Steps(steps=2, rate="per_layer_step")
    start = {"x.weight": torch.zeros(1)}
    path = adapt(inner, start, lambda p: p["x.weight"], rates, 2, FIRST_ORDER)
    assert [float(fast["x.weight"]) for fast in path] == pytest.approx([-0.5, -0.75])


@pytest.mark.parametrize("through", [FIRST_ORDER, SECOND_ORDER])
def test_rates_are_learned_by_what_each_step_has_moved(through: Through) -> None:
    """Under a constant gradient 1 the end is x - the sum of rates."""
    rates = {"log_rate": torch.tensor(log(0.3), requires_grad=True)}
    *_, fast = adapt(
        Steps(rate="learned"), {"x": torch.zeros(2)}, lambda p: p["x"], rates, 3, through
    )
    (found,) = torch.autograd.grad(fast["x"].sum(), list(rates.values()))
    assert float(found) == pytest.approx(-2 * 3 * exp(log(0.3)))


# --- purity ---------------------------------------------------------------------------------------


def squares(p: dict[str, Tensor]) -> Tensor:
    return p["x"].square().sum(1)


THROUGH = [FIRST_ORDER, SECOND_ORDER, Through(last=1), Through(implicit=2)]


@pytest.mark.parametrize("through", THROUGH)
def test_the_starting_point_stays_as_it_was(through: Through) -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    adapt(Steps(proximal=1), {"x": x.expand(3, 2)}, squares, {}, 2, through)
    assert x.tolist() == [1.0, 2.0]
    assert x.grad is None


@pytest.mark.parametrize("through", THROUGH)
def test_a_start_that_is_not_learned_adapts_without_leaving_a_graph(through: Through) -> None:
    start = {"x": torch.ones(2, 1)}
    with torch.no_grad():
        *_, fast = adapt(Steps(lr=0.25), start, squares, {}, 2, through)
    assert fast["x"].tolist() == [[0.25], [0.25]]
    assert not fast["x"].requires_grad
    if through.implicit is None:
        *_, fast = adapt(Steps(lr=0.25), start, squares, {}, 2, through)
        assert not fast["x"].requires_grad
