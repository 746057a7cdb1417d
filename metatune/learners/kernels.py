"""Kernels and similarities between examples, for many tasks at once.

All map ``(T, N, F)`` and ``(T, M, F)`` to ``(T, N, M)``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def linear(a: Tensor, b: Tensor) -> Tensor:
    """Inner products, divided by the number of features."""
    return torch.bmm(a, b.transpose(1, 2)) / a.shape[2]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances."""
    cross = torch.bmm(a, b.transpose(1, 2))
    square = a.square().sum(2).unsqueeze(2) + b.square().sum(2).unsqueeze(1)
    # Rounding may leave tiny negative values where points coincide.
    return (square - 2 * cross).clamp_min(0)


def rbf(a: Tensor, b: Tensor, lengthscale: Tensor) -> Tensor:
    """``exp(-|a - b|^2 / (2 F lengthscale^2))``."""
    return torch.exp(squared_distances(a, b) / (-2 * a.shape[2] * lengthscale.square()))


def tanimoto(a: Tensor, b: Tensor) -> Tensor:
    """``a.b / (|a|^2 + |b|^2 - a.b)``: shared bits over bits in either (Ralaivola et al. 2005)."""
    cross = torch.bmm(a, b.transpose(1, 2))
    either = a.square().sum(2).unsqueeze(2) + b.square().sum(2).unsqueeze(1) - cross
    return cross / either.clamp_min(torch.finfo(a.dtype).tiny)


def similarity(a: Tensor, b: Tensor, distance: str) -> Tensor:
    """Minus the squared ``euclidean`` distance, the ``cosine``, or ``tanimoto``."""
    if distance == "cosine":
        return torch.bmm(F.normalize(a, dim=2), F.normalize(b, dim=2).transpose(1, 2))
    if distance == "tanimoto":
        return tanimoto(a, b)
    return -squared_distances(a, b)
