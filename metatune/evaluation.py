"""Evaluation: a learner's score on each of a fixed set of tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import prod

import torch
from torch import Tensor

from metatune.errors import Diverged
from metatune.learners.interface import Learner, Params, Tensors, to_tensors
from metatune.learners.learner import task_losses
from metatune.learners.padding import by_size, only_real, real
from metatune.learners.training import is_hopeless
from metatune.seeds import derive_seed
from metatune.statistics import MIN_GROUPS
from metatune.tasks.base import Episode, FamilyInfo, Metric, Split, TaskBatch, TaskFamily

FEWEST, MOST = 8, 64  # tasks scored together, which changes no score
INPUTS = 2**15
"""Numbers that the inputs of tasks scored together should have at most.

Small tasks are scored in fewer and larger batches, since their operations cost more to start than
to do; large ones in small batches, since there is no more to gain, and memory to lose.
"""


@dataclass(frozen=True)
class Scores:
    """Scores of one learner.

    Attributes:
        tasks: name of each task.
        groups: group of each task.
        values: the family's metric on each task.
        predictions: ``(T, Q, outputs)`` float16, kept for ensembles; zero in place of padding.
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
    if split == "confirm":
        groups = confirm_groups(groups, round_)
    draws = iter(
        (derive_seed(run_seed, split, when, task), groups[task % len(groups)])
        for task in range(count)
    )
    batches, size = [], _chunk(family.info, episode)
    while chunk := list(islice(draws, size)):
        seeds, chosen = zip(*chunk, strict=True)
        batches.append(family.sample(split, episode, seeds, chosen))
    return batches


def _chunk(info: FamilyInfo, episode: Episode) -> int:
    """How many tasks are scored together."""
    inputs = (episode.n_support + episode.n_query) * prod(info.input_shape)
    return min(MOST, max(FEWEST, INPUTS // inputs))


def confirm_groups(groups: Sequence[str], round_: int) -> tuple[str, ...]:
    """The groups that a round's look at ``confirm`` is made on.

    Each round has its own, six or more, as long as they last: enough for a claim about new groups.
    After that, and where there are too few to divide, every look is made on fresh tasks of all.
    """
    looks = len(groups) // MIN_GROUPS
    if round_ > looks or looks < 2:
        return tuple(groups)
    return tuple(groups[round_ - 1 :: looks])


def score(
    learner: Learner,
    info: FamilyInfo,
    params: Params,
    batches: Sequence[TaskBatch],
    step: int,
    prepare: Callable[[TaskBatch], Tensors] = to_tensors,
) -> Scores:
    """Learn and judge every task; arguments and errors as of ``score_by_batch``."""
    *_, whole = score_by_batch(learner, info, params, batches, step, prepare)
    return whole


def score_by_batch(
    learner: Learner,
    info: FamilyInfo,
    params: Params,
    batches: Sequence[TaskBatch],
    step: int,
    prepare: Callable[[TaskBatch], Tensors] = to_tensors,
) -> Iterator[Scores]:
    """Learn and judge tasks batch by batch: the scores of all tasks so far, after each.

    Args:
        learner: what learns them.
        info: the family, for loss and metric.
        params: meta-parameters.
        batches: the tasks.
        step: meta-steps trained, for the error.
        prepare: arrays to tensors, with what else the learner wants to know of a task.

    Raises:
        Diverged: a prediction is not finite, or the loss on every task is hopeless.
    """
    params = {name: p.detach() for name, p in params.items()}
    tasks: list[str] = []
    groups: list[str] = []
    values: list[float] = []
    kept = []
    hopeless = True
    for number, batch in enumerate(batches, start=1):
        with torch.no_grad():
            tensors = prepare(batch)
            predictions = only_real(learner.predict(params, tensors), tensors.query_mask)
            if not bool(torch.isfinite(predictions).all()):
                raise Diverged(step, "predictions are not finite")
            losses = task_losses(info, predictions, tensors.query_y, tensors.query_mask)
            hopeless &= all(is_hopeless(info, loss, tensors) for loss in losses.tolist())
            judged = judge(info.metric, predictions, tensors)
            tasks += batch.ids
            groups += batch.groups
            values += judged.tolist()
            kept.append(predictions.clamp(-6e4, 6e4).half())  # float16 ends at 65,504
        if hopeless and number == len(batches):
            raise Diverged(step, "the loss on every task is hopeless")
        yield Scores(tuple(tasks), tuple(groups), tuple(values), torch.cat(kept))


def scores_jointly(learner: Learner, params: Params, batch: Tensors) -> bool:
    """True where a query point's prediction changes with the query points beside it.

    What metatune's own parts do is known beforehand; of a user's part it has to be measured.
    """
    first = {
        name: getattr(batch, name)[:, :1]
        for name in ("query_x", "query_y", "query_class", "query_pooled", "query_mask")
        if getattr(batch, name) is not None
    }
    with torch.no_grad():
        beside = learner.predict(params, batch)
        alone = learner.predict(params, replace(batch, **first))
    return not torch.allclose(
        beside[:, :1], alone, rtol=1e-3, atol=1e-3 * float(beside.abs().max())
    )


def judge(metric: Metric, predictions: Tensor, batch: Tensors) -> Tensor:
    """The metric on each task ``(T,)``, in float64; of its real examples."""
    if batch.query_mask is not None:
        found = torch.empty(len(batch), dtype=torch.float64)
        for tasks, own in by_size(batch):
            found[tasks] = judge(metric, real(predictions[tasks], batch.query_mask[tasks]), own)
        return found
    if metric.name == "accuracy":
        return (predictions.argmax(2) == batch.query_y).double().mean(1)
    if metric.name in ("mae", "mase"):
        error = (predictions - batch.query_y).double().abs().mean(dim=(1, 2))
        return error / _unit(metric, batch).clamp_min(1e-12)
    if metric.name == "spearman":
        return _correlation(_ranks(predictions), _ranks(batch.query_y)).mean(1)
    error = (predictions - batch.query_y).double().square().mean(dim=(1, 2))
    if metric.name == "mse":
        return error
    if metric.name == "rmse":
        return error.sqrt()
    level = batch.support_y.mean(1, keepdim=True)
    spread = (level - batch.query_y).double().square().mean(dim=(1, 2))
    return 1 - error / spread.clamp_min(1e-12)  # targets that are all alike leave no spread


def _ranks(values: Tensor) -> Tensor:
    """``(T, Q, O)``: the rank of each example within its task, from 0; equal ones share theirs."""
    own, other = values.unsqueeze(2), values.unsqueeze(1)
    return (own > other).double().sum(2) + 0.5 * ((own == other).double().sum(2) - 1)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """``(T, O)``: of examples, within each task; 0 where one of both never changes."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    spread = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return (a * b).sum(1) / spread.clamp_min(1e-12)


def _unit(metric: Metric, batch: Tensors) -> Tensor:
    """What an absolute error is measured in on each task ``(T,)``, from its support set alone."""
    labels = batch.support_y.double()
    if metric.naive is None:
        return labels.flatten(1).std(1, correction=0)
    naive = batch.support_x.flatten(2)[..., [metric.naive]].double()
    return (naive - labels).abs().mean(dim=(1, 2))
