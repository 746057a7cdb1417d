"""Augmentation: training tasks changed as the diet has it.

Images are moved by affine maps and bent elastically (Simard, Steinkraus and Platt 2003, "Best
practices for convolutional neural networks applied to visual document analysis"). Which sets of a
task are changed, and whether changed copies enlarge the support set, are choices of their own, as
in Ni et al. 2021, "Data augmentation for meta-learning" (support, query, shot and task
augmentation). Classes turned by quarter turns count as new classes, as in Santoro et al. 2016,
"Meta-learning with memory-augmented neural networks", and Vinyals et al. 2016, "Matching networks
for one shot learning".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metatune.learners.interface import Tensors
from metatune.seeds import derive_seed
from metatune.strategy.diet import Diet, ImageAugmentation, TableAugmentation

# Nodes a side of the noise that bends images: over the 28 pixels of a character they are 4.5
# pixels apart, about as smooth as the Gaussian of 4 pixels of Simard et al.
NODES = 7


def augment(diet: Diet, batch: Tensors, seeds: Sequence[int], train_classes: int) -> Tensors:
    """Training tasks as the diet has them.

    Args:
        diet: what is to be done.
        batch: the tasks; they are not changed in place.
        seeds: one a task; a task's changes depend on its own seed alone.
        train_classes: classes of the split before turning; a class turned ``k`` times by a
            quarter is number ``class + k * train_classes``.

    Returns:
        The changed tasks, or ``batch`` itself where the diet changes nothing.
    """
    if diet.quarter_turns:
        batch = _turn_classes(batch, _generators(seeds, "quarter turns"), train_classes)
    part = diet.augment
    if isinstance(part, ImageAugmentation):
        return _augment_images(part, batch, _generators(seeds, "augment"))
    if isinstance(part, TableAugmentation):
        return _augment_tables(part, batch, _generators(seeds, "augment"))
    return batch


def _generators(seeds: Sequence[int], purpose: str) -> list[np.random.Generator]:
    return [np.random.default_rng(derive_seed(seed, purpose)) for seed in seeds]


def _uniform(rngs: list[np.random.Generator], *shape: int) -> Tensor:
    """Numbers ``(T, *shape)`` in [0, 1), each task's from its own generator."""
    return torch.from_numpy(np.stack([rng.random(shape) for rng in rngs]))


def _normal(rngs: list[np.random.Generator], *shape: int) -> Tensor:
    return torch.from_numpy(np.stack([rng.standard_normal(shape) for rng in rngs]))


# Quarter turns


def _turn_classes(batch: Tensors, rngs: list[np.random.Generator], train_classes: int) -> Tensors:
    way = int(max(batch.support_y.max(), batch.query_y.max())) + 1
    turns = (4 * _uniform(rngs, way)).long().to(batch.support_y.device)
    support, query = turns.gather(1, batch.support_y), turns.gather(1, batch.query_y)
    return replace(
        batch,
        support_x=_turn(batch.support_x, support),
        query_x=_turn(batch.query_x, query),
        support_class=_renumber(batch.support_class, support, train_classes),
        query_class=_renumber(batch.query_class, query, train_classes),
    )


def _turn(images: Tensor, turns: Tensor) -> Tensor:
    turned = images.clone()
    for k in (1, 2, 3):
        chosen = turns == k
        turned[chosen] = torch.rot90(images[chosen], k, dims=(-2, -1))
    return turned


def _renumber(classes: Tensor | None, turns: Tensor, train_classes: int) -> Tensor | None:
    return None if classes is None else classes + train_classes * turns


# Copies, and which examples are changed


def _change_examples(
    part: ImageAugmentation | TableAugmentation,
    batch: Tensors,
    change: Callable[[Tensor], Tensor],
) -> Tensors:
    """Enlarge the support set and apply ``change``, ``(T, N, ...)`` to the same shape."""
    originals, batch = batch.support_x.shape[1], _with_copies(batch, part.copies)
    n_support = batch.support_x.shape[1]
    x = torch.cat([batch.support_x, batch.query_x], 1)
    # In the order originals, copies, query, what is changed is one piece: copies always are.
    start = originals if part.where == "query" else 0
    stop = n_support if part.where == "support" else x.shape[1]
    x = torch.cat([x[:, :start], change(x[:, start:stop]), x[:, stop:]], 1)
    # Contiguous, as unchanged batches are: a backbone may rely on it.
    return replace(
        batch, support_x=x[:, :n_support].contiguous(), query_x=x[:, n_support:].contiguous()
    )


def _with_copies(batch: Tensors, copies: int) -> Tensors:
    def repeated(values: Tensor) -> Tensor:
        return torch.cat([values] * (1 + copies), 1)

    return replace(
        batch,
        support_x=repeated(batch.support_x),
        support_y=repeated(batch.support_y),
        support_class=None if batch.support_class is None else repeated(batch.support_class),
        support_mask=None if batch.support_mask is None else repeated(batch.support_mask),
    )


# Images


def _augment_images(
    part: ImageAugmentation, batch: Tensors, rngs: list[np.random.Generator]
) -> Tensors:
    if any((part.shift, part.rotate, part.scale, part.shear, part.elastic)):
        return _change_examples(part, batch, lambda x: _warp(part, x, rngs))
    # Even the identity map would blur images by rounding.
    return _with_copies(batch, part.copies) if part.copies else batch


def _warp(part: ImageAugmentation, x: Tensor, rngs: list[np.random.Generator]) -> Tensor:
    """Images ``(T, N, C, H, W)``, each moved and bent by its own draw."""
    n, (height, width) = x.shape[1], x.shape[-2:]
    maps = _affine_maps(part, _uniform(rngs, n, 5).flatten(0, 1), height / width)
    places = _places(maps.to(x), height, width)
    if part.elastic:
        noise = _normal(rngs, n, 2, NODES, NODES).flatten(0, 1).to(x)
        # Places count in half sides, x before y.
        pixel = places.new_tensor([2 / width, 2 / height]).view(2, 1, 1)
        places = places + _smooth(part.elastic * pixel * noise, height, width)
    return F.grid_sample(
        x.flatten(0, 1),
        places.permute(0, 2, 3, 1),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    ).view_as(x)


def _places(maps: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel of the new images is in the old ones, ``(N, 2, H, W)``.

    The same as ``F.affine_grid(maps, ...)`` in a tenth of its time: one matrix product for all
    images instead of a small one for each.
    """
    identity = torch.eye(2, 3, dtype=maps.dtype, device=maps.device)[None]
    grid = F.affine_grid(identity, [1, 1, height, width], align_corners=False)[0]
    ones = torch.ones_like(grid[..., :1])
    pixels = torch.cat([grid, ones], 2).flatten(0, 1)
    return (maps.flatten(0, 1) @ pixels.T).view(-1, 2, height, width)


def _affine_maps(part: ImageAugmentation, uniform: Tensor, aspect: float) -> Tensor:
    """Maps ``(N, 2, 3)`` from places in the new image to places in the old one.

    Args:
        part: the largest changes.
        uniform: ``(N, 5)`` in [0, 1).
        aspect: height / width; grids measure either side as 2, so turning needs to know.
    """
    right, down, turn, size, slant = (2 * uniform - 1).unbind(1)
    turn = turn * math.radians(part.rotate)
    slant = torch.tan(slant * math.radians(part.shear))
    size = (1 + part.scale) ** size
    cos, sin = torch.cos(turn) / size, torch.sin(turn) / size
    a, b = cos, (slant * cos - sin) * aspect
    c, d = sin / aspect, slant * sin + cos
    # The shift is undone before the rest, so that it is a share of the new image's side
    # whatever its scale.
    right, down = 2 * part.shift * right, 2 * part.shift * down
    rows = (a, b, -(a * right + b * down)), (c, d, -(c * right + d * down))
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def _smooth(noise: Tensor, height: int, width: int) -> Tensor:
    """White noise ``(N, 2, NODES, NODES)`` as smooth fields ``(N, 2, H, W)`` of equal variance."""
    rows, columns = (_interpolation(side).to(noise) for side in (height, width))
    return torch.einsum("hi,ncij,wj->nchw", rows, noise, columns)


def _interpolation(side: int) -> Tensor:
    """Bicubic weights ``(side, NODES)``, scaled such that they keep the variance of white noise.

    Unscaled, images would be bent less between nodes than at them.
    """
    eye = torch.eye(NODES, dtype=torch.float64)[None, None]
    weights = F.interpolate(eye, size=(side, NODES), mode="bicubic", align_corners=True)[0, 0]
    return weights / weights.square().sum(1, keepdim=True).sqrt()


# Tables


def _augment_tables(
    part: TableAugmentation, batch: Tensors, rngs: list[np.random.Generator]
) -> Tensors:
    features = math.prod(batch.support_x.shape[2:])
    # Drawn first and always, so that turning noise on or off changes nothing else.
    uniform = _uniform(rngs, features + 2)
    if part.noise:
        batch = _change_examples(part, batch, lambda x: _add_noise(part.noise, x, rngs))
    elif part.copies:
        batch = _with_copies(batch, part.copies)
    if part.dropout:
        # After the noise, which would tell a lost feature from a constant one.
        batch = _drop_features(batch, uniform[:, :features] < part.dropout)
    if part.target_scale and batch.support_y.is_floating_point():
        batch = _scale_targets(batch, part.target_scale, uniform[:, features:])
    return batch


def _add_noise(std: float, x: Tensor, rngs: list[np.random.Generator]) -> Tensor:
    return x + std * _normal(rngs, *x.shape[1:]).to(x)


def _drop_features(batch: Tensors, dropped: Tensor) -> Tensors:
    def drop(x: Tensor) -> Tensor:
        return x.masked_fill(dropped.to(x.device).view(len(x), 1, *x.shape[2:]), 0)

    return replace(batch, support_x=drop(batch.support_x), query_x=drop(batch.query_x))


def _scale_targets(batch: Tensors, largest: float, uniform: Tensor) -> Tensors:
    size, sign = (2 * uniform - 1).unbind(1)
    factor = (1 + largest) ** size * torch.where(sign < 0, -1.0, 1.0)

    def scale(y: Tensor) -> Tensor:
        return y * factor.to(y).view(-1, *[1] * (y.dim() - 1))

    return replace(batch, support_y=scale(batch.support_y), query_y=scale(batch.query_y))
