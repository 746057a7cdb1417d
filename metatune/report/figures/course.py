"""Figures of the search: how it went, how finalists learned, what it traded for what."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from metatune.analysis import best_over_time, candidates, learning_curves
from metatune.records.reading import Run
from metatune.report.figures.plot import Plot, question
from metatune.report.figures.style import (
    CYCLE,
    MARKERS,
    canvas,
    in_metric,
    label,
    legend,
    plain_log,
    unit,
)
from metatune.report.figures.verdict import draw_trade_off

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def progress(run: Run) -> Plot:
    """The best so far."""
    return Plot(
        name="progress",
        title="The best so far",
        caption=(
            "Each point is a completed trial, when it ended (pauses of the run left out); the line "
            "is the best score on select so far. Each round starts anew, on other tasks and with "
            "more resource, so lines of different rounds do not compare. A line that is still "
            "moving at its end says that more trials may bring more."
        ),
        question=question(run, best_over_time),
        drawn=("at", "score", "best"),
        draw=partial(_draw_progress, metric=run.metric),
    )


def _draw_progress(frame: pd.DataFrame, metric: str) -> Figure:
    figure, ax = canvas(8)
    for place, (round_, own) in enumerate(frame.groupby("round")):
        colour = CYCLE[place % len(CYCLE)]
        ax.plot(
            own["at"], own["score"], MARKERS[place % len(MARKERS)], color=colour, ms=4, mfc="none"
        )
        ax.plot(
            own["at"], own["best"], color=colour, drawstyle="steps-post",
            label=f"best of round {round_}",
        )  # fmt: skip
    ax.set_xlabel("seconds since the run's start")
    in_metric(ax, metric, "y")
    ax.set_ylabel(f"score on select ({unit(metric)})")
    if len(frame) and frame["score"].min() > 0 and frame["score"].max() > 20 * frame["score"].min():
        plain_log(ax, "y", frame["score"].to_list())
    legend(ax, 3)
    return figure


def curves(run: Run) -> Plot:
    """How finalists learned."""
    return Plot(
        name="learning-curves",
        title="Learning curves of the finalists",
        caption=(
            "Each line is a strategy: its score on the same select tasks at each rung, by the "
            "examples it has learned from. A single point needs no training or was scored once. "
            "Lines that still rise at their end would gain from a larger resource."
        ),
        question=question(run, learning_curves),
        drawn=("resource", "score"),
        draw=partial(_draw_curves, metric=run.metric),
    )


def _draw_curves(frame: pd.DataFrame, metric: str) -> Figure:
    figure, ax = canvas(9)
    for place, (_, own) in enumerate(frame.groupby("trial")):
        colour, marker = CYCLE[place % len(CYCLE)], MARKERS[place % len(MARKERS)]
        told = label(own["name"].iloc[0])
        ax.plot(own["resource"], own["score"], color=colour, marker=marker, ms=5, label=told)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.set_xlabel("examples seen, in forward-equivalents")
    in_metric(ax, metric, "y")
    ax.set_ylabel(f"score on select ({unit(metric)})")
    legend(ax)
    return figure


def trade_off(run: Run) -> Plot:
    """Score against cost, of the newest round's trials."""
    info = run.info["family"]
    return Plot(
        name="trade-off-select",
        title="Score against time on select",
        caption=(
            "Each point is a completed trial of the newest round: its score on select and the "
            "seconds that learning and judging one task takes (logarithmic). Filled points are on "
            "the Pareto front: no other is at least as good and as fast, and better in one. Better "
            f"is {'up' if info['sign'] > 0 else 'down'} and to the left. Choose from the front by "
            "what a second is worth."
        ),
        question=question(run, candidates),
        drawn=("score", "adapt_seconds"),
        draw=partial(draw_trade_off, metric=info["metric"]),
    )
