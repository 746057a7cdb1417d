"""A family of quadratics whose best inner rate is algebra.

A task is a linear regression y = x . w_t + b_t in d = 2 dimensions. Its support inputs are an
orthogonal design: sqrt(d) e_j and -sqrt(d) e_j for each axis j, n / 2d times each. So the mean
squared error on the support set is a round quadratic in theta = (w, b), with Hessian 2 I,

    L(theta) = |theta - theta_hat|^2 + constant,    theta_hat = theta_t + e,    e ~ N(0, v I),

where v = sigma^2 / n, and sigma is the noise of the support labels. Tasks are
theta_t = theta_0 + tau z with z ~ N(0, I). One step of rate a from theta_0 gives, with c = 2 a,

    theta = theta_0 + c (theta_hat - theta_0),    theta - theta_t = (c - 1) tau z + c e,

so the expected squared error of each coordinate is (c - 1)^2 tau^2 + c^2 v, which is least at
c = tau^2 / (tau^2 + v): ``best_inner_rate``. Query inputs are N(0, I), query labels have no noise,
and the query loss is the squared error of theta.
"""

from __future__ import annotations

import numpy as np

from metatune.errors import DataError
from metatune.tasks.base import Episode
from metatune.tasks.formulas.formula import Floats, FormulaFamily, formula_info

DIMENSIONS = 2
SPREAD = 1.0  # tau
NOISE = 2.0  # sigma
START = np.array([1.0, -2.0, 0.5])  # theta_0, the intercept last


def best_inner_rate(shot: int) -> float:
    """The rate of one step from ``START`` that does best on the query, for ``shot`` points."""
    variance = NOISE**2 / shot
    return SPREAD**2 / (SPREAD**2 + variance) / 2


class QuadraticFamily(FormulaFamily):
    """Linear regressions on an orthogonal design; see the module."""

    info = formula_info(
        "quadratic", DIMENSIONS, "Quadratics whose best inner rate is algebra (made up)."
    )
    formula = f"tau {SPREAD}; sigma {NOISE}; theta_0 {START}"

    def check(self, episode: Episode) -> None:
        """Raise DataError unless both ends of each axis can be seen equally often."""
        super().check(episode)
        if episode.shot % (2 * DIMENSIONS):
            found = f"shot {episode.shot}"
            raise DataError(f"quadratic: {found}; allowed: multiples of {2 * DIMENSIONS}")

    def draw(self, rng: np.random.Generator, episode: Episode) -> tuple[Floats, Floats]:
        """One task: x ``(points, 2)``, y ``(points,)``."""
        theta = START + SPREAD * rng.standard_normal(DIMENSIONS + 1)
        axes = np.sqrt(DIMENSIONS) * np.concatenate([np.eye(DIMENSIONS), -np.eye(DIMENSIONS)])
        support = np.tile(axes, (episode.shot // len(axes), 1))
        x = np.concatenate([support, rng.standard_normal((episode.query, DIMENSIONS))])
        noise = np.zeros(len(x))
        noise[: episode.shot] = NOISE * rng.standard_normal(episode.shot)
        return x, x @ theta[:-1] + theta[-1] + noise
