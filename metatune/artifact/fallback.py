"""Falling back: a task is learned by a baseline where that does better on the task's own rows.

Both learn the support set without some of its rows and predict these: leave-one-out up to
``MOST_FOLDS`` rows, else so many folds. All folds of a task are learned in one batch. Whoever has
the lower mean error learns the task; the strategy where both have the same. Whether that is worth
it is measured on ``confirm`` at the export, and an artifact for which it is not has no fallback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from metatune.artifact.members import Member
from metatune.learners.interface import Tensors
from metatune.tasks.base import FamilyInfo

MOST_FOLDS = 32
FEWEST_ROWS = 3
"""Of a support set that rows are left out of: a pooled model wants two others."""

Predict = Callable[[Tensors], Tensor]
"""Learns tasks and predicts their queries: ``(T, Q, outputs)``."""


@dataclass(frozen=True)
class Fallback:
    """A baseline that may learn a task in the strategy's place.

    Attributes:
        name: the baseline's.
        members: it alone.
    """

    name: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Choice:
    """Who learns a task, and why.

    Attributes:
        used: ``strategy``, or the name of the baseline.
        strategy, baseline: mean error of each on rows that it was not given: shares of wrong
            classes, absolute errors where the metric is of these, else squared ones.
        folds: into which the support set was divided.
    """

    used: str
    strategy: float
    baseline: float
    folds: int

    @property
    def fell_back(self) -> bool:
        """True where the baseline learns the task."""
        return self.used != "strategy"

    def __str__(self) -> str:
        who = f"{self.used}, the baseline," if self.fell_back else "the strategy"
        return (
            f"{who} learned the task: in {self.folds} folds of the support set the strategy's "
            f"error was {self.strategy:.4g}, the baseline's {self.baseline:.4g}"
        )


def choose(
    strategy: Predict, baseline: Predict, name: str, x: Tensor, y: Tensor, info: FamilyInfo
) -> Choice | None:
    """Who is to learn a task; None where the support set is too small to leave rows out.

    Args:
        strategy, baseline: the two.
        name: the baseline's.
        x: ``(S, *input_shape)``.
        y: ``(S,)`` numbers of classes, or ``(S, outputs)``.
        info: the family, for what errors are and whether classes are the same in every task.
    """
    fold = folds(y, info)
    if fold is None:
        return None
    batch = without_each(x, y, fold)
    own, other = (_error(predict, batch, info) for predict in (strategy, baseline))
    return Choice(name if other < own else "strategy", own, other, int(fold.max()) + 1)


def folds(y: Tensor, info: FamilyInfo) -> Tensor | None:
    """``(S,)``: the fold of each support row; None where there are too few.

    Where tasks have classes of their own, each keeps a row outside of every fold.
    """
    rows = len(y)
    if rows < FEWEST_ROWS:
        return None
    if info.kind == "regression":
        return torch.arange(rows) % min(MOST_FOLDS, rows)
    order = y.argsort(stable=True)
    place = torch.empty_like(y)
    if info.shared_classes:
        place[order] = torch.arange(rows)
        return place % min(MOST_FOLDS, rows)
    counts = y.bincount()
    fewest = min(MOST_FOLDS, int(counts.min()))
    if fewest < 2:
        return None
    first = counts.cumsum(0) - counts
    place[order] = torch.arange(rows) - first[y[order]]
    return place % fewest


def without_each(x: Tensor, y: Tensor, fold: Tensor) -> Tensors:
    """A task for each fold: its rows are the query, all others the support; padded where needed."""
    numbers = range(int(fold.max()) + 1)
    support, support_mask = _padded([torch.nonzero(fold != k)[:, 0] for k in numbers])
    query, query_mask = _padded([torch.nonzero(fold == k)[:, 0] for k in numbers])
    alike = bool(support_mask.all() and query_mask.all())
    return Tensors(
        x[support], y[support], x[query], y[query],
        support_mask=None if alike else support_mask,
        query_mask=None if alike else query_mask,
    )  # fmt: skip


def _padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """``(T, N)`` rows, the first of each again in the place of padding; and which are real."""
    most = max(map(len, rows))
    whole = torch.stack([torch.cat([own, own[:1].expand(most - len(own))]) for own in rows])
    return whole, torch.stack([torch.arange(most) < len(own) for own in rows])


def _error(predict: Predict, batch: Tensors, info: FamilyInfo) -> float:
    """The mean over all rows of what is predicted of each without it; inf where nothing is."""
    try:
        found = predict(batch)
    except (RuntimeError, ValueError, IndexError, FloatingPointError):
        return inf  # it cannot learn so few rows
    if info.kind == "classification":
        errors = (found.argmax(2) != batch.query_y).double()
    else:
        off = (found - batch.query_y).double()
        absolute = info.metric.name in ("mae", "mase")
        errors = (off.abs() if absolute else off.square()).mean(2)
    real = errors if batch.query_mask is None else errors[batch.query_mask]
    mean = float(real.mean())
    finite = bool(torch.isfinite(found).all()) and mean < inf
    return mean if finite else inf
