"""Blends: what several learners predict, as one prediction; and which of them to blend.

Pure functions of predictions that are there already: nothing is trained for a blend.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log

import torch
from torch import Tensor


def blend(predictions: Tensor, classes: bool) -> Tensor:
    """The mean prediction; for classes the logarithm of the mean probability.

    Args:
        predictions: of each member ``(members, T, Q, outputs)``; for classes logits.
        classes: the outputs are classes.

    Returns:
        ``(T, Q, outputs)``.
    """
    if not classes:
        return predictions.mean(0)
    return predictions.log_softmax(3).logsumexp(0) - log(len(predictions))


def choose(
    predictions: Tensor, classes: bool, most: int, score: Callable[[Tensor], float]
) -> tuple[int, ...]:
    """Greedy forward selection (Caruana et al. 2004): add what helps the blend most, while it does.

    Unlike theirs without replacement, so every member counts alike: a blend of few is to be made
    again by training each anew. Of equals the earlier one is taken.

    Args:
        predictions: of each candidate ``(candidates, T, Q, outputs)``.
        classes: the outputs are classes.
        most: members at most.
        score: of a blend ``(T, Q, outputs)``; higher is better.

    Returns:
        The members in the order of their choice. The first is the best alone; if it stays the only
        one, no blend with it was better.
    """
    chosen: list[int] = []
    best = float("-inf")
    while len(chosen) < min(most, len(predictions)):
        left = [i for i in range(len(predictions)) if i not in chosen]
        found = {i: score(blend(predictions[[*chosen, i]], classes)) for i in left}
        top = max(left, key=lambda i: found[i])
        if found[top] <= best:
            break
        chosen.append(top)
        best = found[top]
    return tuple(chosen)


def stacked(members: list[Tensor]) -> Tensor:
    """Members' predictions as one tensor ``(members, T, Q, outputs)``.

    Raises:
        ValueError: they are not of the same queries.
    """
    shapes = {tuple(each.shape) for each in members}
    if len(shapes) != 1:
        raise ValueError(f"predictions of one shape can be blended, found {sorted(shapes)}")
    return torch.stack(members)
