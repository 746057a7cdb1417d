"""``metatune init``: looks at data and writes a space file that runs as it is.

What it assumes (what is predicted, kinds of columns, shots) is printed and written down, so that
it can be changed.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from metatune.errors import DataError, RunError
from metatune.space import load_yaml, parse_space, resolve
from metatune.space.families import Table
from metatune.space.source import Source, refuse
from metatune.space.validation import check
from metatune.tasks.base import Episode, notes_of
from metatune.tasks.registry import open_family
from metatune.tasks.tables.frames import find_files
from metatune.tasks.tables.table import TableFamily

HOLD = 0.8  # of the tasks must have the rows that shot and query ask for
MOST_SHOT, MOST_QUERY = 16, 32
SAME = 0.5  # of a task's targets are one value: R2 has nothing to explain in many draws
RESERVED = {"true", "false", "null", "yes", "no", "on", "off"}


@dataclass(frozen=True)
class Look:
    """What was seen, and what is assumed.

    Attributes:
        options: of the table, with paths as seen from ``base``.
        family: the tasks.
        episode: the shape that most tasks can hold.
        said: sentences on what is assumed.
    """

    options: Table
    family: TableFamily
    episode: Episode
    said: tuple[str, ...]


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
    path = Path(out)
    if path.exists():
        raise RunError(f"{path} exists already: give another file by -o, or remove it")
    found = look(data, task, target, group=group, predict=predict, base=path.absolute().parent)
    text = space_text(found, full, trials, minutes)
    plain, lines = load_yaml(text, str(path))
    resolve(parse_space(plain, Source(str(path), lines)), found.family.info)  # it runs as it is
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error
    return found


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
    base = base or Path.cwd()
    paths = tuple(_seen_from(base, path) for path in _short(data))
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
        data=paths,
        task=task,
        target=target,
        group=group,
        predict=predicted,
        metric=metric,
        columns=dict(family.data.kinds),
    )
    return Look(options, family, episode, (*said, *notes_of(family, episode)))


def _opened(
    data: Sequence[str],
    task: str,
    target: str,
    group: str | None,
    predict: Literal["number", "class"] | None,
    metric: Literal["r2", "mse"] = "r2",
) -> TableFamily:
    asked = {"data": list(data), "task": task, "target": target, "group": group}
    options, problems = check(Table, {**asked, "predict": predict, "metric": metric})
    refuse(problems, Source("the command line"))
    assert options is not None
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


# --- paths ---------------------------------------------------------------------------------------


def _short(data: Sequence[str]) -> list[str]:
    """The same files in fewer words, where a shell has written out a glob."""
    if len(data) < 3:
        return list(data)
    files, _ = find_files(data)
    folder, end = files[0].parent, files[0].suffix
    for pattern in (str(folder), str(folder / f"*{end}")):
        if all(f.parent == folder for f in files) and find_files([pattern])[0] == files:
            return [pattern]
    return list(data)


def _seen_from(base: Path, path: str) -> str:
    """A path as seen from a folder; an absolute one stays."""
    expanded = Path(path).expanduser()
    if expanded.is_absolute():
        return str(expanded)
    return Path(os.path.relpath(expanded.absolute(), base)).as_posix()


# --- the space file ------------------------------------------------------------------------------


def space_text(found: Look, full: int, trials: int, minutes: float) -> str:
    """The text of the space file."""
    groups = found.family.info.groups
    tasks = {s: min(400, max(60, 2 * len(groups[s]))) for s in ("select", "confirm", "test")}
    classes = found.family.info.kind == "classification"
    return TEMPLATE.format(
        assumed="\n".join(line for said in found.said for line in _comment(said)),
        family="\n".join(_family_lines(found.options)),
        full=full,
        trials=trials,
        minutes=f"{minutes:g}",
        **tasks,
        rest=CLASSES if classes else NUMBERS,
    )


def _comment(sentence: str) -> list[str]:
    """A sentence as an item of a comment."""
    plain = re.sub(r"[^\x20-\x7e]", "?", sentence)
    return textwrap.wrap(
        plain, 98, initial_indent="# - ", subsequent_indent="#   ", break_on_hyphens=False
    )


def _family_lines(options: Table) -> Iterator[str]:
    """The section ``family``, a key a line, each with what it means."""
    yield "  name: table"
    paths = ", ".join(word(path) for path in options.data)
    one = len(options.data) == 1
    yield f"  data: {paths if one else f'[{paths}]'}  # as seen from this file's folder"
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


def word(value: Any) -> str:
    """Text as a YAML scalar: quoted where it could be read as something else."""
    text = str(value)
    plain = re.fullmatch(r"([A-Za-z_/]|\.\.?/)[\w./*-]*( [\w./*-]+)*", text, re.ASCII)
    if plain and text.lower() not in RESERVED:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


TEMPLATE = """\
# Written by `metatune init`, which assumed:
{assumed}
# Check it with `metatune validate`, start it with `metatune run`.

family:
{family}
seed: 0                                              # every random draw follows from it

# Resource is counted in rows seen. A trial is scored at three rungs (a ninth, a third, all of it)
# and stopped where it falls behind.
resource: {{full: {full}, rungs: 3, reduction: 3}}
tasks: {{select: {select}, confirm: {confirm}, test: {test}}}
rounds: {{count: 1, growth: 2}}                        # 2: again, with twice the resource
budget: {{trials: {trials}, minutes: {minutes}}}                  # the verdict included
{rest}"""

_GRADIENT = """\
    gradient:                                        # MAML and its relatives
      backbone: {kind: mlp, width: 40, depth: 2}
      head: {kind: linear, start: learned}
      inner:
        kind: sgd
        scope: all
        steps: {int: [1, 5]}
        lr: {float: [0.003, 0.3], log: true}
      meta: {rule: {choice: [first_order, second_order]}}
"""

_AMORTISED = """\
    amortised:                                       # a network reads the support and predicts
      backbone: {kind: mlp, width: 40, depth: 2}
      head: {kind: amortised, summary: {choice: [mean, attention]}, width: 128}
      meta: {rule: first_order}
"""

_OUTER = """\
  outer:                                             # how the meta-parameters are trained
    lr: {float: [3.0e-4, 3.0e-2], log: true}
    schedule: {choice: [constant, cosine]}
    tasks_per_batch: {int: [4, 32], log: true}
"""

_START = """
# What may be proposed. A knob is a leaf with {float: ..}, {int: ..} or {choice: ..};
# of the subtrees under `choose`, exactly one is picked.
strategy:
  choose:
"""

_END = """
# Who meets on the test tasks, opened once: the best of the search, the default, these, and
# the naive baselines of tables.
"""

NUMBERS = (
    """
# What everything is compared with: each task by itself. Then what is tried first.
default: ridge
initial: [ridge, pooled_ridge, pooled_trees, deep_kernel, cnp, fomaml]
"""
    + _START
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
    + _AMORTISED
    + _GRADIENT
    + _OUTER
    + _END
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
    + _START
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
    + _AMORTISED
    + _GRADIENT
    + _OUTER
    + _END
    + """\
verdict: {seeds: 3, finalists: 3, presets: [pooled_ridge, pooled_trees, protonet]}
"""
)
