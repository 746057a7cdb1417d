"""How a search went: the best so far, what was missing to it, what was left of it elsewhere."""

from __future__ import annotations

import pandas as pd
import pyarrow.dataset as ds

from metatune.analysis.asking import of_each
from metatune.analysis.boards import leaderboard
from metatune.analysis.verdicts import verdict_table
from metatune.records.newest import at_highest_rung, counted
from metatune.records.reading import Run
from metatune.records.rows import FINDING_OUT

LEADERS = 6
"""Who counts as a finalist before the run has named any."""


@of_each
def best_over_time(run: Run) -> pd.DataFrame:
    """The best score on ``select`` so far, whenever a trial is complete.

    Returns:
        A row a completed trial, in the order of their ends: ``round``; ``at``, seconds since the
        run's start, the pauses between its sessions left out; ``trial``, ``name``, ``score``; and
        ``best``, the best score of its round so far, all in the metric's units. Rounds start
        anew: they have other tasks. Trials that only find out, such as the gradient's, are no
        candidates and left out.
    """
    candidates = (ds.field("state") == "completed") & ~ds.field("origin").isin(FINDING_OUT)
    trials = run.read("trials", ["round", "name", "score"], candidates)
    curves = run.read("curves", ["trial", "rung", "at"], counted(["select"]))
    ends = at_highest_rung(curves).drop_duplicates("trial", keep="last").set_index("trial")
    frame = trials.join(ends["at"], how="inner")
    frame = frame.reset_index().sort_values(["round", "at"], kind="stable", ignore_index=True)
    so_far = frame.groupby("round")["score"]
    frame["best"] = so_far.cummax() if run.sign > 0 else so_far.cummin()
    return frame[["round", "at", "trial", "name", "score", "best"]]


@of_each
def regret(run: Run) -> pd.DataFrame:
    """What was missing to the best of a round's end, trial by trial: simple regret.

    Returns:
        ``best_over_time`` with ``completed``, how many trials of the round were complete then, and
        ``regret``, the difference of ``best`` to the round's last, at least 0, in the metric's
        units. It is measured on ``select``, where the best is chosen, and so is a little too
        small: see ``generalisation_gap``.
    """
    frame = best_over_time(run)
    rounds = frame.groupby("round")
    frame["completed"] = rounds.cumcount() + 1
    frame["regret"] = (frame["best"] - rounds["best"].transform("last")).abs()
    return frame


@of_each
def generalisation_gap(run: Run) -> pd.DataFrame:
    """What is left of a score that was chosen by, on tasks that it was not chosen on.

    Returns:
        A frame indexed by trial of all that the last round scored on ``confirm``: ``name``;
        ``select``, ``confirm`` and ``test`` (NaN for those that did not take part in the verdict),
        means over tasks in the metric's units; ``confirm_drop`` and ``test_drop``, by how much
        they are worse than on ``select``. Tasks differ in difficulty, so compare drops with each
        other, and with the default's.
    """
    sign = run.sign
    columns = ["trial", "split", "round", "rung", "score"]
    curves = run.read("curves", columns, counted(["select", "confirm"]))
    newest = curves.loc[curves["split"] == "confirm", "round"].max()
    curves = curves[curves["round"] == newest].sort_values("rung")
    means = curves.pivot_table(
        index="trial", columns="split", values="score", aggfunc="last", observed=True
    ).reindex(columns=["select", "confirm"])
    means = means.dropna(subset="confirm").astype(float)
    frame = run.read("trials", ["name"]).join(means, how="inner")
    frame["test"] = verdict_table(run)["score"].reindex(frame.index).astype(float)
    for split in ("confirm", "test"):
        frame[f"{split}_drop"] = sign * (frame["select"] - frame[split])
    return frame


@of_each
def learning_curves(run: Run) -> pd.DataFrame:
    """The finalists' scores on ``select``, rung by rung.

    Returns:
        A row a finalist and rung: ``trial``, ``name``, ``round``, ``rung``, ``resource`` in
        forward-equivalents, ``train_seconds``, ``train_loss`` since the rung before, and ``score``
        in the metric's units. Finalists are those of the verdict, or of a look at ``confirm``
        before it; before both, the ``LEADERS`` first of the leaderboard. All are of one round, and
        so were scored on the same tasks. Ensembles are not trained and left out.
    """
    looks = run.looks[run.looks["trials"].map(len) > 1]
    first = leaderboard(run).index[:LEADERS].to_list()
    finalists = looks["trials"].iloc[-1] if len(looks) else first
    trials = run.read("trials", ["name", "round", "origin"])
    trials = trials[trials.index.isin(finalists) & (trials["origin"] != "ensemble")]
    trials = trials[trials["round"] == trials["round"].max()]
    columns = ["trial", "round", "rung", "resource", "train_seconds", "train_loss", "score"]
    curves = run.read("curves", columns, counted(["select"]))
    curves = curves[curves["trial"].isin(trials.index)]
    curves.insert(1, "name", curves["trial"].map(trials["name"]))
    return curves.sort_values(["trial", "rung"], kind="stable", ignore_index=True)
