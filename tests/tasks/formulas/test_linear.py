"""Linear tasks: noise is all that a line leaves, and weights lie in the plane."""

from __future__ import annotations

import numpy as np

from metatune.tasks.base import Episode
from metatune.tasks.formulas.linear import CENTRE, NOISE, PLANE, LinearFamily


def test_weights_lie_in_the_plane_and_noise_is_as_told():
    tasks = LinearFamily().sample("train", Episode(1, 200, 1), range(50))
    left = []
    for x, y in zip(tasks.support_x, tasks.support_y[..., 0], strict=True):
        (*w, _), residual, *_ = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y)
        off = w - CENTRE
        assert np.linalg.norm(off - off @ PLANE.T @ PLANE) < 0.1
        left.append(residual[0] / (len(x) - 5))
    assert np.sqrt(np.mean(left)) - NOISE < 0.005
