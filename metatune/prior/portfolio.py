"""Which strategies a list should have to cover earlier tasks, and which is good everywhere.

Algorithm portfolios go back to Huberman, Lukose & Hogg (1997); Hydra (Xu, Hoos & Leyton-Brown 2010)
builds them greedily from configurations of one algorithm, and Auto-sklearn 2.0 (Feurer et al. 2022)
starts every run from one, without looking at features of the data. So does this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST = 5  # strategies in the portfolio
LEAST = 0.01  # of what there is to cover: a strategy that adds less ends the portfolio


class Pick(NamedTuple):
    """A strategy of a portfolio: its row, and what the portfolio covers with it."""

    row: int
    coverage: float


def portfolio(gains: Floats, weights: Floats, most: int = MOST, least: float = LEAST) -> list[Pick]:
    """The short list of strategies that covers tasks best, greedily built.

    A list covers the weighted mean over tasks of the best gain that any of its strategies has
    there, and nothing where none gains. Each step adds the strategy that raises this most. It is
    monotone and submodular, so the list covers at least 1 - 1/e of what the best one of its length
    does (Nemhauser, Wolsey & Fisher 1978).

    Args:
        gains: ``(S, T)``, of S strategies on T tasks; NaN where one was not tried.
        weights: ``(T,)``, of the tasks.
        most: strategies at most.
        least: the coverage that one more has to add.
    """
    reached = np.nan_to_num(np.maximum(gains, 0.0))
    best, covered = np.zeros(len(weights)), 0.0
    picks: list[Pick] = []
    while len(picks) < min(most, len(reached)):
        # Rounded, so that ties go to the first row whatever the order of summation.
        totals = np.round(np.maximum(reached, best) @ weights, 12)
        row = int(totals.argmax())
        if totals[row] - covered < least:
            break
        best, covered = np.maximum(best, reached[row]), float(totals[row])
        picks.append(Pick(row, covered))
    return picks


@dataclass(frozen=True)
class Matrix:
    """Gains of strategies on the tasks of all runs, comparable over runs and metrics.

    A gain here is what a strategy gains over the median strategy on the same task, and nothing
    where it gains less. Those of a run are divided by what the best strategy of each task gains on
    the average. So a list that covers 1 has the best known strategy for every task, the median
    strategy covers 0, and one that was not tried somewhere counts as the median one there.

    Attributes:
        digests: of the S strategies, the best average rank first.
        gains: ``(S, T)``.
        weights: ``(T,)``, which sum to 1: each run counts alike, in it each group, in it each task.
    """

    digests: tuple[str, ...]
    gains: Floats
    weights: Floats


def matrix(frame: pd.DataFrame) -> Matrix:
    """The matrix of a prior's frame. Runs that tell no strategy from another are left out."""
    digests = tuple(average_ranks(frame))
    rows = {digest: row for row, digest in enumerate(digests)}
    blocks, weights = [np.zeros((len(digests), 0))], [np.zeros(0)]
    for _, run in frame.groupby("run", sort=False):
        paired = np.full((len(digests), len(run["tasks"].iloc[0])), np.nan)
        for digest, gains in zip(run["digest"], run["gains"], strict=True):
            paired[rows[digest]] = gains
        of_tasks = group_weights(list(run["groups"].iloc[0]))
        above = np.nan_to_num(np.maximum(paired - np.nanmedian(paired, axis=0), 0.0))
        most = float(above.max(axis=0) @ of_tasks)
        if most > 0:
            blocks.append(above / most)
            weights.append(of_tasks)
    runs = max(1, len(blocks) - 1)
    return Matrix(digests, np.concatenate(blocks, axis=1), np.concatenate(weights) / runs)


def group_weights(groups: Sequence[str]) -> Floats:
    """Weights of a run's tasks, which sum to 1: each group counts alike, in it each task.

    >>> group_weights(["a", "a", "b"]).tolist()
    [0.25, 0.25, 0.5]
    """
    sizes = Counter(groups)
    return np.array([1 / (len(sizes) * sizes[group]) for group in groups])


def relative_ranks(frame: pd.DataFrame) -> pd.Series[float]:
    """Of each row, the rank of its gain within its run, from 0 (first) to 1 (last).

    Ties share their mean; one that stands alone came in the middle.
    """
    by_run = frame.groupby("run")["gain"]
    ranks, others = by_run.rank(ascending=False) - 1, by_run.transform("size") - 1
    return (ranks / others.clip(lower=1)).mask(others == 0, 0.5)


def average_ranks(frame: pd.DataFrame) -> dict[str, float]:
    """By strategy, the best first: the mean over runs of its relative rank.

    A run that did not try it counts as one where it came in the middle, so that to win once is
    less than to do well everywhere.
    """
    from_middle = (relative_ranks(frame) - 0.5).groupby(frame["digest"], sort=False).sum()
    means = 0.5 + from_middle / max(1, frame["run"].nunique())
    return {str(digest): float(rank) for digest, rank in means.sort_values(kind="stable").items()}


def short_list(frame: pd.DataFrame) -> dict[str, float]:
    """The portfolio of a prior's frame: what it covers with each strategy, in picking order.

    Only strategies in the better half of at least one run are picked. A run ends with one strategy
    for all tasks: one that is brilliant on some and fails on others covers much and helps little.
    """
    good = set(frame.loc[relative_ranks(frame) <= 0.5, "digest"])
    found = matrix(frame)
    rows = [row for row, digest in enumerate(found.digests) if digest in good]
    picks = portfolio(found.gains[rows], found.weights)
    return {found.digests[rows[pick.row]]: pick.coverage for pick in picks}
