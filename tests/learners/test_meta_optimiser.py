"""The meta-optimiser: by hand, and step for step that of torch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metatune.learners.interface import Params
from metatune.learners.meta_optimiser import averaged, update
from metatune.strategy import Outer


def stepped(gradient: float, lr: float = 0.1, start: float = 2.0, **outer: object) -> float:
    """Where a weight ends after one step."""
    params = {"head.weight": torch.tensor([[start]])}
    grads: dict[str, Tensor | None] = {"head.weight": torch.tensor([[gradient]])}
    new, _ = update(Outer.model_validate(outer), params, grads, {}, 0, lr)
    return float(new["head.weight"])


def test_a_step_of_sgd_is_the_rate_times_the_gradient() -> None:
    assert stepped(30.0, kind="sgd") == pytest.approx(2 - 0.1 * 30)


@pytest.mark.parametrize("gradient", [1e-2, -1e2])
def test_adam_moves_by_the_rate_at_its_first_step_whatever_the_gradient(gradient: float) -> None:
    expected = 2 - math.copysign(0.1, gradient)
    assert stepped(gradient, kind="adam") == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_weight_decay_shrinks_weights_by_rate_times_decay(kind: str) -> None:
    assert stepped(0.0, kind=kind, weight_decay=0.5) == pytest.approx(2.0 * (1 - 0.1 * 0.5))


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_weights_decay_and_numbers_without_a_natural_zero_do_not(kind: str) -> None:
    params = {"bias": torch.ones(3), "log_rate": torch.tensor(1.0), "weight": torch.ones(3, 2)}
    grads: dict[str, Tensor | None] = {name: torch.zeros_like(p) for name, p in params.items()}
    outer = Outer.model_validate({"kind": kind, "weight_decay": 0.5})
    new, _ = update(outer, params, grads, {}, 0, 0.1)
    assert {name for name, p in new.items() if not torch.equal(p, params[name])} == {"weight"}


@pytest.mark.parametrize(("clip", "length"), [(0.0, 2000.0), (1.0, 1.0), (1e5, 2000.0)])
def test_clipping_bounds_the_length_of_the_gradient(clip: float, length: float) -> None:
    found = stepped(2000.0, lr=1.0, start=0.0, kind="sgd", clip=clip)
    assert -found == pytest.approx(length, rel=1e-4)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_what_has_no_gradient_stays_as_it_was(kind: str) -> None:
    params = {"head.weight": torch.ones(2, 2), "backbone.weight": torch.ones(2, 2)}
    grads = {"head.weight": None, "backbone.weight": torch.ones(2, 2)}
    outer = Outer.model_validate({"kind": kind, "weight_decay": 0.5, "clip": 1.0})
    new, moments = update(outer, params, grads, {}, 0, 0.1)
    assert torch.equal(new["head.weight"], params["head.weight"])
    assert not torch.equal(new["backbone.weight"], params["backbone.weight"])
    assert not [name for name in moments if name.startswith("head.")]


@pytest.mark.parametrize("kind", ["adam", "sgd"])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_twenty_steps_equal_those_of_torchs_own_optimiser(kind: str, clip: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = {name: torch.randn(3, 4, generator=generator) for name in ("one", "other")}

    def loss(p: Params) -> Tensor:
        return (p["one"] * p["other"]).tanh().square().sum()

    outer = Outer.model_validate({"kind": kind, "weight_decay": 0.1, "clip": clip})
    params, moments = start, Params()
    own = {name: p.clone().requires_grad_() for name, p in start.items()}
    make = torch.optim.AdamW if kind == "adam" else torch.optim.SGD
    optimiser = make(own.values(), lr=0.01, weight_decay=0.1)
    for step in range(20):
        rate = 0.01 * (1 + math.cos(math.pi * step / 20)) / 2
        tracked = {name: p.detach().requires_grad_() for name, p in params.items()}
        grads = torch.autograd.grad(loss(tracked), list(tracked.values()))
        params, moments = update(
            outer, params, dict(zip(params, grads, strict=True)), moments, step, rate
        )
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss(own).backward()  # type: ignore[no-untyped-call]
        if clip:
            torch.nn.utils.clip_grad_norm_(own.values(), clip)
        optimiser.step()
    for name, p in own.items():
        torch.testing.assert_close(params[name], p.detach(), rtol=1e-4, atol=1e-5)


def test_what_goes_in_stays_as_it_is() -> None:
    params, grads = {"weight": torch.ones(2, 2)}, {"weight": torch.ones(2, 2)}
    outer = Outer(weight_decay=0.1, clip=1.0)
    _, moments = update(outer, params, grads, {}, 0, 0.1)
    kept = {name: p.clone() for name, p in moments.items()}
    update(outer, params, grads, moments, 1, 0.1)
    assert all(torch.equal(p, kept[name]) for name, p in moments.items())
    assert torch.equal(params["weight"], torch.ones(2, 2))
    assert torch.equal(grads["weight"], torch.ones(2, 2))


# --- the moving average ---------------------------------------------------------------------------


def test_there_is_no_average_where_none_is_wanted() -> None:
    assert averaged(Outer(), {}, {"weight": torch.ones(2)}, 0) == {}


def test_the_average_begins_at_the_first_weights_and_forgets_faster_early_on() -> None:
    outer, average = Outer(average=0.9), Params()
    expected = 1.0
    for step in range(200):
        weight = float(step + 1)
        average = averaged(outer, average, {"weight": torch.tensor(weight)}, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = weight if step == 0 else decay * expected + (1 - decay) * weight
        assert float(average["weight"]) == pytest.approx(expected, rel=1e-4)
    assert 185 < expected < 195  # about ten steps behind
