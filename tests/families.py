"""Small families and random tasks for tests, without data."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch

from metatune.learners.interface import Tensors
from metatune.tasks.base import ACCURACY, MSE, SPLITS, Episode, FamilyInfo


def family(
    kind: str,
    shape: tuple[int, ...],
    *,
    grouped: bool = False,
    views=None,
    outputs: int = 1,
    forecasts=None,
    shared_classes: bool = False,
) -> FamilyInfo:
    """A family of 12 classes (or none) in four groups a split."""
    classes = kind == "classification"
    return FamilyInfo(
        name="some",
        kind="classification" if classes else "regression",
        input_shape=shape,
        outputs=0 if classes else outputs,
        metric=ACCURACY if classes else MSE,
        train_classes=12 if classes else 0,
        groups={split: {f"{split}-{g}": 3 for g in range(4)} for split in SPLITS},
        grouped=grouped,
        baselines=(),
        about="some tasks",
        views=views or {},
        forecasts=forecasts or {},
        shared_classes=shared_classes,
    )


IMAGES = family("classification", (1, 28, 28))
SMALL_IMAGES = family("classification", (1, 8, 8))
WAVES = family("regression", (1,))
TABLES = family("classification", (12,))
SEGMENTS = family("classification", (6,), grouped=True, shared_classes=True)
SERIES = family("regression", (5,), grouped=True, forecasts={"last_value": 0, "seasonal_naive": 2})
MOLECULES = family("regression", (14,), grouped=True, views={"fingerprint": (0, 10)})


def random_tasks(
    info: FamilyInfo, episode: Episode, tasks: int = 3, seed: int = 0, dtype=torch.float32
) -> Tensors:
    """Tasks that can be learned: inputs lie near their class's, targets are linear in inputs."""
    rng = torch.Generator().manual_seed(seed)
    ways = episode.way
    centres = torch.randn(tasks, ways, *info.input_shape, generator=rng, dtype=dtype)
    weights = torch.randn(tasks, prod(info.input_shape), max(1, info.outputs), generator=rng)
    numbers = torch.stack([torch.randperm(12, generator=rng)[:ways] for _ in range(tasks)])
    sides = []
    for each in (episode.shot, episode.query):
        label = torch.arange(ways).repeat_interleave(each).expand(tasks, -1).clone()
        noise = torch.randn(tasks, ways * each, *info.input_shape, generator=rng, dtype=dtype)
        x = centres[:, label[0]] + 0.7 * noise
        for start, end in info.views.values():
            x[..., start:end] = (x[..., start:end] > 0).to(dtype)
        if info.kind == "classification":
            sides.append((x, label, numbers.gather(1, label)))
        else:
            sides.append((x, x.flatten(2) @ weights.to(dtype) / 2 + 1, None))
    (sx, sy, sc), (qx, qy, qc) = sides
    groups = tuple(f"train-{task % 4}" for task in range(tasks))
    return Tensors(sx, sy, qx, qy, sc, qc, groups=groups)


def padded(batch: Tensors, support: list[int], query: list[int], seed: int = 0) -> Tensors:
    """The tasks with so many real examples each, and garbage in the place of the others.

    What stands there is large or looks like an example, and has other labels that there are: else
    nothing could be computed of it.
    """
    rng = torch.Generator().manual_seed(seed)
    masks = {
        side: torch.arange(x.shape[1]) < torch.tensor(sizes).unsqueeze(1)
        for side, x, sizes in (
            ("support", batch.support_x, support),
            ("query", batch.query_x, query),
        )
    }
    changed: dict[str, torch.Tensor] = {f"{side}_mask": mask for side, mask in masks.items()}
    for name in ("x", "y", "class", "pooled"):
        for side, mask in masks.items():
            values = getattr(batch, f"{side}_{name}")
            if values is None:
                continue
            if values.is_floating_point():
                garbage = 1e3 * torch.randn(values.shape, generator=rng, dtype=values.dtype)
                if name == "x":
                    garbage[:, ::2] = values[:, ::2]
            else:
                garbage = torch.randint(int(values.max()) + 1, values.shape, generator=rng)
            here = mask.view(*mask.shape, *(1,) * (values.ndim - 2))
            changed[f"{side}_{name}"] = torch.where(here, values, garbage)
    return replace(batch, **changed)


def alone(batch: Tensors) -> list[Tensors]:
    """Each of some padded tasks by itself, without its padding."""
    return [
        replace(
            batch,
            groups=(batch.groups[task],),
            support_mask=None,
            query_mask=None,
            **{
                f"{side}_{name}": values[task : task + 1, : int(mask[task].sum())]
                for side, mask in (("support", batch.support_mask), ("query", batch.query_mask))
                for name in ("x", "y", "class", "pooled")
                if (values := getattr(batch, f"{side}_{name}")) is not None
            },
        )
        for task in range(len(batch))
    ]
