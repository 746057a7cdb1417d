"""The verdict: who is best on ``test``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds

from metatune.analysis.asking import of_each
from metatune.analysis.boards import costs_of, defaults_of, front_of, named
from metatune.analysis.memory import once
from metatune.records.newest import at_highest_rung, counted
from metatune.records.reading import Run
from metatune.statistics import (
    Estimate,
    claim_for,
    estimate,
    holm,
    mean_ranks,
    probability_of_improvement,
    share_worse,
    sign_flip_p,
)

Trainings = Sequence[Sequence[float]]
TEST_COLUMNS = (
    "name", "structure", "origin", "members", "trainings", "tasks", "groups", "score", "low",
    "high", "gain", "gain_low", "gain_high", "over_rival", "over_rival_low", "over_rival_high",
    "rank", "beaten_p", "beaten_share", "worse_share", "select", "confirm", "train_seconds",
    "adapt_seconds", "pareto", "transductive",
)  # fmt: skip


@of_each
@once
def verdict_table(run: Run) -> pd.DataFrame:
    """The entrants of the verdict on ``test``, best first; empty before the verdict.

    Returns:
        A frame indexed by trial: ``score`` averaged over ``trainings`` with its interval over the
        claim's units; ``gain`` over the default and ``over_rival`` over the best preset or
        baseline as chosen on ``select``, both paired by task (positive is better); ``rank``, the
        mean rank over units (1 is best); ``beaten_p``, the p value of the winner's difference to a
        default, preset or baseline, adjusted for their number (Holm 1979), and ``beaten_share``,
        the share of units on which the winner is better than this entrant; ``worse_share``, the
        share of tasks that it makes worse than the default does; ``select`` and ``confirm``, what
        it scored there; ``train_seconds`` of one training and ``adapt_seconds`` for learning and
        judging one task; ``pareto``, whether no other entrant matches it in score and costs as
        they stand here and exceeds it in one. For an ensemble, trainings are blends of its
        ``members``, and seconds are the sums of theirs.
    """
    if run.verdicts.empty:
        return pd.DataFrame(columns=list(TEST_COLUMNS)).rename_axis("trial")
    sign, final = run.sign, run.verdicts.iloc[-1]
    test, curves = (run.read(name, where=counted(["test"])) for name in ("scores", "curves"))
    columns = ["name", "structure", "origin", "members", "round"]
    trials = run.read("trials", columns, ds.field("trial").isin(test["trial"].unique()))
    default = defaults_of(run)[trials.loc[final["winner"], "round"]]
    entrants = {str(trial): _over_trainings(own) for trial, own in test.groupby("trial")}
    opponents = [
        trial
        for trial in entrants
        if trial != final["winner"]
        and (
            trials.loc[trial, "origin"] in ("default", "preset", "baseline")
            or trial == final["rival"]  # an ensemble, where the winner is one
        )
    ]
    compared = _comparisons(entrants, str(final["winner"]), default, opponents, sign)
    before = {split: _newest_means(run, split) for split in ("select", "confirm")}
    rows = []
    for trial, own in entrants.items():
        known, costs = trials.loc[trial], curves[curves["trial"] == trial]
        row: dict[str, Any] = {"trial": trial} | {name: known[name] for name in columns[:-1]}
        row["trainings"], row["tasks"] = len(costs), len(own)
        row["groups"] = own["group"].nunique()
        row["train_seconds"] = costs["train_seconds"].mean()
        row["adapt_seconds"] = (costs["score_seconds"] / costs["tasks"]).mean()
        row["transductive"] = bool(own["transductive"].any())
        row |= named("score", "", _estimate(own["score"], own["group"], _trainings(test, [trial])))
        for label, other in (("gain", default), ("over_rival", final["rival"])):
            trainings = _trainings(test, [trial, other])
            row |= named(label, f"{label}_", _paired(own, entrants[other], sign, trainings))
        row |= compared[trial]
        row |= {split: before[split].get(trial, np.nan) for split in before}
        rows.append(row)
    frame = pd.DataFrame(rows, columns=["trial", *TEST_COLUMNS]).set_index("trial")
    frame["pareto"] = front_of(frame, sign, costs_of(run))
    return frame.iloc[np.argsort(-sign * frame["score"].to_numpy(), kind="stable")]


def _comparisons(
    entrants: dict[str, pd.DataFrame],
    winner: str,
    default: str,
    opponents: Sequence[str],
    sign: int,
) -> dict[str, dict[str, float]]:
    """Ranks, and what the winner is to each of the others; ``opponents`` are tested against it."""
    first = next(iter(entrants.values()))
    groups, order = first["group"].to_list(), first["task"].to_list()
    claim = claim_for(groups)
    scores = {t: own.set_index("task")["score"].loc[order].to_list() for t, own in entrants.items()}
    found = {t: {"rank": rank} for t, rank in mean_ranks(scores, groups, claim, sign).items()}

    def gains(a: str, b: str) -> list[float]:
        return [sign * (x - y) for x, y in zip(scores[a], scores[b], strict=True)]

    for trial in entrants:
        found[trial]["worse_share"] = share_worse(gains(trial, default))
        if trial != winner:
            share = probability_of_improvement(gains(winner, trial), groups, claim)
            found[trial]["beaten_share"] = share
    p_values = holm([sign_flip_p(gains(winner, trial), groups, claim) for trial in opponents])
    for trial, p in zip(opponents, p_values, strict=True):
        found[trial]["beaten_p"] = p
    return found


def _newest_means(run: Run, split: str) -> pd.Series:
    """The mean score of each trial on a split, at the highest rung that was scored there."""
    curves = run.read("curves", ["trial", "rung", "score"], counted([split]), categories=True)
    return at_highest_rung(curves).drop_duplicates("trial", keep="last").set_index("trial")["score"]


def _over_trainings(own: pd.DataFrame) -> pd.DataFrame:
    """One row a task: its mean score over trainings, in the order of the first training."""
    means = own.groupby("task", sort=False)["score"].mean()
    first = own.drop_duplicates("task").set_index("task")
    return first.assign(score=means).reset_index()


def _trainings(test: pd.DataFrame, trials: Sequence[object]) -> Trainings:
    """For each trial the mean score of each of its trainings."""
    means = [test[test["trial"] == trial].groupby("replica")["score"].mean() for trial in trials]
    return [own.to_list() for own in means]


def _estimate(values: pd.Series, groups: pd.Series, trainings: Trainings = ()) -> Estimate:
    names = groups.to_list()
    return estimate(values.to_list(), names, claim_for(names), trainings=trainings)


def _paired(
    own: pd.DataFrame, other: pd.DataFrame, sign: int, trainings: Trainings = ()
) -> Estimate:
    if own is other:  # no noise in what is compared with itself
        return Estimate(0.0, 0.0, 0.0, len(own))
    both = own.merge(other[["task", "score"]], on="task", suffixes=("", "_other"))
    if len(both) != min(len(own), len(other)):  # one may have lost a race on its first tasks
        return Estimate(np.nan, np.nan, np.nan, 0)
    return _estimate(sign * (both["score"] - both["score_other"]), both["group"], trainings)
