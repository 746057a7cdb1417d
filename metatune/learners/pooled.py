"""Pooled models: one scikit-learn model over all train tasks (see ``strategy.Pooled``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from metatune.learners.interface import Tensors
from metatune.strategy import Pooled
from metatune.strategy.own import load_own
from metatune.tasks.base import TaskBatch

Floats = NDArray[np.floating[Any]]

LEAST = 1e-6
"""A probability below it counts as it, so that logits stay finite."""


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
    on_all: list[Any]
    without: list[list[Any]]
    fold_of: Mapping[str, int]
    classes: int = 0

    def attach(self, batch: Tensors, *, training: bool) -> Tensors:
        """The batch with predictions; in training by models that have not seen its group."""
        x, queries = (t.detach().double().numpy() for t in (batch.support_x, batch.query_x))
        y = (batch.support_y if self.classes else batch.support_y.double()).detach().numpy()
        by_fold: dict[int | None, list[int]] = {}
        for task in range(len(batch)):
            fold = self.fold_of[batch.groups[task]] if training and self.without else None
            by_fold.setdefault(fold, []).append(task)
        rows = _designs(self.part, x, y, queries, self.classes)
        outputs = self.classes or len(rows)
        support, query = (np.zeros((*seen.shape[:2], outputs)) for seen in rows[0])
        for fold, tasks in by_fold.items():
            models = self.on_all if fold is None else self.without[fold]
            for side, values in enumerate((support, query)):
                predicted = [
                    self._predict(model, seen[side][tasks])
                    for model, seen in zip(models, rows, strict=True)
                ]
                values[tasks] = np.concatenate(predicted, 2)
        dtype = batch.support_x.dtype
        return replace(
            batch,
            support_pooled=torch.from_numpy(support).to(dtype),
            query_pooled=torch.from_numpy(query).to(dtype),
        )

    def _predict(self, model: Any, seen: Floats) -> Floats:
        """``(T, N, F)`` -> ``(T, N, 1)`` values, or ``(T, N, classes)`` logits."""
        rows = seen.reshape(-1, seen.shape[2])
        with threadpool_limits(1):
            if not self.classes:
                return np.asarray(model.predict(rows)).reshape(*seen.shape[:2], 1)
            found = np.zeros((len(rows), self.classes))  # a class that was not seen has no column
            found[:, model.classes_] = model.predict_proba(rows)
        return np.log(np.maximum(found, LEAST)).reshape(*seen.shape[:2], -1)


def _designs(
    part: Pooled, x: Floats, y: NDArray[Any], queries: Floats, classes: int
) -> list[tuple[Floats, Floats]]:
    """``design`` for each model: inputs are flattened, and each output has labels of its own."""
    x, queries = (each.reshape(*each.shape[:2], -1) for each in (x, queries))
    labels = [y] if classes else [y[..., output] for output in range(y.shape[2])]
    return [design(x, own, queries, part.input_summary, classes) for own in labels]


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
        y = batch.support_y if classes else batch.support_y.astype(np.float64)
        of_model = [
            query for _, query in _designs(part, batch.support_x, y, batch.query_x, classes)
        ]
        rows.append(np.stack(of_model).reshape(len(of_model), -1, of_model[0].shape[2]))
        target = batch.query_y if classes else batch.query_y - y.mean(1, keepdims=True)
        targets.append(target.reshape(-1, len(of_model)))
        of_task = [fold_of.get(group, -1) for group in batch.groups]
        folds.append(np.repeat(of_task, batch.query_x.shape[1]))
    inputs, labels, fold = np.concatenate(rows, 1), np.concatenate(targets), np.concatenate(folds)

    def fit(kept: NDArray[np.bool_]) -> list[Any]:
        if not kept.any():  # few tasks may all lie in one fold: nothing is known without it
            return [_knows_nothing(classes)] * len(inputs)
        return [
            _fitted(part, seed, classes, inputs[number][kept], labels[kept, number])
            for number in range(len(inputs))
        ]

    without = [fit(fold != k) for k in range(max(fold_of.values(), default=-1) + 1)]
    return PooledModel(part, fit(np.ones(len(fold), bool)), without, fold_of, classes)


def _knows_nothing(classes: int) -> Any:
    """A model that says the same of any row: no difference to the support mean, or any class."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    if classes:
        return DummyClassifier(strategy="uniform").fit(np.zeros((classes, 1)), np.arange(classes))
    return DummyRegressor(strategy="constant", constant=0.0).fit(np.zeros((1, 1)), [0.0])


def _fitted(part: Pooled, seed: int, classes: int, x: Floats, y: NDArray[Any]) -> Any:
    """A model of these rows."""
    own = part.estimator(classes=classes > 0)
    model = load_own(own, "models")(**own.options)
    if classes and (y == y[0]).all():  # some classifiers want two classes
        from sklearn.dummy import DummyClassifier

        model = DummyClassifier(strategy="prior")
    if "random_state" in model.get_params() and "random_state" not in own.options:
        model.set_params(random_state=seed % 2**32)
    with threadpool_limits(1):
        return model.fit(x, y)
