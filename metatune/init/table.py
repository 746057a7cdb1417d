"""A look at tables: which column is what, and how many rows a task can hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError
from metatune.init.space_file import (
    AMORTISED,
    END,
    GRADIENT,
    HOLD,
    OUTER,
    START,
    Look,
    data_line,
    options_of,
    short_paths,
    word,
    write_space,
)
from metatune.space.families import Table
from metatune.tasks.base import Episode, notes_of
from metatune.tasks.registry import open_family
from metatune.tasks.tables.classes import ClassRows
from metatune.tasks.tables.table import R2_QUERY, TableFamily

MANY = 0.1  # of the tasks have fewer: then they take part with what they have
FEWEST = 2  # support rows of these at least, so that pooled models have something to summarise
LEAST = 4  # rows of a task: two to learn from, two to be judged on
MOST_SHOT, MOST_QUERY = 16, 32
SAME = 0.5  # of a task's targets are one value: R2 has nothing to explain in many draws
MANY_CLASSES = 20  # more: each task draws some of its own
SHARED = 0.5  # of all classes are in a task, by the median; fewer: likewise
MOST_WAY = 5


def init(
    data: Sequence[str],
    task: str,
    target: str,
    *,
    out: str | Path = "space.yaml",
    group: str | None = None,
    predict: Literal["number", "class"] | None = None,
    full: int = 400_000,
    trials: int = 32,
    minutes: float = 10,
) -> Look:
    """Look at data and write a space file.

    Args:
        data: CSV or Parquet files, globs or folders of them.
        task: the column that tells tasks apart; ``file``: each file is a task.
        target: the column to predict.
        out: the space file, which must not be there yet.
        group: the column of what tasks share and a new user will not have seen.
        predict: None guesses.
        full: resource of a trial, in rows seen.
        trials, minutes: the run's budget.

    Raises:
        SpaceError, DataError: the data cannot be used so, with the reason.
        RunError: ``out`` is there already, or cannot be written.
    """

    def looked(base: Path) -> Look:
        return look(data, task, target, group=group, predict=predict, base=base)

    return write_space(looked, Path(out), full=full, trials=trials, minutes=minutes)


def look(
    data: Sequence[str],
    task: str,
    target: str,
    *,
    group: str | None = None,
    predict: Literal["number", "class"] | None = None,
    base: Path | None = None,
) -> Look:
    """Open data as tasks and say what is assumed; arguments and errors as of ``init``.

    Args:
        base: the folder that paths of the options are seen from; None: the current one.
    """
    family = _opened(data, task, target, group, predict)
    info, sizes = family.info, family.data.sizes
    classes = family.data.classes
    predicted: Literal["number", "class"] = "class" if classes else "number"
    metric: Literal["r2", "mse"] = "r2"
    said = [_said_of_target(target, classes, asked=predict is not None)]
    if not classes and _mostly_same(family) > SAME:
        metric = "mse"
        family = _opened(data, task, target, group, predict, metric)
        said.append(f"Judged by mse: in most tasks more than half of {target} is one value.")
    episode = _own_classes(family)
    if episode is not None:
        family = _opened(data, task, target, group, predict, metric, episode.way)
        said.append(
            f"Of the {len(classes)} classes each task draws {episode.way} of its own, "
            f"{episode.shot} support and {episode.query} query rows of each, which at least "
            f"{100 * HOLD:.0f} % of the {len(sizes)} tasks can hold (way: {len(classes)} takes "
            "rows whatever their class)."
        )
    else:
        episode = shape_of(sizes, len(classes) or 1)
        held = float(np.mean(sizes >= episode.shot + episode.query))
        said.append(
            f"{episode.shot} support and {episode.query} query rows a task, which "
            f"{100 * held:.0f} % of the {len(sizes)} tasks can hold."
        )
    if episode.fewest is not None:
        said.append(
            f"Smaller tasks take part with what they have, {episode.fewest} support rows at least: "
            "fewest."
        )
        thinnest = int(episode.divided(sizes[sizes >= episode.least_examples])[1].min())
        if not classes and metric == "r2" and thinnest < R2_QUERY:
            metric = "mse"
            family = _opened(data, task, target, group, predict, metric)
            said.append(f"Judged by mse: R2 has no mean where tasks have {thinnest} query rows.")
    by = f"by {group}" if group else "each task by itself, as no group column was named"
    counts = ", ".join(f"{split} {len(groups)}" for split, groups in info.groups.items())
    said.append(f"Groups {by}: {counts}.")
    family.check(episode)
    options = Table(
        way=episode.way if classes else None,
        shot=episode.shot,
        query=episode.query,
        fewest=episode.fewest,
        data=short_paths(data, base),
        task=task,
        target=target,
        group=group,
        predict=predicted,
        metric=metric,
        columns=dict(family.data.kinds),
    )
    said.extend(notes_of(family, episode))
    rest = NUMBERS
    if classes:
        rest = OWN_CLASSES if episode.per_class else CLASSES
    section = tuple(_section(options, episode.per_class))
    return Look(options, family, episode, tuple(said), section, rest)


def _opened(
    data: Sequence[str],
    task: str,
    target: str,
    group: str | None,
    predict: Literal["number", "class"] | None,
    metric: Literal["r2", "mse"] = "r2",
    way: int | None = None,
) -> TableFamily:
    asked = {"data": list(data), "task": task, "target": target, "group": group}
    options = options_of(Table, {**asked, "predict": predict, "metric": metric, "way": way})
    family = open_family("table", None, options.plain_options(None))
    assert isinstance(family, TableFamily)
    return family


def shape_of(sizes: NDArray[np.int64], way: int) -> Episode:
    """The shape that four fifths of the tasks can hold, or half of them where that is no task.

    Args:
        sizes: rows of each task.
        way: classes; 1 for numbers.

    Raises:
        DataError: half of the tasks have fewer than four rows.
    """
    rows, half = (int(np.quantile(sizes, share, method="lower")) for share in (1 - HOLD, 0.5))
    shot, query = shots_and_query(rows if rows >= LEAST else half)
    many_are_smaller = np.mean(sizes < shot + query) >= MANY
    return Episode(way, shot, query, per_class=False, fewest=FEWEST if many_are_smaller else None)


def shots_and_query(rows: int) -> tuple[int, int]:
    """Support and query of tasks with so many rows: a power of two up to 16, up to 32 of the rest.

    Raises:
        DataError: fewer than four rows.
    """
    if rows < LEAST:
        raise DataError(
            f"table: found {rows} rows or fewer in half of the tasks; "
            "allowed: 4 or more, two to learn from and two to be judged on"
        )
    shot = min(MOST_SHOT, 1 << ((rows // 2).bit_length() - 1))
    return shot, min(rows - shot, MOST_QUERY)


def _own_classes(family: TableFamily) -> Episode | None:
    """The shape of N-way tasks, where classes are many or tasks have few of them in common; None
    where every task is to have all classes, or most tasks cannot hold two with rows enough."""
    data = family.data
    if not data.classes:
        return None
    rows = ClassRows.of(np.asarray(data.y, np.int64), data.start)
    of_each = [np.sort(rows.sizes(task))[::-1] for task in range(len(data.tasks))]
    share = np.median([len(sizes) for sizes in of_each]) / len(data.classes)
    if len(data.classes) <= MANY_CLASSES and share >= SHARED:
        return None
    for way in range(min(MOST_WAY, len(data.classes) - 1), 1, -1):
        nth = [sizes[way - 1] if len(sizes) >= way else 0 for sizes in of_each]
        most = int(np.quantile(nth, 1 - HOLD, method="lower"))
        if most >= 4:
            return Episode(way, *shots_and_query(most))
        if most >= 2:
            return Episode(way, 1, most - 1)
    return None


def _said_of_target(target: str, classes: Sequence[str], *, asked: bool) -> str:
    why = "as asked" if asked else "as it looks (--predict says otherwise)"
    if not classes:
        return f"Predicts {target}, a number, {why}."
    names = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
    return f"Predicts {target}, one of {len(classes)} classes ({names}), {why}."


def _mostly_same(family: TableFamily) -> float:
    """The median over tasks of the share of the most frequent target."""
    data = family.data
    parts = np.split(data.y, data.start[1:-1])
    return float(np.median([np.unique(y, return_counts=True)[1].max() / len(y) for y in parts]))


# --- the space file ------------------------------------------------------------------------------


def _section(options: Table, drawn: bool) -> Iterator[str]:
    """The section ``family``, a key a line, each with what it means."""
    yield "  name: table"
    yield data_line(options.data)
    yield f"  task: {word(options.task)}"
    yield f"  target: {word(options.target)}"
    if options.group is None:
        yield "  # group: COLUMN  # what tasks share and the next user will not have seen"
    else:
        yield f"  group: {word(options.group)}"
    yield f"  predict: {options.predict}  # number or class"
    if drawn:
        yield f"  way: {options.way}  # classes a task, of its own"
    elif options.way is not None:
        yield f"  way: {options.way}  # the number of classes"
    elif options.metric != "r2":
        yield f"  metric: {options.metric}"
    each = " of each class" if drawn else ""
    yield f"  shot: {options.shot}  # rows{each} to learn a task from"
    yield f"  query: {options.query}  # rows{each} that it is judged on"
    if options.fewest is not None:
        yield f"  fewest: {options.fewest}  # support rows at least of tasks with fewer than both"
    yield "  columns:  # number, category, date, date FORMAT or skip"
    for name, kind in options.columns.items():
        yield f"    {word(name)}: {word(kind)}"
    if not options.columns:
        yield "    {}"


NUMBERS = (
    """
# What everything is compared with: each task by itself. Then what is tried first.
default: ridge
initial: [ridge, pooled_ridge, pooled_trees, deep_kernel, cnp, fomaml]
"""
    + START
    + """\
    alone:                                           # each task by itself, in closed form
      head: {kind: ridge, intercept: free, learn: false, penalty: {float: [0.1, 1000.0], log: true}}
      meta: {rule: none}
    pooled:                                          # one model for all, corrected for the task
      prior: {kind: pooled, model: {choice: [linear, trees]}}
      head: {kind: ridge, intercept: free, penalty: {float: [1.0, 1000.0], log: true}}
      meta: {rule: first_order}
    kernel:                                          # a Gaussian process on learned features
      prior: {kind: support}
      backbone: {kind: mlp, width: 40, depth: 2}
      head: {kind: gp, rbf: {choice: [learned, learned+raw]}}
      meta: {rule: first_order, cross_fit: {choice: [none, group]}}
"""
    + AMORTISED
    + GRADIENT
    + OUTER
    + END
    + """\
verdict: {seeds: 3, finalists: 3, presets: [pooled_ridge, pooled_trees]}
"""
)

_ALONE = """\
    alone:                                           # each task by itself, to its optimum
      head: {kind: logistic, penalty: {float: [0.03, 30.0], log: true}}
      meta: {rule: none}
"""
_POOLED = """\
    pooled:                                          # one classifier for all, corrected by ridge
      prior: {kind: pooled, model: {choice: [linear, trees]}}
      head: {kind: ridge, intercept: free, penalty: {float: [1.0, 1000.0], log: true}}
      meta: {rule: first_order}
"""
_NETWORKS = """\
    prototypes:                                      # compare with the mean of each class
      backbone: {kind: mlp, width: 40, depth: 2}
      head: {kind: prototypes, distance: euclidean, scale: {float: [0.1, 10.0], log: true}}
      meta: {rule: first_order}
    ridge:                                           # solve the last layer in closed form
      backbone: {kind: mlp, width: 40, depth: 2}
      head: {kind: ridge, penalty: {float: [0.01, 100.0], log: true}}
      meta: {rule: first_order}
    transfer:                                        # one classifier for all, then a new one
      backbone: {kind: mlp, width: 40, depth: 2}
      head:
        kind: logistic
        normalise: {choice: [true, false]}
        penalty: {float: [0.03, 30.0], log: true}
      meta: {rule: joint}
"""


def _of_classes(pooled: str, initial: str, presets: str) -> str:
    """What a space of classes says below its budget."""
    return (
        f"""
# What everything is compared with: each task by itself. Then what is tried first.
default: logistic
initial: [logistic, {initial}, r2d2, good_embedding, cnp, fomaml]
"""
        + START
        + _ALONE
        + pooled
        + _NETWORKS
        + AMORTISED
        + GRADIENT
        + OUTER
        + END
        + f"""\
verdict: {{seeds: 3, finalists: 3, presets: [{presets}]}}
"""
    )


CLASSES = _of_classes(
    _POOLED, "pooled_ridge, pooled_trees, protonet", "pooled_ridge, pooled_trees, protonet"
)
OWN_CLASSES = _of_classes("", "protonet", "protonet, r2d2")
"""Where each task draws classes of its own, which no pooled model knows."""
