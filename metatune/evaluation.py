"""Evaluation: a learner's score on each of a fixed set of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from metatune.errors import Diverged
from metatune.learners.backbones import Params
from metatune.learners.learner import Learner, to_tensors
from metatune.seeds import derive_seed
from metatune.tasks.base import Episode, Metric, Split, TaskBatch, TaskFamily

CHUNK = 8  # tasks scored together: bounds memory, changes no score


@dataclass(frozen=True)
class Scores:
    """Scores of one learner.

    Attributes:
        tasks: name of each task.
        groups: group of each task.
        values: the family's metric on each task.
        predictions: ``(T, Q, outputs)`` float16, kept for ensembles.
    """

    tasks: tuple[str, ...]
    groups: tuple[str, ...]
    values: tuple[float, ...]
    predictions: Tensor


def evaluation_tasks(
    family: TaskFamily, split: Split, episode: Episode, count: int, run_seed: int, round_: int
) -> list[TaskBatch]:
    """The tasks that every strategy of a round is scored on, in chunks.

    Groups take turns, so each has the same number of tasks, give or take one. ``test`` does not
    depend on the round: it is opened once.
    """
    when = 0 if split == "test" else round_
    groups = family.usable_groups(split, episode)
    draws = iter(
        (derive_seed(run_seed, split, when, task), groups[task % len(groups)])
        for task in range(count)
    )
    batches = []
    while chunk := list(islice(draws, CHUNK)):
        seeds, chosen = zip(*chunk, strict=True)
        batches.append(family.sample(split, episode, seeds, chosen))
    return batches


def score(learner: Learner, params: Params, batches: list[TaskBatch], step: int) -> Scores:
    """Learn and judge every task.

    Raises:
        Diverged: a prediction is not finite, or the loss on every task is hopeless; ``step``
            (meta-steps trained) goes into the error.
    """
    params = {name: p.detach() for name, p in params.items()}
    tasks: list[str] = []
    groups: list[str] = []
    values: list[float] = []
    kept = []
    hopeless = True
    with torch.no_grad():
        for batch in batches:
            tensors = to_tensors(batch)
            predictions = learner.predict(params, tensors)
            if not bool(torch.isfinite(predictions).all()):
                raise Diverged(step, "predictions are not finite")
            losses = learner.losses(predictions, tensors.query_y)
            hopeless &= all(learner.is_hopeless(loss, tensors) for loss in losses.tolist())
            judged = judge(learner.info.metric, predictions, tensors.query_y)
            tasks += batch.ids
            groups += batch.groups
            values += judged.tolist()
            kept.append(predictions.clamp(-6e4, 6e4).half())  # float16 ends at 65,504
    if hopeless:
        raise Diverged(step, "the loss on every task is hopeless")
    return Scores(tuple(tasks), tuple(groups), tuple(values), torch.cat(kept))


def judge(metric: Metric, predictions: Tensor, y: Tensor) -> Tensor:
    """The metric on each task ``(T,)``, in float64."""
    if metric.name == "accuracy":
        return (predictions.argmax(2) == y).double().mean(1)
    return (predictions - y).double().square().mean(dim=(1, 2))
