"""Prior means: what is predicted before the learner on top fits the rest."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from metatune.learners import padding
from metatune.learners.interface import Params, Tensors
from metatune.strategy import Forecast, Pooled, PriorMean, SupportMean
from metatune.tasks.base import FamilyInfo

TINY = 1e-6  # a strength of 0 has no logarithm


def init(part: PriorMean) -> Params:
    """The prior's own meta-parameters."""
    match part:
        case SupportMean(learn=True):
            strength = torch.tensor(log(max(part.strength, TINY)))
            return {"log_strength": strength, "mean": torch.tensor(part.mean)}
        case Pooled(learn=True):
            return {"blend": torch.tensor(part.blend)}
    return {}


def values(
    part: PriorMean, params: Params, batch: Tensors, info: FamilyInfo
) -> tuple[Tensor, Tensor] | None:
    """The prior mean at support ``(T, S, O)`` and query ``(T, Q, O)``; None where it is zero.

    Values in a regression, logits of classes.
    """
    match part:
        case SupportMean():
            return _shrunk(part, params, batch)
        case Pooled():
            assert batch.support_pooled is not None
            assert batch.query_pooled is not None
            blend = params["blend"] if part.learn else part.blend
            if info.kind == "classification":
                return blend * batch.support_pooled, blend * batch.query_pooled
            y, mask = batch.support_y, batch.support_mask
            own, others = padding.mean(y, mask), means_of_others(y, mask)
            return others + blend * batch.support_pooled, own + blend * batch.query_pooled
        case Forecast():
            column = [info.forecasts[part.name]]
            return batch.support_x.flatten(2)[..., column], batch.query_x.flatten(2)[..., column]
    return None


def _shrunk(part: SupportMean, params: Params, batch: Tensors) -> tuple[Tensor, Tensor]:
    strength = params["log_strength"].exp() if part.learn else part.strength
    mean = params["mean"] if part.learn else part.mean
    y, mask = batch.support_y, batch.support_mask
    total = padding.only_real(y, mask).sum(1, keepdim=True)
    level = (total + strength * mean) / (padding.count(mask, y) + strength)
    return level, level.expand(-1, batch.query_x.shape[1], -1)


def means_of_others(y: Tensor, mask: Tensor | None = None) -> Tensor:
    """``(T, S, O)``: the mean of all the other labels of the task that are real.

    A support example must not see its own label in what is taken off it: what is left would be
    smaller than what is left of a query example.
    """
    y = padding.only_real(y, mask)
    return (y.sum(1, keepdim=True) - y) / (padding.count(mask, y) - 1)
