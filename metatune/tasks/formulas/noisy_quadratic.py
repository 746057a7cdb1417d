"""A noisy quadratic whose best constant rate over any number of steps is algebra.

Wu, Ren, Liao & Grosse 2018, "Understanding short-horizon bias in stochastic meta-optimization"
(arXiv 1803.02021): a loss of curvatures h_j whose optimum is drawn anew at each step.
Here a step's draw is a batch of tasks. A task is a linear regression y = x . w_t + b_t without
noise, on an orthogonal design: inputs +-sqrt(d h_j) e_j on each axis j, equally often. Its mean
squared error is, with theta = (w, b) and a curvature of 1 for the intercept,

    L_t(theta) = sum_j h_j (theta_j - theta_tj)^2,
    theta_tj = (s_j DISTANCE + SPREAD z) / sqrt(h_j)

for signs s_j and z ~ N(0, 1). One step of stochastic gradient descent with rate a on the mean loss
of B tasks (``meta.rule: joint``) multiplies the distance to the mean task theta_* by 1 - c_j,
c_j = 2 a h_j, and adds c_j times the batch's deviation. Started at 0, k steps later the loss of a
task is above that at theta_* by

    sum_j [ r_j^2k D_j + SPREAD^2 / B * c_j / (2 - c_j) * (1 - r_j^2k) ],    r_j = 1 - c_j

where D_j = DISTANCE^2: what is left of the way, and the noise that steps have let in. Axes of large
curvature are at their optimum at once and show the noise; the way along the others takes the whole
training. So once it is on the way, a rate that is best for the next few steps is far too small.
"""

from __future__ import annotations

import numpy as np

from metatune.errors import DataError
from metatune.tasks.base import Episode
from metatune.tasks.formulas.formula import Floats, FormulaFamily, formula_info

CURVATURES = np.append(np.geomspace(1.0, 0.01, 16), 1.0)  # h_j, the intercept's last
DIMENSIONS = len(CURVATURES) - 1  # d
DISTANCE, SPREAD = 2.0, 0.4
SIGNS = (-1.0) ** np.arange(len(CURVATURES))  # s_j
MEAN_TASK = DISTANCE * SIGNS / np.sqrt(CURVATURES)  # theta_*


def excess_loss(rate: Floats | float, steps: int, tasks: int, left: Floats | float) -> Floats:
    """How far the expected loss is above that at the mean task, after some steps.

    Args:
        rate: of each step, ``(...)``; below 1, from where on steps diverge.
        steps: how many.
        tasks: in the batch of a step.
        left: ``D_j``, h_j times the expected squared distance at the start, ``(d + 1)`` or one
            for all.

    Returns:
        ``(...)``.
    """
    return np.asarray(excess_by_axis(rate, steps, tasks, left).sum(-1))


def excess_by_axis(rate: Floats | float, steps: int, tasks: int, left: Floats | float) -> Floats:
    """``D_j`` after some steps, ``(..., d + 1)``: the terms of ``excess_loss``."""
    c = 2 * np.asarray(rate)[..., None] * CURVATURES
    kept = (1 - c) ** (2 * steps)
    return np.asarray(kept * left + SPREAD**2 / tasks * c / (2 - c) * (1 - kept))


def best_rate(steps: int, tasks: int, left: Floats | float = DISTANCE**2) -> float:
    """The constant rate that does best over so many steps, to a thousandth."""
    rates = np.geomspace(1e-5, 0.999, 10_000)
    return float(rates[np.argmin(excess_loss(rates, steps, tasks, left))])


class NoisyQuadraticFamily(FormulaFamily):
    """Linear regressions of unlike curvatures around one mean task; see the module."""

    info = formula_info(
        "noisy_quadratic",
        DIMENSIONS,
        "Noisy quadratics whose best rate of training is algebra (made up).",
    )
    formula = f"h {CURVATURES}; distance {DISTANCE}; spread {SPREAD}; signs {SIGNS}"

    def check(self, episode: Episode) -> None:
        """Raise DataError unless both ends of each axis can be seen equally often."""
        super().check(episode)
        if episode.shot % (2 * DIMENSIONS) or episode.query % (2 * DIMENSIONS):
            found = f"shot {episode.shot}, query {episode.query}"
            allowed = f"multiples of {2 * DIMENSIONS}"
            raise DataError(f"noisy_quadratic: {found}; allowed: {allowed}")

    def draw(self, rng: np.random.Generator, episode: Episode) -> tuple[Floats, Floats]:
        """One task: x ``(points, d)``, y ``(points,)``."""
        deviation = SPREAD * rng.standard_normal(len(CURVATURES)) / np.sqrt(CURVATURES)
        theta = MEAN_TASK + deviation
        axes = np.diag(np.sqrt(DIMENSIONS * CURVATURES[:-1]))
        design = np.concatenate([axes, -axes])
        x = np.tile(design, ((episode.shot + episode.query) // len(design), 1))
        return x, x @ theta[:-1] + theta[-1]
