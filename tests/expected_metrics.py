"""What the metrics of a run must say, worked out of its frames."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from metatune import Run
from metatune.runner.metrics import BOUNDARIES

Sample = tuple[str, tuple[tuple[str, str], ...]]
"""A name without ``ray_``, and tags in order without the run's."""


def sample(name: str, **tags: object) -> Sample:
    return name, tuple(sorted((tag, str(value)) for tag, value in tags.items()))


def expected(run: Run) -> dict[Sample, float]:
    """Every sample of a run of which one driver saw all; its tasks have no groups."""
    trials = run.trials[run.trials["origin"] != "ensemble"]
    states = ("running", *trials["state"].cat.categories.difference(["running"]))
    found = {
        sample("metatune_trials", state=state): float((trials["state"] == state).sum())
        for state in states
    }
    found[sample("metatune_round")] = float(trials["round"].max())
    for origin, count in trials["origin"].value_counts().items():
        if count:
            found[sample("metatune_asks_total", origin=origin)] = float(count)
    return found | _best(run, trials) | _rungs(run.curves)


def _best(run: Run, trials: pd.DataFrame) -> dict[Sample, float]:
    sign = run.info["family"]["sign"]
    full = trials[(trials["state"] == "completed") & ~trials["origin"].isin(["probe", "promoted"])]
    full = full[full["round"] == full["round"].max()]
    best = {"select": (sign * full["score"]).idxmax()}
    (default,) = full.index[full["origin"] == "default"]
    confirm = run.scores[run.scores["split"] == "confirm"]
    means = confirm[confirm["round"] == full["round"].max()].groupby("trial")["score"].mean()
    if not means.empty:
        best["confirm"] = (sign * means.drop(index=trials.index.difference(full.index),
                                             errors="ignore")).idxmax()  # fmt: skip
    found = {}
    for split, trial in best.items():
        own, other = (_tasks(run.scores, split, each) for each in (trial, default))
        found[sample("metatune_best_score", split=split)] = own.mean()
        found[sample("metatune_best_gain", split=split)] = (sign * (own - other)).mean()
    return found


def _tasks(scores: pd.DataFrame, split: str, trial: str) -> pd.Series:
    """The score of each task at the highest rung."""
    own = scores[(scores["split"] == split) & (scores["trial"] == trial) & (scores["replica"] == 0)]
    return own[own["rung"] == own["rung"].max()].set_index("task")["score"]


def _rungs(curves: pd.DataFrame) -> dict[Sample, float]:
    own = curves[(curves["split"] == "select") & (curves["replica"] == 0)]
    own = own.sort_values(["trial", "rung"])
    trained = own.groupby("trial", observed=True)["train_seconds"].diff()
    own = own.assign(seconds=trained.fillna(own["train_seconds"]) + own["score_seconds"])
    found: dict[Sample, float] = {}
    for rung, rows in own.groupby("rung"):
        for bound in BOUNDARIES:
            within = float((rows["seconds"] <= bound).sum())
            found[sample("metatune_rung_seconds_bucket", rung=rung, le=float(bound))] = within
        found[sample("metatune_rung_seconds_bucket", rung=rung, le="+Inf")] = float(len(rows))
        found[sample("metatune_rung_seconds_count", rung=rung)] = float(len(rows))
    return found


def buckets(observed: Iterable[tuple[str, float]]) -> dict[Sample, float]:
    """Observations, by rung, as Prometheus shows a histogram."""
    found: dict[Sample, float] = {}
    for rung, seconds in observed:
        for bound in (*BOUNDARIES, float("inf")):
            le = "+Inf" if bound == float("inf") else bound
            key = sample("metatune_rung_seconds_bucket", rung=rung, le=le)
            found[key] = found.get(key, 0.0) + (seconds <= bound)
        key = sample("metatune_rung_seconds_count", rung=rung)
        found[key] = found.get(key, 0.0) + 1
    return found
