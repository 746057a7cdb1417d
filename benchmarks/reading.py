"""How long the questions of ``metatune.analysis`` take on a large run.

    python benchmarks/reading.py                       # 10,000 trials x 64 tasks x 4 rungs
    python benchmarks/reading.py --trials 1000 --repeats 9

A run's folder is made by the real records code: rows, log, compaction. Then each question is put to
it, every time with the run read anew; so the seconds include opening the folder. Wall clock and
processor time, median, least and most; a fresh Python, imports included, comes last.
Appends a JSON line a question to ``benchmarks/results/reading.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import metatune
from metatune.analysis import (
    best_over_time,
    generalisation_gap,
    importance,
    leaderboard,
    pairwise,
    pareto,
    regret,
    task_matrix,
    verdict_table,
)
from metatune.durable import write_atomically
from metatune.records.compaction import compact
from metatune.records.folder import RunFolder
from metatune.records.log import Log
from metatune.records.reading import Run
from metatune.records.rows import Asked, Concluded, Ended, Looked, Row, Scored, Turned

RESULTS = Path(__file__).parent / "results" / "reading.jsonl"
GROUPS = 16
TAIL = 200
"""Trials that are in the log alone, as while a run goes on."""

QUESTIONS: dict[str, Callable[[Run], Any]] = {
    "read_run": lambda run: run,
    "leaderboard": leaderboard,
    "pareto": pareto,
    "verdict_table": verdict_table,
    "best_over_time": best_over_time,
    "regret": regret,
    "generalisation_gap": generalisation_gap,
    "importance": importance,
    "task_matrix": lambda run: task_matrix(run, "select"),
    "pairwise": pairwise,
    "run.trials": lambda run: run.trials,
    "run.scores": lambda run: run.scores,
    "run.curves": lambda run: run.curves,
    "run.tasks": lambda run: run.tasks,
}


def rows(trials: int, tasks: int, rungs: int, seed: int = 0) -> Iterator[Row]:
    """A run of one round: every trial is scored at every rung, and twelve meet on ``test``."""
    random = np.random.default_rng(seed)
    difficulty = random.normal(size=tasks)
    groups = [f"script-{task % GROUPS:02d}" for task in range(tasks)]
    names = {
        split: [f"{split}-{task % GROUPS:02d}-{task:012x}" for task in range(tasks)]
        for split in ("select", "confirm", "test")
    }

    def scored(trial: int, rung: int, split: str, replica: int = 0) -> Scored:
        level = 0.6 + 0.1 * np.sin(trial) + 0.02 * rung
        values = level + 0.05 * difficulty + 0.05 * random.normal(size=tasks)
        return Scored(
            trial=f"r1-{trial:04d}",
            round=1,
            rung=rung,
            split=split,  # type: ignore[arg-type]
            replica=replica,
            resource=1000 * 3**rung,
            train_seconds=float(rung),
            score_seconds=float(random.uniform(0.5, 2)),
            train_loss=float(random.uniform()),
            tasks=names[split],
            groups=groups,
            scores=values.round(4).tolist(),
            transductive=False,
            at=float(trial + rung / 10),
        )

    for trial in range(trials):
        lr, width = float(10 ** random.uniform(-4, 0)), int(random.integers(8, 65))
        yield Asked(
            trial=f"r1-{trial:04d}",
            round=1,
            number=trial,
            name="protonet" if trial == 0 else f"proposed-1-{trial}",
            origin="default" if trial == 0 else "proposed",
            strategy={
                "start": "none",
                "backbone": {"kind": "mlp", "width": width, "depth": 2, "norm": "none"},
                "head": {"kind": "ridge", "penalty": 0.5},
                "inner": {"kind": "sgd", "steps": 5, "lr": lr},
                "outer": {"kind": "adam", "lr": lr / 10, "betas": [0.9, 0.999]},
            },
            digest=f"{trial:064x}",
            structure="mlp/ridge/sgd",
            params={"inner.lr": lr, "backbone.width": width},
        )
        yield from (scored(trial, rung, "select") for rung in range(1, rungs + 1))
        yield Ended(f"r1-{trial:04d}", "completed", "", float(rungs))
    finalists = [f"r1-{trial:04d}" for trial in range(12)]
    yield Looked("confirm", 1, finalists)
    yield from (scored(trial, rungs, "confirm") for trial in range(12))
    yield Turned(1, finalists[:3], [], 1.0)
    yield from (scored(t, rungs, "test", replica) for t in range(12) for replica in (1, 2))
    yield Concluded(finalists[1], finalists[0], "new groups", "so it is")


def make_run(path: Path, trials: int, tasks: int, rungs: int) -> None:
    """The folder of such a run, compacted but for the trials of its last minutes."""
    folder = RunFolder.create(path)
    made = list(rows(trials, tasks, rungs))
    tail = TAIL * (rungs + 2)
    with Log.open(folder, "0000000a") as log:
        for start in range(0, len(made) - tail, 1000):
            log.append(*made[start : min(start + 1000, len(made) - tail)])
        compact(folder)
        log.append(*made[len(made) - tail :])
    family = {"name": "glyphs", "metric": "accuracy", "sign": 1}
    write_atomically(folder.info, json.dumps({"run": "large", "family": family}))


def timed(ask: Callable[[Run], Any], path: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of reading the run and asking it, by wall clock and by processor."""
    found: dict[str, list[float]] = {"wall": [], "cpu": []}
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        ask(metatune.read_run(path))
        found["wall"].append(time.perf_counter() - wall)
        found["cpu"].append(time.process_time() - cpu)
    return found


def fresh(path: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of a new Python that imports, reads and prints the leaderboard's head."""
    code = (
        "import sys, metatune; from metatune.analysis import leaderboard;"
        "leaderboard(metatune.read_run(sys.argv[1])).head()"
    )
    found: dict[str, list[float]] = {"wall": [], "cpu": []}
    for _ in range(repeats):
        import resource

        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        found["wall"].append(time.perf_counter() - wall)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
        found["cpu"].append(used)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--rungs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", type=Path, help="a folder made before, or to be made and kept")
    parser.add_argument("--ask", nargs="*", choices=QUESTIONS, default=list(QUESTIONS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = options.run or Path(scratch) / "run"
        if not (path / "run.json").exists():
            began = time.perf_counter()
            make_run(path, options.trials, options.tasks, options.rungs)
            print(f"made in {time.perf_counter() - began:.1f} s: {path}")
        size = {name: getattr(options, name) for name in ("trials", "tasks", "rungs")}
        asked = {name: QUESTIONS[name] for name in options.ask}
        results = {name: timed(ask, path, options.repeats) for name, ask in asked.items()}
        results["leaderboard, fresh Python"] = fresh(path, options.repeats)
    with RESULTS.open("a") as file:
        for name, found in results.items():
            line = {"question": name, **size, **found, "python": platform.python_version()}
            file.write(json.dumps(line) + "\n")
            told = (f"{kind} {spread(found[kind])}" for kind in ("wall", "cpu"))
            print(f"{name:26} {'   '.join(told)}")


def spread(seconds: list[float]) -> str:
    """Median with least and most."""
    return f"{np.median(seconds):.2f} s [{min(seconds):.2f}, {max(seconds):.2f}]"


if __name__ == "__main__":
    main()
