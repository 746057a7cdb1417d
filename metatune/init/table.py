"""A look at tables: which column is what, and how many rows a task can hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

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
from metatune.tasks.tables.table import TableFamily

MOST_SHOT, MOST_QUERY = 16, 32
SAME = 0.5  # of a task's targets are one value: R2 has nothing to explain in many draws


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
    shot, query = shots_and_query(int(np.quantile(sizes, 1 - HOLD, method="lower")))
    episode = Episode(len(classes) or 1, shot, query, per_class=False)
    held = float(np.mean(sizes >= shot + query))
    said.append(
        f"{shot} support and {query} query rows a task, which {100 * held:.0f} % of the "
        f"{len(sizes)} tasks can hold."
    )
    by = f"by {group}" if group else "each task by itself, as no group column was named"
    counts = ", ".join(f"{split} {len(groups)}" for split, groups in info.groups.items())
    said.append(f"Groups {by}: {counts}.")
    family.check(episode)
    options = Table(
        way=len(classes) or None,
        shot=shot,
        query=query,
        data=short_paths(data, base),
        task=task,
        target=target,
        group=group,
        predict=predicted,
        metric=metric,
        columns=dict(family.data.kinds),
    )
    said.extend(notes_of(family, episode))
    rest = CLASSES if classes else NUMBERS
    return Look(options, family, episode, tuple(said), tuple(_section(options)), rest)


def _opened(
    data: Sequence[str],
    task: str,
    target: str,
    group: str | None,
    predict: Literal["number", "class"] | None,
    metric: Literal["r2", "mse"] = "r2",
) -> TableFamily:
    asked = {"data": list(data), "task": task, "target": target, "group": group}
    options = options_of(Table, {**asked, "predict": predict, "metric": metric})
    family = open_family("table", None, options.options(None))
    assert isinstance(family, TableFamily)
    return family


def shots_and_query(rows: int) -> tuple[int, int]:
    """Support and query of tasks with so many rows: a power of two up to 16, up to 32 of the rest.

    Raises:
        DataError: fewer than four rows.
    """
    if rows < 4:
        raise DataError(
            f"table: found {rows} rows or fewer in {100 * (1 - HOLD):.0f} % of the tasks; "
            "allowed: 4 or more, two to learn from and two to be judged on"
        )
    shot = min(MOST_SHOT, 1 << ((rows // 2).bit_length() - 1))
    return shot, min(rows - shot, MOST_QUERY)


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


def _section(options: Table) -> Iterator[str]:
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
    if options.way is not None:
        yield f"  way: {options.way}  # the number of classes"
    elif options.metric != "r2":
        yield f"  metric: {options.metric}"
    yield f"  shot: {options.shot}  # rows to learn a task from"
    yield f"  query: {options.query}  # rows that it is judged on"
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

CLASSES = (
    """
# What everything is compared with: each task by itself. Then what is tried first.
default: logistic
initial: [logistic, pooled_ridge, pooled_trees, protonet, r2d2, good_embedding, cnp, fomaml]
"""
    + START
    + """\
    alone:                                           # each task by itself, to its optimum
      head: {kind: logistic, penalty: {float: [0.03, 30.0], log: true}}
      meta: {rule: none}
    pooled:                                          # one classifier for all, corrected by ridge
      prior: {kind: pooled, model: {choice: [linear, trees]}}
      head: {kind: ridge, intercept: free, penalty: {float: [1.0, 1000.0], log: true}}
      meta: {rule: first_order}
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
    + AMORTISED
    + GRADIENT
    + OUTER
    + END
    + """\
verdict: {seeds: 3, finalists: 3, presets: [pooled_ridge, pooled_trees, protonet]}
"""
)
