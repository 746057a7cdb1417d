"""Heads that adapt in closed form: support features and labels in, query predictions out.

All work on ``T`` tasks at once: support features ``(T, S, F)``, query features ``(T, Q, F)``,
targets ``(T, S, O)`` (one-hot for classes), predictions ``(T, Q, O)`` (logits for classes).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metatune.strategy import NearestNeighbour, Prototypes


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """``(T, N, M)`` squared Euclidean distances of ``(T, N, F)`` and ``(T, M, F)``."""
    cross = torch.bmm(a, b.transpose(1, 2))
    square = a.square().sum(2).unsqueeze(2) + b.square().sum(2).unsqueeze(1)
    # Rounding may leave tiny negative values where points coincide.
    return (square - 2 * cross).clamp_min(0)


def similarity(a: Tensor, b: Tensor, distance: str) -> Tensor:
    """``(T, N, M)``: minus the squared distance, or the cosine."""
    if distance == "cosine":
        return torch.bmm(F.normalize(a, dim=2), F.normalize(b, dim=2).transpose(1, 2))
    return -squared_distances(a, b)


def prototypes(part: Prototypes, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
    """Similarity to the class means (Snell et al. 2017), times ``part.scale``."""
    counts = targets.sum(1).clamp_min(1).unsqueeze(2)
    means = torch.bmm(targets.transpose(1, 2), support) / counts
    return part.scale * similarity(query, means, part.distance)


def nearest_neighbour(
    part: NearestNeighbour, support: Tensor, targets: Tensor, query: Tensor
) -> Tensor:
    """For each class the similarity to its closest support example."""
    close = similarity(query, support, part.distance).unsqueeze(3)  # (T, Q, S, 1)
    other = targets.unsqueeze(1) == 0  # (T, 1, S, O)
    return close.masked_fill(other, -torch.inf).amax(2)


def ridge(support: Tensor, targets: Tensor, query: Tensor, penalty: Tensor) -> Tensor:
    """Ridge regression with a penalised intercept, solved in the smaller of S and F + 1.

    ``w = argmin |X w - Y|^2 + penalty |w|^2``; with fewer examples than features in its dual form
    ``w = X' (X X' + penalty I)^-1 Y`` (Bertinetto et al. 2019, equation 6).
    """
    x, q = (torch.cat([z, torch.ones_like(z[..., :1])], 2) for z in (support, query))
    examples, features = x.shape[1:]
    if examples <= features:
        gram = torch.bmm(x, x.transpose(1, 2)) + penalty * torch.eye(examples, dtype=x.dtype)
        return torch.bmm(torch.bmm(q, x.transpose(1, 2)), torch.linalg.solve(gram, targets))
    gram = torch.bmm(x.transpose(1, 2), x) + penalty * torch.eye(features, dtype=x.dtype)
    return torch.bmm(q, torch.linalg.solve(gram, torch.bmm(x.transpose(1, 2), targets)))
