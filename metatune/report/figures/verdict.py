"""Figures of the verdict: what is shown on ``test``, by how much, and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from metatune.analysis import (
    generalisation_gap,
    paired_differences,
    performance_profile,
    verdict_table,
)
from metatune.records.reading import Run
from metatune.report.figures.plot import Plot, question
from metatune.report.figures.style import (
    BLUE,
    CYCLE,
    INK,
    MARKERS,
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
    from matplotlib.figure import Figure

NAMED_GROUPS = 40  # that have a row each


def gains(run: Run) -> Plot:
    """What each entrant gains over the default."""
    metric, winner = run.metric, str(run.verdicts.iloc[-1]["winner"])
    return Plot(
        name="gains",
        title="Gain over the default on test",
        caption=(
            "Each row is a strategy; its point is how much better it is than the default on the "
            "same test tasks, and its line the 95 % interval. Right of zero is better. A line that "
            "crosses zero leaves open which of the two is better. The winner is a square."
        ),
        question=question(run, verdict_table),
        drawn=("gain", "gain_low", "gain_high"),
        draw=partial(_draw_gains, metric=metric, winner=winner),
    )


def _draw_gains(frame: pd.DataFrame, metric: str, winner: str) -> Figure:
    figure, ax = canvas(len(frame))
    zero_line(ax)
    finite = np.isfinite(frame[["gain_low", "gain_high"]].to_numpy(float)).all(axis=1)
    for row, (trial, own) in enumerate(frame.iterrows()):
        won = trial == winner
        colour = BLUE if won else INK
        if finite[row]:
            ax.plot([own["gain_low"], own["gain_high"]], [row, row], color=colour, lw=2)
        ax.plot([own["gain"]], [row], "s" if won else "o", color=colour, ms=6.5)
    named_rows(ax, frame["name"].to_list())
    in_metric(ax, metric, "x", difference=True)
    ax.set_xlabel(f"gain over the default ({unit(metric, difference=True)}), right is better")
    return figure


def drop(run: Run) -> Plot:
    """What was left of scores from ``select`` over ``confirm`` to ``test``."""
    metric = run.metric
    return Plot(
        name="drop",
        title="From select over confirm to test",
        caption=(
            "Each line is a strategy. It was chosen by its score on select, so that score flatters "
            "it; confirm and test did not choose it. A leader that falls more steeply than the "
            "others owed its place to luck. Splits differ in difficulty, so compare the lines with "
            "each other, not with a level."
        ),
        question=question(run, generalisation_gap),
        drawn=("select", "confirm", "test"),
        draw=partial(_draw_drop, metric=metric),
    )


def _draw_drop(frame: pd.DataFrame, metric: str) -> Figure:
    figure, ax = canvas(9)
    splits = ["select", "confirm", "test"]
    for place, (_, own) in enumerate(frame.iterrows()):
        colour, marker = CYCLE[place % len(CYCLE)], MARKERS[place % len(MARKERS)]
        means, told = own[splits].to_numpy(float), label(own["name"])
        ax.plot(range(3), means, color=colour, marker=marker, ms=5, label=told)
    ax.set_xticks(range(3), splits)
    ax.set_xlim(-0.2, 2.2)
    in_metric(ax, metric, "y")
    ax.set_ylabel(f"mean score ({unit(metric)})")
    legend(ax)
    return figure


def profiles(run: Run) -> Plot:
    """How often each entrant is how close to the best."""
    metric = run.metric
    return Plot(
        name="profiles",
        title="Performance profiles on test",
        caption=(
            "For each strategy, the share of test tasks (height) on which it is at most so far "
            "behind the best entrant on that task (rightwards). At the left edge stands how often "
            "it is the best or ties with it; a line that lies above another is the safer choice. "
            "Each group counts alike where the claim is about new groups."
        ),
        question=question(run, performance_profile),
        drawn=("within", "share"),
        draw=partial(_draw_profiles, metric=metric),
    )


def _draw_profiles(frame: pd.DataFrame, metric: str) -> Figure:
    figure, ax = canvas(10)
    for place, (_, own) in enumerate(frame.groupby("trial", sort=False)):
        colour = CYCLE[place % len(CYCLE)]
        ax.plot(
            own["within"], own["share"], drawstyle="steps-post", color=colour,
            ls=("-", "--", "-.", ":")[place // len(CYCLE) % 4], label=label(own["name"].iloc[0]),
            marker=MARKERS[place % len(MARKERS)], ms=4, markevery=max(1, len(own) // 6),
        )  # fmt: skip
    in_metric(ax, metric, "x")
    ax.set_xlim(left=0, right=_usual_reach(frame["within"]))
    ax.set_ylim(0, 1.03)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    ax.set_xlabel(f"behind the best of a task by at most ({unit(metric, difference=True)})")
    ax.set_ylabel("share of test tasks")
    legend(ax)
    return figure


def _usual_reach(within: pd.Series) -> float | None:
    """Where the axis ends: a few tasks that are far behind would press all others to the left."""
    found = float(within.quantile(0.95))
    return found * 1.05 if found > 0 else None


def differences(run: Run) -> Iterator[Plot]:
    """Winner against rival: group by group, and task by task."""
    metric = run.metric
    by_group = question(run, paired_differences, by="group")
    if len(by_group.frame) > 1:
        yield Plot(
            name="differences-by-group",
            title="Winner against rival, group by group",
            caption=(
                "Each row is a group of test tasks that the search had not seen: the mean "
                "difference of winner and rival on its tasks (blue square), and of winner and "
                "default (open circle). Right of zero the winner is better; the groups left of "
                "zero lose by it."
            ),
            question=by_group,
            drawn=("over_rival", "gain"),
            draw=partial(_draw_by_group, metric=metric),
        )
    yield Plot(
        name="differences-by-task",
        title="Winner against rival, task by task",
        caption=(
            "Each bar is a test task, from the one that gains most by the winner in place of its "
            "rival to the one that loses most. Compare how many bars stand above zero with how "
            "many below, and how large the largest losses are."
        ),
        question=question(run, paired_differences),
        drawn=("over_rival",),
        draw=partial(_draw_by_task, metric=metric),
    )


def _draw_by_group(frame: pd.DataFrame, metric: str) -> Figure:
    return draw_by_group(frame, frame.index.to_list(), metric)


def draw_by_group(frame: pd.DataFrame, names: Sequence[object], metric: str) -> Figure:
    """``over_rival`` and ``gain`` of each row, named where there are not too many."""
    named = len(frame) <= NAMED_GROUPS
    figure, ax = canvas(len(frame) + 1 if named else 18)
    zero_line(ax)
    rows = np.arange(len(frame))
    ax.plot(frame["gain"], rows, "o", mfc="none", color=INK, ms=6, label="over the default")
    ax.plot(frame["over_rival"], rows, "s", color=BLUE, ms=6, label="over the rival")
    named_rows(ax, names)
    if not named:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(frame)} groups")
    in_metric(ax, metric, "x", difference=True)
    ax.set_xlabel(f"difference ({unit(metric, difference=True)}), right: the winner is better")
    legend(ax)
    return figure


def _draw_by_task(frame: pd.DataFrame, metric: str) -> Figure:
    figure, ax = canvas(7)
    values = frame["over_rival"].to_numpy(float)
    colours = [BLUE if value >= 0 else VERMILION for value in values]
    ax.bar(np.arange(len(values)), values, width=0.85, color=colours)
    zero_line(ax, upright=False)
    wins, losses = int((values > 0).sum()), int((values < 0).sum())
    told = f"{wins} better, {losses} worse, {len(values) - wins - losses} equal"
    ax.set_xlabel(f"{len(values)} test tasks: {told}")
    ax.set_xticks([])
    ax.set_xlim(-0.6, len(values) - 0.4)
    in_metric(ax, metric, "y", difference=True)
    ax.set_ylabel(f"winner less rival ({unit(metric, difference=True)})")
    return figure


def trade_off(run: Run) -> Plot:
    """Score against what a task takes, of the entrants."""
    metric = run.metric
    return Plot(
        name="trade-off-test",
        title="Score against time on test",
        caption=(
            "Each point is an entrant of the verdict: its score on test, and the seconds that "
            "learning and judging one task takes (logarithmic). Filled points are on the front: no "
            "other entrant is at least as good and as fast, and better in one. Better is "
            f"{'up' if run.info['family']['sign'] > 0 else 'down'} and to the left."
        ),
        question=question(run, verdict_table),
        drawn=("score", "adapt_seconds"),
        draw=partial(draw_trade_off, metric=metric),
    )


def draw_trade_off(frame: pd.DataFrame, metric: str, most: int = 12) -> Figure:
    """Scores against seconds; the names of the front, and of all where they are few."""
    figure, ax = canvas(9)
    frame = frame[frame["adapt_seconds"] > 0]
    for on_front, points in frame.groupby("pareto"):
        ax.plot(
            points["adapt_seconds"], points["score"], "o", ms=7, color=BLUE,
            mfc=BLUE if on_front else "none", label="on the front" if on_front else "behind it",
        )  # fmt: skip
    named = frame if len(frame) <= most else frame[frame["pareto"]].head(most)
    if len(frame):
        plain_log(ax, "x", frame["adapt_seconds"].to_list())
        ax.margins(x=0.15, y=0.15)
        middle = float(np.exp(np.log(frame["adapt_seconds"].astype(float)).mean()))
    placed = list[tuple[float, float]]()
    for place, (_, own) in enumerate(named.iterrows()):
        right = own["adapt_seconds"] > middle
        spot = ax.transAxes.inverted().transform(
            ax.transData.transform((own["adapt_seconds"], own["score"]))
        )
        if any(abs(spot[0] - x) < 0.3 and abs(spot[1] - y) < 0.09 for x, y in placed):
            continue  # it would stand on another's name
        placed.append((spot[0], spot[1]))
        ax.annotate(
            label(own["name"], 22), (own["adapt_seconds"], own["score"]),
            xytext=(-6 if right else 6, 6 if place % 2 else -10), textcoords="offset points",
            ha="right" if right else "left", fontsize=8.5,
        )  # fmt: skip
    in_metric(ax, metric, "y")
    ax.set_xlabel("seconds to learn and judge one task (logarithmic)")
    ax.set_ylabel(f"score ({unit(metric)})")
    legend(ax)
    return figure
