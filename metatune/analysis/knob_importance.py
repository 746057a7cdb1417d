"""Which knobs matter: PED-ANOVA.

Watanabe, Bansal & Hutter (2023), "PED-ANOVA: Efficiently quantifying hyperparameter importance in
arbitrary subspaces". A knob matters as far as the values of the best trials are distributed
otherwise than those of all trials.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metatune.analysis.asking import of_each
from metatune.analysis.boards import leaderboard
from metatune.errors import RunError
from metatune.objectives import COSTS, SCORE
from metatune.records.reading import Run

BEST = 0.25
"""The share of trials that are the best."""
BINS = 8
LEAST = 8  # trials that have a knob, to say anything of it


@of_each
def importance(run: Run, best: float = BEST, objective: str = SCORE) -> pd.DataFrame:
    """How far the best trials of a run differ from all others, knob by knob.

    Compared are the paired differences to the default, each at the highest rung where a trial was
    scored, by rank within those that came to the same rung. Numbers are divided into ``BINS`` bins
    of equally many trials, so that no scale has to be known. A knob that only some trials have (one
    below a choice) is judged among these, and the choice by itself.

    Args:
        run: finished or going on.
        best: the share of trials that are the best, in (0, 1).
        objective: by what they are the best: ``score``, or a cost such as ``adapt_seconds``,
            compared as the ratio to the default's in the same round.

    Returns:
        A frame indexed by ``knob``, the most important first: ``importance``, the Pearson
        divergence of the best trials' values from all trials', less what as many trials drawn at
        random would have on average, at least 0, as shares of 1; ``trials``, how many have the
        knob; ``favoured``, the bin or choice that is most over-represented among the best. Empty
        with fewer than ``LEAST`` trials. With a few dozen trials these are hints, not findings.

    Raises:
        RunError: there is no such objective.
    """
    ranked = _ranked(run, objective)
    names = list(dict.fromkeys(name for params in ranked["params"] for name in params))
    rows = list[dict[str, Any]]()
    for name in names:
        known = ranked[[name in params for params in ranked["params"]]]
        if len(known) < LEAST:
            continue
        bins, labels = binned([params[name] for params in known["params"]])
        top = np.zeros(len(known), bool)
        top[np.argsort(-known["rank"].to_numpy(), kind="stable")[: _count(best, len(known))]] = True
        found, favoured = _divergence(bins, top, len(labels))
        rows.append({
            "knob": name, "importance": found, "trials": len(known), "favoured": labels[favoured],
        })  # fmt: skip
    frame = pd.DataFrame(rows, columns=["knob", "importance", "trials", "favoured"])
    total = frame["importance"].sum()
    frame["importance"] = frame["importance"] / total if total else frame["importance"]
    return frame.sort_values("importance", ascending=False, kind="stable").set_index("knob")


def _ranked(run: Run, objective: str) -> pd.DataFrame:
    """Trials with knobs that were scored: their knobs, and their rank, high is better."""
    board = leaderboard(run)
    level: pd.Series | float = 0.0
    if objective == SCORE:
        done = board["state"] == "completed"
        # Who came further is ranked first: the others were stopped because they were behind.
        level, merit = board["rung"].astype(float).mask(done, np.inf), board["gain"]
    elif objective in COSTS:
        merit = -_ratio_to_default(board, objective)
    else:
        raise RunError(f"found objective {objective!r}; allowed: {', '.join((SCORE, *COSTS))}")
    ranks = pd.DataFrame({"level": level, "merit": merit}, board.index)
    frame = ranks.join(run.read("trials", ["params"]))
    frame = frame[frame["merit"].notna() & frame["params"].notna()]
    frame = frame.sort_values(["level", "merit"])
    params = [json.loads(text) for text in frame["params"]]
    return pd.DataFrame({"params": params, "rank": range(len(params))})


def _ratio_to_default(board: pd.DataFrame, cost: str) -> pd.Series:
    """A cost over the default's of the same round; missing where that is not known."""
    defaults = board[board["origin"] == "default"].drop_duplicates("round").set_index("round")
    return (board[cost] / board["round"].map(defaults[cost])).astype(float)


def _count(best: float, trials: int) -> int:
    return max(2, round(best * trials))


def binned(values: Sequence[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """The bin of each value, and what each bin holds, in words."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    keys = list(values) if numbers else [json.dumps(v) for v in values]
    if not numbers or len(set(keys)) <= BINS:
        kinds, places = np.unique(np.array(keys), return_inverse=True)
        return places.astype(np.int64), [str(kind).strip('"') for kind in kinds]
    ordered = np.quantile(np.array(values, float), np.linspace(0, 1, BINS + 1))
    bins = np.clip(np.searchsorted(ordered, values, side="right") - 1, 0, BINS - 1)
    return bins.astype(np.int64), [f"{low:.3g} to {high:.3g}" for low, high in pairwise(ordered)]


def _divergence(bins: NDArray[np.int64], top: NDArray[np.bool_], count: int) -> tuple[float, int]:
    """Pearson's divergence of the best's bins from all, and the bin that is favoured the most."""
    every = np.bincount(bins, minlength=count) / len(bins)
    best = np.bincount(bins[top], minlength=count) / top.sum()
    ratio = np.divide(best, every, out=np.zeros(count), where=every > 0)
    divergence = float((every * (ratio - 1) ** 2).sum())
    # So much have n of N trials drawn without replacement: what they differ by chance.
    n, N = int(top.sum()), len(bins)  # noqa: N806 - the usual letters
    occupied = int((every > 0).sum())
    by_chance = (occupied - 1) / n * (N - n) / (N - 1)
    return max(0.0, divergence - by_chance), int(ratio.argmax())
