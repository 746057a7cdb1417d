"""What families whose tasks are drawn from a formula have in common.

Tasks are drawn afresh, so splits share nothing: the split's name is part of each seed. There is one
group a split, which means nothing.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError
from metatune.seeds import derive_seed
from metatune.tasks.base import MSE, SPLITS, Episode, FamilyInfo, Split, TaskBatch

Floats = NDArray[np.float64]


def formula_info(name: str, inputs: int, about: str) -> FamilyInfo:
    """The info of a regression of one number from ``inputs`` numbers."""
    return FamilyInfo(
        name=name,
        kind="regression",
        input_shape=(inputs,),
        outputs=1,
        metric=MSE,
        train_classes=0,
        groups={split: {name: 1} for split in SPLITS},
        grouped=False,
        baselines=(),
        about=about,
    )


class FormulaFamily(ABC):
    """Regressions drawn from a formula: a family says what ``draw`` makes of a task's generator."""

    info: FamilyInfo
    formula: str
    """The formula with its numbers, from which the content hash is made."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, episode: Episode) -> tuple[Floats, Floats]:
        """Inputs ``(shot + query, inputs)`` and targets ``(shot + query,)`` of one task."""

    @property
    def fingerprint(self) -> str:
        """sha256 of the formula and its ranges, in hex digits."""
        return hashlib.sha256(self.formula.encode()).hexdigest()

    def usable_groups(self, split: Split, episode: Episode) -> tuple[str, ...]:
        """The one group, whatever the number of points."""
        return (self.info.name,)

    def check(self, episode: Episode) -> None:
        """Raise DataError unless way is 1 and there are points to learn from and to predict."""
        if episode.way != 1 or episode.shot < 1 or episode.query < 1:
            found = f"way {episode.way}, shot {episode.shot}, query {episode.query}"
            raise DataError(f"{self.info.name}: {found}; allowed: way 1, shot and query from 1")

    def sample(
        self,
        split: Split,
        episode: Episode,
        seeds: Sequence[int],
        groups: Sequence[str] | None = None,
    ) -> TaskBatch:
        """Draw one task a seed: x is ``(T, S, inputs)`` and ``(T, Q, inputs)``, y has one output.

        Raises:
            DataError: as ``check``, or where a group other than the one is asked for.
        """
        self.check(episode)
        name, shot, points = self.info.name, episode.shot, episode.shot + episode.query
        if groups is not None and list(groups) != [name] * len(seeds):
            raise DataError(f"{name}: allowed is the group {name!r}, once a seed")
        x = np.empty((len(seeds), points, *self.info.input_shape), np.float32)
        y = np.empty((len(seeds), points, 1), np.float32)
        for task, seed in enumerate(seeds):
            rng = np.random.default_rng(derive_seed(int(seed), name, split))
            x[task], y[task, :, 0] = self.draw(rng, episode)
        return TaskBatch(
            support_x=x[:, :shot],
            support_y=y[:, :shot],
            query_x=x[:, shot:],
            query_y=y[:, shot:],
            ids=tuple(f"{name}-{int(seed):012x}" for seed in seeds),
            groups=(name,) * len(seeds),
        )
