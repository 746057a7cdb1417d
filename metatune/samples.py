"""A family's tasks drawn to a picture, to look at before anything is run.

Tasks are drawn from ``train`` alone: what is held out stays unseen. matplotlib draws.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError
from metatune.tasks.base import Episode, NamesInputs, TaskBatch, TaskFamily

TASKS = 4
MOST = 10  # classes of a task, and examples of a class, that are shown
ROWS, COLUMNS, DIGITS = 8, 8, 3  # of a table

Side = tuple[NDArray[np.float32], NDArray[Any]]
"""Inputs ``(N, *input_shape)`` and labels of a task's support or query."""


def draw_samples(family: TaskFamily, episode: Episode, path: Path, seed: int = 0) -> str:
    """Draw some tasks of ``train`` to a PNG file.

    Args:
        family: where tasks come from.
        episode: their shape.
        path: the file.
        seed: which tasks.

    Returns:
        What is shown, in words.

    Raises:
        DataError: the family has no such task, matplotlib is missing, or the file cannot be
            written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError("pictures are drawn by matplotlib: pip install matplotlib") from error
    family.check(episode)
    tasks = family.sample("train", episode, range(seed, seed + TASKS))
    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    draw, shown = _way_to_draw(family)
    for task, ax in enumerate(axes):
        # Names may hold dollars, which are no formulas.
        ax.set_title(f"{tasks.groups[task]:.60}", parse_math=False)
        draw(ax, *examples(tasks, task))
    figure.suptitle(f"{family.info.name}: {TASKS} tasks of train, by group")
    try:
        with warnings.catch_warnings():
            # matplotlib's typeface lacks many scripts: their letters come out as boxes.
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            figure.savefig(path, format="png")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    return shown


def examples(tasks: TaskBatch, task: int) -> tuple[Side, Side]:
    """The support and the query of a task, without padding."""
    masks = (tasks.support_mask, tasks.query_mask)
    support, query = (slice(None) if mask is None else mask[task] for mask in masks)
    return (
        (tasks.support_x[task][support], tasks.support_y[task][support]),
        (tasks.query_x[task][query], tasks.query_y[task][query]),
    )


def _way_to_draw(family: TaskFamily) -> tuple[Callable[[Any, Side, Side], None], str]:
    """What draws a task of the family, and what it shows, in words."""
    shape = family.info.input_shape
    if len(shape) == 3:
        shown = "a row a class, support images left of the line and query images right of it"
        return _draw_images, shown
    if family.info.kind == "regression" and prod(shape) == 1:
        return _draw_curve, "support and query points"
    rows = partial(_draw_rows, names=_names(family, prod(shape)))
    return rows, f"the first {ROWS} support rows, the first {COLUMNS} inputs"


def _names(family: TaskFamily, inputs: int) -> tuple[str, ...]:
    if isinstance(family, NamesInputs):
        return family.inputs
    return tuple(f"input {number}" for number in range(inputs))


# --- images --------------------------------------------------------------------------------------


def mosaic(x: NDArray[np.float32], y: NDArray[Any], classes: list[int]) -> NDArray[np.float32]:
    """A row for each class with its first images, ``(rows * height, columns * width, channels)``.

    Args:
        x: images ``(N, channels, height, width)``.
        y: ``(N,)`` labels.
        classes: the labels that get a row. Where a class has fewer images, its row ends blank.
    """
    most = min(MOST, max(int((y == k).sum()) for k in classes))
    sheet = np.full((len(classes), most, *x.shape[1:]), x.max(initial=0), np.float32)
    for row, k in enumerate(classes):
        own = x[y == k][:most]
        sheet[row, : len(own)] = own
    height, width = len(classes) * x.shape[2], most * x.shape[3]
    return sheet.transpose(0, 3, 1, 4, 2).reshape(height, width, x.shape[1])


def _draw_images(ax: Any, support: Side, query: Side) -> None:
    classes = sorted({*support[1].tolist()})[:MOST]
    left, right = (mosaic(x, labels, classes) for x, labels in (support, query))
    line = np.full((len(left), 3, left.shape[2]), np.nan, np.float32)
    sheet = np.concatenate([left, line, right], 1)
    low, high = min(0.0, float(np.nanmin(sheet))), max(1.0, float(np.nanmax(sheet)))
    sheet = (np.nan_to_num(sheet, nan=(low + high) / 2) - low) / (high - low)
    colours = sheet if sheet.shape[2] == 3 else sheet[:, :, :1].repeat(3, 2)
    ax.imshow(colours, interpolation="nearest")
    ax.set_axis_off()


# --- numbers -------------------------------------------------------------------------------------


def _draw_curve(ax: Any, support: Side, query: Side) -> None:
    (x, y), (known_x, known_y) = query, support
    order = x.ravel().argsort()
    ax.plot(x.ravel()[order], y[order, 0], ".-", label="query")
    ax.plot(known_x.ravel(), known_y[:, 0], "o", label="support")
    ax.legend()


def _draw_rows(ax: Any, support: Side, query: Side, names: tuple[str, ...]) -> None:
    x, y = (side.reshape(len(side), -1)[:ROWS] for side in support)
    x, y = x[:, :COLUMNS], y[:, :1]
    cells = [[f"{value:.{DIGITS}g}" for value in row] for row in np.concatenate([y, x], 1).tolist()]
    more = len(names) - x.shape[1]
    heads = ["target", *(f"{name:.12}" for name in names[: x.shape[1]])]
    table = ax.table(cells, colLabels=heads, loc="upper center")
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    for cell in table.get_celld().values():
        cell.get_text().set_parse_math(False)
    if more > 0:
        ax.text(0.5, 0, f"and {more} more inputs", ha="center", transform=ax.transAxes)
    ax.set_axis_off()
