"""A trial: one strategy, trained rung by rung and scored at each. Needs neither Ray nor Optuna.

``run_trial`` is the whole life of a trial, as an iterator over its rungs. Whoever drives it (a Ray
actor, a test, a notebook) takes the next rung or stops asking. After each rung a checkpoint lies
in the trial's folder, so a trial that was cut short goes on from its last recorded rung.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import Tensor

from metatune import checkpoint, own
from metatune.blend import blend, choose, stacked
from metatune.errors import Diverged, StorageError
from metatune.evaluation import Scores, evaluation_tasks, judge, score_by_batch, scores_jointly
from metatune.gradient import learned_knobs
from metatune.jobs import RungResult, TrialJob, cut_short
from metatune.learners.augmentation import augment
from metatune.learners.cross_fit import fold_of_group
from metatune.learners.interface import Learner, Tensors, to_tensors
from metatune.learners.learner import build_learner
from metatune.learners.pooled import PooledModel, fit_pooled
from metatune.learners.resource import pooled_cost, pooled_tasks, step_cost
from metatune.learners.training import Course, TrainingState, start_training, train
from metatune.seeds import derive_seed
from metatune.strategy import Pooled, Strategy
from metatune.tasks.base import TaskBatch, TaskFamily
from metatune.tasks.registry import open_family


def _nobody_asks() -> None:
    pass


def run_trial(
    job: TrialJob,
    family: TaskFamily | None = None,
    progressed: Callable[[], None] = _nobody_asks,
) -> Iterator[RungResult]:
    """Train and score a strategy, rung by rung; the last result's outcome is not ``running``.

    A job with parts has one result: the scores of what they predict together.

    Args:
        job: what to do.
        family: where tasks come from; None opens the one that the job names.
        progressed: called at every meta-step and every batch of tasks.

    An exception of the strategy's own parts ends the trial as ``failed``, ``sys.exit`` among them;
    it does not leave here.

    Raises:
        StorageError: the run's storage fails, which says nothing of the trial.
    """
    torch.set_num_threads(1)
    rung, resource = job.recorded, 0
    try:
        for result in _blended(job, family) if job.parts else _rungs(job, family, progressed):
            rung, resource = result.rung, result.resource
            yield result
    except StorageError:
        raise
    except Diverged as stop:
        yield cut_short(rung + 1, "diverged", str(stop), resource)
    except (Exception, SystemExit):
        yield cut_short(rung + 1, "failed", traceback.format_exc(), resource)


def _blended(job: TrialJob, family: TaskFamily | None) -> Iterator[RungResult]:
    """Judge what the parts predict together, of as many of them as may be chosen."""
    start = perf_counter()
    family = family or _family_of(job)
    info = family.info
    batches = evaluation_tasks(family, job.split, job.episode, job.tasks, job.run_seed, job.round)
    labels = [to_tensors(batch) for batch in batches]
    sizes = [len(batch) for batch in batches]
    parts = stacked([checkpoint.load_predictions(part, job.split) for part in job.parts])
    classes = info.kind == "classification"

    def scores(predictions: Tensor) -> Tensor:
        each = zip(torch.split(predictions, sizes), labels, strict=True)
        return torch.cat([judge(info.metric, own, batch) for own, batch in each])

    def mean(predictions: Tensor) -> float:
        return info.metric.sign * float(scores(predictions).mean())

    chosen = tuple(range(len(parts)))
    if job.most:
        chosen = choose(parts, classes, job.most, mean)
    values = scores(blend(parts[list(chosen)], classes))
    yield RungResult(
        rung=job.recorded,
        outcome="completed",
        reason="",
        resource=0,
        train_seconds=0.0,
        score_seconds=perf_counter() - start,
        train_loss=None,
        tasks=tuple(name for batch in batches for name in batch.ids),
        groups=tuple(group for batch in batches for group in batch.groups),
        scores=tuple(values.tolist()),
        transductive=False,
        chosen=chosen,
    )


def _rungs(
    job: TrialJob, family: TaskFamily | None, progressed: Callable[[], None]
) -> Iterator[RungResult]:
    work = replace(_open(job, family), progressed=progressed)
    tasks = evaluation_tasks(
        work.family, job.split, job.episode, job.tasks, job.run_seed, job.round
    )
    last, trained = _last(work), _begun(work)
    if not job.train and trained.rung == last:
        yield from _judge(work, tasks, trained, last)
    while trained.rung < last:
        trained = _train_rung(work, trained)
        # A rung at or below job.recorded lost its checkpoint: trained again, not reported again.
        if trained.rung > job.recorded or (not job.train and trained.rung == last):
            yield from _judge(work, tasks, trained, last)


@dataclass(frozen=True)
class Fitted:
    """A strategy after its training: all that it learns tasks with.

    Attributes:
        strategy: what was trained.
        learner: at work.
        params: its meta-parameters.
        pooled: its pooled model; None without one.
        resource: forward-equivalents used.
    """

    strategy: Strategy
    learner: Learner
    params: dict[str, Tensor]
    pooled: PooledModel | None
    resource: int

    def prepare(self, batch: TaskBatch) -> Tensors:
        """The tasks as the learner sees them."""
        tensors = to_tensors(batch)
        return tensors if self.pooled is None else self.pooled.attach(tensors, training=False)


def fit(job: TrialJob, family: TaskFamily | None = None) -> Fitted:
    """Train as ``run_trial`` does, from the checkpoint of rung ``job.recorded`` on; judge nothing.

    Args:
        job: what to do; one that does not train takes what was trained up to that rung.
        family: where tasks come from; None opens the one that the job names.

    Raises:
        Diverged: the training left the finite numbers.
    """
    work = _open(job, family)
    trained = _begun(work)
    while trained.rung < _last(work):
        trained = _train_rung(work, trained)
    pooled = trained.pooled or work.pooled(trained.rung)
    resource = trained.state.spent + work.pooled_cost(trained.rung)
    return Fitted(work.strategy, work.learner, trained.state.usable, pooled, resource)


def _last(work: _Work) -> int:
    """The rung at which the job is done."""
    job = work.job
    return work.strategy.last_rung(len(job.rungs)) if job.train else job.recorded


def _begun(work: _Work) -> _Trained:
    """What was trained up to the rung that is recorded; else the start."""
    job = work.job
    if job.folder is not None and job.recorded:
        found = checkpoint.load(job.folder, job.recorded)
        if found is not None:
            return _Trained(found.state, job.recorded, found.train_seconds, None)
    return _Trained(start_training(work.learner, work.seed), 0, 0.0, None)


@dataclass(frozen=True)
class _Work:
    """A job with what it names, opened."""

    job: TrialJob
    strategy: Strategy
    family: TaskFamily
    learner: Learner
    seed: int
    progressed: Callable[[], None] = _nobody_asks

    def pooled(self, rung: int) -> PooledModel | None:
        """The pooled model of a rung: a function of the job alone, so it is never stored."""
        strategy, info, job = self.strategy, self.family.info, self.job
        if not isinstance(strategy.prior, Pooled):
            return None
        diet = strategy.diet.episode(job.episode)
        count = pooled_tasks(strategy, info, diet, job.rungs[rung - 1])
        seeds = [derive_seed(self.seed, "pooled", task) for task in range(count)]

        def batches() -> Iterator[TaskBatch]:
            for start in range(0, count, POOLED_CHUNK):
                self.progressed()
                yield self.family.sample("train", diet, seeds[start : start + POOLED_CHUNK])

        folds = fold_of_group(strategy, info)
        return fit_pooled(strategy.prior, batches(), folds, self.seed, info.train_classes)

    def pooled_cost(self, rung: int) -> int:
        """Forward-equivalents of fitting the pooled models of all rungs up to this one."""
        diet = self.strategy.diet.episode(self.job.episode)
        counts = [
            pooled_tasks(self.strategy, self.family.info, diet, resource)
            for resource in self.job.rungs[:rung]
        ]
        return sum(pooled_cost(self.strategy, self.family.info, diet, count) for count in counts)


POOLED_CHUNK = 64  # tasks drawn at a time: bounds memory, changes nothing


def _family_of(job: TrialJob) -> TaskFamily:
    return open_family(job.family, job.data_dir, job.options)


def _open(job: TrialJob, family: TaskFamily | None) -> _Work:
    if job.code is not None:
        own.look_in(job.code)
    strategy = Strategy.model_validate(job.strategy)
    family = family or _family_of(job)
    learner = build_learner(strategy, family.info, job.episode.way)
    seed = derive_seed(job.run_seed, "trial", job.round, job.seed_of or job.trial, job.replica)
    return _Work(job, strategy, family, learner, seed)


@dataclass(frozen=True)
class _Trained:
    """How far a trial's training has come."""

    state: TrainingState
    rung: int
    seconds: float
    loss: float | None
    pooled: PooledModel | None = None


def _train_rung(work: _Work, trained: _Trained) -> _Trained:
    """Train to the next rung."""
    job, strategy, info = work.job, work.strategy, work.family.info
    rung = trained.rung + 1
    if not strategy.trains:
        return replace(trained, rung=rung)
    start = perf_counter()
    pooled = work.pooled(rung)
    state, loss = trained.state, None
    if strategy.meta.rule != "none":
        # What pooled models have used is no longer there for steps.
        until = job.rungs[rung - 1] - work.pooled_cost(rung)
        course = Course(_batches(work, pooled), _cost(work), job.rungs[-1])
        state, loss = train(work.learner, info, strategy.outer, state, course, until)
    return _Trained(state, rung, trained.seconds + perf_counter() - start, loss, pooled)


def _batches(work: _Work, pooled: PooledModel | None) -> Callable[[int, float], Tensors]:
    """The training tasks of each step."""
    strategy, info = work.strategy, work.family.info

    def batch(step: int, progress: float) -> Tensors:
        work.progressed()
        numbers = range(strategy.outer.tasks_per_batch)
        seeds = [derive_seed(work.seed, "train", step, task) for task in numbers]
        episode = strategy.diet.episode(work.job.episode, progress)
        tensors = to_tensors(work.family.sample("train", episode, seeds))
        tensors = augment(strategy.diet, tensors, seeds, info.train_classes)
        return tensors if pooled is None else pooled.attach(tensors, training=True)

    return batch


def _cost(work: _Work) -> Callable[[float], int]:
    """Forward-equivalents of a step at a share of the full resource."""

    def cost(progress: float) -> int:
        episode = work.strategy.diet.episode(work.job.episode, progress)
        return step_cost(work.strategy, work.family.info, episode)

    return cost


def _judge(
    work: _Work, tasks: list[TaskBatch], trained: _Trained, last: int
) -> Iterator[RungResult]:
    """Score the learner, with looks on the way, and leave a checkpoint where there is a folder."""
    job, strategy = work.job, work.strategy
    pooled = trained.pooled or work.pooled(trained.rung)

    def prepare(batch: TaskBatch) -> Tensors:
        tensors = to_tensors(batch)
        return tensors if pooled is None else pooled.attach(tensors, training=False)

    info, state = work.family.info, trained.state
    seconds, batch_start = 0.0, perf_counter()
    for scores in score_by_batch(work.learner, info, state.usable, tasks, state.step, prepare):
        seconds += perf_counter() - batch_start
        work.progressed()
        if job.looks and len(scores.tasks) < job.tasks:
            yield _result(work, trained, last, scores, seconds, strategy.transductive, whole=False)
        batch_start = perf_counter()  # what the driver thinks about meanwhile is not ours
    jointly = strategy.transductive or (
        strategy.has_own_part and scores_jointly(work.learner, state.usable, prepare(tasks[0]))
    )
    if job.folder is not None:
        if job.train:
            checkpoint.save(job.folder, trained.rung, state, trained.seconds)
        checkpoint.save_predictions(job.folder, trained.rung, job.split, scores.predictions)
    yield _result(work, trained, last, scores, seconds, jointly)


def _result(
    work: _Work,
    trained: _Trained,
    last: int,
    scores: Scores,
    seconds: float,
    transductive: bool,
    *,
    whole: bool = True,
) -> RungResult:
    """The report of a rung, or of a look on the way to it."""
    return RungResult(
        rung=trained.rung,
        outcome="completed" if whole and trained.rung == last else "running",
        reason="",
        resource=trained.state.spent + work.pooled_cost(trained.rung),
        train_seconds=trained.seconds,
        score_seconds=seconds,
        train_loss=trained.loss,
        tasks=scores.tasks,
        groups=scores.groups,
        scores=scores.values,
        transductive=transductive,
        whole=whole,
        learned=learned_knobs(work.strategy, trained.state.usable),
    )
