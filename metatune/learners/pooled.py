"""Pooled models: one scikit-learn regressor over all train tasks (see ``strategy.Pooled``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metatune.learners.interface import Tensors
from metatune.learners.regressors import Regressor
from metatune.strategy import Pooled
from metatune.strategy.own import load_own
from metatune.tasks.base import FamilyInfo, TaskBatch

Floats = NDArray[np.floating[Any]]
LABELS_SUMMARY = 5  # numbers that sum up the labels of a support set


def design(x: Floats, y: Floats, queries: Floats, input_summary: bool) -> tuple[Floats, Floats]:
    """What the regressor sees of each example: its inputs and a summary of its support labels.

    Args:
        x: support inputs ``(T, S, D)``.
        y: support labels ``(T, S)``, of one output.
        queries: query inputs ``(T, Q, D)``.
        input_summary: the mean support input, too.

    Returns:
        Support ``(T, S, F)`` and query ``(T, Q, F)``. The summary of a support example leaves the
        example itself out, so that both kinds of rows say the same of what is not known of them.
    """
    shots = y.shape[1]
    others = ~np.eye(shots, dtype=bool)
    index = np.broadcast_to(np.arange(shots), (shots, shots))[others].reshape(shots, shots - 1)
    left_out = _summary(y[:, index])  # (T, S, 5)
    whole = np.repeat(_summary(y)[:, None], queries.shape[1], axis=1)
    support, query = [x, left_out], [queries, whole]
    if input_summary:
        total = x.sum(1, keepdims=True)
        support.append((total - x) / (shots - 1))
        query.append(np.repeat(total / shots, queries.shape[1], axis=1))
    return np.concatenate(support, 2), np.concatenate(query, 2)


def summary_length(part: Pooled, info: FamilyInfo) -> int:
    """How many numbers ``design`` gives of an example."""
    inputs = prod(info.input_shape)
    return inputs + LABELS_SUMMARY + (inputs if part.input_summary else 0)


def _summary(y: Floats) -> Floats:
    """``(..., n)`` labels -> ``(..., 5)``: number, mean, standard deviation, lowest, highest."""
    number = np.full(y.shape[:-1], y.shape[-1], y.dtype)
    return np.stack([number, y.mean(-1), y.std(-1), y.min(-1), y.max(-1)], -1)


@dataclass(frozen=True)
class PooledModel:
    """Fitted regressors.

    Attributes:
        part: what was fitted.
        on_all: one regressor for each output, fitted on all train tasks.
        without: for each fold, the same fitted on the other folds.
        fold_of: the fold of each train group.
    """

    part: Pooled
    on_all: Sequence[Regressor]
    without: Sequence[Sequence[Regressor]]
    fold_of: Mapping[str, int]

    def attach(self, batch: Tensors, *, training: bool) -> Tensors:
        """The batch with predictions; in training by regressors that have not seen its group."""
        x, y, queries = (
            t.detach().double().numpy() for t in (batch.support_x, batch.support_y, batch.query_x)
        )
        support, query = np.zeros(y.shape), np.zeros((*queries.shape[:2], y.shape[2]))
        by_fold: dict[int | None, list[int]] = {}
        for task in range(len(batch)):
            fold = self.fold_of[batch.groups[task]] if training and self.without else None
            by_fold.setdefault(fold, []).append(task)
        for output in range(y.shape[2]):
            rows = design(
                x.reshape(*x.shape[:2], -1),
                y[..., output],
                queries.reshape(*queries.shape[:2], -1),
                self.part.input_summary,
            )
            for fold, tasks in by_fold.items():
                model = (self.on_all if fold is None else self.without[fold])[output]
                for values, seen in ((support, rows[0][tasks]), (query, rows[1][tasks])):
                    predicted = model.predict(seen.reshape(-1, seen.shape[2]))
                    values[tasks, :, output] = predicted.reshape(seen.shape[:2])
        dtype = batch.support_x.dtype
        return replace(
            batch,
            support_pooled=torch.from_numpy(support).to(dtype),
            query_pooled=torch.from_numpy(query).to(dtype),
        )


def fit_pooled(
    part: Pooled, batches: Iterable[TaskBatch], fold_of: Mapping[str, int], seed: int
) -> PooledModel:
    """Fit the regressors to the query points of train tasks: label minus the support mean.

    Args:
        part: which regressor.
        batches: train tasks.
        fold_of: the fold of each train group; empty fits one model on all.
        seed: of regressors that draw at random (those with ``random_state``).
    """
    rows, targets, folds = [], [], []
    for batch in batches:
        x, queries = batch.support_x, batch.query_x
        y = batch.support_y.astype(np.float64)
        flat = (x.reshape(*x.shape[:2], -1), queries.reshape(*queries.shape[:2], -1))
        of_output = [
            design(flat[0], y[..., o], flat[1], part.input_summary)[1] for o in range(y.shape[2])
        ]
        rows.append(np.stack(of_output).reshape(y.shape[2], -1, of_output[0].shape[2]))
        targets.append((batch.query_y - y.mean(1, keepdims=True)).reshape(-1, y.shape[2]))
        of_task = [fold_of.get(group, -1) for group in batch.groups]
        folds.append(np.repeat(of_task, queries.shape[1]))
    inputs, labels, fold = np.concatenate(rows, 1), np.concatenate(targets), np.concatenate(folds)

    def fit(kept: NDArray[np.bool_]) -> list[Regressor]:
        if not kept.any():  # few tasks may all lie in one fold: nothing is known without it
            return [_knows_nothing(inputs[o], labels[:, o]) for o in range(labels.shape[1])]
        return [
            OneThread.fit(_regressor(part, seed), inputs[o][kept], labels[kept, o])
            for o in range(labels.shape[1])
        ]

    without = [fit(fold != k) for k in range(max(fold_of.values(), default=-1) + 1)]
    return PooledModel(part, fit(np.ones(len(fold), bool)), without, fold_of)


@dataclass(frozen=True)
class OneThread:
    """A scikit-learn regressor that is fitted and asked on one thread."""

    fitted: Any

    @staticmethod
    def fit(model: Any, inputs: Floats, labels: Floats) -> OneThread:
        """Fit it to inputs ``(N, F)`` and labels ``(N,)``."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            return OneThread(model.fit(inputs, labels))

    def predict(self, rows: Floats) -> NDArray[np.float64]:
        """``(N,)`` of ``(N, F)``."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            found: NDArray[np.float64] = self.fitted.predict(rows)
        return found


def _knows_nothing(inputs: Floats, labels: Floats) -> Regressor:
    """A regressor that predicts no difference to the support mean, whatever it is shown."""
    from sklearn.dummy import DummyRegressor

    return OneThread.fit(DummyRegressor(strategy="constant", constant=0.0), inputs, labels)


def _regressor(part: Pooled, seed: int) -> Any:
    model = load_own(part.regressor, "models")(**part.options)
    if "random_state" in model.get_params() and "random_state" not in part.options:
        model.set_params(random_state=seed % 2**32)
    return model
