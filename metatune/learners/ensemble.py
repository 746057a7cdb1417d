"""Several learners as one: predictions are averaged."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from metatune.learners.interface import Learner, Params, Tensors
from metatune.seeds import derive_seed


@dataclass(frozen=True)
class Ensemble:
    """``count`` learners of one kind from different starts (Lakshminarayanan et al. 2017).

    Their parameters stand side by side as ``member<i>.*``; each follows its own loss.
    """

    member: Learner
    count: int
    classes: bool

    def init(self, seed: int) -> Params:
        """Every member's meta-parameters, from a seed of its own."""
        return {
            f"member{i}.{name}": p
            for i in range(self.count)
            for name, p in self.member.init(derive_seed(seed, "member", i)).items()
        }

    def predict(self, params: Params, batch: Tensors) -> Tensor:
        """The mean prediction; for classes the logarithm of the mean probability."""
        each = torch.stack([self.member.predict(own, batch) for own in self._members(params)])
        if not self.classes:
            return each.mean(0)
        return each.log_softmax(3).logsumexp(0) - log(self.count)

    def meta_loss(self, params: Params, batch: Tensors, progress: float) -> Tensor:
        """The mean of the members' losses, with each member's own gradient."""
        losses = [self.member.meta_loss(own, batch, progress) for own in self._members(params)]
        total = torch.stack(losses).sum()
        return total / self.count + (total - total.detach()) * (1 - 1 / self.count)

    def _members(self, params: Params) -> list[Params]:
        return [
            {name.removeprefix(prefix): p for name, p in params.items() if name.startswith(prefix)}
            for prefix in (f"member{i}." for i in range(self.count))
        ]
