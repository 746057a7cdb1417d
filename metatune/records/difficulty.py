"""The frame ``tasks``: how well strategies do on each task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.dataset as ds

from metatune.records.newest import at_highest_rung, counted
from metatune.records.schema import FRAMES
from metatune.tasks.base import SPLITS

if TYPE_CHECKING:
    from metatune.records.reading import Run

TASK = ["split", "round", "group", "task"]


def tasks_of(run: Run) -> pd.DataFrame:
    """One row a task of a round, with the columns of ``FRAMES["tasks"]``."""
    sign = run.sign
    columns = [*TASK, "trial", "rung", "score"]
    scores = run.read("scores", columns, counted(SPLITS), categories=True)
    scores = at_highest_rung(scores, ("split", "round", "trial"))
    on_test = scores["split"] == "test"
    means = scores[on_test].groupby([*TASK, "trial"], observed=True)["score"].mean()
    scores = pd.concat(
        [scores.loc[~on_test, [*TASK, "trial", "score"]], means.reset_index()], ignore_index=True
    )
    best, worst = ("max", "min") if sign > 0 else ("min", "max")
    found = scores.groupby(TASK, observed=True)["score"].agg(
        strategies="count", best=best, median="median", worst=worst, spread="std"
    )
    order = (sign * scores["score"]).sort_values(ascending=False, kind="stable").index
    leaders = scores.loc[order].drop_duplicates(TASK).set_index(TASK)["trial"]
    defaults = run.read("trials", ["round"], ds.field("origin") == "default").index
    of_default = scores[scores["trial"].isin(defaults)].drop_duplicates(TASK, keep="last")
    frame = found.assign(
        best_trial=leaders.astype("str"),
        default=of_default.set_index(TASK)["score"],
        **{name: _of_episode(run, name) for name in ("way", "shot", "query")},
    )
    frame["gain"] = sign * (frame["best"] - frame["default"])
    described = FRAMES["tasks"].columns
    frame = frame.reset_index()[[column.name for column in described]]
    typed: pd.DataFrame = frame.astype({
        column.name: pd.CategoricalDtype(list(column.choices)) if column.choices else column.dtype
        for column in described
    })  # fmt: skip
    return typed


def _of_episode(run: Run, name: str) -> object:
    episode = run.info.get("episode")
    found = episode.get(name) if isinstance(episode, dict) else None
    return found if isinstance(found, int) else pd.NA
