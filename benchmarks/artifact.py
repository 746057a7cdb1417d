"""How long an artifact takes to learn a new task of 32 rows and predict 32 others, after load.

    python benchmarks/artifact.py [--repeats 7] [--times 60]

Real runs of a few trials are made and exported: on tables of 20 inputs, and on glyphs of 28x28.
Each repeat times every artifact by turns, ``adapt`` and ``predict`` together, on one core, by the
clock and by what the process used of a core; a repeat's figure is the median over its tasks. With
a fallback, both strategies are those of the same run, put together whether it pays there or not:
what is timed is leave-one-out over 32 rows (of classes: as many folds as the smallest class has
rows). Writes JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import pandas as pd
import torch
from rich.console import Console

import metatune
from metatune import session
from metatune.artifact import files
from metatune.artifact.learner import Artifact

RESULTS = Path("benchmarks/results/artifact.jsonl")
TABLE = """
family: {name: table, data: DATA, task: task, target: y, shot: 32, query: 16}
resource: {full: 4000, rungs: 1}
tasks: {select: 8, confirm: 8, test: 8}
budget: {trials: 5}
default: ridge
initial: [ridge, r2d2, deep_kernel, pooled_trees, maml]
strategy: {head: {kind: ridge, penalty: {float: [0.1, 10.0], log: true}}, meta: {rule: none}}
verdict: {seeds: 1, best_seeds: 1, finalists: 1, baselines: []}
"""
GLYPHS = """
family: {name: glyphs, way: 4, shot: 8, query: 4}
resource: {full: 2000, rungs: 1}
tasks: {select: 4, confirm: 4, test: 4}
budget: {trials: 4}
default: nearest_neighbour
initial: [nearest_neighbour, protonet, r2d2, fomaml]
strategy: {head: {kind: ridge, penalty: {float: [0.1, 10.0], log: true}}, meta: {rule: none}}
verdict: {seeds: 1, best_seeds: 1, finalists: 1, baselines: []}
"""
KINDS = {
    "support_mean": "closed form",
    "ridge": "closed form", "r2d2": "closed form", "deep_kernel": "closed form",
    "pooled_trees": "closed form", "nearest_neighbour": "metric", "protonet": "metric",
    "maml": "gradient", "fomaml": "gradient",
}  # fmt: skip


def tables(path: Path) -> None:
    """200 tasks of 60 rows with 20 inputs, each linear with slopes of its own."""
    rng = np.random.default_rng(0)
    frames = []
    for task in range(200):
        x = rng.normal(size=(60, 20))
        y = x @ (1 + rng.normal(size=20)) + rng.normal(size=60)
        frames.append(pd.DataFrame(x).add_prefix("x").assign(task=f"t{task:03d}", y=y))
    pd.concat(frames).to_csv(path, index=False)


def artifacts(folder: Path) -> Iterator[tuple[str, str, Artifact]]:
    """Family, strategy and artifact of each; the baseline of a family is its first."""
    tables(folder / "rows.csv")
    for family, text in (("table", TABLE), ("glyphs", GLYPHS)):
        space = folder / f"{family}.yaml"
        space.write_text(text.replace("DATA", str(folder / "rows.csv")))
        made, plan = session.create(space, out=folder / family)
        quiet = Console(file=open(os.devnull, "w"))  # noqa: SIM115 - lives as long as the process
        session.drive(made, plan, None, session.on_ray(None, 1, made), quiet)
        trials = metatune.read_run(made.path).trials
        each = {}
        for trial, name in trials["name"].items():
            out = metatune.export(made.path, folder / f"{family}-{name}", trial=trial, refit=False)
            each[name] = replace(metatune.load(out), fallback=None)
        baseline = next(iter(each))
        for name, artifact in each.items():
            yield family, name, artifact
            if name != baseline:
                path = folder / f"{family}-{name}-{baseline}"
                both = joined(artifact, each[baseline], baseline, path)
                yield family, f"{name}, may fall back to {baseline}", both


def joined(artifact: Artifact, baseline: Artifact, name: str, path: Path) -> Artifact:
    """The artifact with the other's strategy as its fallback."""
    own, other = artifact.stored, baseline.stored
    kept = {n: t for n, t in own.tensors.items() if not n.startswith("fallback/")}
    theirs = {n: t for n, t in other.tensors.items() if n.startswith("0/")}
    tensors = {n.replace("0/", "fallback/", 1): tensor for n, tensor in theirs.items()}
    fallback = {"name": name, "strategy": other.plain["strategies"][0]}
    stored = files.Stored({**own.plain, "fallback": fallback}, {**kept, **tensors}, own.card)
    return metatune.load(files.write(stored, path))


def a_task(artifact: Artifact, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """32 rows to learn from and 32 to predict."""
    rng = np.random.default_rng(seed)
    shape = artifact.info.input_shape
    x = rng.normal(size=(64, *shape)).astype(np.float32)
    y = np.arange(32) % 4 if artifact.is_classifier else x[:32, 0] + rng.normal(size=32)
    return x[:32], y, x[32:]


def milliseconds(artifact: Artifact, times: int, first: int) -> tuple[float, float]:
    """Medians over tasks of learning one and predicting: by the clock, and of a core's time."""
    clock, core = [], []
    for seed in range(first, first + times):
        x, y, queries = a_task(artifact, seed)
        start = perf_counter(), process_time()
        artifact.adapt(x, y).predict(queries)
        clock.append(1000 * (perf_counter() - start[0]))
        core.append(1000 * (process_time() - start[1]))
    return median(clock), median(core)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--times", type=int, default=60, help="tasks a repeat")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)  # made-up rows are unlike the training tasks
    with tempfile.TemporaryDirectory() as scratch:
        each = list(artifacts(Path(scratch)))
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for repeat in range(options.repeats + 1):
        for family, name, artifact in each:
            took = milliseconds(artifact, options.times, repeat * options.times)
            if repeat:  # the first warms up
                found.setdefault((family, name), []).append(took)
    with RESULTS.open("w") as file:
        for (family, name), took in found.items():
            clock, core = (list(each) for each in zip(*took, strict=True))
            row = {
                "family": family, "strategy": name, "kind": KINDS[name.split(",")[0]],
                "clock": clock, "core": core, "tasks": options.times, "load": os.getloadavg()[1],
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")
            print(f"{family:7} {name:42} {median(clock):7.2f} ms by the clock, {median(core):7.2f}")


if __name__ == "__main__":
    main()
