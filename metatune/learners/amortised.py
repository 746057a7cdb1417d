"""Neural processes: a network that reads a support set and predicts (see ``strategy.Amortised``).

Garnelo et al. 2018 (CNP, arXiv 1807.01613), Kim et al. 2019 (ANP, arXiv 1901.05761).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor

from metatune.learners import padding
from metatune.learners.backbones import init_layer, linear
from metatune.learners.interface import Examples, Params
from metatune.strategy import Amortised


@dataclass(frozen=True)
class NeuralProcess:
    """Encoder of support pairs, a summary for each query, and a decoder.

    Classes become tasks of their own, with the class's indicator as the label: so a permutation
    of the labels permutes the predictions, and any number of classes will do.
    """

    part: Amortised
    features: int
    outputs: int
    classes: bool
    masks: ClassVar[bool] = True

    @property
    def _labels(self) -> int:
        return 1 if self.classes else self.outputs

    def init(self, generator: torch.Generator) -> Params:
        width, labels = self.part.width, self._labels
        params = _init_mlp("encoder", self.features + labels, width, self.part.depth, generator)
        if self.part.summary == "attention":
            for name in ("to_query", "to_key"):
                params |= init_layer(name, self.features, width, generator)
            for name in ("to_value", "joined"):
                params |= init_layer(name, width, width, generator)
        params |= _init_mlp("decoder", self.features + width, width, self.part.depth, generator)
        return params | init_layer("decoder.last", width, labels, generator)

    def __call__(
        self, params: Params, support: Examples, targets: Tensor, query: Examples
    ) -> Tensor:
        s, q, mask = support.features, query.features, support.mask
        if self.classes:
            ways = targets.shape[2]
            s, q = (z.repeat_interleave(ways, 0) for z in (s, q))
            mask = None if mask is None else mask.repeat_interleave(ways, 0)
            targets = targets.transpose(1, 2).flatten(0, 1).unsqueeze(2)
        pairs = _mlp(params, "encoder", torch.cat([s, targets], 2), self.part.depth)
        if self.part.summary == "attention":
            summary = self._attend(params, s, pairs, q, mask)
        else:
            summary = padding.mean(pairs, mask).expand(-1, q.shape[1], -1)
        h = _mlp(params, "decoder", torch.cat([q, summary], 2), self.part.depth)
        values = linear(h, params["decoder.last.weight"], params["decoder.last.bias"])
        return values.reshape(-1, ways, q.shape[1]).transpose(1, 2) if self.classes else values

    def _attend(
        self, params: Params, support: Tensor, pairs: Tensor, query: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Scaled dot-product attention of each query to the support set, ``heads`` times."""

        def split(x: Tensor, layer: str) -> Tensor:
            h = linear(x, params[f"{layer}.weight"], params[f"{layer}.bias"])
            return h.reshape(*h.shape[:2], self.part.heads, -1).transpose(1, 2)

        asked, keys, values = (
            split(x, layer)
            for x, layer in ((query, "to_query"), (support, "to_key"), (pairs, "to_value"))
        )
        close = asked @ keys.transpose(2, 3) / sqrt(keys.shape[3])
        if mask is not None:
            close = close.masked_fill(~mask[:, None, None], -torch.inf)
        joined = (close.softmax(3) @ values).transpose(1, 2).flatten(2)
        return linear(joined, params["joined.weight"], params["joined.bias"])


def _init_mlp(name: str, inputs: int, width: int, depth: int, generator: torch.Generator) -> Params:
    params: Params = {}
    for layer in range(depth):
        params |= init_layer(f"{name}.{layer}", width if layer else inputs, width, generator)
    return params


def _mlp(params: Params, name: str, x: Tensor, depth: int) -> Tensor:
    for layer in range(depth):
        x = torch.relu(linear(x, params[f"{name}.{layer}.weight"], params[f"{name}.{layer}.bias"]))
    return x
