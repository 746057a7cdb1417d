"""What looks have in common: paths, names, and the space file that is written of one."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from metatune.errors import RunError
from metatune.space import load_yaml, parse_space, resolve
from metatune.space.families import Forecast, Table
from metatune.space.source import Source, refuse
from metatune.space.validation import check
from metatune.tasks.base import Episode, TaskFamily
from metatune.tasks.tables.frames import find_files

HOLD = 0.8  # of the tasks (or groups) must have what shot and query ask for
RESERVED = {"true", "false", "null", "yes", "no", "on", "off"}
Options = TypeVar("Options", Table, Forecast)


@dataclass(frozen=True)
class Look:
    """What was seen, and what is assumed.

    Attributes:
        options: of the family, with paths as seen from the folder that was asked for.
        family: the tasks.
        episode: the shape that most tasks can hold.
        said: sentences on what is assumed.
        section: the lines of the section ``family``, a key a line, each with what it means.
        rest: what the space file says below its budget.
    """

    options: Table | Forecast
    family: TaskFamily
    episode: Episode
    said: tuple[str, ...]
    section: tuple[str, ...]
    rest: str


def write_space(
    look: Callable[[Path], Look], path: Path, *, full: int, trials: int, minutes: float
) -> Look:
    """Write a space file.

    Args:
        look: looks at the data, with paths as seen from a folder: the file's.
        path: the file, which must not be there yet.
        full: resource of a trial, in rows seen.
        trials, minutes: the run's budget.

    Raises:
        SpaceError, DataError: as ``look`` does.
        RunError: the file is there already, or cannot be written.
    """
    if path.exists():
        raise RunError(f"{path} exists already: give another file by -o, or remove it")
    found = look(path.absolute().parent)
    text = space_text(found, full, trials, minutes)
    plain, lines = load_yaml(text, str(path))
    resolve(parse_space(plain, Source(str(path), lines)), found.family.info)  # it runs as it is
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error
    return found


def options_of(kind: type[Options], asked: Mapping[str, Any]) -> Options:
    """A family's options as the command line names them.

    Raises:
        SpaceError: they make no sense.
    """
    options, problems = check(kind, asked)
    refuse(problems, Source("the command line"))
    assert options is not None
    return options


# --- paths ---------------------------------------------------------------------------------------


def short_paths(data: Sequence[str], base: Path | None) -> tuple[str, ...]:
    """The same files in few words, as seen from a folder; None: from the current one."""
    return tuple(_seen_from(base or Path.cwd(), path) for path in _short(data))


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
    return TEMPLATE.format(
        assumed="\n".join(line for said in found.said for line in _comment(said)),
        family="\n".join(found.section),
        full=full,
        trials=trials,
        minutes=f"{minutes:g}",
        **tasks,
        rest=found.rest,
    )


def _comment(sentence: str) -> list[str]:
    """A sentence as an item of a comment."""
    plain = re.sub(r"[^\x20-\x7e]", "?", sentence)
    return textwrap.wrap(
        plain, 98, initial_indent="# - ", subsequent_indent="#   ", break_on_hyphens=False
    )


def data_line(data: Sequence[str]) -> str:
    """The line of the section ``family`` that names the files."""
    paths = ", ".join(word(path) for path in data)
    return f"  data: {paths if len(data) == 1 else f'[{paths}]'}  # as seen from this file's folder"


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

GRADIENT = """\
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

AMORTISED = """\
    amortised:                                       # a network reads the support and predicts
      backbone: {kind: mlp, width: 40, depth: 2}
      head: {kind: amortised, summary: {choice: [mean, attention]}, width: 128}
      meta: {rule: first_order}
"""

OUTER = """\
  outer:                                             # how the meta-parameters are trained
    lr: {float: [3.0e-4, 3.0e-2], log: true}
    schedule: {choice: [constant, cosine]}
    tasks_per_batch: {int: [4, 32], log: true}
"""

START = """
# What may be proposed. A knob is a leaf with {float: ..}, {int: ..} or {choice: ..};
# of the subtrees under `choose`, exactly one is picked.
strategy:
  choose:
"""

END = """
# Who meets on the test tasks, opened once: the best of the search, the default, these, and
# the naive baselines of such data.
"""
