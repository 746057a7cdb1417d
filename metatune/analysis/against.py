"""What the verdict's winner is against others on each task; how close each comes to the best."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from metatune.analysis.asking import of_each
from metatune.analysis.boards import defaults_of
from metatune.analysis.pairs import task_matrix
from metatune.records.reading import Run
from metatune.statistics import claim_for

DIFFERENCES = ("winner", "rival", "default", "over_rival", "gain")


@of_each
def paired_differences(run: Run, by: Literal["task", "group"] = "task") -> pd.DataFrame:
    """Who gains and who loses by the verdict's winner, on ``test``.

    Args:
        run: with its verdict; without one the frame is empty.
        by: a row a task, or a row a group with the means of its tasks.

    Returns:
        A frame indexed by ``group`` and ``task``, or by ``group`` with the number of its
        ``tasks``: scores of ``winner``, ``rival`` and ``default``, each the mean over trainings,
        and ``over_rival`` and ``gain`` (over the default), positive where the winner is better,
        all in the metric's units. The largest ``over_rival`` comes first. Where the claim is about
        new groups, the means of the rows by group are those of ``verdict_table``; else those of
        the rows by task are.
    """
    if run.verdicts.empty:
        names = ["group", "task"] if by == "task" else ["group"]
        columns = [*(["tasks"] if by == "group" else []), *DIFFERENCES]
        return pd.DataFrame(columns=[*names, *columns]).set_index(names)
    final, sign = run.verdicts.iloc[-1], run.sign
    trials = {
        "winner": final["winner"],
        "rival": final["rival"],
        "default": defaults_of(run)[run.trials.loc[final["winner"], "round"]],
    }
    matrix = task_matrix(run)
    frame = pd.DataFrame({role: matrix[trial] for role, trial in trials.items()}).dropna()
    frame["over_rival"] = sign * (frame["winner"] - frame["rival"])
    frame["gain"] = sign * (frame["winner"] - frame["default"])
    if by == "group":
        groups = frame.groupby(level="group")
        frame = groups.mean()
        frame.insert(0, "tasks", groups.size())
    return frame.sort_values("over_rival", ascending=False, kind="stable")


@of_each
def performance_profile(run: Run) -> pd.DataFrame:
    """How often each entrant of the verdict comes how close to the best of them on ``test``.

    Dolan & Moré (2002), "Benchmarking optimization software with performance profiles", with
    differences in place of ratios, so that scores of either sign can be compared.

    Returns:
        A row an entrant and distance, nearest first: ``trial``, ``name``, ``within``, a distance
        to the best entrant on the same task in the metric's units, and ``share``, the share of
        tasks on which this entrant is at most so far behind. Where the claim is about new groups,
        each group counts alike, however many tasks it has. Empty before the verdict.
    """
    matrix = task_matrix(run).dropna()
    sign = run.sign
    behind = (-sign * matrix).sub((-sign * matrix).min(axis=1), axis=0)
    groups = pd.Series(behind.index.get_level_values("group"), index=behind.index, dtype=object)
    weights = pd.Series(1.0, index=behind.index)
    if claim_for(groups.to_list()) == "new groups":
        weights = 1.0 / groups.map(groups.value_counts())
    parts = []
    for trial in behind.columns:
        own = weights.groupby(behind[trial].to_numpy()).sum()
        own = own.reindex(own.index.union([0.0]), fill_value=0.0)  # who is never the best, too
        share = own.cumsum() / own.sum()
        parts.append(
            pd.DataFrame({
                "trial": trial,
                "name": run.trials.loc[trial, "name"],
                "within": share.index.to_numpy(float),
                "share": np.minimum(share.to_numpy(float), 1.0),
            })
        )  # fmt: skip
    columns = ["trial", "name", "within", "share"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
