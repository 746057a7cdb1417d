"""Backbones: functions from inputs to features, for many tasks at once.

Parameters are plain dictionaries of tensors, given by the caller. A parameter either has its own
shape, and is shared by all tasks, or carries a leading task dimension ``T``, one copy a task: that
is how inner steps adapt every task separately in one program.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from metatune import strategy as parts

Params = dict[str, Tensor]


class Backbone(Protocol):
    """Inputs to features. Finished classes below; ``build_backbone`` picks one."""

    @property
    def features(self) -> int:
        """Features an example."""
        ...

    @property
    def support_shapes_query(self) -> bool:
        """True where features of the query depend on the support set (batch statistics)."""
        ...

    def init(self, generator: torch.Generator) -> Params:
        """Random shared parameters."""
        ...

    def __call__(self, params: Params, x: Tensor, n_support: int) -> Tensor:
        """Features ``(T, N, features)`` of inputs ``(T, N, *input_shape)``.

        The first ``n_support`` examples of each task are its support set, from which batch
        statistics are taken where the normalisation asks for them.
        """
        ...


def build_backbone(part: parts.Backbone, input_shape: tuple[int, ...], grouped: bool) -> Backbone:
    """The backbone of a strategy. ``grouped`` chooses the form of per-task convolutions."""
    match part:
        case parts.NoBackbone():
            return RawInputs(prod(input_shape))
        case parts.MLP():
            return StackedMLP(part, prod(input_shape))
        case parts.Conv4():
            return ConvNet(part, input_shape, grouped)


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


@dataclass(frozen=True)
class RawInputs:
    """No backbone: the flattened inputs are the features."""

    features: int
    support_shapes_query: bool = False

    def init(self, generator: torch.Generator) -> Params:
        return {}

    def __call__(self, params: Params, x: Tensor, n_support: int) -> Tensor:
        return x.flatten(2)


@dataclass(frozen=True)
class StackedMLP:
    """Hidden layers as batched products over tasks (no loop over tasks)."""

    part: parts.MLP
    inputs: int
    support_shapes_query: bool = False

    @property
    def features(self) -> int:
        return self.part.width

    def init(self, generator: torch.Generator) -> Params:
        params: Params = {}
        size = self.inputs
        for layer in range(self.part.depth):
            weight, bias = init_linear(size, self.part.width, generator)
            params[f"layer{layer}.weight"], params[f"layer{layer}.bias"] = weight, bias
            size = self.part.width
        return params

    def __call__(self, params: Params, x: Tensor, n_support: int) -> Tensor:
        activate = torch.relu if self.part.activation == "relu" else torch.tanh
        h = x.flatten(2)
        for layer in range(self.part.depth):
            h = activate(linear(h, params[f"layer{layer}.weight"], params[f"layer{layer}.bias"]))
        return h


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

    def __call__(self, params: Params, x: Tensor, n_support: int) -> Tensor:
        tasks, examples = x.shape[:2]
        per_task = params["block0.weight"].ndim == 5
        if not per_task and not self.support_shapes_query:
            h = self._blocks(params, x.flatten(0, 1), n_support, groups=1)
            return h.reshape(tasks, examples, -1)
        if per_task and self.grouped:
            merged = {name: p.flatten(0, 1) for name, p in params.items()}
            h = self._blocks(merged, x.transpose(0, 1).flatten(1, 2), n_support, groups=tasks)
            return h.reshape(examples, tasks, -1).transpose(0, 1)
        features = [
            self._blocks(
                {name: p[task] for name, p in params.items()} if per_task else params,
                x[task],
                n_support,
                groups=1,
            ).flatten(1)
            for task in range(tasks)
        ]
        return torch.stack(features)

    def _blocks(self, params: Params, h: Tensor, n_support: int, groups: int) -> Tensor:
        """``(N, groups * C, H, W)`` through all blocks; a group of channels belongs to a task."""
        layout = torch.channels_last if groups == 1 else torch.contiguous_format
        h = h.contiguous(memory_format=layout)
        for block in range(self.part.depth):
            weight = params[f"block{block}.weight"].contiguous(memory_format=layout)
            scale, shift = params[f"block{block}.scale"], params[f"block{block}.shift"]
            h = F.conv2d(h, weight, padding=1, groups=groups)
            h = self._normalise(h, scale, shift, n_support, groups)
            # ReLU and max-pooling commute; pooled first, ReLU has a quarter of the work.
            h = torch.relu(F.max_pool2d(h, 2))
        return h

    def _normalise(
        self, h: Tensor, scale: Tensor, shift: Tensor, n_support: int, groups: int
    ) -> Tensor:
        match self.part.norm:
            case "none":
                return torch.addcmul(shift[:, None, None], h, scale[:, None, None])
            case "layer":
                return F.group_norm(h, groups, scale, shift)
            case "transductive":
                return F.batch_norm(h, None, None, scale, shift, training=True)
        if h.shape[0] == n_support:
            return F.batch_norm(h, None, None, scale, shift, training=True)
        var, mean = torch.var_mean(h[:n_support], dim=(0, 2, 3), correction=0)
        gain = scale * torch.rsqrt(var + 1e-5)
        return torch.addcmul((shift - mean * gain)[:, None, None], h, gain[:, None, None])
