"""Padding: what stands behind the examples of smaller tasks, and how it counts for nothing.

A mask ``(T, N)`` is True where an example is real; None stands for all of them, and then each
function here does what it would do without masks. Parts that say ``masks`` leave padding out of
their sums and means; all others, and whatever is not worth a masked form of its own, get the tasks
of each size by themselves, cut to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from metatune.learners.interface import Learner, Params, Tensors

# --- masked statistics ---------------------------------------------------------------------------


def only_real(values: Tensor, mask: Tensor | None) -> Tensor:
    """``(T, N, ...)`` with zeros in the place of padding."""
    return values if mask is None else values.masked_fill(~_beside(mask, values), 0)


def mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """``(T, 1, ...)``: the mean over the real examples of ``(T, N, ...)``."""
    if mask is None:
        return values.mean(1, keepdim=True)
    return only_real(values, mask).sum(1, keepdim=True) / count(mask, values)


def count(mask: Tensor | None, values: Tensor) -> Tensor | int:
    """How many examples of ``(T, N, ...)`` are real: ``N``, or ``(T, 1, ...)``."""
    return values.shape[1] if mask is None else _beside(mask, values).sum(1, keepdim=True)


def var_mean(values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Variance (over N, not N - 1) and mean of the real examples, ``(T, 1, ...)`` each."""
    if mask is None:
        return torch.var_mean(values, dim=1, correction=0, keepdim=True)
    middle = mean(values, mask)
    return mean((values - middle).square(), mask), middle


def _beside(mask: Tensor, values: Tensor) -> Tensor:
    """The mask ready to meet ``(T, N, ...)``."""
    return mask.view(*mask.shape, *(1,) * (values.ndim - 2))


# --- size by size --------------------------------------------------------------------------------


def by_size(batch: Tensors) -> Iterator[tuple[list[int], Tensors]]:
    """The tasks of each size by themselves, without padding; with their numbers in the batch."""
    if batch.support_mask is None or batch.query_mask is None:
        yield list(range(len(batch))), batch
        return
    of_size: dict[tuple[int, ...], list[int]] = {}
    sizes = (mask.sum(1).tolist() for mask in (batch.support_mask, batch.query_mask))
    for task, size in enumerate(zip(*sizes, strict=True)):
        of_size.setdefault(size, []).append(task)
    for tasks in of_size.values():
        yield tasks, _without_padding(batch.tasks(tasks))


def _without_padding(batch: Tensors) -> Tensors:
    """Tasks of one size, cut to it."""
    cut: dict[str, Any] = {"support_mask": None, "query_mask": None}
    for field in fields(batch):
        values, side = getattr(batch, field.name), field.name.partition("_")[0]
        if isinstance(values, Tensor) and field.name not in cut:
            cut[field.name] = real(values, getattr(batch, f"{side}_mask"))
    return replace(batch, **cut)


def real(values: Tensor, mask: Tensor | None) -> Tensor:
    """``(T, n, ...)``: the real ones of ``(T, N, ...)``, of which each task has ``n``."""
    if mask is None:
        return values
    return values[mask].reshape(len(mask), -1, *values.shape[2:])


def put(into: Tensor, mask: Tensor | None, tasks: list[int], values: Tensor) -> None:
    """The inverse: real ones of some tasks ``(t, n, ...)`` into their places in ``(T, N, ...)``."""
    if mask is None:
        into[tasks] = values
        return
    chosen = torch.zeros_like(mask)
    chosen[tasks] = mask[tasks]
    into[chosen] = values.flatten(0, 1)


@dataclass(frozen=True)
class BySize:
    """A learner that is given the tasks of each size by themselves, and never sees padding.

    The loss is the mean over tasks of what the learner says of those of each size.
    """

    learner: Learner

    def init(self, seed: int) -> Params:
        """The learner's own."""
        return self.learner.init(seed)

    def predict(self, params: Params, batch: Tensors) -> Tensor:
        """The learner's predictions, zero in the place of padding."""
        if batch.query_mask is None:
            return self.learner.predict(params, batch)
        parts = [(tasks, self.learner.predict(params, own)) for tasks, own in by_size(batch)]
        found = parts[0][1].new_zeros(*batch.query_mask.shape, parts[0][1].shape[2])
        for tasks, values in parts:
            put(found, batch.query_mask, tasks, values)
        return found

    def meta_loss(self, params: Params, batch: Tensors, progress: float) -> Tensor:
        """The mean of the learner's losses, by tasks."""
        if batch.query_mask is None:
            return self.learner.meta_loss(params, batch, progress)
        losses = [
            len(tasks) / len(batch) * self.learner.meta_loss(params, own, progress)
            for tasks, own in by_size(batch)
        ]
        return torch.stack(losses).sum()


def unpadded_unless_masks(learner: Learner) -> Learner:
    """The learner itself where it says ``masks``, else one that spares it the padding."""
    return learner if getattr(learner, "masks", False) else BySize(learner)
