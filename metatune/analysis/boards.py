"""Who is best: the leaderboard on ``select``, its front, and the verdict on ``test``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metatune.analysis.memory import once
from metatune.objectives import COSTS, dominators
from metatune.records.reading import Run
from metatune.records.rows import FINDING_OUT
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
SELECT_COLUMNS = (
    "name", "round", "structure", "origin", "state", "rung", "tasks", "score", "low", "high",
    "gain", "gain_low", "gain_high", *COSTS, "pareto", "resource", "seconds", "transductive",
)  # fmt: skip
TEST_COLUMNS = (
    "name", "structure", "origin", "members", "trainings", "tasks", "groups", "score", "low",
    "high", "gain", "gain_low", "gain_high", "over_rival", "over_rival_low", "over_rival_high",
    "rank", "beaten_p", "beaten_share", "worse_share", "select", "confirm", "train_seconds",
    "adapt_seconds", "pareto", "transductive",
)  # fmt: skip


@once
def leaderboard(run: Run) -> pd.DataFrame:
    """Every trial by its newest scores on ``select``, best first; and an ensemble of leaders.

    Returns:
        A frame indexed by trial, those of the newest round first, which have seen other tasks and
        more resource than those before: ``score`` with its 95 % interval ``low``, ``high`` in the
        metric's units; ``gain``, the paired difference to the default on the same tasks at the
        same rung (positive is better; NaN until the default was there; completed trials are
        compared with the completed default), with its interval; ``structure``, what kind of
        strategy it is; ``adapt_seconds``, the seconds for learning and judging one task at that
        rung; ``pareto``, whether it is on its round's front by score and costs, see ``pareto``;
        ``rung``, ``resource`` in forward-equivalents, ``seconds`` of training and scoring (an
        ensemble's are its members'), and whether query points were scored jointly. Completed
        trials come first, then those that reached a higher rung.
    """
    sign = run.info["family"]["sign"]
    scores = _by_trial_and_rung(run.scores.query("split == 'select' and replica == 0"))
    defaults, costs = defaults_of(run), _costs_on_select(run)
    rows = []
    for trial, known in run.trials.iterrows():
        if known["origin"] == "ensemble" and str(trial) not in scores:
            continue  # one that the verdict alone compares with
        default = defaults.get(known["round"], "")
        columns = ["name", "round", "structure", "origin", "state", "seconds"]
        row: dict[str, Any] = {"trial": trial} | {name: known[name] for name in columns}
        if known["members"]:
            row["seconds"] = run.trials.loc[known["members"], "seconds"].sum()
        if rungs := scores.get(str(trial)):
            rung, done = max(rungs), known["state"] == "completed"
            own = rungs[rung]
            row["rung"], row["tasks"], row["resource"] = rung, len(own), known["resource"]
            row["transductive"] = bool(own["transductive"].any())
            row |= _named("score", "", _estimate(own["score"], own["group"]))
            row |= costs[str(trial), rung]
            reference = _reference(scores.get(default, {}), rung, run, default, done)
            if reference is not None:
                row |= _named("gain", "gain_", _paired(own, reference, sign))
        rows.append(row)
    frame = pd.DataFrame(rows, columns=["trial", *SELECT_COLUMNS]).set_index("trial")
    frame["pareto"] = _on_their_rounds_front(frame, sign, costs_of(run))
    done = frame["state"] == "completed"  # at whatever rung: some need no training
    order = frame.assign(done=done, rung=frame["rung"].mask(done), signed=sign * frame["score"])
    by = ["round", "done", "rung", "signed"]
    return frame.loc[order.sort_values(by, ascending=False, na_position="last").index]


def pareto(run: Run, round_: int | None = None) -> pd.DataFrame:
    """The completed trials of a round that no other matches in score and in every cost on
    ``select``, and exceeds in one: from the best to the cheapest.

    Costs are the run's objectives behind the score; where it had none, ``adapt_seconds``.

    Args:
        run: finished or going on.
        round_: whose trials; by default the newest round's that has completed one. Those of
            different rounds have seen other tasks.

    Returns:
        Rows of ``leaderboard``, the best by score first.
    """
    able = candidates(run, round_)
    front = able[able["pareto"]]
    by = [run.info["family"]["sign"] * front["score"], *(-front[name] for name in costs_of(run))]
    return front.iloc[np.lexsort([-merit.to_numpy(float) for merit in reversed(by)])]


def candidates(run: Run, round_: int | None = None) -> pd.DataFrame:
    """The completed trials of a round that may lead: of these are the fronts.

    Args:
        run, round_: as of ``pareto``.

    Returns:
        Rows of ``leaderboard``, the best by score first. Trials that only find out, such as the
        gradient's, are left out.
    """
    board = leaderboard(run)
    able = board[_may_lead(board)]
    newest = able["round"].max() if round_ is None else round_
    return able[able["round"] == newest]


def costs_of(run: Run) -> tuple[str, ...]:
    """The costs that the run's fronts weigh against the score."""
    return tuple(run.info.get("objectives", ())[1:]) or ("adapt_seconds",)


def _on_their_rounds_front(
    board: pd.DataFrame, sign: int, costs: Sequence[str]
) -> NDArray[np.bool_]:
    """Marks those of the completed trials that may lead."""
    fronts: list[object] = []
    for _, of_round in board[_may_lead(board)].groupby("round"):
        fronts += of_round.index[_on_front(of_round, sign, costs)].to_list()
    return board.index.isin(fronts)


def _may_lead(board: pd.DataFrame) -> pd.Series:
    """Which trials are complete, and not there only to find out."""
    able: pd.Series = (board["state"] == "completed") & ~board["origin"].isin(FINDING_OUT)
    return able


def _on_front(frame: pd.DataFrame, sign: int, costs: Sequence[str]) -> list[bool]:
    merits = np.column_stack([sign * frame["score"], *(-frame[name] for name in costs)])
    return [by == 0 for by in dominators(merits)]


def _costs_on_select(run: Run) -> dict[tuple[str, int], dict[str, float]]:
    """Every cost of each trial at each of its rungs."""
    curves = run.curves.query("split == 'select' and replica == 0")
    took = (curves[column] for column in ("train_seconds", "score_seconds", "tasks"))
    found = curves.assign(**{name: read(*took) for name, read in COSTS.items()})
    return {
        (str(row["trial"]), row["rung"]): {name: row[name] for name in COSTS}
        for _, row in found.iterrows()
    }


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
    sign = run.info["family"]["sign"]
    final = run.verdicts.iloc[-1]
    test = run.scores.query("split == 'test' and replica > 0")
    curves = run.curves.query("split == 'test' and replica > 0")
    default = defaults_of(run)[run.trials.loc[final["winner"], "round"]]
    entrants = {str(trial): _over_trainings(own) for trial, own in test.groupby("trial")}
    opponents = [
        trial
        for trial in entrants
        if trial != final["winner"]
        and (
            run.trials.loc[trial, "origin"] in ("default", "preset", "baseline")
            or trial == final["rival"]  # an ensemble, where the winner is one
        )
    ]
    compared = _comparisons(entrants, str(final["winner"]), default, opponents, sign)
    rows = []
    for trial, own in entrants.items():
        known, costs = run.trials.loc[trial], curves[curves["trial"] == trial]
        columns = ["name", "structure", "origin", "members"]
        row: dict[str, Any] = {"trial": trial} | {name: known[name] for name in columns}
        row["trainings"], row["tasks"] = len(costs), len(own)
        row["groups"] = own["group"].nunique()
        row["train_seconds"] = costs["train_seconds"].mean()
        row["adapt_seconds"] = (costs["score_seconds"] / costs["tasks"]).mean()
        row["transductive"] = bool(own["transductive"].any())
        row |= _named("score", "", _estimate(own["score"], own["group"], _trainings(test, [trial])))
        for label, other in (("gain", default), ("over_rival", final["rival"])):
            trainings = _trainings(test, [trial, other])
            row |= _named(label, f"{label}_", _paired(own, entrants[other], sign, trainings))
        row |= compared[trial]
        for split in ("select", "confirm"):
            row[split] = _newest_mean(run, str(trial), split)
        rows.append(row)
    frame = pd.DataFrame(rows, columns=["trial", *TEST_COLUMNS]).set_index("trial")
    frame["pareto"] = _on_front(frame, sign, costs_of(run))
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


def _newest_mean(run: Run, trial: str, split: str) -> float:
    """The mean score of a trial on a split, at the newest rung that was scored there."""
    curves = run.curves.query("trial == @trial and split == @split and replica == 0")
    return float(curves.sort_values("rung")["score"].iloc[-1]) if len(curves) else np.nan


def defaults_of(run: Run) -> dict[int, str]:
    """The default's trial in each round where it was asked."""
    found = run.trials[run.trials["origin"] == "default"]
    return {int(round_): str(trial) for trial, round_ in found["round"].items()}


def _by_trial_and_rung(scores: pd.DataFrame) -> dict[str, dict[int, pd.DataFrame]]:
    found: dict[str, dict[int, pd.DataFrame]] = {}
    for trial, of_trial in scores.groupby("trial"):
        by_rung = of_trial.groupby("rung")
        found[str(trial)] = {rung: by_rung.get_group(rung) for rung in of_trial["rung"].unique()}
    return found


def _reference(
    rungs: dict[int, pd.DataFrame], rung: int, run: Run, default: str, done: bool
) -> pd.DataFrame | None:
    """The default's scores to compare with: as ``History.gain`` has it."""
    if not rungs:
        return None
    last = max(rungs)
    if done or rung > last:
        return rungs[last] if run.trials.loc[default, "state"] != "running" else None
    return rungs[rung]


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


def _named(mean: str, prefix: str, found: Estimate) -> dict[str, float]:
    return {mean: found.mean, f"{prefix}low": found.low, f"{prefix}high": found.high}
