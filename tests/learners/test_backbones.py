"""Backbones: the same features whichever form computes them, and statistics from where they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metatune.learners.backbones import ConvNet, build_backbone
from metatune.learners.interface import Backbone, Params
from metatune.strategy import MLP, Conv4, NoBackbone, OwnBackbone, ResidualMLP, SetEncoder

NORMS = get_args(Conv4.model_fields["norm"].annotation)
TASKS, SUPPORT, QUERY = 3, 4, 5


def conv(norm: str, grouped: bool = False, depth: int = 2) -> ConvNet:
    part = Conv4.model_validate({"width": 3, "depth": depth, "norm": norm})
    backbone = build_backbone(part, (2, 8, 8), grouped)
    assert isinstance(backbone, ConvNet)
    return backbone


def shared(backbone: Backbone) -> Params:
    """Shared parameters in float64, away from where scales are one and shifts zero."""
    generator = torch.Generator().manual_seed(3)
    params = {name: p.double() for name, p in backbone.init(generator).items()}
    return {
        name: p + 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        for name, p in params.items()
    }


def per_task(params: Params) -> Params:
    """A copy of the parameters for each task, all different."""
    return {
        name: torch.stack([p * (1 + 0.2 * t) + 0.1 * t for t in range(TASKS)])
        for name, p in params.items()
    }


def images() -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(TASKS, SUPPORT + QUERY, 2, 8, 8, generator=generator, dtype=torch.float64)


def by_hand(part: Conv4, params: Params, x: Tensor) -> Tensor:
    """One task's features, block by block as the docstring of ``Conv4`` says."""
    for block in range(part.depth):
        scale, shift = (
            params[f"block{block}.{name}"][:, None, None] for name in ("scale", "shift")
        )
        x = F.conv2d(x, params[f"block{block}.weight"], padding=1)
        if part.norm != "none":
            source, axes = {
                "support": (x[:SUPPORT], (0, 2, 3)),
                "transductive": (x, (0, 2, 3)),
                "layer": (x, (1, 2, 3)),
            }[part.norm]
            mean = source.mean(axes, keepdim=True)
            var = (source - mean).square().mean(axes, keepdim=True)
            x = (x - mean) / torch.sqrt(var + 1e-5)
        x = F.max_pool2d(torch.relu(scale * x + shift), 2)
    return x.flatten(1)


@pytest.mark.parametrize("norm", NORMS)
def test_convolutions_with_shared_weights_equal_the_formula_task_by_task(norm: str) -> None:
    backbone, x = conv(norm), images()
    params = shared(backbone)
    expected = torch.stack([by_hand(backbone.part, params, x[t]) for t in range(TASKS)])
    torch.testing.assert_close(backbone(params, x, SUPPORT), expected)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_convolutions_with_weights_a_task_equal_the_formula_task_by_task(
    norm: str, grouped: bool
) -> None:
    backbone, x = conv(norm, grouped), images()
    params = per_task(shared(backbone))
    own = [{name: p[t] for name, p in params.items()} for t in range(TASKS)]
    expected = torch.stack([by_hand(backbone.part, own[t], x[t]) for t in range(TASKS)])
    torch.testing.assert_close(backbone(params, x, SUPPORT), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_the_three_forms_of_a_convolution_agree_in_values_and_gradients(norm: str) -> None:
    x, start = images(), shared(conv(norm))
    found = []
    for grouped, copied in ((False, False), (False, True), (True, True)):
        params = {name: p.clone().requires_grad_() for name, p in start.items()}
        copies = {name: p.expand(TASKS, *p.shape) for name, p in params.items()}
        features = conv(norm, grouped)(copies if copied else params, x, SUPPORT)
        grads = torch.autograd.grad(features.square().sum(), list(params.values()))
        found.append((features.detach(), *grads))
    for form in found[1:]:
        torch.testing.assert_close(form, found[0])


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_every_parameter_of_a_convolution_matters(norm: str, grouped: bool) -> None:
    backbone = conv(norm, grouped)
    params = {name: p.requires_grad_() for name, p in per_task(shared(backbone)).items()}
    grads = torch.autograd.grad(
        backbone(params, images(), SUPPORT).square().sum(), list(params.values())
    )
    for grad in grads:
        assert all(float(of_task.abs().sum()) > 0 for of_task in grad)


@pytest.mark.parametrize("norm", NORMS)
def test_statistics_come_from_where_the_norm_says(norm: str) -> None:
    backbone, x = conv(norm), images()
    params = shared(backbone)
    before = backbone(params, x, SUPPORT)
    other_query = x.clone()
    other_query[:, -1] *= 3
    other_support = x.clone()
    other_support[:, 0] *= 3
    after_query, after_support = (
        backbone(params, changed, SUPPORT) for changed in (other_query, other_support)
    )
    neighbours = slice(SUPPORT, SUPPORT + QUERY - 1)
    assert torch.equal(after_query[:, neighbours], before[:, neighbours]) == (
        norm != "transductive"
    )
    assert torch.equal(after_support[:, neighbours], before[:, neighbours]) == (
        norm in ("layer", "none")
    )
    assert backbone.support_shapes_query == (norm in ("support", "transductive"))


@pytest.mark.parametrize(("shape", "depth", "features"), [
    ((1, 28, 28), 4, 3), ((1, 8, 8), 2, 12), ((3, 9, 17), 3, 6),
])  # fmt: skip
def test_the_number_of_features_is_that_of_the_output(
    shape: tuple[int, ...], depth: int, features: int
) -> None:
    backbone = build_backbone(Conv4(width=3, depth=depth, norm="layer"), shape, False)
    assert backbone.features == features
    x = torch.zeros(1, 2, *shape)
    assert backbone(backbone.init(torch.Generator()), x, 1).shape == (1, 2, features)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_an_mlp_equals_a_loop_over_tasks_and_layers(activation: str) -> None:
    part = MLP.model_validate({"width": 5, "depth": 3, "activation": activation})
    backbone = build_backbone(part, (2, 3), False)
    generator = torch.Generator().manual_seed(0)
    params = backbone.init(generator)
    copies = {name: torch.stack([p, 2 * p]) for name, p in params.items()}
    x = torch.randn(2, 4, 2, 3, generator=generator)
    activate = torch.relu if activation == "relu" else torch.tanh
    for given, scales in ((params, (1, 1)), (copies, (1, 2))):
        found = backbone(given, x, 2)
        for t, scale in enumerate(scales):
            h = x[t].flatten(1)
            for layer in range(3):
                weight, bias = (scale * params[f"layer{layer}.{p}"] for p in ("weight", "bias"))
                h = activate(h @ weight + bias)
            torch.testing.assert_close(found[t], h)
    assert backbone.features == 5


# --- tables ---------------------------------------------------------------------------------------


def rows() -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(TASKS, SUPPORT + QUERY, 6, generator=generator, dtype=torch.float64)


def linear_by_hand(params: Params, layer: str, h: Tensor) -> Tensor:
    return h @ params[f"{layer}.weight"] + params[f"{layer}.bias"]


def normed_by_hand(params: Params, layer: str, h: Tensor, norm: str) -> Tensor:
    """One task's activations ``(N, F)``, normalised as ``norm`` says."""
    if norm == "none":
        return h
    source, axis = {"support": (h[:SUPPORT], 0), "transductive": (h, 0), "layer": (h, 1)}[norm]
    mean, var = source.mean(axis, keepdim=True), source.var(axis, correction=0, keepdim=True)
    return (h - mean) / torch.sqrt(var + 1e-5) * params[f"{layer}.gain"] + params[f"{layer}.shift"]


def mlp_by_hand(part: MLP, params: Params, x: Tensor) -> Tensor:
    for layer in range(part.depth):
        h = linear_by_hand(params, f"layer{layer}", x)
        x = torch.tanh(normed_by_hand(params, f"layer{layer}", h, part.norm))
    return x


def residual_by_hand(part: ResidualMLP, params: Params, x: Tensor) -> Tensor:
    h = linear_by_hand(params, "entry", x)
    for block in range(part.depth):
        z = normed_by_hand(params, f"block{block}", h, part.norm)
        z = torch.tanh(linear_by_hand(params, f"block{block}.first", z))
        h = h + linear_by_hand(params, f"block{block}.second", z)
    return h


def set_encoder_by_hand(part: SetEncoder, params: Params, x: Tensor) -> Tensor:
    each = mlp_by_hand(MLP(depth=part.depth), params, x)
    summary = each[:SUPPORT].mean(0).expand_as(each)
    return torch.tanh(linear_by_hand(params, "join", torch.cat([each, summary], 1)))


TABLE_BACKBONES = [
    *((MLP(width=5, activation="tanh", norm=norm), mlp_by_hand) for norm in NORMS),
    *((ResidualMLP(width=5, activation="tanh", norm=norm), residual_by_hand) for norm in NORMS),
    (SetEncoder(width=5, activation="tanh"), set_encoder_by_hand),
]


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize(("part", "by_hand_of_task"), TABLE_BACKBONES)
def test_networks_for_tables_equal_the_formula_task_by_task(
    part: Any, by_hand_of_task: Callable[..., Tensor], copied: bool
) -> None:
    backbone, x = build_backbone(part, (6,), False), rows()
    params = shared(backbone)
    own = [params] * TASKS
    if copied:
        params = per_task(params)
        own = [{name: p[t] for name, p in params.items()} for t in range(TASKS)]
    expected = torch.stack([by_hand_of_task(part, own[t], x[t]) for t in range(TASKS)])
    torch.testing.assert_close(backbone(params, x, SUPPORT), expected)
    assert backbone.features == expected.shape[2]


@pytest.mark.parametrize(("part", "by_hand_of_task"), TABLE_BACKBONES)
def test_networks_for_tables_say_whether_the_support_set_shapes_the_query(
    part: Any, by_hand_of_task: Callable[..., Tensor]
) -> None:
    backbone, x = build_backbone(part, (6,), False), rows()
    params, other = shared(backbone), rows()
    other[:, 0] *= 3
    before, after = (backbone(params, z, SUPPORT)[:, SUPPORT:] for z in (x, other))
    assert torch.equal(before, after) != backbone.support_shapes_query


def test_a_lone_support_example_leaves_features_finite() -> None:
    backbone = build_backbone(MLP(width=5, norm="support"), (6,), False)
    assert bool(torch.isfinite(backbone(shared(backbone), rows()[:, :3], 1)).all())


def test_no_backbone_hands_inputs_on_flattened() -> None:
    backbone = build_backbone(NoBackbone(), (2, 3), False)
    x = torch.arange(24.0).reshape(2, 2, 2, 3)
    assert backbone.features == 6
    assert torch.equal(backbone({}, x, 1), x.reshape(2, 2, 6))
    assert backbone.init(torch.Generator()) == {}


@pytest.mark.parametrize("part", [MLP(), Conv4(depth=3)])
def test_initial_parameters_follow_from_the_generator(part: MLP | Conv4) -> None:
    backbone = build_backbone(part, (1, 8, 8), False)
    first, again, other = (backbone.init(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(p, again[name]) for name, p in first.items())
    assert any(not torch.equal(p, other[name]) for name, p in first.items())


def test_activations_keep_their_size_through_the_blocks() -> None:
    """He initialisation: a convolution doubles mean squares, of which ReLU leaves half."""
    backbone = build_backbone(Conv4(width=64, depth=3, norm="none"), (1, 16, 16), False)
    generator = torch.Generator().manual_seed(0)
    params = backbone.init(generator)
    h = torch.randn(20, 64, 16, 16, generator=generator).relu()
    for block in (1, 2):
        out = F.conv2d(h, params[f"block{block}.weight"], padding=0)
        assert 0.7 < float(out.square().mean() / (2 * h.square().mean())) < 1.4
        h = out.relu()


def test_a_backbone_of_the_users_own_is_made_with_its_options() -> None:
    options = {"features": 3, "init": None, "support_shapes_query": False}
    made = build_backbone(OwnBackbone(use="types:SimpleNamespace", options=options), (2, 3), False)
    assert vars(made) == {"input_shape": (2, 3), **options}
