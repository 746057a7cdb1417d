"""Is a new task like those that the strategy was trained on?

A task is summed up by its support set: mean and standard deviation of each input, and of the label
where that is a number. Its distance is the root mean square of these numbers' differences from
their means over training tasks, in their standard deviations there (a Mahalanobis distance that
takes them for uncorrelated). A task is *unlike* where it is farther off than ``QUANTILE`` of the
training tasks are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

QUANTILE = 0.99
NAMED = 3  # of what is farthest off
TINY = 1e-2  # of the mean spread: what hardly varies over training tasks is no strict measure


@dataclass(frozen=True)
class Likeness:
    """What the support sets of training tasks are like.

    Attributes:
        mean, spread: ``(M,)`` of each number of their summaries.
        limit: ``()``: the distance that ``QUANTILE`` of them keep.
    """

    mean: Tensor
    spread: Tensor
    limit: Tensor

    @staticmethod
    def of(summaries: Tensor) -> Likeness:
        """From the summaries ``(T, M)`` of training tasks."""
        spread = summaries.std(0, correction=0)
        spread = spread + TINY * spread.mean() + 1e-6
        found = Likeness(summaries.mean(0), spread, torch.zeros(()))
        limit = torch.quantile(found.distance(summaries), QUANTILE)
        return Likeness(found.mean, spread, limit)

    def distance(self, summary: Tensor) -> Tensor:
        """``(...)`` of summaries ``(..., M)``."""
        return ((summary - self.mean) / self.spread).square().mean(-1).sqrt()

    def complaint(self, summary: Tensor, names: Sequence[str]) -> str | None:
        """Why a task ``(M,)`` is unlike the training tasks, in a sentence; None where it is not.

        Args:
            summary: of the task.
            names: of the inputs.
        """
        distance = float(self.distance(summary))
        if distance <= float(self.limit):
            return None
        off = ((summary - self.mean) / self.spread).abs()
        told = [*(f"mean of {n}" for n in names), *(f"spread of {n}" for n in names)]
        labels = (len(summary) - len(told)) // 2
        told += ["mean of the label"] * labels + ["spread of the label"] * labels
        farthest = off.argsort(descending=True)[:NAMED].tolist()
        what = ", ".join(f"{told[i]} ({off[i]:.1f} standard deviations off)" for i in farthest)
        return (
            f"this task is unlike the training tasks: distance {distance:.3g}, of which "
            f"{QUANTILE:.0%} keep {float(self.limit):.3g}; farthest: {what}. "
            "What was measured on tasks like those says little of it."
        )


def summary(x: Tensor, y: Tensor | None) -> Tensor:
    """``(T, M)`` of support sets.

    Args:
        x: ``(T, S, *input_shape)``.
        y: ``(T, S, outputs)`` targets; None for classes.
    """
    parts = [x.flatten(2)] if y is None else [x.flatten(2), y]
    moments = [(part.mean(1), part.std(1, correction=0)) for part in parts]
    return torch.cat([each for pair in moments for each in pair], 1)
