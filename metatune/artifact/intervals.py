"""Prediction intervals: split conformal over groups (Lee, Barber & Willett 2023).

"Distribution-free inference with hierarchical data": with K groups of which group k has n_k
scores, the threshold is the ``level`` quantile of the distribution that gives each score of group
k the weight 1 / ((K + 1) n_k), and infinity the weight 1 / (K + 1). If a new group is as these are
(exchangeable with them), an example of it lies within with chance ``level`` at least, on average
over groups: it is the pooling of Dunn, Wasserman & Ramdas (2023, "Distribution-free prediction
sets for two-layer hierarchical models") with a bound that holds for few groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metatune.errors import ArtifactError

ALMOST = 1e-9  # of rounding in sums of weights


@dataclass(frozen=True)
class Calibration:
    """How far predictions were off on tasks that nothing was learned from.

    Attributes:
        scores: ``(N, outputs)`` absolute errors, in units of ``unit``.
        group: ``(N,)`` number of each one's group, from 0.
        floor: ``(outputs,)`` what is added to a task's own scale in its unit.
    """

    scores: Tensor
    group: Tensor
    floor: Tensor

    @property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1

    def half_width(self, support_y: Tensor, level: float) -> Tensor:
        """``(outputs,)``: how far from its prediction a label of a new task may lie.

        Args:
            support_y: ``(S, outputs)`` the task's support labels, whose scale is its unit.
            level: chance that it lies within.

        Raises:
            ArtifactError: the level is none, or these groups cannot bear it.
        """
        most = self.groups / (self.groups + 1)
        if not 0 < level <= most + ALMOST:
            raise ArtifactError(
                f"level: found {level}; allowed: above 0, up to {most:.3g}, which is what the "
                f"{self.groups} groups of the calibration bear"
            )
        return self.threshold(level) * unit(support_y, self.floor)

    def threshold(self, level: float) -> Tensor:
        """``(outputs,)``: the quantile of the scores, in their unit."""
        counts = torch.bincount(self.group, minlength=self.groups).double()
        weight = 1 / ((self.groups + 1) * counts[self.group])
        found = []
        for scores in self.scores.T:
            order = scores.argsort()
            place = int((weight[order].cumsum(0) < level - ALMOST).sum())
            found.append(scores[order[min(place, len(order) - 1)]])
        return torch.stack(found)


def unit(support_y: Tensor, floor: Tensor) -> Tensor:
    """What errors on a task are measured in: the support labels' standard deviation and a floor.

    Args:
        support_y: ``(..., S, outputs)``.
        floor: ``(outputs,)``.

    Returns:
        ``(..., outputs)``.
    """
    return support_y.std(-2, correction=0) + floor
