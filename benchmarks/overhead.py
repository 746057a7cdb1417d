"""What metatune costs beside the training itself: import, start, and a trial's overhead.

    python benchmarks/overhead.py [--repeats 5] [--trials 60]

Each repeat runs the same trivial trials (strategies that need no training, on two sinusoid tasks)
once through the whole system with two workers and once in a plain loop in this process, by turns.
Prints minimum, median and maximum.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

from rich.console import Console
from rich.table import Table
from speed_cases.trials import SPACE

from metatune import session
from metatune.history import History
from metatune.jobs import TrialJob
from metatune.records.folder import RunFolder
from metatune.records.reading import read_rows
from metatune.records.rows import Ended
from metatune.tasks.base import Episode


def imports(module: str) -> float:
    """Seconds that a fresh interpreter takes to import a module, its own start subtracted."""
    bare, full = (_python(code) for code in ("pass", f"import {module}"))
    return full - bare


def _python(code: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return perf_counter() - start


def through_the_system(trials: int) -> tuple[float, float, list[TrialJob]]:
    """Seconds from ``run`` to the first finished trial, and from one end of a trial to the next."""
    with tempfile.TemporaryDirectory() as scratch:
        space = Path(scratch) / "space.yaml"
        space.write_text(SPACE)
        start = perf_counter()
        folder, plan = session.create(space, out=Path(scratch) / "run", trials=trials)
        before = perf_counter() - start
        quiet = Console(file=open(os.devnull, "w"))  # noqa: SIM115 - lives as long as the process
        session.drive(folder, plan, None, session.on_ray(None, 2, folder), quiet)
        rows = read_rows(RunFolder.open(folder.path))
        ends = [row.at for row in rows if isinstance(row, Ended)]
        jobs = [
            TrialJob(
                t.id, 1, 0, t.asked.strategy, "sinusoid", None, Episode(1, 5, 5), 0, plan.rungs, 0,
                "select", 2, True, None,
            )
            for t in History(-1, rows).trials.values()
        ]  # fmt: skip
        # The first few pay for the second worker's start.
        steady = [b - a for a, b in pairwise(ends[5:])]
        return before + ends[0], sum(steady) / len(steady), jobs


def in_a_plain_loop(jobs: list[TrialJob]) -> float:
    """Seconds a trial without Ray, Optuna or records."""
    from metatune.trial import run_trial

    start = perf_counter()
    for job in jobs:
        list(run_trial(job))
    return (perf_counter() - start) / len(jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, default=60)
    options = parser.parse_args()
    found: dict[str, list[float]] = {}

    def note(name: str, measure: Callable[[], float]) -> None:
        found.setdefault(name, []).append(measure())

    for _ in range(options.repeats):
        note("import metatune", lambda: imports("metatune"))
        note("import torch (for comparison)", lambda: imports("torch"))
        first, each, jobs = through_the_system(options.trials)
        note("run to first finished trial", lambda first=first: first)
        note("a trivial trial, whole system, 2 workers", lambda each=each: each)
        note("a trivial trial, plain loop, 1 process", lambda jobs=jobs: in_a_plain_loop(jobs))
    table = Table("seconds", "min", "median", "max", title=f"{options.repeats} repeats")
    for name, values in found.items():
        table.add_row(name, *(f"{x:.4f}" for x in (min(values), median(values), max(values))))
    Console().print(table)


if __name__ == "__main__":
    main()
