"""Few-shot Omniglot: order of the methods, and size of the gaps, beside the published numbers.

5-way and 20-way, 1 and 5 shot. Split by alphabet: the 6 test alphabets of
``metatune.tasks.images.omniglot.split_alphabets`` are judged on, the other 24 background alphabets
are trained on (nothing is selected, so ``select`` and ``confirm`` serve training). Tasks stay
within an alphabet; quarter turns are classes of their own in training. The papers draw 1,200
characters at random over all 50 alphabets and mix alphabets within a task, which is easier.

Every method gets the same resource and network (four blocks of ``--width`` channels, statistics of
the support set alone), and its preset's settings but for those in ``SETTINGS``. Cells that stand in
``--out`` already are not run again.

    METATUNE_DATA=... python benchmarks/omniglot.py --methods protonet r2d2 --resource 600000
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter

import torch

from metatune.evaluation import evaluation_tasks, score
from metatune.learners.augmentation import augment
from metatune.learners.interface import Tensors, to_tensors
from metatune.learners.learner import build_learner
from metatune.learners.resource import step_cost
from metatune.learners.training import Course, start_training, train
from metatune.presets import preset
from metatune.seeds import derive_seed
from metatune.space.knobs import deep_merge
from metatune.statistics import estimate
from metatune.strategy import Strategy, problems
from metatune.tasks.base import Episode, TaskFamily
from metatune.tasks.images.omniglot import open_omniglot

SETTINGS = {
    "protonet": {},
    "r2d2": {},
    # With few meta-steps to be had, few tasks a batch and a falling rate do more than the paper's.
    "maml": {"outer": {"tasks_per_batch": 2, "schedule": "cosine"}},
    "fomaml": {"outer": {"tasks_per_batch": 2, "schedule": "cosine"}},
    "baseline_plus_plus": {},
    "nearest_neighbour": {},
}
FIVE_WAY = {"inner": {"steps": 1, "lr": 0.4, "test_steps": 3}}  # MAML's, for 5 classes
PUBLISHED = {  # 5-way 1-shot, 5-way 5-shot, 20-way 1-shot, 20-way 5-shot; the papers' split
    "protonet": (98.8, 99.7, 96.0, 98.9),
    "maml": (98.7, 99.9, 95.8, 98.9),
    "fomaml": (98.3, 99.2, 89.4, 97.9),  # as Nichol et al. 2018 have it, transductive
    "r2d2": (98.6, 99.7, 94.7, 98.9),  # of 64 channels; not checked against the paper's text
}


def split(data_dir: str | None) -> TaskFamily:
    """Omniglot with 24 alphabets to train on and 6 to be judged on."""
    ours = open_omniglot(data_dir).info.groups
    train_on = tuple(name for part in ("train", "select", "confirm") for name in ours[part])
    return open_omniglot(
        data_dir,
        {"train": train_on, "select": (), "confirm": (), "test": tuple(ours["test"])},
    )


def run(
    family: TaskFamily, name: str, way: int, shot: int, resource: int, width: int, seed: int
) -> dict[str, object]:
    """Train one method for one cell of the table and judge it."""
    settings = SETTINGS[name]
    if way == 5 and name in ("maml", "fomaml"):
        settings = deep_merge(settings, FIVE_WAY)
    if name != "nearest_neighbour":
        own = {"backbone": {"width": width}, "diet": {"quarter_turns": True}}
        settings = deep_merge(settings, own)
    plain = deep_merge(preset(name, family.info).model_dump(), settings)
    strategy = Strategy.model_validate(plain)
    episode = Episode(way, shot, query=5)
    assert not problems(strategy, family.info, episode)
    learner = build_learner(strategy, family.info, way)
    state, start = start_training(learner, seed), perf_counter()

    def batches(step: int, progress: float) -> Tensors:
        numbers = range(strategy.outer.tasks_per_batch)
        seeds = [derive_seed(seed, "omniglot table", step, task) for task in numbers]
        batch = to_tensors(family.sample("train", episode, seeds))
        return augment(strategy.diet, batch, seeds, family.info.train_classes)

    if strategy.trains:
        cost = step_cost(strategy, family.info, episode)
        course = Course(batches, lambda progress: cost, resource)
        state, _ = train(learner, family.info, strategy.outer, state, course, resource)
    minutes = (perf_counter() - start) / 60
    start = perf_counter()
    tasks = evaluation_tasks(family, "test", episode, 180, seed, 1)
    scores = score(learner, family.info, state.usable, tasks, state.step)
    found = {
        claim: estimate([100 * v for v in scores.values], list(scores.groups), claim)
        for claim in ("new groups", "new tasks")
    }
    groups, by_task = found["new groups"], found["new tasks"]
    return {
        "method": name, "way": way, "shot": shot, "seed": seed, "resource": resource,
        "width": width, "steps": state.step, "accuracy": groups.mean, "low": groups.low,
        "high": groups.high, "tasks_low": by_task.low, "tasks_high": by_task.high,
        "minutes": round(minutes, 2), "judging": round((perf_counter() - start) / 60, 2),
    }  # fmt: skip


def known(out: Path) -> set[tuple[object, ...]]:
    """Cells that were run already."""
    keys = ("method", "way", "shot", "seed", "resource", "width")
    lines = out.read_text().splitlines() if out.exists() else []
    return {tuple(json.loads(line)[key] for key in keys) for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--ways", nargs="*", type=int, default=[5, 20], choices=[5, 20])
    parser.add_argument("--resource", type=int, default=400_000, help="forward-equivalents")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/omniglot.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    family = split(args.data_dir)
    cells = [(5, 1), (5, 5), (20, 1), (20, 5)]
    done = known(args.out)
    for way, shot in cells:
        for name in args.methods if way in args.ways else ():
            if (name, way, shot, args.seed, args.resource, args.width) in done:
                continue
            row = run(family, name, way, shot, args.resource, args.width, args.seed)
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            published = PUBLISHED.get(name, (None,) * 4)[cells.index((way, shot))]
            print(
                f"{way:2}-way {shot}-shot {name:18s} {row['accuracy']:.1f} % "
                f"[{row['low']:.1f}, {row['high']:.1f}] new alphabets, published {published}, "
                f"{row['steps']} steps, {row['minutes']} + {row['judging']} min",
                flush=True,
            )


if __name__ == "__main__":
    main()
