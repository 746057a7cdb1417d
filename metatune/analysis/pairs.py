"""Who is better than whom, and on which tasks."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pandas as pd

from metatune.errors import RunError
from metatune.records.reading import Run
from metatune.statistics import claim_for, estimate, holm, sign_flip_p
from metatune.tasks.base import SPLITS

PAIR_COLUMNS = (
    "a", "b", "name_a", "name_b", "better_by", "low", "high", "p", "units", "claim",
)  # fmt: skip


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
        RunError: there is no such split.
    """
    if split not in SPLITS:
        raise RunError(f"found split {split!r}; allowed: {', '.join(SPLITS)}")
    scores = run.scores[run.scores["split"] == split]
    # What the verdict trained anew says more than the one trial, and stands alone on `test`.
    scores = scores[(scores["replica"] > 0) == (split == "test")]
    newest = scores["round"].max() if round_ is None else round_
    scores = scores[scores["round"] == newest]
    highest = scores.groupby("trial")["rung"].transform("max")
    scores = scores[scores["rung"] == highest]
    return scores.pivot_table(
        index=["group", "task"], columns="trial", values="score", aggfunc="mean", observed=True
    )


def pairwise(run: Run, split: str = "test", round_: int | None = None) -> pd.DataFrame:
    """Every pair of strategies on the tasks that both were scored on.

    Args:
        run, split, round_: as of ``task_matrix``.

    Returns:
        A row a pair: ``better_by``, by how much ``a`` is better than ``b`` in the metric's units
        (positive is better, whichever way the metric goes), with its 95 % interval; ``p`` of an
        exact sign-flip test, adjusted for all pairs (Holm 1979); ``claim``, of what: new groups or
        new tasks; ``units``, how many of these. Those that share no task are left out.
    """
    matrix, sign = task_matrix(run, split, round_), run.info["family"]["sign"]
    rows = list[dict[str, Any]]()
    for a, b in combinations(matrix.columns, 2):
        both = matrix[[a, b]].dropna()
        if both.empty:
            continue
        groups = both.index.get_level_values("group").to_list()
        gains, claim = (sign * (both[a] - both[b])).to_list(), claim_for(groups)
        found = estimate(gains, groups, claim)
        names = {"name_a": run.trials.loc[a, "name"], "name_b": run.trials.loc[b, "name"]}
        rows.append({
            "a": a, "b": b, **names, "better_by": found.mean, "low": found.low,
            "high": found.high, "p": sign_flip_p(gains, groups, claim), "units": found.units,
            "claim": claim,
        })  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(PAIR_COLUMNS))
    return frame.assign(p=holm(frame["p"].to_list()))
