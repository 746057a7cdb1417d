"""Figures of the space: which knobs matter, and how the score answers to them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from metatune.analysis import importance, response
from metatune.analysis.responses import STRUCTURE
from metatune.objectives import SCORE
from metatune.records.reading import Run
from metatune.report.figures.plot import Plot, question
from metatune.report.figures.style import (
    BLUE,
    LONGEST,
    VERMILION,
    canvas,
    in_metric,
    label,
    legend,
    named_rows,
    plain_log,
    unit,
    zero_line,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 12  # knobs in one figure


def importances(run: Run, objective: str = SCORE) -> Plot:
    """Which knobs the best trials have otherwise than all."""
    score = objective == SCORE
    by = "score" if score else objective
    return Plot(
        name="importance" if score else f"importance-{objective}",
        title=f"Which knobs matter for {'the score' if score else objective}",
        caption=(
            "PED-ANOVA: how far the best quarter of trials by "
            f"{'their gain over the default' if score else f'the ratio of {by} to the default'} "
            "differs from all trials in the values of each knob, as a share of all knobs. A knob "
            "below a choice is judged among the trials that have it; their number stands in "
            "brackets. With a few dozen trials these are hints, not findings."
        ),
        question=question(run, importance, **({} if score else {"objective": objective})),
        drawn=("importance",),
        draw=_draw_importance,
    )


def _draw_importance(frame: pd.DataFrame) -> Figure:
    figure, ax = canvas(len(frame))
    rows = np.arange(len(frame))
    ax.barh(rows, frame["importance"], height=0.62, color=BLUE)
    counts = frame["trials"].to_list()
    names = [f"{label(knob)} ({n})" for knob, n in zip(frame.index, counts, strict=True)]
    named_rows(ax, names, most=LONGEST + 8)
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    ax.set_xlim(left=0, right=None if frame["importance"].max() > 0 else 1)
    ax.set_xlabel("share of the importance")
    return figure


def ways(run: Run) -> Plot:
    """What the ways of learning came to."""
    return _response(
        run,
        STRUCTURE,
        "ways",
        "Ways of learning",
        "Each row is a way of learning, each point a trial",
    )


def responses(run: Run, most: int = 4) -> list[Plot]:
    """How the score answers to the most important knobs."""
    frame = importance(run)
    knobs = frame.index[frame["importance"] > 0][:most].to_list()
    return [
        _response(
            run,
            knob,
            f"response-{place}",
            f"Gain by {one_name(knob)}",
            f"Each point is a trial, by its value of {one_name(knob)}",
        )
        for place, knob in enumerate(knobs, start=1)
    ]


def one_name(knob: str) -> str:
    """A knob's name in a sentence."""
    return label(knob, 60)


def _response(run: Run, knob: str, name: str, title: str, what: str) -> Plot:
    metric = run.metric
    return Plot(
        name=name,
        title=title,
        caption=(
            f"{what}: its gain over the default at the highest rung that it reached. Filled points "
            "came to their end, open ones were stopped before. The orange line is the median of "
            "the trials near that value. All other knobs differ, too: this shows where good trials "
            "lie, not what the knob alone does. Gains far from the rest lie outside the picture."
        ),
        question=question(run, response, knob=knob),
        drawn=("gain", "median"),
        draw=partial(_draw_response, metric=metric, knob=knob),
    )


def _draw_response(frame: pd.DataFrame, metric: str, knob: str) -> Figure:
    if len(frame) and isinstance(frame["value"].iloc[0], str):
        return _draw_choices(frame, metric)
    figure, ax = canvas(8)
    zero_line(ax, upright=False)
    for done, own in frame.groupby(frame["state"] == "completed"):
        _points(ax, own["value"], own["gain"], done=bool(done))
    first = True
    for _, own in frame.groupby("bin", sort=False):
        ends = [own["value"].min(), own["value"].max()]
        told = "median near this value" if first else None
        ax.plot(ends, [own["median"].iloc[0]] * 2, color=VERMILION, lw=2.5, label=told)
        if ends[0] == ends[1]:
            ax.plot(ends[:1], own["median"].iloc[:1], "_", color=VERMILION, ms=11, mew=2.5)
        first = False
    values = frame["value"].astype(float)
    if len(values) and values.min() > 0 and values.max() / values.min() > 20:
        plain_log(ax, "x", values.to_list())
    _usual(ax, frame["gain"], upright=False)
    in_metric(ax, metric, "y", difference=True)
    ax.set_xlabel(label(knob, 60))
    ax.set_ylabel(f"gain ({unit(metric, difference=True)})")
    legend(ax, 3)
    return figure


def _draw_choices(frame: pd.DataFrame, metric: str) -> Figure:
    best = frame.groupby("value")["median"].first().sort_values(ascending=False)
    figure, ax = canvas(len(best) + 1)
    zero_line(ax)
    rows = {value: row for row, value in enumerate(best.index)}
    for done, own in frame.groupby(frame["state"] == "completed"):
        # Beside each other, so that alike ones can be told apart.
        steps = own.groupby("value").cumcount() % 5 - 2
        _points(ax, own["gain"], own["value"].map(rows) + 0.09 * steps, done=bool(done))
    for value, median in best.items():
        row = rows[value]
        told = "median" if row == 0 else None
        ax.plot([median] * 2, [row - 0.33, row + 0.33], color=VERMILION, lw=2.5, label=told)
    named_rows(ax, [way(value) for value in best.index])
    _usual(ax, frame["gain"], upright=True)
    in_metric(ax, metric, "x", difference=True)
    ax.set_xlabel(f"gain over the default ({unit(metric, difference=True)}), right is better")
    legend(ax, 3)
    return figure


def way(value: object) -> str:
    """A structural family without its backbone, or a choice as it is."""
    parts = str(value).split("/")
    return ", ".join(part for part in parts[1:] if part != "none") or str(value)


def _points(ax: Axes, x: pd.Series, y: pd.Series, *, done: bool) -> None:
    told = "completed" if done else "stopped or running"
    ax.plot(x, y, "o", ms=5, color=BLUE, mfc=BLUE if done else "none", alpha=0.85, label=told)


def _usual(ax: Axes, gains: pd.Series, *, upright: bool) -> None:
    """Ends of the axis, so that a few trials that went astray do not press all others together."""
    low, middle, high = gains.quantile([0.1, 0.5, 0.9])
    reach = 4 * max(high - low, 1e-12)
    inside = gains[(gains >= middle - reach) & (gains <= middle + reach)]
    if len(inside) == len(gains) or inside.empty:
        return
    ends = min(inside.min(), 0.0), max(inside.max(), 0.0)
    margin = 0.08 * (ends[1] - ends[0] or 1.0)
    (ax.set_xlim if upright else ax.set_ylim)(ends[0] - margin, ends[1] + margin)
