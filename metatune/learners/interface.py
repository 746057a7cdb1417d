"""The interfaces of learners, on one page: what a part of your own must offer.

Every part works on ``T`` tasks at once. Parameters are plain dictionaries of tensors that the
caller holds: nothing here has state. A parameter has its own shape, and is then shared by all
tasks, or carries a leading task dimension ``T``, one copy a task: that is how inner steps adapt
every task separately in one program. No part may change its inputs in place.

Tasks of a batch may differ in size: smaller ones are padded, and masks tell which examples are
real. A part whose class says ``masks = True`` is given the masks and leaves padding out of all that
it learns; any other part never sees padding, for it is given the tasks of each size by themselves
(see ``padding.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metatune.tasks.base import TaskBatch

Params = dict[str, Tensor]
"""Parameters by name; what stands before the last dot names a layer."""


def under(prefix: str, params: Mapping[str, Tensor]) -> Params:
    """Parameters whose names begin so, without that beginning."""
    return {n.removeprefix(prefix): p for n, p in params.items() if n.startswith(prefix)}


def over(prefix: str, params: Mapping[str, Tensor]) -> Params:
    """The inverse of ``under``."""
    return {f"{prefix}{name}": p for name, p in params.items()}


@dataclass(frozen=True)
class Tensors:
    """A batch of ``T`` tasks: ``S`` support and ``Q`` query examples each.

    Attributes:
        support_x: ``(T, S, *input_shape)``.
        support_y: ``(T, S)`` labels in [0, way), or ``(T, S, outputs)`` targets.
        query_x, query_y: likewise, with Q.
        support_class, query_class: numbers among all classes of the split; None in a regression.
        groups: the group of each task.
        support_pooled, query_pooled: what the pooled prior model predicts, ``(T, S, outputs)``,
            of classes logarithms of probabilities; None without one.
        support_mask, query_mask: ``(T, S)`` and ``(T, Q)`` bool, True where an example is real;
            both None where all are.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    support_class: Tensor | None = None
    query_class: Tensor | None = None
    groups: tuple[str, ...] = ()
    support_pooled: Tensor | None = None
    query_pooled: Tensor | None = None
    support_mask: Tensor | None = None
    query_mask: Tensor | None = None

    def __len__(self) -> int:
        return self.support_x.shape[0]

    @property
    def mask(self) -> Tensor | None:
        """``(T, S + Q)``: which of all examples, support before query, are real; None: all."""
        if self.support_mask is None or self.query_mask is None:
            return None
        return torch.cat([self.support_mask, self.query_mask], 1)

    def tasks(self, chosen: list[int]) -> Tensors:
        """Some of the tasks, by number."""
        picked: dict[str, Any] = {
            field.name: value[chosen]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        picked["groups"] = tuple(self.groups[task] for task in chosen) if self.groups else ()
        return replace(self, **picked)


def to_tensors(batch: TaskBatch) -> Tensors:
    """The batch as tensors that share its memory."""
    return Tensors(
        torch.from_numpy(batch.support_x),
        torch.from_numpy(batch.support_y),
        torch.from_numpy(batch.query_x),
        torch.from_numpy(batch.query_y),
        support_class=_tensor(batch.support_class),
        query_class=_tensor(batch.query_class),
        groups=batch.groups,
        support_mask=_tensor(batch.support_mask),
        query_mask=_tensor(batch.query_mask),
    )


def _tensor(array: NDArray[np.int64] | NDArray[np.bool_] | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array)


class Backbone(Protocol):
    """Inputs to features. Built as ``Class(input_shape=..., **options)``.

    A ``torch.nn.Module`` is none, but may be named in the place of one: see ``own_network.py``.
    """

    @property
    def features(self) -> int:
        """Features an example."""
        ...

    @property
    def support_shapes_query(self) -> bool:
        """True where features of the query depend on the support set (batch statistics)."""
        ...

    def init(self, generator: torch.Generator) -> Params:
        """Random (or pretrained) shared parameters."""
        ...

    def __call__(self, params: Params, x: Tensor, n_support: int) -> Tensor:
        """Features ``(T, N, features)`` of inputs ``(T, N, *input_shape)``.

        The first ``n_support`` examples of each task are its support set, from which statistics
        over examples are taken, if any are. Where tasks are padded, a backbone that says ``masks``
        is given which examples are real as a fourth argument ``mask``, ``(T, N)`` bool.
        """
        ...


@dataclass(frozen=True)
class Examples:
    """Examples as a head sees them: features ``(T, N, F)`` and flattened inputs ``(T, N, D)``.

    ``mask`` ``(T, N)`` tells the real ones, for heads that say ``masks``; None: all are.
    """

    features: Tensor
    raw: Tensor
    mask: Tensor | None = None


class Head(Protocol):
    """A rule of adaptation: from a support set to predictions, in closed form or by its own loop.

    Built as ``Class(features=F, outputs=O, **options)``.
    """

    def init(self, generator: torch.Generator) -> Params:
        """Meta-parameters; may be empty."""
        ...

    def __call__(
        self, params: Params, support: Examples, targets: Tensor, query: Examples
    ) -> Tensor:
        """Predictions ``(T, Q, O)`` (logits for classes) from targets ``(T, S, O)``.

        Targets are one-hot for classes, and zero where an example is not real. Differentiable
        with respect to ``params`` and features, if they are to be learned.
        """
        ...


class Learner(Protocol):
    """A whole way of learning a task. Built as ``Class(info=..., outputs=O, **options)``."""

    def init(self, seed: int) -> Params:
        """Meta-parameters before any training."""
        ...

    def predict(self, params: Params, batch: Tensors) -> Tensor:
        """Learn each task from its support set and predict its query set: ``(T, Q, O)``.

        Query labels are in the batch, but are none of its business.
        """
        ...

    def meta_loss(self, params: Params, batch: Tensors, progress: float) -> Tensor:
        """The scalar that meta-training lowers; ``progress`` in [0, 1) of the full resource."""
        ...
