"""Sine curves from a handful of points, the regression problem of the MAML paper.

Finn, Abbeel, Levine (2017), "Model-agnostic meta-learning for fast adaptation of deep networks",
ICML, section 5.1.
"""

from __future__ import annotations

import math

import numpy as np

from metatune.tasks.base import Episode
from metatune.tasks.formulas.formula import Floats, FormulaFamily, formula_info

AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, math.pi)
X = (-5.0, 5.0)


class SinusoidFamily(FormulaFamily):
    """y = A sin(x - phase), with A in [0.1, 5], phase in [0, pi] and x in [-5, 5], all uniform."""

    info = formula_info(
        "sinusoid",
        1,
        "Sine curves of unknown amplitude and phase from a few points (Finn et al. 2017).",
    )
    formula = f"y = A sin(x - phase); A {AMPLITUDE}; phase {PHASE}; x {X}"

    def draw(self, rng: np.random.Generator, episode: Episode) -> tuple[Floats, Floats]:
        """One curve: x ``(points, 1)``, y ``(points,)``."""
        uniform = rng.random(2 + episode.shot + episode.query)
        amplitude, phase = _scale(uniform[0:1], AMPLITUDE), _scale(uniform[1:2], PHASE)
        x = _scale(uniform[2:], X)
        return x[:, None], amplitude * np.sin(x - phase)


def _scale(uniform: Floats, bounds: tuple[float, float]) -> Floats:
    """Numbers in [0, 1) -> numbers in [low, high)."""
    low, high = bounds
    return low + (high - low) * uniform
