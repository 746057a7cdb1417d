"""A trial: one strategy, trained rung by rung and scored at each. Needs neither Ray nor Optuna.

``run_trial`` is the whole life of a trial, as an iterator over its rungs. Whoever drives it (a Ray
actor, a test, a notebook) takes the next rung or stops asking. After each rung a checkpoint lies
in the trial's folder, so a trial that was cut short goes on from its last recorded rung.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch

from metatune import checkpoint
from metatune.errors import Diverged
from metatune.evaluation import evaluation_tasks, score
from metatune.jobs import RungResult, TrialJob
from metatune.learners.learner import Learner, Tensors, build_learner, to_tensors
from metatune.learners.resource import step_cost, steps_within
from metatune.learners.training import TrainingState, start_training, train
from metatune.seeds import derive_seed
from metatune.strategy import Strategy
from metatune.tasks.base import TaskBatch, TaskFamily
from metatune.tasks.registry import open_family


def run_trial(job: TrialJob) -> Iterator[RungResult]:
    """Train and score a strategy, rung by rung; the last result's outcome is not ``running``.

    An exception of the strategy's own parts ends the trial as ``failed``; it does not leave here.
    """
    torch.set_num_threads(1)
    rung, resource = job.recorded, 0
    try:
        for result in _rungs(job):
            rung, resource = result.rung, result.resource
            yield result
    except Diverged as stop:
        yield _cut_short(rung + 1, "diverged", str(stop), resource)
    except Exception:
        yield _cut_short(rung + 1, "failed", traceback.format_exc(), resource)


def _rungs(job: TrialJob) -> Iterator[RungResult]:
    strategy = Strategy.model_validate(job.strategy)
    family = open_family(job.family, job.data_dir)
    learner = build_learner(strategy, family.info, job.episode.way)
    tasks = evaluation_tasks(family, job.split, job.episode, job.tasks, job.run_seed, job.round)
    last = strategy.last_rung(len(job.rungs)) if job.train else job.recorded
    trained = _Trained(start_training(learner, _seed(job)), 0, 0.0, None)
    if job.folder is not None and job.recorded:
        found = checkpoint.load(Path(job.folder), job.recorded)
        if found is not None:
            trained = _Trained(found.state, job.recorded, found.train_seconds, None)
    if not job.train and trained.rung == last:
        yield _judge(job, learner, tasks, trained, last)
    while trained.rung < last:
        trained = _train_rung(job, learner, family, trained)
        # A rung at or below job.recorded lost its checkpoint: trained again, not reported again.
        if trained.rung > job.recorded or (not job.train and trained.rung == last):
            yield _judge(job, learner, tasks, trained, last)


@dataclass(frozen=True)
class _Trained:
    """How far a trial's training has come."""

    state: TrainingState
    rung: int
    seconds: float
    loss: float | None


def _seed(job: TrialJob) -> int:
    return derive_seed(job.run_seed, "trial", job.round, job.trial, job.replica)


def _train_rung(job: TrialJob, learner: Learner, family: TaskFamily, trained: _Trained) -> _Trained:
    """Train to the next rung."""
    strategy, rung = learner.strategy, trained.rung + 1
    if not strategy.trains:
        return replace(trained, rung=rung)
    diet, seed = strategy.diet.episode(job.episode), _seed(job)

    def batches(step: int) -> Tensors:
        seeds = [derive_seed(seed, "train", step, t) for t in range(strategy.outer.tasks_per_batch)]
        return to_tensors(family.sample("train", diet, seeds))

    start = perf_counter()
    until, total = (steps_within(job.rungs[r], strategy, diet) for r in (rung - 1, -1))
    # Training tasks may have another number of classes than those that are judged.
    learner = build_learner(strategy, family.info, diet.way)
    state, loss = train(learner, trained.state, batches, until, total)
    some = until > trained.state.step
    seconds = trained.seconds + perf_counter() - start
    return _Trained(state, rung, seconds, loss if some else None)


def _judge(
    job: TrialJob, learner: Learner, tasks: list[TaskBatch], trained: _Trained, last: int
) -> RungResult:
    """Score the learner and, where there is a folder, leave a checkpoint."""
    start = perf_counter()
    scores = score(learner, trained.state.params, tasks, trained.state.step)
    score_seconds = perf_counter() - start
    if job.folder is not None:
        folder = Path(job.folder)
        if job.train:
            checkpoint.save(folder, trained.rung, trained.state, trained.seconds)
        checkpoint.save_predictions(folder, trained.rung, job.split, scores.predictions)
    strategy = learner.strategy
    cost = step_cost(strategy, strategy.diet.episode(job.episode))
    return RungResult(
        rung=trained.rung,
        outcome="completed" if trained.rung == last else "running",
        reason="",
        resource=trained.state.step * cost,
        train_seconds=trained.seconds,
        score_seconds=score_seconds,
        train_loss=trained.loss,
        tasks=scores.tasks,
        groups=scores.groups,
        scores=scores.values,
        transductive=strategy.transductive,
    )


def _cut_short(
    rung: int, outcome: Literal["diverged", "failed"], reason: str, resource: int
) -> RungResult:
    """The report of a trial that did not reach ``rung``."""
    return RungResult(rung, outcome, reason, resource, 0.0, 0.0, None, (), (), (), False)
