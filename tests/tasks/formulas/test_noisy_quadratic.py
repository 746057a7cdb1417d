"""Noisy quadratics: the loss over a training, and so its best rate, are what the algebra says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.errors import DataError
from metatune.tasks.base import Episode
from metatune.tasks.formulas.noisy_quadratic import (
    CURVATURES,
    DIMENSIONS,
    DISTANCE,
    MEAN_TASK,
    SPREAD,
    NoisyQuadraticFamily,
    best_rate,
    excess_by_axis,
    excess_loss,
)

FAMILY = NoisyQuadraticFamily()
ROWS = 2 * DIMENSIONS
EPISODE = Episode(1, ROWS, ROWS)


def with_one(x):
    """A last column of ones, whose weight is the intercept."""
    x = x.astype(np.float64)
    return np.concatenate([x, np.ones_like(x[..., :1])], -1)


def optimum(x, y):
    """What fits one task."""
    return np.linalg.lstsq(with_one(x), y[:, 0].astype(np.float64))[0]


@settings(max_examples=10)
@given(times=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_both_sets_have_the_curvatures_that_are_told(times, seed):
    tasks = FAMILY.sample("train", Episode(1, times * ROWS, ROWS), [seed])
    for x in (tasks.support_x, tasks.query_x):
        x = with_one(x[0])
        np.testing.assert_allclose(x.T @ x / len(x), np.diag(CURVATURES), rtol=1e-5, atol=1e-6)


def test_a_task_has_no_noise_and_tasks_lie_around_the_mean_task():
    tasks = FAMILY.sample("train", EPISODE, range(2000))
    found = np.array([optimum(x, y) for x, y in zip(tasks.support_x, tasks.support_y, strict=True)])
    left = np.einsum("tqd,td->tq", with_one(tasks.query_x), found) - tasks.query_y[..., 0]
    assert np.abs(left).max() < 1e-3
    scaled = (found - MEAN_TASK) * np.sqrt(CURVATURES)
    assert np.abs(scaled.mean(0)).max() < 4 * SPREAD / np.sqrt(2000)
    assert scaled.std(0) == pytest.approx(SPREAD, rel=0.1)


@pytest.mark.parametrize("tasks", [1, 4])
@pytest.mark.parametrize(("rate", "steps"), [(0.1, 1), (0.3, 40), (0.7, 300)])
def test_the_loss_of_a_training_is_the_algebras(rate, steps, tasks):
    """Many trainings at once, step by step on drawn tasks."""
    rng, runs = np.random.default_rng(0), 4000
    theta = np.zeros((runs, len(CURVATURES)))
    for _ in range(steps):
        deviation = SPREAD * rng.standard_normal((runs, tasks, len(CURVATURES))).mean(1)
        optima = MEAN_TASK + deviation / np.sqrt(CURVATURES)
        theta -= rate * 2 * CURVATURES * (theta - optima)
    by_axis = (CURVATURES * (theta - MEAN_TASK) ** 2).mean(0)
    expected = excess_by_axis(rate, steps, tasks, DISTANCE**2)
    np.testing.assert_allclose(by_axis, expected, rtol=0.15)
    assert by_axis.sum() == pytest.approx(
        float(excess_loss(rate, steps, tasks, DISTANCE**2)), rel=0.05
    )


def test_training_goes_on_from_where_it_stands():
    half = excess_by_axis(0.2, 30, 2, DISTANCE**2)
    np.testing.assert_allclose(
        excess_loss(0.2, 20, 2, half), excess_loss(0.2, 50, 2, DISTANCE**2), rtol=1e-12
    )


def test_longer_trainings_and_smaller_batches_want_smaller_rates():
    assert best_rate(400, 1) < best_rate(200, 1) < best_rate(100, 1)
    assert best_rate(200, 1) < best_rate(200, 4)


@pytest.mark.parametrize("ahead", [1, 5])
def test_rates_that_are_best_for_the_next_few_steps_are_too_small_for_the_whole_way(ahead):
    """The greedy rates of Wu et al.: every fifth step the best one for the next few, anew."""
    whole, left, rates = best_rate(200, 1), DISTANCE**2, []
    for _ in range(200 // 5):
        rates.append(best_rate(ahead, 1, left))
        left = excess_by_axis(rates[-1], 5, 1, left)
    assert rates[-1] < whole / 4
    assert np.exp(np.log(rates).mean()) < whole / 2
    # Even a rate that never changes does better; one that falls in time could do so by far.
    assert left.sum() > 2 * excess_loss(whole, 200, 1, DISTANCE**2)


@pytest.mark.parametrize("episode", [Episode(1, ROWS, 5), Episode(1, ROWS + 1, ROWS)])
def test_both_ends_of_each_axis_are_seen_equally_often_or_the_episode_is_refused(episode):
    with pytest.raises(DataError, match=f"multiples of {ROWS}"):
        FAMILY.check(episode)
