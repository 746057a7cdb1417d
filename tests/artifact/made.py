"""Artifacts without a run: any strategy, as it is before training, for a family of tests."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from families import random_tasks

from metatune.artifact import files
from metatune.artifact import members as m
from metatune.artifact.intervals import Calibration, unit
from metatune.artifact.learner import Artifact
from metatune.artifact.likeness import Likeness, summary
from metatune.artifact.loading import load
from metatune.learners.learner import build_learner
from metatune.learners.pooled import PooledModel
from metatune.strategy import Strategy
from metatune.tasks.base import Episode, FamilyInfo


def stored(
    strategy: Strategy,
    info: FamilyInfo,
    episode: Episode,
    seed: int = 0,
    pooled: PooledModel | None = None,
    fallback: Strategy | None = None,
) -> files.Stored:
    """What an export of a strategy would write."""
    classes = info.kind == "classification"
    way = episode.way if classes else 1
    learner = build_learner(strategy, info, way)
    member = m.Member(strategy, learner.init(seed), pooled)
    tensors = {f"0/{name}": tensor for name, tensor in m.to_tensors(member).items()}
    if fallback is not None:
        other = m.Member(fallback, build_learner(fallback, info, way).init(seed))
        tensors |= {f"fallback/{name}": tensor for name, tensor in m.to_tensors(other).items()}
    batch = random_tasks(info, episode, tasks=60, seed=seed)
    likeness = Likeness.of(summary(batch.support_x, None if classes else batch.support_y))
    tensors |= {f"likeness/{name}": value for name, value in vars(likeness).items()}
    if not classes:
        predicted = m.predict([member], [learner], False, batch)
        errors, y = (predicted - batch.query_y).abs().double(), batch.support_y.double()
        floor = y.std(1, correction=0).median(0).values
        scores = errors / unit(y, floor)[:, None]
        group = torch.arange(len(batch)).repeat_interleave(errors.shape[1])
        found = Calibration(scores.flatten(0, 1), group, floor)
        tensors |= {f"calibration/{name}": value for name, value in vars(found).items()}
    plain = {
        "format": 1,
        "family": {
            "name": info.name, "kind": info.kind, "input_shape": list(info.input_shape),
            "outputs": info.outputs, "metric": vars(info.metric),
            "views": {name: list(ends) for name, ends in info.views.items()},
            "shared_classes": info.shared_classes, "forecasts": dict(info.forecasts),
        },
        "episode": vars(episode),
        "strategies": [strategy.model_dump(mode="json")],
        "fallback": None
        if fallback is None
        else {"name": "other", "strategy": fallback.model_dump(mode="json")},
        "inputs": [],
        "target": {"name": "", "mean": 0.0, "spread": 1.0, "classes": []},
        "columns": [],
        "series": None,
        "provenance": {},
    }  # fmt: skip
    return files.Stored(json.loads(json.dumps(plain)), tensors, "# made\n")


def made(
    path: Path,
    strategy: Strategy,
    info: FamilyInfo,
    episode: Episode,
    fallback: Strategy | None = None,
) -> Artifact:
    """Write and load it."""
    return load(files.write(stored(strategy, info, episode, fallback=fallback), path))
