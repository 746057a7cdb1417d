"""The sinusoid table of the MAML paper, run again (Finn, Abbeel & Levine 2017, section 5.1).

As the paper has it: MLP 1-40-40-1, tasks of K = 10 points, one inner step of rate 0.01, Adam at
0.001, 25 tasks a batch, 70,000 iterations; then 600 new tasks of 5 points, judged after 1, 5 and
10 steps of the same rate. "Pre-trained" is one network fitted to all tasks together and fine-tuned,
at 0.02 (the paper has "an automatically tuned step size" and does not name it) and at MAML's rate.

Differs: tasks are judged on 100 points (there on 5), and pre-training sees 20 points a task.

    python benchmarks/sinusoid.py --seeds 3            # six minutes a seed on one core
    python benchmarks/sinusoid.py --iterations 2000    # a look

A task on which the steps diverge (loss beyond 1,000 times the variance of its targets) has no place
in a mean: such tasks are counted apart. Rows that stand in ``--out`` already are not run again.

Published: MAML 0.67 / 0.38 / 0.35, pre-trained 2.41 / 2.23 / 2.19 (mean squared error).
"""

from __future__ import annotations

import argparse
import json
from math import isfinite
from pathlib import Path
from time import perf_counter

import torch

from metatune.evaluation import evaluation_tasks, judge
from metatune.learners.interface import Params, Tensors, to_tensors
from metatune.learners.learner import build_learner
from metatune.learners.training import Course, is_hopeless, start_training, train
from metatune.presets import preset
from metatune.seeds import derive_seed
from metatune.statistics import estimate
from metatune.strategy import Strategy
from metatune.tasks.base import MSE, Episode, TaskBatch
from metatune.tasks.registry import open_family

TRAIN, TEST, TASKS, STEPS = Episode(1, 10, 10), Episode(1, 5, 100), 600, (1, 5, 10)
PUBLISHED = {"maml": (0.67, 0.38, 0.35), "pre-trained": (2.41, 2.23, 2.19)}
ROWS = {"maml": ("maml", 0.01), "fomaml": ("fomaml", 0.01), "pre-trained": ("baseline", 0.02)}


def with_inner(strategy: Strategy, **settings: object) -> Strategy:
    """The strategy with other inner settings."""
    plain = strategy.model_dump()
    return Strategy.model_validate(plain | {"inner": plain["inner"] | settings})


def run(name: str, seed: int, iterations: int) -> list[dict[str, object]]:
    """Train one row of the table and judge it after each number of steps."""
    family = open_family("sinusoid")
    which, rate = ROWS[name]
    outer = {"kind": "adam", "lr": 1e-3, "schedule": "constant", "tasks_per_batch": 25}
    plain = preset(which, family.info).model_dump() | {"outer": outer}
    strategy = with_inner(Strategy.model_validate(plain), steps=1, lr=rate)
    learner = build_learner(strategy, family.info, 1)

    def batches(step: int, progress: float) -> Tensors:
        seeds = [derive_seed(seed, "sinusoid table", step, task) for task in range(25)]
        return to_tensors(family.sample("train", TRAIN, seeds))

    start = perf_counter()
    course = Course(batches, lambda progress: 1, iterations)
    state, _ = train(
        learner, family.info, strategy.outer, start_training(learner, seed), course, iterations
    )
    minutes = (perf_counter() - start) / 60
    tasks = evaluation_tasks(family, "test", TEST, TASKS, seed, 1)
    found: list[dict[str, object]] = []
    for lr in {rate, 0.01}:
        for steps in STEPS:
            judged = with_inner(strategy, test_steps=steps, lr=lr)
            errors, diverged = judged_on(judged, state.usable, tasks)
            mse = estimate(errors, ["sinusoid"] * len(errors), "new tasks")
            found.append(
                {"row": name, "seed": seed, "rate": lr, "steps": steps, "mse": mse.mean}
                | {"low": mse.low, "high": mse.high, "diverged": diverged, "iterations": iterations}
                | {"minutes": round(minutes, 2)}
            )
    return found


def judged_on(
    strategy: Strategy, params: Params, tasks: list[TaskBatch]
) -> tuple[list[float], int]:
    """The squared error on each task, and the number of tasks on which the steps diverged."""
    info = open_family("sinusoid").info
    learner, errors, diverged = build_learner(strategy, info, 1), list[float](), 0
    with torch.no_grad():
        for batch in map(to_tensors, tasks):
            for error in judge(MSE, learner.predict(params, batch), batch).tolist():
                if isfinite(error) and not is_hopeless(info, error, batch):
                    errors.append(error)
                else:
                    diverged += 1
    return errors, diverged


def known(out: Path, iterations: int) -> set[tuple[str, int]]:
    """Rows and seeds that were run already."""
    if not out.exists():
        return set()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    return {(row["row"], row["seed"]) for row in rows if row["iterations"] == iterations}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=70_000)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sinusoid.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = known(args.out, args.iterations)
    for seed in range(args.seeds):
        for name in args.rows:
            if (name, seed) in done:
                continue
            for row in run(name, seed, args.iterations):
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                published = PUBLISHED.get(name, (None,) * 3)[STEPS.index(int(str(row["steps"])))]
                print(
                    f"{name:12s} seed {seed} rate {row['rate']} steps {row['steps']:>2}: "
                    f"{row['mse']:.3f} [{row['low']:.3f}, {row['high']:.3f}], "
                    f"{row['diverged']} diverged, published {published}, {row['minutes']} min",
                    flush=True,
                )


if __name__ == "__main__":
    main()
