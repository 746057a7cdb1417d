"""How many tasks of a table are assembled a second, on one core?

Tasks of 32 support and 32 query rows by 32 inputs, from a million random rows in tasks of 80, 500
or 5,000 rows (a task of up to four times the rows that are drawn is shuffled whole, a larger one
is drawn from), in batches of several sizes; beside it the plain loop over tasks with a numpy
generator each. The median of ``--repeats`` rounds, in which all forms take turns. Seconds are the
process's own, so that a busy machine counts less.

    OMP_NUM_THREADS=1 python benchmarks/tasks.py --repeats 7
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np

from metatune.tasks.base import Episode
from metatune.tasks.table import SHARES, TableData, TableFamily, table_splits

ROWS, INPUTS, EPISODE = 1_000_000, 32, Episode(1, 32, 32, per_class=False)
SIZES, BATCHES = (80, 500, 5000), (8, 64, 512)


def table(size: int) -> TableFamily:
    """A million random rows in tasks of one size."""
    rng, tasks = np.random.default_rng(0), ROWS // size
    names = tuple(f"t{number}" for number in range(tasks))
    data = TableData(
        x=rng.standard_normal((tasks * size, INPUTS), dtype=np.float32),
        y=rng.standard_normal(tasks * size, dtype=np.float32),
        start=np.arange(tasks + 1) * size,
        tasks=names,
        groups=names,
        classes=(),
        splits=table_splits(dict.fromkeys(names, 1), SHARES),
        inputs=tuple(f"x{number}" for number in range(INPUTS)),
        numbers=INPUTS,
        kinds={},
        notes=(),
    )
    return TableFamily(data)


def by_loop(family: TableFamily, seeds: range) -> list[np.ndarray]:
    """The same work, a task at a time."""
    data, found = family.data, []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        task = rng.integers(len(data.tasks))
        start, end = data.start[task], data.start[task + 1]
        rows = start + rng.choice(end - start, 64, replace=False, shuffle=True)
        found += [data.x[rows[:32]], data.x[rows[32:]], data.y[rows[:32]], data.y[rows[32:]]]
    return found


def rate(draw: Callable[[range], object], batch: int, seconds: float) -> float:
    """Tasks a second of the process's own time."""
    start, done = process_time(), 0
    while process_time() - start < seconds:
        draw(range(done, done + batch))
        done += batch
    return done / (process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each form, each time")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tasks.jsonl"))
    args = parser.parse_args()
    lines = []
    for size in SIZES:
        family = table(size)
        forms: dict[tuple[str, int], Callable[[range], object]] = {
            ("gather", batch): partial(family.sample, "train", EPISODE) for batch in BATCHES
        }
        forms["loop", 64] = partial(by_loop, family)
        rates: dict[tuple[str, int], list[float]] = {form: [] for form in forms}
        for _ in range(args.repeats):
            for (form, batch), draw in forms.items():
                rates[form, batch].append(rate(draw, batch, args.seconds))
        for (form, batch), found in rates.items():
            middle, low, high = statistics.median(found), min(found), max(found)
            print(
                f"tasks of {size:5d} rows, {form:6s}, batches of {batch:3d}: {middle:9,.0f} tasks/s"
                f" [{low:,.0f}, {high:,.0f}]",
                flush=True,
            )
            line = {"size": size, "form": form, "batch": batch, "low": low, "high": high}
            lines.append(json.dumps(line | {"rate": middle}))
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
