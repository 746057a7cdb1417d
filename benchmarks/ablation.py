"""What the gradient and the ensemble bring, live: whole searches with and without them.

    python benchmarks/ablation.py               # 10 seeds of 2 minutes an arm; 35 minutes

*gradient*: on sinusoids, the child of each round's leader (promoted knobs, probes of the meta-rate
and the child's own training are charged) against the same core seconds spent on TPE's proposals;
among strategies that are learned through their inner steps, for others have no gradient in these.
*ensemble*: on glyphs, a run whose verdict also trains a greedy ensemble and the best preset's
ensemble of as many trainings; all were trained anew for it.

Two searches run at a time, each in one process; arms of a seed side by side.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.console import Console

from metatune import session
from metatune.analysis import verdict_table
from metatune.jobs import JobSource
from metatune.records.reading import read_run
from metatune.space import load_yaml
from metatune.trial import run_trial

RESULTS = Path("benchmarks/results")
SECONDS = 120.0
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "children of TPE": ("sinusoid", {"adjust": {"gradient": False}}),
    "children by gradient": ("sinusoid", {"adjust": {"gradient": True}}),
    "ensemble": ("quickstart", {"verdict": {"ensemble": 4}}),
}
CHANGES: dict[str, dict[str, Any]] = {
    "sinusoid": {
        "resource": {"full": 2_000_000, "rungs": 3, "reduction": 3},
        "tasks": {"select": 200, "confirm": 200, "test": 1000},
    },
    "quickstart": {"resource": {"full": 10_000, "rungs": 3, "reduction": 3}},
}


class OneProcess:
    """Runs jobs here, one after the other."""

    workers = 1

    def drain(self, source: JobSource, tick: Callable[[], None] = lambda: None) -> None:
        """Run every job of a source to its end."""
        while (job := source.next_job()) is not None:
            rungs = run_trial(job)
            while source.on_result(job, next(rungs)):
                tick()

    def watch(self, row: object, history: object) -> None:
        """Nobody watches."""


def one(arm: str, seed: int) -> list[dict[str, Any]]:
    """A search of two minutes; a row an entrant of its verdict."""
    name, means = ARMS[arm]
    plain, _ = load_yaml(Path(f"search_spaces/{name}.yaml"))
    plain |= CHANGES[name] | {"budget": {"trials": 100_000, "core_seconds": SECONDS}}
    plain["verdict"] |= {"seeds": 1, "finalists": 1}
    if name == "sinusoid":
        branches = plain["strategy"]["choose"]
        plain["strategy"]["choose"] = {"meta_learned": branches["meta_learned"]}
    for section, changed in means.items():
        plain[section] = {**plain.get(section, {}), **changed}
    with tempfile.TemporaryDirectory() as scratch:
        space = Path(scratch) / f"{name}.yaml"
        space.write_text(yaml.safe_dump(plain))
        folder, plan = session.create(space, out=Path(scratch) / "run", seed=seed)
        quiet = Console(file=io.StringIO())
        session.drive(folder, plan, None, nullcontext(OneProcess()), quiet)
        run = read_run(folder.path)
    entrants, verdict = verdict_table(run), run.verdicts.iloc[-1]
    return [
        {
            "arm": arm, "seed": seed, "name": row["name"], "origin": row["origin"],
            "role": {verdict["winner"]: "winner", verdict["rival"]: "rival"}.get(str(trial), ""),
            "select": row["select"], "confirm": row["confirm"], "members": len(row["members"]),
            "score": row["score"], "train_seconds": row["train_seconds"],
            "adapt_seconds": row["adapt_seconds"], "trainings": int(row["trainings"]),
            "trials": len(run.trials),
            "children": int((run.trials["origin"] == "child").sum()),
        }
        for trial, row in entrants.iterrows()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--out", type=Path, default=RESULTS / "ablation.jsonl")
    options = parser.parse_args()
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    known = {(row["arm"], row["seed"]) for row in map(json.loads, lines)}
    with ProcessPoolExecutor(2) as pool, options.out.open("a") as file:
        waiting = [
            pool.submit(one, arm, seed)
            for seed in range(options.seeds)
            for arm in options.arms
            if (arm, seed) not in known
        ]
        for done in as_completed(waiting):
            file.writelines(json.dumps(row) + "\n" for row in done.result())
            file.flush()
    frame = pd.read_json(options.out, lines=True)
    print(frame.groupby(["arm", "role", "origin"])["score"].agg(["mean", "std", "count"]))


if __name__ == "__main__":
    main()
