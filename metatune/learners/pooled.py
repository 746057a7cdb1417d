"""Pooled models: one scikit-learn regressor over all train tasks (see ``strategy.Pooled``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metatune.learners.interface import Tensors, to_tensors
from metatune.learners.padding import by_size, put
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


def designs(batch: Tensors, input_summary: bool) -> Iterator[tuple[Floats, Floats]]:
    """``design`` of tasks of any size, for each output; zeros in the place of padding."""
    tasks, alike = zip(*by_size(batch), strict=True)
    for output in range(batch.support_y.shape[2]):
        rows = [
            design(
                own.support_x.flatten(2).numpy(),
                own.support_y[..., output].numpy(),
                own.query_x.flatten(2).numpy(),
                input_summary,
            )
            for own in alike
        ]
        support, query = zip(*rows, strict=True)
        yield (
            _padded(tasks, support, batch.support_mask),
            _padded(tasks, query, batch.query_mask),
        )


def _padded(tasks: Sequence[list[int]], of_each: Sequence[Floats], mask: Tensor | None) -> Floats:
    """``(T, N, F)`` from what the tasks of each size have."""
    if mask is None:
        return of_each[0]
    like = torch.from_numpy(of_each[0])
    found = like.new_zeros(*mask.shape, like.shape[2])
    for own, values in zip(tasks, of_each, strict=True):
        put(found, mask, own, torch.from_numpy(values))
    return found.numpy()


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
        seen_by_it = ("support_x", "support_y", "query_x")
        exact = replace(batch, **{n: getattr(batch, n).detach().double() for n in seen_by_it})
        support, query = np.zeros(batch.support_y.shape), np.zeros(batch.query_y.shape)
        by_fold: dict[int | None, list[int]] = {}
        for task in range(len(batch)):
            fold = self.fold_of[batch.groups[task]] if training and self.without else None
            by_fold.setdefault(fold, []).append(task)
        for output, rows in enumerate(designs(exact, self.part.input_summary)):
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
        tensors = to_tensors(batch)
        exact = replace(tensors, support_y=tensors.support_y.double())
        y, mask = exact.support_y.numpy(), batch.support_mask
        level = y.mean(1, keepdims=True, where=True if mask is None else mask[..., None])
        of_task = np.array([[fold_of.get(group, -1)] for group in batch.groups])
        seen = (
            np.ones(batch.query_y.shape[:2], bool) if batch.query_mask is None else batch.query_mask
        )
        rows.append(np.stack([query[seen] for _, query in designs(exact, part.input_summary)]))
        targets.append((batch.query_y - level)[seen])
        folds.append(np.broadcast_to(of_task, seen.shape)[seen])
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
