"""Who is better than whom, and on which tasks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from metatune.analysis.asking import of_each
from metatune.errors import RunError, first_of
from metatune.records.newest import at_highest_rung, counted
from metatune.records.reading import Run
from metatune.records.several import Runs
from metatune.statistics import claim_for, estimate, holm, sign_flip_p
from metatune.tasks.base import SPLITS

PAIR_COLUMNS = (
    "a", "b", "name_a", "name_b", "better_by", "low", "high", "p", "units", "claim",
)  # fmt: skip
MOST = 100
"""Strategies that are compared pair by pair."""


def task_matrix(run: Run, split: str = "test", round_: int | None = None) -> pd.DataFrame:
    """The score of every task by every trial that was scored on a split.

    Args:
        run: finished or going on.
        split: ``select``, ``confirm`` or ``test``.
        round_: whose trials; by default the newest round's that was scored there. Those of
            different rounds have seen other tasks.

    Returns:
        A frame indexed by ``group`` and ``task`` with a column a trial, in the metric's units: at
        its highest rung, on ``test`` the mean over the verdict's trainings. NaN where a trial was
        not scored on a task, such as one that lost a race.

    Raises:
        RunError: there is no such split, or there are several runs.
    """
    if split not in SPLITS:
        raise RunError(f"found split {split!r}; allowed: {', '.join(SPLITS)}")
    if isinstance(run, Runs):
        raise RunError(
            f"task_matrix: found {len(run)} runs; allowed: one, as trials of different runs share "
            "ids but no tasks"
        )
    columns = ["round", "trial", "rung", "task", "group", "score"]
    scores = run.read("scores", columns, counted([split], round_), categories=True)
    newest = scores["round"].max() if round_ is None else round_
    scores = at_highest_rung(scores[scores["round"] == newest])
    matrix = scores.pivot_table(
        index=["group", "task"], columns="trial", values="score", aggfunc="mean", observed=True
    )
    matrix.columns = matrix.columns.astype("str")  # names, no longer categories
    matrix.index = pd.MultiIndex.from_frame(matrix.index.to_frame(index=False).astype("str"))
    return matrix


@of_each
def pairwise(
    run: Run,
    split: str = "test",
    round_: int | None = None,
    trials: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Every pair of strategies on the tasks that both were scored on.

    Args:
        run, split, round_: as of ``task_matrix``.
        trials: who is compared; by default all that were scored there, at most ``MOST``.

    Returns:
        A row a pair: ``better_by``, by how much ``a`` is better than ``b`` in the metric's units
        (positive is better, whichever way the metric goes), with its 95 % interval; ``p`` of an
        exact sign-flip test, adjusted for all pairs (Holm 1979); ``claim``, of what: new groups or
        new tasks; ``units``, how many of these. Those that share no task are left out.

    Raises:
        RunError: there is no such split or trial, or there are too many of them.
    """
    matrix, sign = task_matrix(run, split, round_), run.sign
    if trials is not None:
        if unknown := [trial for trial in trials if trial not in matrix.columns]:
            raise RunError(
                f"pairwise: found trial {first_of(unknown)}; allowed: those scored on {split}"
            )
        matrix = matrix[list(dict.fromkeys(trials))]
    if len(matrix.columns) > MOST:
        raise RunError(
            f"pairwise: found {len(matrix.columns)} trials scored on {split}; allowed: up to "
            f"{MOST}: name some, as `trials=leaderboard(run).index[:20]`"
        )
    known = run.read("trials", ["name"])["name"]
    rows = list[dict[str, Any]]()
    for a, b in combinations(matrix.columns, 2):
        both = matrix[[a, b]].dropna()
        if both.empty:
            continue
        groups = both.index.get_level_values("group").to_list()
        gains, claim = (sign * (both[a] - both[b])).to_list(), claim_for(groups)
        found = estimate(gains, groups, claim)
        names = {"name_a": known[a], "name_b": known[b]}
        rows.append({
            "a": a, "b": b, **names, "better_by": found.mean, "low": found.low,
            "high": found.high, "p": sign_flip_p(gains, groups, claim), "units": found.units,
            "claim": claim,
        })  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(PAIR_COLUMNS))
    return frame.assign(p=holm(frame["p"].to_list()))
