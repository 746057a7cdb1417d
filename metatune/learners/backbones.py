"""Backbones: functions from inputs to features, for many tasks at once (see ``interface.py``)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metatune import strategy as parts
from metatune.learners import padding
from metatune.learners.interface import Backbone, Params
from metatune.learners.own_network import own_backbone


def build_backbone(part: parts.Backbone, input_shape: tuple[int, ...], grouped: bool) -> Backbone:
    """The backbone of a strategy. ``grouped`` chooses the form of per-task convolutions."""
    match part:
        case parts.NoBackbone():
            return RawInputs(prod(input_shape))
        case parts.MLP():
            return StackedMLP(part, prod(input_shape))
        case parts.ResidualMLP():
            return StackedResidualMLP(part, prod(input_shape))
        case parts.SetEncoder():
            return DeepSet(part, prod(input_shape))
        case parts.Conv4():
            return ConvNet(part, input_shape, grouped)
        case parts.OwnBackbone():
            return own_backbone(part, input_shape)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x @ weight + bias`` for ``x`` of (T, N, in); weight (in, out) shared or (T, in, out)."""
    if weight.ndim == 3:
        return torch.baddbmm(bias.unsqueeze(1), x, weight)
    return torch.addmm(bias, x.flatten(0, 1), weight).reshape(*x.shape[:2], -1)


def init_linear(inputs: int, outputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight (in, out) and bias (out), uniform in +-1/sqrt(in) as torch.nn.Linear's."""
    bound = 1 / sqrt(inputs)
    weight = torch.empty(inputs, outputs).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(outputs).uniform_(-bound, bound, generator=generator)
    return weight, bias


def init_layer(name: str, inputs: int, outputs: int, generator: torch.Generator) -> Params:
    """Weight and bias of a linear layer, by their names."""
    weight, bias = init_linear(inputs, outputs, generator)
    return {f"{name}.weight": weight, f"{name}.bias": bias}


@dataclass(frozen=True)
class RawInputs:
    """No backbone: the flattened inputs are the features."""

    features: int
    support_shapes_query: bool = False
    masks: ClassVar[bool] = True

    def init(self, generator: torch.Generator) -> Params:
        return {}

    def __call__(
        self, params: Params, x: Tensor, n_support: int, mask: Tensor | None = None
    ) -> Tensor:
        return x.flatten(2)


def activate(h: Tensor, name: str) -> Tensor:
    """ReLU or tanh, by name."""
    return torch.relu(h) if name == "relu" else torch.tanh(h)


def init_norm(norm: str, width: int) -> Params:
    """Gain and shift of a normalised layer; nothing where there is no normalisation."""
    if norm == "none":
        return {}
    return {"gain": torch.ones(width), "shift": torch.zeros(width)}


def normalise(
    params: Params, layer: str, h: Tensor, n_support: int, norm: str, mask: Tensor | None
) -> Tensor:
    """``(T, N, F)`` normalised by what ``norm`` says, each task by its own real examples."""
    if norm == "none":
        return h
    gain, shift = (_rows(params[f"{layer}.{name}"]) for name in ("gain", "shift"))
    if norm == "layer":
        return F.layer_norm(h, h.shape[-1:]) * gain + shift
    # A lone support example is at its own mean, and its variance of 0 says nothing of a scale.
    last = n_support if norm == "support" else h.shape[1]
    var, mean = padding.var_mean(h[:, :last], None if mask is None else mask[:, :last])
    return (h - mean) * torch.rsqrt(var + 1e-5) * gain + shift


def _rows(p: Tensor) -> Tensor:
    """A vector for all tasks, or one a task, ready to meet ``(T, N, F)``."""
    return p.unsqueeze(1) if p.ndim == 2 else p


@dataclass(frozen=True)
class StackedMLP:
    """Hidden layers as batched products over tasks (no loop over tasks)."""

    part: parts.MLP
    inputs: int
    masks: ClassVar[bool] = True

    @property
    def features(self) -> int:
        return self.part.width

    @property
    def support_shapes_query(self) -> bool:
        return self.part.norm in ("support", "transductive")

    def init(self, generator: torch.Generator) -> Params:
        params: Params = {}
        size = self.inputs
        for layer in range(self.part.depth):
            params |= init_layer(f"layer{layer}", size, self.part.width, generator)
            norm = init_norm(self.part.norm, self.part.width)
            params |= {f"layer{layer}.{name}": p for name, p in norm.items()}
            size = self.part.width
        return params

    def __call__(
        self, params: Params, x: Tensor, n_support: int, mask: Tensor | None = None
    ) -> Tensor:
        h = x.flatten(2)
        for number in range(self.part.depth):
            layer = f"layer{number}"
            h = linear(h, params[f"{layer}.weight"], params[f"{layer}.bias"])
            h = normalise(params, layer, h, n_support, self.part.norm, mask)
            h = activate(h, self.part.activation)
        return h


@dataclass(frozen=True)
class StackedResidualMLP:
    """Pre-activation residual blocks (He et al. 2016), as batched products over tasks."""

    part: parts.ResidualMLP
    inputs: int
    masks: ClassVar[bool] = True

    @property
    def features(self) -> int:
        return self.part.width

    @property
    def support_shapes_query(self) -> bool:
        return self.part.norm in ("support", "transductive")

    def init(self, generator: torch.Generator) -> Params:
        width = self.part.width
        params = init_layer("entry", self.inputs, width, generator)
        for block in range(self.part.depth):
            params |= init_layer(f"block{block}.first", width, width, generator)
            params |= init_layer(f"block{block}.second", width, width, generator)
            norm = init_norm(self.part.norm, width)
            params |= {f"block{block}.{name}": p for name, p in norm.items()}
        return params

    def __call__(
        self, params: Params, x: Tensor, n_support: int, mask: Tensor | None = None
    ) -> Tensor:
        h = linear(x.flatten(2), params["entry.weight"], params["entry.bias"])
        for number in range(self.part.depth):
            block = f"block{number}"
            z = normalise(params, block, h, n_support, self.part.norm, mask)
            z = linear(z, params[f"{block}.first.weight"], params[f"{block}.first.bias"])
            z = activate(z, self.part.activation)
            h = h + linear(z, params[f"{block}.second.weight"], params[f"{block}.second.bias"])
        return h


@dataclass(frozen=True)
class DeepSet:
    """An example beside the mean of its task's support inputs (Zaheer et al. 2017)."""

    part: parts.SetEncoder
    inputs: int
    support_shapes_query: bool = True
    masks: ClassVar[bool] = True

    @property
    def _each(self) -> StackedMLP:
        part = self.part
        mlp = parts.MLP(width=part.width, depth=part.depth, activation=part.activation)
        return StackedMLP(mlp, self.inputs)

    @property
    def features(self) -> int:
        return self.part.width

    def init(self, generator: torch.Generator) -> Params:
        width = self.part.width
        return self._each.init(generator) | init_layer("join", 2 * width, width, generator)

    def __call__(
        self, params: Params, x: Tensor, n_support: int, mask: Tensor | None = None
    ) -> Tensor:
        h = self._each(params, x, n_support)
        known = None if mask is None else mask[:, :n_support]
        summary = padding.mean(h[:, :n_support], known).expand_as(h)
        joined = linear(torch.cat([h, summary], 2), params["join.weight"], params["join.bias"])
        return activate(joined, self.part.activation)


@dataclass(frozen=True)
class ConvNet:
    """Blocks of 3x3 convolution, normalisation, ReLU and 2x2 max-pooling.

    Convolutions have three forms, each the fastest for its case: all tasks in one batch where no
    statistic is taken over a task; a loop over tasks with channels last; and, for per-task
    weights under second-order gradients (``grouped``), one convolution with a group of channels
    a task.
    """

    part: parts.Conv4
    input_shape: tuple[int, ...]
    grouped: bool
    masks: ClassVar[bool] = True

    @property
    def features(self) -> int:
        height, width = (side >> self.part.depth for side in self.input_shape[1:])
        return self.part.width * height * width

    @property
    def support_shapes_query(self) -> bool:
        return self.part.norm in ("support", "transductive")

    def init(self, generator: torch.Generator) -> Params:
        params: Params = {}
        channels = self.input_shape[0]
        for block in range(self.part.depth):
            shape = (self.part.width, channels, 3, 3)
            # He initialisation: the variance of activations is kept through the ReLUs.
            std = sqrt(2 / (9 * channels))
            params[f"block{block}.weight"] = torch.empty(shape).normal_(0, std, generator=generator)
            params[f"block{block}.scale"] = torch.ones(self.part.width)
            params[f"block{block}.shift"] = torch.zeros(self.part.width)
            channels = self.part.width
        return params

    def __call__(
        self, params: Params, x: Tensor, n_support: int, mask: Tensor | None = None
    ) -> Tensor:
        tasks, examples = x.shape[:2]
        per_task = params["block0.weight"].ndim == 5
        if not per_task and not self.support_shapes_query:
            h = self._blocks(params, x.flatten(0, 1), n_support, groups=1, mask=None)
            return h.reshape(tasks, examples, -1)
        if per_task and self.grouped:
            merged = {name: p.flatten(0, 1) for name, p in params.items()}
            h = x.transpose(0, 1).flatten(1, 2)
            h = self._blocks(merged, h, n_support, groups=tasks, mask=mask)
            return h.reshape(examples, tasks, -1).transpose(0, 1)
        features = [
            self._blocks(
                {name: p[task] for name, p in params.items()} if per_task else params,
                x[task],
                n_support,
                groups=1,
                mask=None if mask is None else mask[task : task + 1],
            ).flatten(1)
            for task in range(tasks)
        ]
        return torch.stack(features)

    def _blocks(
        self, params: Params, h: Tensor, n_support: int, groups: int, mask: Tensor | None
    ) -> Tensor:
        """``(N, groups * C, H, W)`` through all blocks; a group of channels belongs to a task.

        ``mask`` ``(groups, N)`` tells the examples of each that are real.
        """
        layout = torch.channels_last if groups == 1 else torch.contiguous_format
        h = h.contiguous(memory_format=layout)
        for block in range(self.part.depth):
            weight = params[f"block{block}.weight"].contiguous(memory_format=layout)
            scale, shift = params[f"block{block}.scale"], params[f"block{block}.shift"]
            h = F.conv2d(h, weight, padding=1, groups=groups)
            h = self._normalise(h, scale, shift, n_support, groups, mask)
            # ReLU and max-pooling commute; pooled first, ReLU has a quarter of the work.
            h = torch.relu(F.max_pool2d(h, 2))
        return h

    def _normalise(
        self,
        h: Tensor,
        scale: Tensor,
        shift: Tensor,
        n_support: int,
        groups: int,
        mask: Tensor | None,
    ) -> Tensor:
        if self.part.norm == "none":
            return torch.addcmul(shift[:, None, None], h, scale[:, None, None])
        if self.part.norm == "layer":
            return F.group_norm(h, groups, scale, shift)
        last = h.shape[0] if self.part.norm == "transductive" else n_support
        if mask is None and h.shape[0] == last:
            return F.batch_norm(h, None, None, scale, shift, training=True)
        if mask is None:
            var, mean = torch.var_mean(h[:last], dim=(0, 2, 3), correction=0)
        else:
            # (groups, N, C, H, W), of which each group has a mean over its real examples.
            seen = h[:last].reshape(last, groups, -1, *h.shape[2:]).transpose(0, 1)
            var, mean = (z.flatten() for z in _var_mean_of_images(seen, mask[:, :last]))
        gain = scale * torch.rsqrt(var + 1e-5)
        return torch.addcmul((shift - mean * gain)[:, None, None], h, gain[:, None, None])


def _var_mean_of_images(images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """``(T, C)`` each: over real examples and pixels of ``(T, N, C, H, W)``."""
    mean = padding.mean(images, mask).mean((3, 4), keepdim=True)
    var = padding.mean((images - mean).square(), mask).mean((3, 4))
    return var.squeeze(1), mean[:, 0, :, 0, 0]
