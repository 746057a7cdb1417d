"""Who is best while a run searches: the leaderboard on ``select``, and its front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from numpy.typing import NDArray

from metatune.analysis.asking import of_each
from metatune.analysis.memory import once
from metatune.objectives import COSTS, on_front
from metatune.records.newest import at_highest_rung, counted
from metatune.records.reading import Run
from metatune.records.rows import FINDING_OUT
from metatune.statistics import Estimate, Estimates, estimate_each

Indexed = TypeVar("Indexed", pd.DataFrame, pd.Series)
SELECT_COLUMNS = (
    "name", "round", "structure", "origin", "state", "rung", "tasks", "score", "low", "high",
    "gain", "gain_low", "gain_high", *COSTS, "pareto", "resource", "seconds", "transductive",
)  # fmt: skip


@of_each
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
        trials come first, then those that reached a higher rung; of equals who was asked first.
    """
    known = ["name", "round", "structure", "origin", "state", "resource", "seconds", "members"]
    trials = run.read("trials", known)
    scored = ["trial", "rung", "task", "group", "score", "transductive"]
    scores = run.read("scores", scored, counted(["select"]), categories=True)
    own = at_highest_rung(scores)
    board = trials.join(_newest(own))
    # An ensemble without scores is one that the verdict alone compares with.
    board = board[(board["origin"] != "ensemble") | board["rung"].notna()]
    board = board.join(_gains(own, scores, trials, defaults_of(run), run.sign))
    board = board.join(_costs_on_select(run, board["rung"]))
    board["resource"] = board["resource"].where(board["rung"].notna())
    for trial, members in board["members"].items():
        if members:
            board.loc[trial, "seconds"] = trials.loc[members, "seconds"].sum()
    board["pareto"] = _on_their_rounds_front(board, run.sign, costs_of(run))
    done = board["state"] == "completed"  # at whatever rung: some need no training
    signed = (run.sign * board["score"]).round(12)  # means of equals differ by rounding
    order = board.assign(done=done, rung=board["rung"].mask(done), signed=signed)
    by = ["round", "done", "rung", "signed"]
    best_first = order.sort_values(by, ascending=False, na_position="last").index
    return board.loc[best_first, list(SELECT_COLUMNS)]


@of_each
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
    by = [run.sign * front["score"], *(-front[name] for name in costs_of(run))]
    return front.iloc[np.lexsort([-merit.to_numpy(float) for merit in reversed(by)])]


@of_each
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


def defaults_of(run: Run) -> dict[int, str]:
    """The default's trial in each round where it was asked."""
    found = run.read("trials", ["round"], ds.field("origin") == "default")
    return {int(round_): str(trial) for trial, round_ in found["round"].items()}


def _newest(own: pd.DataFrame) -> pd.DataFrame:
    """What each trial scored at its highest rung, by trial."""
    by = own.groupby("trial", observed=False)
    frame = by.agg(
        rung=("rung", "first"), tasks=("rung", "size"), transductive=("transductive", "any")
    )
    found = _estimates(own["score"], own)
    frame = frame.astype({"rung": "Int64", "tasks": "Int64", "transductive": "boolean"})
    return _by_name(frame.assign(**named("score", "", found)))


def _gains(
    own: pd.DataFrame,
    scores: pd.DataFrame,
    trials: pd.DataFrame,
    defaults: Mapping[int, str],
    sign: int,
) -> pd.DataFrame:
    """Each trial's paired differences to its round's default, by trial; as ``History.gain``."""
    numbers, tasks = own["trial"].cat.codes.to_numpy(), own["task"].cat.codes.to_numpy()
    pair, table = _references(own, scores, trials, defaults)
    count = len(pair)
    reference = np.where(pair[numbers] >= 0, table[pair[numbers], tasks], np.nan)
    there = ~np.isnan(reference)
    # One may have lost a race on its first tasks: then those count that both have.
    fewer = np.minimum(np.bincount(numbers, minlength=count), (~np.isnan(table)).sum(axis=1)[pair])
    whole = np.bincount(numbers[there], minlength=count) == fewer
    there &= whole[numbers]
    both = own[there]
    found = _estimates(sign * (both["score"] - reference[there]), both)
    frame = pd.DataFrame(named("gain", "gain_", found), own["trial"].cat.categories)
    # No noise in what is compared with itself.
    frame.loc[frame.index.isin(list(defaults.values()))] = 0.0
    return _by_name(frame)


def _references(
    own: pd.DataFrame, scores: pd.DataFrame, trials: pd.DataFrame, defaults: Mapping[int, str]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What each trial is compared with.

    Returns:
        For each trial the row of its round's default at a rung, -1 where it has not come so far;
        and these rows: a score a task, NaN where there is none.
    """
    names = own["trial"].cat.categories
    rung = _by_name(own.groupby("trial", observed=False)["rung"].first())
    own_round, state = (trials[column].reindex(names) for column in ("round", "state"))
    default = own_round.map(defaults).astype(object)
    last = rung.reindex(default).to_numpy(float)
    done, ended = state == "completed", trials["state"].reindex(default) != "running"
    final = done.to_numpy() | (rung.to_numpy() > last)
    at = np.where(final, last, rung.to_numpy(float))
    at[np.isnan(last) | (final & ~ended.to_numpy())] = np.nan

    of_defaults = scores[scores["trial"].isin(list(defaults.values()))]
    rungs = int(scores["rung"].max()) + 1 if len(scores) else 1
    places = {name: place for place, name in enumerate(defaults.values())}
    table = np.full((max(1, len(places)) * rungs, len(scores["task"].cat.categories)), np.nan)
    rows = of_defaults["trial"].map(places).to_numpy(np.int64) * rungs + of_defaults["rung"]
    table[rows, of_defaults["task"].cat.codes] = of_defaults["score"]
    row = default.map(places).to_numpy(float) * rungs + at
    return np.where(np.isnan(row), -1, row).astype(np.int64), table


def _costs_on_select(run: Run, rung: pd.Series) -> pd.DataFrame:
    """Every cost of each trial at a rung of its own, by trial."""
    columns = ["trial", "rung", "train_seconds", "score_seconds", "tasks"]
    curves = run.read("curves", columns, counted(["select"]), categories=True)
    curves = _by_name(curves.set_index("trial"))
    curves = curves[curves["rung"] == rung.reindex(curves.index).astype(float)]
    curves = curves[~curves.index.duplicated(keep="last")]
    took = (curves[column] for column in ("train_seconds", "score_seconds", "tasks"))
    return pd.DataFrame({name: read(*took) for name, read in COSTS.items()}, curves.index)


def _on_their_rounds_front(
    board: pd.DataFrame, sign: int, costs: Sequence[str]
) -> NDArray[np.bool_]:
    """Marks those of the completed trials that may lead."""
    fronts: list[object] = []
    for _, of_round in board[_may_lead(board)].groupby("round"):
        fronts += of_round.index[front_of(of_round, sign, costs)].to_list()
    return board.index.isin(fronts)


def _may_lead(board: pd.DataFrame) -> pd.Series:
    """Which trials are complete, and not there only to find out."""
    able: pd.Series = (board["state"] == "completed") & ~board["origin"].isin(FINDING_OUT)
    return able


def front_of(frame: pd.DataFrame, sign: int, costs: Sequence[str]) -> NDArray[np.bool_]:
    """Who is on the front by ``score`` and costs."""
    return on_front(np.column_stack([sign * frame["score"], *(-frame[name] for name in costs)]))


def _estimates(values: pd.Series, own: pd.DataFrame) -> Estimates:
    """Of each trial, by the numbers of the trials' categories."""
    codes = own["trial"].cat.codes
    return estimate_each(values, own["group"].cat.codes, codes, len(own["trial"].cat.categories))


def _by_name(frame: Indexed) -> Indexed:
    """Indexed by the trials' names in place of categories."""
    return frame.set_axis(frame.index.astype("str"))


def named(mean: str, prefix: str, found: Estimate | Estimates) -> dict[str, Any]:
    """An estimate as columns, or as a row's cells."""
    return {mean: found.mean, f"{prefix}low": found.low, f"{prefix}high": found.high}
