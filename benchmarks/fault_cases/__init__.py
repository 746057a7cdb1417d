"""Faults that are made for real, section by section, for ``benchmarks/faults.py``.

A section is a module of this package with ``def cases(seed: int, scale: float) -> Iterator[Case]``:
it makes a fault, looks at what is left, and yields what it found, a case at a time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from safetensors.numpy import load_file

from metatune.records.folder import RunFolder
from metatune.records.log import scan
from metatune.records.reading import read_rows
from metatune.records.rows import Asked, Ended, Row, Scored

SPACE = """
family: {name: sinusoid, shot: 5, query: 5}
seed: 3
resource: {full: 30000, rungs: 3, reduction: 3}
tasks: {select: 24, confirm: 24, test: 24}
rounds: {count: 1}
budget: {trials: 10}
common:
  backbone: {kind: mlp, width: 16, depth: 1}
default: fomaml
initial: [fomaml, maml]
strategy:
  choose:
    gradient:
      head: {kind: linear, start: learned}
      inner: {kind: sgd, scope: all, steps: {int: [1, 3]}, lr: {float: [0.001, 0.1], log: true}}
      meta: {rule: {choice: [first_order, second_order]}}
    ridge:
      head: {kind: ridge, penalty: {float: [0.001, 10.0], log: true}}
      inner: {kind: none}
      meta: {rule: first_order}
  outer: {lr: {float: [1e-4, 1e-2], log: true}, tasks_per_batch: 8}
verdict: {seeds: 1, best_seeds: 1, finalists: 2, presets: [maml], baselines: [scratch]}
"""
"""A search of some seconds. ``full`` makes it longer, ``count`` of rounds too."""


@dataclass(frozen=True)
class Case:
    """One fault, and what became of the run.

    Attributes:
        case: its name, a few words.
        done: what was done to the run.
        counts: seeds and counts, such as ``{"kills": 50, "seed": 7}``.
        expected: what must be, in words.
        found: what was, in words and figures.
        passed: whether that is what must be.
    """

    case: str
    done: str
    counts: Mapping[str, Any]
    expected: str
    found: str
    passed: bool


def rows_of(path: str | Path) -> list[Row]:
    """Every row of a run, in order; of its folder, or of its URI."""
    return read_rows(RunFolder.open(path))


def miscounted(rows: list[Row]) -> list[str]:
    """What is lost or there twice, in words; empty where each trial was asked once and has one end,
    and each strategy was scored once on a set of tasks.

    Args:
        rows: of a run that has come to its end.
    """
    asked = Counter(row.trial for row in rows if isinstance(row, Asked) and not row.members)
    ended = Counter((row.trial, row.replica) for row in rows if isinstance(row, Ended))
    scored = Counter(
        (row.trial, row.replica, row.round, row.split, row.rung)
        for row in rows
        if isinstance(row, Scored)
    )
    twice = [key for counted in (asked, ended, scored) for key, n in counted.items() if n > 1]
    without_end = [trial for trial in asked if (trial, 0) not in ended]
    return [f"twice: {key}" for key in twice] + [f"no end: {trial}" for trial in without_end]


def damaged(path: Path) -> list[str]:
    """What is not whole in a run's folder, in words: every file of it is read to its end."""
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return [f"{file.relative_to(path)}: {wrong}" for file in files if (wrong := _wrong(file))]


def _wrong(file: Path) -> str:
    """What is wrong with a file; empty where nothing is."""
    try:
        match file.suffix:
            case ".parquet":
                pq.read_table(file, page_checksum_verification=True)
            case ".safetensors":
                load_file(file)
            case ".json":
                json.loads(file.read_bytes())
            case ".yaml":
                yaml.safe_load(file.read_bytes())
            case ".log" | ".jsonl" if file.suffix == ".log" or file.parent.name == "logs":
                for line in file.read_bytes().splitlines(keepends=True):
                    json.loads(line.removesuffix(b"\n") if line.endswith(b"\n") else b"torn")
            case ".jsonl":
                data = file.read_bytes()
                if (end := scan(data, file).end) < len(data):
                    return f"torn after byte {end}"
            case ".lock" | "" if file.name.endswith(".lock"):  # Optuna's is a link
                pass
            case _:
                return "no file of a run"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
