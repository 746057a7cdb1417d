"""How many tasks of a table are assembled a second, on one core, and what memory does it take?

Rates: tasks of 32 support and 32 query rows by 32 inputs, from a million random rows in tasks of
80, 500 or 5,000 rows (a task of up to four times the rows that are drawn is shuffled whole, a
larger one is drawn from), in batches of several sizes, gathered from rows that are mapped into
memory, and from the same rows held by the process; beside it the plain loop over tasks with a numpy
generator each. The median of ``--repeats`` rounds, in which all forms take turns. Seconds are the
process's own, so that a busy machine counts less.

Memory: random rows of 32 numbers in tasks of 400, 10,000 tasks for each gigabyte of Parquet (or
fewer of CSV), in two processes of their own: the *maker* opens the table for the first time, the
*worker* opens it afterwards and draws 3,000 batches of 64 random tasks. What is told is the most
that the process held of private memory (RssAnon), and of pages of mapped files (RssFile), which all
processes share and the system takes back where it needs the room; looked at every 20 ms.

    OMP_NUM_THREADS=1 python benchmarks/tasks.py rates --repeats 7
    OMP_NUM_THREADS=1 python benchmarks/tasks.py memory --gigabytes 2 10 --folder BIG_DISK
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic, process_time, sleep

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from metatune.tasks.base import Episode
from metatune.tasks.tables.options import TableOptions
from metatune.tasks.tables.table import TableFamily, open_table

ROWS, INPUTS, EPISODE = 1_000_000, 32, Episode(1, 32, 32, per_class=False)
SIZES, BATCHES = (80, 500, 5000), (8, 64, 512)
DRAWN, BATCH = 3000, 64  # by the worker whose memory is looked at
TASK_ROWS, AT_ONCE = 400, 250  # rows a task, and tasks that are written at a time
BYTES = 8 * (INPUTS + 1)  # of a row in Parquet


# --- made data -----------------------------------------------------------------------------------


def rows(tasks: int, size: int, dtype: str) -> Iterator[pa.Table]:
    """Random rows of so many tasks, ``AT_ONCE`` tasks at a time."""
    rng = np.random.default_rng(0)
    for first in range(0, tasks, AT_ONCE):
        names = [f"t{number}" for number in range(first, min(first + AT_ONCE, tasks))]
        count = len(names) * size
        columns = {"task": np.repeat(names, size)}
        for name in ("y", *(f"x{number}" for number in range(INPUTS))):
            columns[name] = rng.standard_normal(count).astype(dtype)
        yield pa.table(columns)


def write(path: Path, parts: Iterator[pa.Table]) -> None:
    """One file, by the ending of its name."""
    part = next(parts)
    if path.suffix == ".csv":
        writer = pa.csv.CSVWriter(path, part.schema)
    else:
        writer = pq.ParquetWriter(path, part.schema, use_dictionary=["task"], compression="none")
    with writer:
        writer.write_table(part)
        for part in parts:
            writer.write_table(part)


def opened(path: Path) -> TableFamily:
    """The family of a file."""
    plain = {"data": [str(path)], "task": "task", "target": "y", "predict": "number"}
    return open_table(TableOptions.of(plain))


# --- rates ---------------------------------------------------------------------------------------


def by_loop(family: TableFamily, seeds: range) -> list[np.ndarray]:
    """The same work, a task at a time."""
    data, found = family.data, []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        task = rng.integers(len(data.tasks))
        start, end = data.start[task], data.start[task + 1]
        drawn = start + rng.choice(end - start, 64, replace=False, shuffle=True)
        found += [data.x[drawn[:32]], data.x[drawn[32:]], data.y[drawn[:32]], data.y[drawn[32:]]]
    return found


def rate(draw: Callable[[range], object], batch: int, seconds: float) -> float:
    """Tasks a second of the process's own time."""
    start, done = process_time(), 0
    while process_time() - start < seconds:
        draw(range(done, done + batch))
        done += batch
    return done / (process_time() - start)


def rates(size: int, folder: Path, repeats: int, seconds: float) -> Iterator[dict[str, object]]:
    """A line a form and batch, for tasks of one size."""
    path = folder / f"{size}.parquet"
    write(path, rows(ROWS // size, size, "float32"))
    mapped = opened(path)
    held = TableFamily(replace(mapped.data, x=np.array(mapped.data.x), y=np.array(mapped.data.y)))
    forms: dict[tuple[str, int], Callable[[range], object]] = {
        (form, batch): partial(family.sample, "train", EPISODE)
        for form, family in (("mapped", mapped), ("held", held))
        for batch in BATCHES
    }
    forms["loop", 64] = partial(by_loop, mapped)
    found: dict[tuple[str, int], list[float]] = {form: [] for form in forms}
    for _ in range(repeats):
        for (form, batch), draw in forms.items():
            found[form, batch].append(rate(draw, batch, seconds))
    for (form, batch), own in found.items():
        middle, low, high = statistics.median(own), min(own), max(own)
        print(
            f"tasks of {size:5d} rows, {form:6s}, batches of {batch:3d}: {middle:9,.0f} tasks/s"
            f" [{low:,.0f}, {high:,.0f}]",
            flush=True,
        )
        yield {"size": size, "form": form, "batch": batch, "low": low, "high": high, "rate": middle}


# --- memory --------------------------------------------------------------------------------------


def work(path: Path, drawn: int) -> None:
    """What a process does whose memory is looked at."""
    family = opened(path)
    for first in range(0, drawn * BATCH, BATCH):
        family.sample("train", EPISODE, range(first, first + BATCH))


def watched(path: Path, drawn: int, cache: Path) -> dict[str, float]:
    """Run ``work`` in a process of its own: the most memory of each kind in MiB, and seconds."""
    start, most = monotonic(), {"private": 0, "mapped": 0, "both": 0}
    process = subprocess.Popen(
        [sys.executable, __file__, "work", str(path), "--drawn", str(drawn)],
        env={**os.environ, "METATUNE_CACHE": str(cache)},
    )
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
        if kib:
            now = {"private": kib["RssAnon"] + kib["RssShmem"], "mapped": kib["RssFile"]}
            now["both"] = sum(now.values())
            most = {kind: max(most[kind], value) for kind, value in now.items()}
        sleep(0.02)
    if process.wait():
        raise SystemExit(f"the process over {path} failed")
    return {kind: value / 1024 for kind, value in most.items()} | {"seconds": monotonic() - start}


def memory(gigabytes: float, form: str, folder: Path) -> Iterator[dict[str, object]]:
    """Two lines, of the maker and of a worker, for a table of one size."""
    path, cache = folder / f"rows.{form}", folder / "cache"
    tasks = round(gigabytes * 1e9 / BYTES / TASK_ROWS / (2.4 if form == "csv" else 1))
    write(path, rows(tasks, TASK_ROWS, "float64"))
    for process, drawn in (("maker", 0), ("worker", DRAWN)):
        found = watched(path, drawn, cache)
        size = path.stat().st_size / 1e9
        encoded = sum(file.stat().st_size for file in cache.glob("table-*/*")) / 1e9
        print(
            f"{process} of {size:.1f} GB of {form} ({tasks:,} tasks, {tasks * TASK_ROWS:,} rows; "
            f"{encoded:.1f} GB encoded): private {found['private']:,.0f} MiB, mapped "
            f"{found['mapped']:,.0f} MiB, {found['seconds']:.0f} s",
            flush=True,
        )
        about = {"form": form, "gigabytes": size, "tasks": tasks, "rows": tasks * TASK_ROWS}
        yield about | {"encoded": encoded, "process": process, "drawn": drawn * BATCH, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    fast = verbs.add_parser("rates", help="tasks a second")
    fast.add_argument("--repeats", type=int, default=7)
    fast.add_argument("--seconds", type=float, default=0.5, help="of each form, each time")
    fast.add_argument("--out", type=Path, default=Path("benchmarks/results/tasks.jsonl"))
    large = verbs.add_parser("memory", help="of the process that makes a table, and of a worker")
    large.add_argument("--gigabytes", type=float, nargs="+", default=[2, 10], help="on the disk")
    large.add_argument("--form", choices=["parquet", "csv"], default="parquet")
    large.add_argument("--out", type=Path, default=Path("benchmarks/results/tasks_memory.jsonl"))
    for verb in (fast, large):
        verb.add_argument(
            "--folder", type=Path, help="for made data, with room for four times them"
        )
    own = verbs.add_parser("work", help="what a process does whose memory is looked at")
    own.add_argument("path", type=Path)
    own.add_argument("--drawn", type=int, required=True)
    args = parser.parse_args()
    if args.verb == "work":
        work(args.path, args.drawn)
        return
    lines: list[dict[str, object]] = []
    cases: list[partial[Iterator[dict[str, object]]]] = (
        [partial(rates, size, repeats=args.repeats, seconds=args.seconds) for size in SIZES]
        if args.verb == "rates"
        else [partial(memory, gigabytes, args.form) for gigabytes in args.gigabytes]
    )
    for case in cases:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            os.environ["METATUNE_CACHE"] = str(Path(folder) / "cache")
            lines += case(folder=Path(folder))
    if args.verb == "memory" and args.out.exists():
        known = [json.loads(line) for line in args.out.read_text().splitlines()]
        lines = [line for line in known if line["form"] != args.form] + lines
    args.out.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
