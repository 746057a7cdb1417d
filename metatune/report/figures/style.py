"""How figures look: colours for everybody's eyes, plain axes, text that stays text.

Colours are those of Okabe & Ito (2008), "Color universal design"; what colour tells is told by
shape or place, too. ``INK`` is a mark: a page puts its own colour of text in its place.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from metatune.errors import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PURPLE, SKY = "#cc79a7", "#56b4e9"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, FAINT = "#1a1b1c", "#8a8b8c"
"""Of text and axes, and of what only guides the eye."""

WIDTH = 5.6  # inches, of 72 SVG units each
GUIDE = "guide"
"""The ``gid`` of what is drawn to guide the eye, and is no number of the frame."""

LONGEST = 30  # characters of a name


@contextmanager
def styled(salt: str) -> Iterator[None]:
    """Draw and save in this style.

    Args:
        salt: makes the identifiers in an SVG repeatable.
    """
    import matplotlib

    settings: dict[Any, Any] = {
        "axes.edgecolor": FAINT,
        "axes.grid": False,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "figure.dpi": 72,
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "savefig.transparent": True,
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.color": INK,
        "text.parse_math": False,  # names may hold dollars, which are no formulas
        "xtick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.color": FAINT,
        "ytick.labelcolor": INK,
    }
    # A name may hold letters that the typeface lacks: the page's own has them.
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def canvas(rows: float, row: float = 0.27, least: float = 1.5) -> tuple[Figure, Axes]:
    """A figure of the page's width with one pair of axes, so high that rows have room.

    Args:
        rows: how many.
        row: height of each, in inches.
        least: height of all, in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, max(least, 0.75 + row * rows)), layout="constrained")
    return figure, figure.subplots()


def label(name: object, most: int = LONGEST) -> str:
    """A name as it stands in a figure: one line, not too long."""
    text = one_line(str(name))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def legend(ax: Axes, columns: int = 2) -> None:
    """The legend below the axes, where it hides nothing."""
    handles, _ = ax.get_legend_handles_labels()
    if handles:
        ax.figure.legend(loc="outside lower center", ncols=columns)


def named_rows(ax: Axes, names: Sequence[object], most: int = LONGEST) -> None:
    """Rows from the top down, each with its name, cut to so many characters, on the left."""
    ax.set_yticks(range(len(names)), [label(name, most) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)


def zero_line(ax: Axes, *, upright: bool = True) -> None:
    """Where there is no difference."""
    (ax.axvline if upright else ax.axhline)(0, color=FAINT, lw=0.8, zorder=0, gid=GUIDE)


def in_metric(ax: Axes, metric: str, which: str, *, difference: bool = False) -> None:
    """The axis' numbers as the metric is told: accuracies in percent, their differences in points.

    Args:
        ax: whose axis.
        metric: of the family.
        which: ``x`` or ``y``.
        difference: of two scores; with its sign.
    """
    axis = ax.xaxis if which == "x" else ax.yaxis
    scale = 100 if metric == "accuracy" else 1
    sign = "+" if difference else ""
    axis.set_major_formatter(lambda value, _: f"{scale * value:{sign}.4g}" if value else "0")


def plain_log(ax: Axes, which: str, values: Sequence[float] = ()) -> None:
    """A logarithmic axis with numbers in plain figures, of which there are at least two.

    Args:
        ax: whose axis.
        which: ``x`` or ``y``.
        values: what is drawn, to find good numbers for the axis.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    spread = max(values) / min(values) if len(values) else 1e6
    subs = (1.0,) if spread > 100 else (1.0, 3.0) if spread > 10 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def unit(metric: str, *, difference: bool = False) -> str:
    """The unit that the numbers of ``in_metric`` have."""
    if metric == "accuracy":
        return "points" if difference else "%"
    return metric
