"""Pooled models: fitted to the rows of all tasks, and none that has seen what it must not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from families import MOLECULES, SEGMENTS, alone, padded, random_tasks
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, RidgeCV

from metatune.learners.arrays import LEAST
from metatune.learners.cross_fit import fold_of_group
from metatune.learners.interface import Tensors
from metatune.learners.learner import build_learner
from metatune.learners.pooled import design, fit_pooled
from metatune.presets import preset
from metatune.strategy import Meta, Pooled, Ridge, Strategy
from metatune.tasks.base import Episode, TaskBatch

EPISODE = Episode(1, 6, 8)


def segments(tasks: int, classes: int = 3, seed: int = 0) -> Tensors:
    """Rows of shared classes: in each task, class 0 is as frequent as the task has it."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(tasks, 14, 6, generator=rng)
    level = 2 * torch.randn(tasks, 1, generator=rng)
    logits = torch.stack([x[..., 0] + level, *(x[..., c] for c in range(1, classes))], 2)
    y = logits.argmax(2)
    groups = tuple(f"train-{task % 4}" for task in range(tasks))
    return Tensors(x[:, :6], y[:, :6], x[:, 6:], y[:, 6:], y[:, :6], y[:, 6:], groups=groups)


def arrays(batch) -> TaskBatch:
    numbers = [getattr(batch, n).numpy() for n in ("support_x", "support_y", "query_x", "query_y")]
    names = tuple(f"task-{t}" for t in range(len(batch)))
    return TaskBatch(*numbers, ids=names, groups=batch.groups)


# --- what a regressor sees ------------------------------------------------------------------------


@pytest.mark.parametrize("summary", [False, True])
def test_a_pooled_linear_model_is_ridge_on_the_rows_of_all_tasks(summary):
    batch = random_tasks(MOLECULES, EPISODE, tasks=20)
    part = Pooled(model="linear", input_summary=summary)
    fitted = fit_pooled(part, [arrays(batch.tasks([t])) for t in range(20)], {}, seed=0)
    found = fitted.attach(batch, training=False)
    rows, targets = [], []
    for t in range(20):
        y, x = batch.support_y[t, :, 0].numpy(), batch.support_x[t].numpy()
        told = [len(y), y.mean(), y.std(), y.min(), y.max(), *(x.mean(0) if summary else ())]
        for z, v in zip(batch.query_x[t].numpy(), batch.query_y[t, :, 0].numpy(), strict=True):
            rows.append([*z, *told])
            targets.append(v - y.mean())
    expected = RidgeCV().fit(rows, targets).predict(rows)
    np.testing.assert_allclose(found.query_pooled.flatten().numpy(), expected, atol=1e-3)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), changed=st.integers(0, 5))
def test_a_support_examples_summary_leaves_the_example_out(seed, changed):
    rng = np.random.default_rng(seed)
    x, y, z = rng.normal(size=(1, 6, 3)), rng.normal(size=(1, 6)), rng.normal(size=(1, 2, 3))
    other = y.copy()
    other[0, changed] += 5.0
    before, after = (design(x, labels, z, input_summary=True)[0][0] for labels in (y, other))
    np.testing.assert_array_equal(before[changed], after[changed])
    unchanged = np.arange(6) != changed
    assert (before[unchanged] != after[unchanged]).any(1).all()


def test_each_output_has_a_model_of_its_own():
    two = replace(MOLECULES, outputs=2)
    batch = random_tasks(two, EPISODE, tasks=12)
    part = Pooled(model="linear")
    both = fit_pooled(part, [arrays(batch)], {}, seed=0).attach(batch, training=False)
    for output in range(2):
        chosen = {n: getattr(batch, n)[..., [output]] for n in ("support_y", "query_y")}
        own = replace(batch, **chosen)
        alone = fit_pooled(part, [arrays(own)], {}, seed=0).attach(own, training=False)
        for name in ("support_pooled", "query_pooled"):
            torch.testing.assert_close(getattr(both, name)[..., [output]], getattr(alone, name))


# --- tasks of differing sizes ---------------------------------------------------------------------


@pytest.mark.parametrize("summary", [False, True])
def test_padding_is_neither_fitted_nor_summarised(summary):
    batch = padded(random_tasks(MOLECULES, EPISODE, tasks=20), [2, 6, 3, 5] * 5, [1, 8, 4, 2] * 5)
    part, folds = Pooled(model="linear", input_summary=summary), {"train-0": 0, "train-1": 1}
    folds |= {"train-2": 0, "train-3": 1}
    masks = {n: getattr(batch, n).numpy() for n in ("support_mask", "query_mask")}
    together = fit_pooled(part, [replace(arrays(batch), **masks)], folds, seed=0)
    one_by_one = fit_pooled(part, [arrays(task) for task in alone(batch)], folds, seed=0)
    for training in (True, False):
        found = together.attach(batch, training=training)
        for task, own in enumerate(alone(batch)):
            expected = one_by_one.attach(own, training=training)
            for name in ("support_pooled", "query_pooled"):
                values = getattr(expected, name)[0]
                kept = getattr(found, name)[task, : len(values)]
                torch.testing.assert_close(kept, values, rtol=1e-3, atol=1e-4)


# --- folds ----------------------------------------------------------------------------------------


def test_cross_fitted_predictions_come_from_models_that_have_not_seen_the_group():
    strategy = Strategy(prior=Pooled(model="linear"), head=Ridge(), meta=Meta(folds=2))
    folds = fold_of_group(strategy, MOLECULES)
    assert sorted(folds.values()) == [0, 0, 1, 1]
    batch = random_tasks(MOLECULES, EPISODE, tasks=12)
    group = "train-1"
    own = [t for t, name in enumerate(batch.groups) if name == group]
    spoilt = batch.query_y.clone()
    spoilt[own] *= -50.0
    prior = strategy.prior

    def predictions(query_y, training):
        fitted = fit_pooled(prior, [arrays(replace(batch, query_y=query_y))], folds, seed=0)
        return fitted.attach(batch, training=training).query_pooled

    before, after = (predictions(y, True) for y in (batch.query_y, spoilt))
    inside = [t for t, name in enumerate(batch.groups) if folds[name] == folds[group]]
    outside = [t for t in range(12) if t not in inside]
    assert torch.equal(before[inside], after[inside])
    assert not torch.allclose(before[outside], after[outside])
    # What is used in the end has seen them all.
    assert not torch.allclose(predictions(batch.query_y, False), predictions(spoilt, False))


def test_pooled_models_without_folds_use_one_model():
    fitted = fit_pooled(
        Pooled(model="linear"), [arrays(random_tasks(MOLECULES, EPISODE, tasks=6))], {}, seed=0
    )
    batch = random_tasks(MOLECULES, EPISODE, tasks=4, seed=1)
    both = [fitted.attach(batch, training=t).support_pooled for t in (True, False)]
    assert torch.equal(*both)


# --- any regressor --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", ["trees", "mlp", "sklearn.tree:DecisionTreeRegressor", "sklearn.svm:SVR"]
)
def test_any_regressor_of_scikit_learn_can_be_pooled_and_draws_from_its_seed(model):
    options = {"max_iter": 2000} if model == "mlp" else {}
    part = Pooled(model=model, options=options)
    batch = random_tasks(MOLECULES, EPISODE, tasks=8)
    found = [
        fit_pooled(part, [arrays(batch)], {}, seed=3).attach(batch, training=False).query_pooled
        for _ in range(2)
    ]
    assert torch.equal(*found)
    assert found[0].std() > 0


def test_a_seed_of_the_users_own_stands_above_the_trials():
    batch = random_tasks(MOLECULES, EPISODE, tasks=8)
    part = Pooled(model="sklearn.tree:ExtraTreeRegressor", options={"random_state": 1})
    found = [
        fit_pooled(part, [arrays(batch)], {}, seed).attach(batch, training=False).query_pooled
        for seed in (3, 4)
    ]
    assert torch.equal(*found)


def test_where_all_tasks_lie_in_one_fold_nothing_is_known_without_it():
    batch = random_tasks(MOLECULES, EPISODE, tasks=4)
    folds = dict.fromkeys(batch.groups, 0) | {"another": 1}
    model = fit_pooled(Pooled(model="linear"), [arrays(batch)], folds, seed=0)
    kept_out, used = (model.attach(batch, training=training) for training in (True, False))
    assert bool((kept_out.query_pooled == 0).all())
    assert bool((used.query_pooled != 0).any())


# --- classes that are the same in every task ------------------------------------------------------


@pytest.mark.parametrize("summary", [False, True])
def test_a_pooled_linear_classifier_is_logistic_regression_on_the_rows_of_all_tasks(summary):
    batch = segments(20)
    part = Pooled(model="linear", input_summary=summary)
    chunks = [arrays(batch.tasks([t])) for t in range(20)]
    found = fit_pooled(part, chunks, {}, seed=0, classes=3).attach(batch, training=False)
    rows, targets = [], []
    for t in range(20):
        y, x = batch.support_y[t].numpy(), batch.support_x[t].numpy()
        told = [6, *((y == c).mean() for c in range(3)), *(x.mean(0) if summary else ())]
        rows += [[*z, *told] for z in batch.query_x[t].numpy()]
        targets += batch.query_y[t].tolist()
    expected = LogisticRegression(max_iter=1000).fit(rows, targets).predict_log_proba(rows)
    expected = np.maximum(expected, np.log(LEAST))
    np.testing.assert_allclose(found.query_pooled.reshape(-1, 3).numpy(), expected, atol=2e-3)
    assert found.support_pooled.shape == (20, 6, 3)


def test_shares_of_classes_leave_the_support_example_out():
    x, y = np.zeros((1, 4, 1)), np.array([[0, 2, 2, 1]])
    support, query = design(x, y, np.zeros((1, 2, 1)), input_summary=False, classes=3)
    np.testing.assert_allclose(support[0, 0], [0, 3, 0, 1 / 3, 2 / 3])
    np.testing.assert_allclose(support[0, 1], [0, 3, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(query[0], [[0, 4, 0.25, 0.25, 0.5]] * 2)
    alone, _ = design(x[:, :1], y[:, :1], x, input_summary=True, classes=3)
    np.testing.assert_array_equal(alone, np.zeros((1, 1, 6)))  # nothing is known of no example


def test_a_class_that_no_train_task_has_is_told_to_be_as_unlikely_as_can_be():
    batch = segments(12)
    fitted = fit_pooled(Pooled(model="trees"), [arrays(batch)], {}, seed=0, classes=5)
    logits = fitted.attach(batch, training=False).query_pooled
    assert logits.shape == (12, 8, 5)
    assert torch.allclose(logits[..., 3:], torch.tensor(LEAST).log())
    assert bool((logits[..., :3].exp().sum(2) > 0.999).all())


@pytest.mark.parametrize("model", ["linear", "trees", "mlp", "sklearn.svm:LinearSVC"])
def test_where_train_has_one_class_alone_it_is_predicted(model):
    batch = segments(4)
    one = replace(batch, query_y=torch.full_like(batch.query_y, 2))
    fitted = fit_pooled(Pooled(model=model), [arrays(one)], {}, seed=0, classes=3)
    logits = fitted.attach(batch, training=False).query_pooled
    assert bool((logits.argmax(2) == 2).all())


def test_a_fold_that_nothing_is_known_without_gives_each_class_the_same():
    batch = segments(4)
    folds = dict.fromkeys(batch.groups, 0) | {"another": 1}
    model = fit_pooled(Pooled(model="linear"), [arrays(batch)], folds, seed=0, classes=3)
    kept_out, used = (model.attach(batch, training=training) for training in (True, False))
    assert bool((kept_out.query_pooled.std(2) < 1e-6).all())
    assert bool((used.query_pooled.std(2) > 0.1).all())


@pytest.mark.parametrize("name", ["pooled_linear", "boosted_trees"])
def test_without_a_correction_the_class_is_the_pooled_one(name):
    strategy = preset(name, SEGMENTS)
    batch = segments(12)
    fitted = fit_pooled(strategy.prior, [arrays(batch)], {}, seed=0, classes=3)
    tensors = fitted.attach(segments(12, seed=1), training=False)
    learner = build_learner(strategy, SEGMENTS, way=3)
    logits = learner.predict(learner.init(0), tensors)
    assert torch.allclose(logits, tensors.query_pooled, atol=1e-3)
    assert (logits.argmax(2) == tensors.query_y).double().mean() > 0.6


def test_ridge_on_top_fits_what_probabilities_leave_of_the_labels():
    batch = fit_pooled(Pooled(model="linear"), [arrays(segments(12))], {}, seed=0, classes=3)
    tensors = batch.attach(segments(5, seed=1), training=False)
    strategy = Strategy(prior=Pooled(blend=0.7, learn=False), head=Ridge(penalty=3.0, learn=False))
    learner = build_learner(strategy, SEGMENTS, way=3)
    found = learner.predict(learner.init(0), tensors)
    for t in range(5):
        x, q = (np.c_[each[t].numpy(), np.ones(len(each[t]))] for each in (
            tensors.support_x, tensors.query_x))  # fmt: skip
        logits = 0.7 * tensors.support_pooled[t].double().numpy()
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        left = np.eye(3)[tensors.support_y[t].numpy()] - chances
        weights = np.linalg.solve(x.T @ x + 3.0 * np.eye(7), x.T @ left)
        expected = 0.7 * tensors.query_pooled[t].numpy() + q @ weights
        np.testing.assert_allclose(found[t].numpy(), expected, atol=1e-4)
