"""The linear head, which the inner optimiser adapts: its start and its predictions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metatune.learners.backbones import init_linear, linear
from metatune.learners.heads import class_means, ridge_weights, with_one
from metatune.learners.interface import Params
from metatune.learners.padding import only_real
from metatune.strategy import Linear


@dataclass(frozen=True)
class LinearHead:
    """``features @ weight + bias``, or ``scale`` times the cosine with each output's weights."""

    part: Linear
    features: int
    outputs: int

    def init(self, generator: torch.Generator) -> Params:
        """What is meta-learned of it: weights and bias where they start learned."""
        if self.part.start != "learned":
            return {}
        return self.random(self.outputs, generator)

    def random(self, outputs: int, generator: torch.Generator) -> Params:
        """A random layer for any number of outputs."""
        weight, bias = init_linear(self.features, outputs, generator)
        return {"weight": weight} if self._cosine else {"weight": weight, "bias": bias}

    @property
    def _cosine(self) -> bool:
        return self.part.similarity == "cosine"

    def start(
        self, learned: Params, support: Tensor, targets: Tensor, mask: Tensor | None = None
    ) -> Params:
        """Where each task's steps start, ``(T, ...)``.

        Args:
            learned: what ``init`` made.
            support: features ``(T, S, F)``.
            targets: ``(T, S, O)``, zero in the place of padding.
            mask: ``(T, S)``, the examples that are real; None: all.
        """
        tasks = len(support)
        match self.part.start:
            case "learned":
                return {name: p.expand(tasks, *p.shape) for name, p in learned.items()}
            case "zero":
                zeros, outputs = support.new_zeros, targets.shape[2]
                return {
                    "weight": zeros(tasks, self.features, outputs),
                    "bias": zeros(tasks, outputs),
                }
            case "prototypes":
                means = class_means(support, targets)
                if self._cosine:
                    return {"weight": means.transpose(1, 2)}
                return {"weight": 2 * means.transpose(1, 2), "bias": -means.square().sum(2)}
            case "ridge":
                x = only_real(with_one(support), mask)
                weights = ridge_weights(x, targets, self.part.penalty)
                return {"weight": weights[:, :-1], "bias": weights[:, -1]}

    def __call__(self, params: Params, features: Tensor) -> Tensor:
        """Predictions ``(T, N, O)`` of features ``(T, N, F)``."""
        if not self._cosine:
            return linear(features, params["weight"], params["bias"])
        unit, weight = F.normalize(features, dim=2), F.normalize(params["weight"], dim=-2)
        return self.part.scale * (unit @ weight)
