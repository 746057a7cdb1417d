"""Sine curves from a handful of points, the regression problem of the MAML paper.

Finn, Abbeel, Levine (2017), "Model-agnostic meta-learning for fast adaptation of deep networks",
ICML, section 5.1.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError
from metatune.seeds import derive_seed
from metatune.tasks.base import MSE, SPLITS, Episode, FamilyInfo, Split, TaskBatch

AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, math.pi)
X = (-5.0, 5.0)
GROUP = "sinusoid"


class SinusoidFamily:
    """y = A sin(x - phase), with A in [0.1, 5], phase in [0, pi] and x in [-5, 5], all uniform.

    Tasks are drawn from a formula, so splits share nothing: the split's name is part of each
    seed. There is one group a split, which means nothing.
    """

    info = FamilyInfo(
        name="sinusoid",
        kind="regression",
        input_shape=(1,),
        outputs=1,
        metric=MSE,
        train_classes=0,
        groups={split: {GROUP: 1} for split in SPLITS},
        grouped=False,
        baselines=(),
        about="Sine curves of unknown amplitude and phase from a few points (Finn et al. 2017).",
    )

    @property
    def fingerprint(self) -> str:
        """sha256 of the formula and its ranges, in hex digits."""
        text = f"y = A sin(x - phase); A {AMPLITUDE}; phase {PHASE}; x {X}"
        return hashlib.sha256(text.encode()).hexdigest()

    def usable_groups(self, split: Split, episode: Episode) -> tuple[str, ...]:
        """The one group, whatever the number of points."""
        return (GROUP,)

    def check(self, episode: Episode) -> None:
        """Raise DataError unless way is 1 and there are points to learn from and to predict."""
        if episode.way != 1 or episode.shot < 1 or episode.query < 1:
            found = f"way {episode.way}, shot {episode.shot}, query {episode.query}"
            raise DataError(f"sinusoid: {found}; allowed: way 1, shot and query from 1")

    def sample(
        self,
        split: Split,
        episode: Episode,
        seeds: Sequence[int],
        groups: Sequence[str] | None = None,
    ) -> TaskBatch:
        """Draw one curve a seed: x and y are ``(T, S, 1)`` and ``(T, Q, 1)``.

        Raises:
            DataError: as ``check``, or where a group other than the one is asked for.
        """
        self.check(episode)
        if groups is not None and list(groups) != [GROUP] * len(seeds):
            raise DataError(f"sinusoid: allowed is the group {GROUP!r}, once a seed")
        points = episode.shot + episode.query
        uniform = np.empty((len(seeds), 2 + points))
        for t, seed in enumerate(seeds):
            rng = np.random.default_rng(derive_seed(int(seed), "sinusoid", split))
            uniform[t] = rng.random(2 + points)
        amplitude = _scale(uniform[:, 0:1], AMPLITUDE)
        phase = _scale(uniform[:, 1:2], PHASE)
        x = _scale(uniform[:, 2:], X)
        y = amplitude * np.sin(x - phase)
        x32, y32 = (a.astype(np.float32)[..., None] for a in (x, y))
        return TaskBatch(
            support_x=x32[:, : episode.shot],
            support_y=y32[:, : episode.shot],
            query_x=x32[:, episode.shot :],
            query_y=y32[:, episode.shot :],
            ids=tuple(f"{GROUP}-{int(seed):012x}" for seed in seeds),
            groups=(GROUP,) * len(seeds),
        )


def _scale(uniform: NDArray[np.float64], bounds: tuple[float, float]) -> NDArray[np.float64]:
    """Numbers in [0, 1) -> numbers in [low, high)."""
    low, high = bounds
    return low + (high - low) * uniform
