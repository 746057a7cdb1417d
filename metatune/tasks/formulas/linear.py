"""Linear tasks whose weights lie in a plane: the simplest thing that there is to learn to learn."""

from __future__ import annotations

import numpy as np

from metatune.tasks.base import Episode
from metatune.tasks.formulas.formula import Floats, FormulaFamily, formula_info

CENTRE = np.array([2.0, -1.0, 0.5, 1.0])
PLANE = np.array([[0.6, 0.0, 0.8, 0.0], [0.0, 0.8, 0.0, -0.6]])
LEVEL = 1.0
NOISE = 0.1


class LinearFamily(FormulaFamily):
    """y = x . w + b + noise, w = centre + z plane; x and z normal, b normal around 1 (std 0.5)."""

    info = formula_info("linear", 4, "Linear tasks whose weights lie in a plane (made up).")
    formula = f"y = x . (c + z P) + b; c {CENTRE}; P {PLANE}; b {LEVEL} +- 0.5; noise {NOISE}"

    def draw(self, rng: np.random.Generator, episode: Episode) -> tuple[Floats, Floats]:
        """One task: x ``(points, 4)``, y ``(points,)``."""
        points = episode.shot + episode.query
        w = CENTRE + rng.standard_normal(2) @ PLANE
        b = LEVEL + 0.5 * rng.standard_normal()
        x = rng.standard_normal((points, 4))
        return x, x @ w + b + NOISE * rng.standard_normal(points)
