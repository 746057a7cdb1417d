"""Several learners as one: predictions are averaged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metatune.blend import blend
from metatune.learners.interface import Learner, Params, Tensors, over, under
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
        params: Params = {}
        for i in range(self.count):
            params |= over(f"member{i}.", self.member.init(derive_seed(seed, "member", i)))
        return params

    def predict(self, params: Params, batch: Tensors) -> Tensor:
        """The mean prediction; for classes the logarithm of the mean probability."""
        each = torch.stack([self.member.predict(own, batch) for own in self._members(params)])
        return blend(each, self.classes)

    def meta_loss(self, params: Params, batch: Tensors, progress: float) -> Tensor:
        """The mean of the members' losses, with each member's own gradient."""
        losses = [self.member.meta_loss(own, batch, progress) for own in self._members(params)]
        total = torch.stack(losses).sum()
        return total / self.count + (total - total.detach()) * (1 - 1 / self.count)

    def _members(self, params: Params) -> list[Params]:
        return [under(f"member{i}.", params) for i in range(self.count)]
