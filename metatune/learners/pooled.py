"""Pooled models: one scikit-learn model over all train tasks (see ``strategy.Pooled``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metatune.learners.arrays import Predictor, log_shares
from metatune.learners.interface import Tensors, to_tensors
from metatune.learners.padding import by_size, put
from metatune.own import load_own
from metatune.strategy import Pooled
from metatune.tasks.base import FamilyInfo, TaskBatch

Floats = NDArray[np.floating[Any]]
LABELS_SUMMARY = 5  # numbers that sum up the labels of a support set in a regression


def design(
    x: Floats, y: NDArray[Any], queries: Floats, input_summary: bool, classes: int = 0
) -> tuple[Floats, Floats]:
    """What the model sees of each example: its inputs and a summary of its support labels.

    Args:
        x: support inputs ``(T, S, D)``.
        y: support labels ``(T, S)``, of one output, or numbers of classes.
        queries: query inputs ``(T, Q, D)``.
        input_summary: the mean support input, too.
        classes: how many there are; 0 in a regression.

    Returns:
        Support ``(T, S, F)`` and query ``(T, Q, F)``. The summary of a support example leaves the
        example itself out, so that both kinds of rows say the same of what is not known of them.
    """
    told = [_shares(y, classes) if classes else _moments(y)]
    if input_summary:
        told.append(_means(x))
    count = queries.shape[1]
    support = [x, *(left_out for left_out, _ in told)]
    query = [queries, *(np.repeat(whole, count, axis=1) for _, whole in told)]
    return np.concatenate(support, 2), np.concatenate(query, 2)


Summary = tuple[Floats, Floats]
"""``(T, S, F)`` of the support set but for each of its examples, ``(T, 1, F)`` of all of it."""


def _means(values: Floats) -> Summary:
    """The mean of ``(T, S, F)``; 0 where no other example is left."""
    shots, total = values.shape[1], values.sum(1, keepdims=True)
    return (total - values) / max(1, shots - 1), total / shots


def _moments(y: Floats) -> Summary:
    """Number, mean, standard deviation, lowest and highest of labels ``(T, S)``."""
    shots = y.shape[1]
    others = ~np.eye(shots, dtype=bool)
    index = np.broadcast_to(np.arange(shots), (shots, shots))[others].reshape(shots, shots - 1)
    return _moments_of(y[:, index]), _moments_of(y)[:, None]


def _moments_of(y: Floats) -> Floats:
    """``(..., n)`` labels -> ``(..., 5)``."""
    number = np.full(y.shape[:-1], y.shape[-1], y.dtype)
    return np.stack([number, y.mean(-1), y.std(-1), y.min(-1), y.max(-1)], -1)


def _shares(y: NDArray[np.integer[Any]], classes: int) -> Summary:
    """Number of labels ``(T, S)``, and the share of each class."""
    shots = y.shape[1]
    left_out, whole = _means(np.eye(classes)[y])
    return tuple(  # type: ignore[return-value]
        np.concatenate([np.full((*shares.shape[:2], 1), number), shares], 2)
        for number, shares in ((shots - 1, left_out), (shots, whole))
    )


def summary_length(part: Pooled, info: FamilyInfo, classes: int) -> int:
    """How many numbers ``design`` gives of an example; ``classes`` as there."""
    inputs = prod(info.input_shape)
    labels = 1 + classes if classes else LABELS_SUMMARY
    return inputs + labels + (inputs if part.input_summary else 0)


def designs(
    batch: Tensors, input_summary: bool, classes: int = 0
) -> Iterator[tuple[Floats, Floats]]:
    """``design`` of tasks of any size, for each model; zeros in the place of padding."""
    tasks, alike = zip(*by_size(batch), strict=True)
    for output in range(1 if classes else batch.support_y.shape[2]):
        rows = [
            design(
                own.support_x.flatten(2).numpy(),
                (own.support_y if classes else own.support_y[..., output]).numpy(),
                own.query_x.flatten(2).numpy(),
                input_summary,
                classes,
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


@dataclass(frozen=True)
class PooledModel:
    """Fitted models: of a regression one regressor for each output, of classes one classifier.

    Attributes:
        part: what was fitted.
        on_all: those fitted on all train tasks.
        without: for each fold, the same fitted on the other folds.
        fold_of: the fold of each train group.
        classes: how many there are; 0 in a regression.
    """

    part: Pooled
    on_all: Sequence[Predictor]
    without: Sequence[Sequence[Predictor]]
    fold_of: Mapping[str, int]
    classes: int = 0

    def attach(self, batch: Tensors, *, training: bool) -> Tensors:
        """The batch with predictions; in training by models that have not seen its group."""
        exact = replace(batch, **{n: getattr(batch, n).detach().double() for n in self._seen})
        outputs = self.classes or batch.support_y.shape[2]
        support, query = (
            np.zeros((*x.shape[:2], outputs)) for x in (batch.support_x, batch.query_x)
        )
        by_fold: dict[int | None, list[int]] = {}
        for task in range(len(batch)):
            fold = self.fold_of[batch.groups[task]] if training and self.without else None
            by_fold.setdefault(fold, []).append(task)
        for number, rows in enumerate(designs(exact, self.part.input_summary, self.classes)):
            own = slice(None) if self.classes else slice(number, number + 1)
            for fold, tasks in by_fold.items():
                model = (self.on_all if fold is None else self.without[fold])[number]
                for values, seen in ((support, rows[0][tasks]), (query, rows[1][tasks])):
                    predicted = model.predict(seen.reshape(-1, seen.shape[2]))
                    values[tasks, :, own] = predicted.reshape(*seen.shape[:2], -1)
        dtype = batch.support_x.dtype
        return replace(
            batch,
            support_pooled=torch.from_numpy(support).to(dtype),
            query_pooled=torch.from_numpy(query).to(dtype),
        )

    @property
    def _seen(self) -> tuple[str, ...]:
        """What the models see of a batch as numbers."""
        return ("support_x", "query_x") if self.classes else ("support_x", "support_y", "query_x")


def fit_pooled(
    part: Pooled,
    batches: Iterable[TaskBatch],
    fold_of: Mapping[str, int],
    seed: int,
    classes: int = 0,
) -> PooledModel:
    """Fit the models to the query points of train tasks: label minus the support mean, or class.

    Args:
        part: which model.
        batches: train tasks.
        fold_of: the fold of each train group; empty fits one model on all.
        seed: of models that draw at random (those with ``random_state``).
        classes: how many there are, the same in all tasks; 0 in a regression.
    """
    rows, targets, folds = [], [], []
    for batch in batches:
        tensors = to_tensors(batch)
        if not classes:
            tensors = replace(tensors, support_y=tensors.support_y.double())
        of_task = np.array([[fold_of.get(group, -1)] for group in batch.groups])
        seen = (
            np.ones(batch.query_y.shape[:2], bool) if batch.query_mask is None else batch.query_mask
        )
        designed = designs(tensors, part.input_summary, classes)
        rows.append(np.stack([query[seen] for _, query in designed]))
        targets.append(_targets(batch, classes)[seen])
        folds.append(np.broadcast_to(of_task, seen.shape)[seen])
    inputs, labels, fold = np.concatenate(rows, 1), np.concatenate(targets), np.concatenate(folds)

    def fit(kept: NDArray[np.bool_]) -> list[Predictor]:
        if not kept.any():  # few tasks may all lie in one fold: nothing is known without it
            return [_knows_nothing(classes)] * len(inputs)
        return [
            _fitted(part, seed, classes, inputs[number][kept], labels[kept, number])
            for number in range(len(inputs))
        ]

    without = [fit(fold != k) for k in range(max(fold_of.values(), default=-1) + 1)]
    return PooledModel(part, fit(np.ones(len(fold), bool)), without, fold_of, classes)


def _targets(batch: TaskBatch, classes: int) -> NDArray[Any]:
    """``(T, Q, outputs)``: what differs from the support mean; of classes ``(T, Q, 1)`` numbers."""
    if classes:
        return np.asarray(batch.query_y[..., None])
    real = True if batch.support_mask is None else batch.support_mask[..., None]
    level = batch.support_y.astype(np.float64).mean(1, keepdims=True, where=real)
    return np.asarray(batch.query_y - level)


@cache
def _pools(module: str) -> Any:
    """The thread pools of this process, those of the models of a module among them.

    Looking for them takes 4 ms: once a module, since it may have brought in more.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@dataclass(frozen=True)
class OneThread:
    """A scikit-learn model that is fitted and asked on one thread.

    Attributes:
        fitted: the model.
        classes: how many there are; 0 for a regressor.
    """

    fitted: Any
    classes: int = 0

    @staticmethod
    def fit(model: Any, inputs: Floats, labels: NDArray[Any], classes: int = 0) -> OneThread:
        """Fit it to inputs ``(N, F)`` and labels ``(N,)``."""
        with _pools(type(model).__module__).limit(limits=1):
            return OneThread(model.fit(inputs, labels), classes)

    def predict(self, rows: Floats) -> NDArray[np.float64]:
        """``(N,)`` numbers of ``(N, F)``, or ``(N, classes)`` logits."""
        with _pools(type(self.fitted).__module__).limit(limits=1):
            if not self.classes:
                found: NDArray[np.float64] = self.fitted.predict(rows)
                return found
            shares = self.fitted.predict_proba(rows)
        return log_shares(shares, self.fitted.classes_, self.classes)


def _knows_nothing(classes: int) -> Predictor:
    """A model that says the same of any row: no difference to the support mean, or any class."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    if classes:
        every = np.arange(classes)
        return OneThread.fit(
            DummyClassifier(strategy="uniform"), np.zeros((classes, 1)), every, classes
        )
    constant = DummyRegressor(strategy="constant", constant=0.0)
    return OneThread.fit(constant, np.zeros((1, 1)), np.zeros(1))


def _fitted(part: Pooled, seed: int, classes: int, x: Floats, y: NDArray[Any]) -> Predictor:
    """A model of these rows."""
    own = part.estimator(classes=classes > 0)
    model = load_own(own, "models")(**own.options)
    if classes and (y == y[0]).all():  # some classifiers want two classes
        from sklearn.dummy import DummyClassifier

        model = DummyClassifier(strategy="prior")
    if "random_state" in model.get_params() and "random_state" not in own.options:
        model.set_params(random_state=seed % 2**32)
    return OneThread.fit(model, x, y, classes)
