"""Trials through the whole system, against Ray Tune with OptunaSearch on the same machine.

Both run the same strategies' kind on two workers, with actors reused: a trivial learner, which
needs no training and is scored on two tasks, so that what is measured is the system. Ray Tune
writes its own records, metatune writes its own; both are left as they come.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speed_cases import Case, by_turns

TRIALS, WORKERS, REPEATS = 500, 2, 5
SPACE = """
family: {name: sinusoid, shot: 5, query: 5}
tasks: {select: 2, confirm: 2, test: 2}
budget: {trials: 1}
common: {backbone: {kind: mlp, width: 8, depth: 1}}
default: scratch
strategy:
  head: {kind: linear, start: zero}
  inner: {kind: sgd, steps: 1, lr: {float: [0.001, 0.1], log: true}}
  meta: {rule: none}
verdict: {seeds: 1, best_seeds: 1, finalists: 1}
"""


def cases(scale: float) -> Iterator[Case]:
    trials = max(40, round(TRIALS * scale))
    found = by_turns(
        {name: lambda name=name: _run(name, trials) for name in ("metatune", "ray_tune")},
        max(1, round(REPEATS * min(1.0, scale))),
    )
    ours, theirs = found["metatune"], found["ray_tune"]
    yield Case(
        f"trivial trials, {trials} on {WORKERS} workers", "Ray Tune + OptunaSearch, reuse_actors",
        "trials/s", [a["rate"] for a in ours], [b["rate"] for b in theirs], 1.3,
    )  # fmt: skip
    yield Case(
        "command to the first finished trial", "the same of Ray Tune: import, ray.init, Tuner.fit",
        "s", [a["first"] for a in ours], [b["first"] for b in theirs], -1.1,
    )  # fmt: skip


def _run(name: str, trials: int) -> dict[str, float]:
    """One system in a process of its own: trials a second after the first ten, and the first."""
    with tempfile.TemporaryDirectory() as scratch:
        start = time.time()
        command = [sys.executable, "-m", "speed_cases.trials", name,
                   scratch, str(trials)]  # fmt: skip
        here = Path(__file__).parents[1]
        subprocess.run(command, check=True, cwd=here, stdout=subprocess.DEVNULL)
        ends = sorted(json.loads((Path(scratch) / "ends.json").read_text()))
    return {"first": ends[0] - start, "rate": (len(ends) - 11) / (ends[-1] - ends[10])}


def metatune(scratch: Path, trials: int) -> list[float]:
    """When each trial ended."""
    from metatune import session
    from metatune.records.folder import RunFolder
    from metatune.records.reading import read_rows
    from metatune.records.rows import Ended

    space = scratch / "space.yaml"
    space.write_text(SPACE)
    path = session.run(space, out=scratch / "run", workers=WORKERS, trials=trials)
    rows = read_rows(RunFolder.open(path))
    # Rows count from when the run is driven, a moment after its folder was made.
    began = (path / "run.json").stat().st_mtime
    return [began + row.at for row in rows if isinstance(row, Ended) and row.replica == 0]


def ray_tune(scratch: Path, trials: int) -> list[float]:
    """The same of Ray Tune."""
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    from metatune.runner import prepare_ray

    prepare_ray(None)
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from metatune.jobs import TrialJob
    from metatune.tasks.base import Episode

    plain: dict[str, Any] = {
        "backbone": {"kind": "mlp", "width": 8, "depth": 1},
        "head": {"kind": "linear", "start": "zero"},
        "meta": {"rule": "none"},
    }

    class Trainable(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            from metatune.trial import run_trial

            inner = {"kind": "sgd", "steps": 1, "lr": config["lr"]}
            job = TrialJob(
                "t", 1, 0, plain | {"inner": inner}, "sinusoid", None, Episode(1, 5, 5), 0,
                (1000, 3000, 9000), 0, "select", 2, True, None,
            )  # fmt: skip
            self._rungs = run_trial(job)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            result = next(self._rungs)
            score = sum(result.scores) / len(result.scores)
            return {"score": score, "done": True, "ended": time.time()}

    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False,
             logging_level="ERROR", object_store_memory=128 * 2**20)  # fmt: skip
    results = tune.Tuner(
        tune.with_resources(Trainable, {"cpu": 1}),
        param_space={"lr": tune.loguniform(0.001, 0.1)},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric="score", mode="min", seed=0), num_samples=trials,
            reuse_actors=True, max_concurrent_trials=WORKERS,
        ),
        run_config=tune.RunConfig(
            storage_path=str(scratch / "tune"), verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()  # fmt: skip
    ray.shutdown()
    return [result.metrics["ended"] for result in results]


if __name__ == "__main__":
    name, scratch, trials = sys.argv[1:]
    ends = {"metatune": metatune, "ray_tune": ray_tune}[name](Path(scratch), int(trials))
    (Path(scratch) / "ends.json").write_text(json.dumps(ends))
