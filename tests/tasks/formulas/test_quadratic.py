"""Quadratics: the best inner rate is what the algebra says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.errors import DataError
from metatune.tasks.base import Episode
from metatune.tasks.formulas.quadratic import START, QuadraticFamily, best_inner_rate

FAMILY = QuadraticFamily()


def with_one(x):
    """A last column of ones, whose weight is the intercept."""
    x = x.astype(np.float64)
    return np.concatenate([x, np.ones_like(x[..., :1])], -1)


@settings(max_examples=20)
@given(shot=st.sampled_from([4, 8, 20, 40]), seed=st.integers(0, 2**32))
def test_the_support_loss_has_the_hessian_that_is_told(shot, seed):
    x = with_one(FAMILY.sample("train", Episode(1, shot, 1), [seed]).support_x[0])
    np.testing.assert_allclose(2 * x.T @ x / shot, 2 * np.eye(3), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shot", [4, 20])
def test_the_best_rate_of_a_step_from_the_common_start_is_the_algebras(shot):
    tasks = FAMILY.sample("train", Episode(1, shot, 20), range(20_000))
    x, y = with_one(tasks.support_x), tasks.support_y[..., 0].astype(np.float64)
    gradient = 2 * np.einsum("tsd,ts->td", x, x @ START - y) / shot
    qx, qy = with_one(tasks.query_x), tasks.query_y[..., 0]
    # The query loss is a quadratic in the rate: three points tell where it is least.
    rates = np.array([0.0, 0.25, 0.5])
    losses = [
        np.square(np.einsum("tqd,td->tq", qx, START - a * gradient) - qy).mean() for a in rates
    ]
    curve = np.polynomial.Polynomial.fit(rates, losses, 2).convert().coef
    assert -curve[1] / (2 * curve[2]) == pytest.approx(best_inner_rate(shot), rel=0.02)


def test_both_ends_of_each_axis_are_seen_equally_often_or_the_episode_is_refused():
    with pytest.raises(DataError, match="multiples of 4"):
        FAMILY.check(Episode(1, 6, 5))
