"""Where a strategy comes from, and how the others ended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from metatune.analysis.asking import of_each
from metatune.analysis.boards import leaderboard
from metatune.records.frames import flatten
from metatune.records.reading import Run
from metatune.records.rows import FINDING_OUT

LINEAGE_COLUMNS = (
    "round", "name", "origin", "made_from", "changed", "learned", "rung", "score", "gain",
)  # fmt: skip


@of_each
def lineage(run: Run, trial: str | None = None) -> pd.DataFrame:
    """From what a trial was made, step by step.

    Args:
        run: finished or going on.
        trial: whose; by default the verdict's winner. Of an ensemble, each member's steps follow
            each other.

    Returns:
        A frame indexed by trial, the oldest first: ``made_from``, the trial before it: its parent,
        or the same strategy as an earlier round tried it (missing for the first); ``changed``,
        which settings differ from that one, as JSON of ``[before, after]`` by their dotted names;
        ``learned``, what its meta-parameters came to, as JSON; ``rung``, ``score`` and ``gain`` as
        in ``leaderboard``. Trials that only found out where to move, such as the gradient's, stand
        between a parent and its child. Empty without a verdict where no trial is named.
    """
    board = leaderboard(run)
    if trial is None:
        if run.verdicts.empty:
            return pd.DataFrame(columns=list(LINEAGE_COLUMNS)).rename_axis("trial")
        trial = str(run.verdicts.iloc[-1]["winner"])
    members: list[str] | None = run.trials["members"].to_dict()[trial]
    starts = list(dict.fromkeys(members)) if members else [trial]
    steps: dict[str, str | None] = {}
    for start in starts:
        steps |= dict(reversed(list(_steps(run, start))))
    rows = [
        {
            "trial": name,
            **{column: run.trials.loc[name, column] for column in ("round", "name", "origin")},
            "made_from": before,
            "changed": None if before is None else json.dumps(_changes(run, before, name)),
            "learned": _learned(run, name),
            **{column: board[column].get(name) for column in ("rung", "score", "gain")},
        }
        for name, before in steps.items()
    ]
    return pd.DataFrame(rows, columns=["trial", *LINEAGE_COLUMNS]).set_index("trial")


def _steps(run: Run, trial: str) -> Iterator[tuple[str, str | None]]:
    """A trial and all before it, newest first, each with what it was made from."""
    trials, seen = run.trials, set[str]()
    while trial not in seen:  # records that name each other must not turn for ever
        seen.add(trial)
        known = trials.loc[trial]
        parent = known["parent"]
        if pd.notna(parent) and parent in trials.index:
            yield trial, str(parent)
            helpers = trials[(trials["parent"] == parent) & trials["origin"].isin(FINDING_OUT)]
            if known["origin"] not in FINDING_OUT:
                yield from ((str(helper), str(parent)) for helper in reversed(helpers.index))
            trial = str(parent)
            continue
        same = trials[(trials["digest"] == known["digest"]) & (trials["round"] < known["round"])]
        earlier = None if same.empty else str(same.index[-1])
        yield trial, earlier
        trial = trial if earlier is None else earlier


def _changes(run: Run, before: str, after: str) -> dict[str, list[Any]]:
    old, new = (flatten(json.loads(str(run.trials.loc[t, "strategy"]))) for t in (before, after))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return {name: [old.get(name), new.get(name)] for name in names}


def _learned(run: Run, trial: str) -> str | None:
    told = run.curves.query("trial == @trial and replica == 0 and split == 'select'")
    found = told.sort_values("rung")["learned"].dropna()
    return None if found.empty else str(found.iloc[-1])


@of_each
def endings(run: Run) -> pd.DataFrame:
    """How trials ended, and the commonest reasons.

    Returns:
        A row a state and reason, the commonest of each state first: ``state``; ``reason``, the
        last line of what was recorded, its numbers written as ``#`` so that alike ones count
        together (empty for completed and running trials); ``trials``, how many; ``example``, the
        first of them. Trainings anew for the verdict and ensembles are not counted.
    """
    trials = run.trials[run.trials["origin"] != "ensemble"]
    frame = pd.DataFrame({
        "state": trials["state"],
        "reason": [_kind(reason) for reason in trials["reason"].fillna("")],
        "example": trials.index,
    })  # fmt: skip
    counted = frame.groupby(["state", "reason"], observed=True, sort=True)["example"]
    found = counted.agg(trials="size", example="first").reset_index()
    return found.sort_values(["state", "trials"], ascending=[True, False], ignore_index=True)


def _kind(reason: str) -> str:
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", lines[-1]) if lines else ""


@of_each
def from_prior(run: Run) -> pd.DataFrame:
    """What earlier runs brought, and how far it came.

    Returns:
        The rows of ``leaderboard`` of strategies that came from the prior alone, of its portfolio
        and its baseline, with ``place``, the place in the leaderboard among completed trials of
        the same round (missing for those that did not complete), and ``completed``, how many these
        are. Empty without a prior.
    """
    board = leaderboard(run)
    done = board[board["state"] == "completed"]
    place = done.groupby("round").cumcount() + 1
    brought = (board["origin"] == "portfolio") | (
        (board["origin"] == "baseline") & board["name"].str.startswith("prior-")
    )
    found = board[brought].copy()
    found["place"] = place.reindex(found.index).astype("Int64")
    found["completed"] = found["round"].map(done["round"].value_counts()).astype("Int64")
    return found
