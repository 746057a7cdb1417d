"""How a search went: the best so far, what was missing to it, what was left of it elsewhere."""

from __future__ import annotations

import pandas as pd

from metatune.analysis.boards import leaderboard, verdict_table
from metatune.records.reading import Run
from metatune.records.rows import FINDING_OUT

LEADERS = 6
"""Who counts as a finalist before the run has named any."""


def best_over_time(run: Run) -> pd.DataFrame:
    """The best score on ``select`` so far, whenever a trial is complete.

    Returns:
        A row a completed trial, in the order of their ends: ``round``; ``at``, seconds since the
        run's start, the pauses between its sessions left out; ``trial``, ``name``, ``score``; and
        ``best``, the best score of its round so far, all in the metric's units. Rounds start
        anew: they have other tasks. Trials that only find out, such as the gradient's, are no
        candidates and left out.
    """
    trials = run.trials[
        (run.trials["state"] == "completed") & ~run.trials["origin"].isin(FINDING_OUT)
    ]
    curves = run.curves.query("split == 'select' and replica == 0")
    ends = curves.sort_values("rung").drop_duplicates("trial", keep="last").set_index("trial")
    frame = trials[["round", "name", "score"]].join(ends["at"], how="inner")
    frame = frame.reset_index().sort_values(["round", "at"], kind="stable", ignore_index=True)
    so_far = frame.groupby("round")["score"]
    frame["best"] = so_far.cummax() if run.info["family"]["sign"] > 0 else so_far.cummin()
    return frame[["round", "at", "trial", "name", "score", "best"]]


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


def generalisation_gap(run: Run) -> pd.DataFrame:
    """What is left of a score that was chosen by, on tasks that it was not chosen on.

    Returns:
        A frame indexed by trial of all that the last round scored on ``confirm``: ``name``;
        ``select``, ``confirm`` and ``test`` (NaN for those that did not take part in the verdict),
        means over tasks in the metric's units; ``confirm_drop`` and ``test_drop``, by how much
        they are worse than on ``select``. Tasks differ in difficulty, so compare drops with each
        other, and with the default's.
    """
    sign = run.info["family"]["sign"]
    curves = run.curves[run.curves["replica"] == 0]
    newest = curves.loc[curves["split"] == "confirm", "round"].max()
    curves = curves[curves["round"] == newest].sort_values("rung")
    means = curves.pivot_table(
        index="trial", columns="split", values="score", aggfunc="last", observed=True
    ).reindex(columns=["select", "confirm"])
    means = means.dropna(subset="confirm").astype(float)
    frame = run.trials[["name"]].join(means, how="inner")
    frame["test"] = verdict_table(run)["score"].reindex(frame.index).astype(float)
    for split in ("confirm", "test"):
        frame[f"{split}_drop"] = sign * (frame["select"] - frame[split])
    return frame


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
    newest = leaderboard(run)
    finalists = looks["trials"].iloc[-1] if len(looks) else newest.index[:LEADERS].to_list()
    trained = run.trials.loc[[t for t in finalists if t in run.trials.index]]
    trained = trained[trained["origin"] != "ensemble"]
    trained = trained[trained["round"] == trained["round"].max()]
    curves = run.curves.query("split == 'select' and replica == 0")
    curves = curves[curves["trial"].isin(trained.index)]
    frame = curves.assign(name=curves["trial"].map(trained["name"]))
    columns = ["trial", "name", "round", "rung", "resource", "train_seconds", "train_loss", "score"]
    return frame.sort_values(["trial", "rung"], kind="stable")[columns].reset_index(drop=True)
