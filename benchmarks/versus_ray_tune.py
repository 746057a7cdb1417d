"""metatune against plain Ray Tune: OptunaSearch with ASHA, the same learners and presets.

    python benchmarks/versus_ray_tune.py live      # 5 seeds of 3 minutes, two families: 35 minutes
    python benchmarks/versus_ray_tune.py replay    # 100 seeds from the table (table.py): 20 minutes

Ray Tune searches the same knobs (define by run, as conditional ones need), begins with the presets
(``points_to_evaluate``), reuses actors, stops by ASHA at the same rungs, and trains to the same
resource; metatune has its default of one round. Trials are metatune's own (``run_trial``),
so a strategy learns the same in both. What is compared is the *confirmed score over time*: of the
trials completed so far the six best on ``select`` are scored on ``confirm``, the same tasks for
both, and the best of them is judged on ``test``.

Live, both search at the same time with a worker on a core each, so whatever else the machine does
strikes both. Their first two minutes count; metatune's verdict, which Ray Tune has not, comes after
them, and the confirmation is made afterwards and costs neither of them time. Replayed, time is
core seconds, the confirmation's included.
"""

from __future__ import annotations

import argparse
import heapq
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import count, product
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from rich.console import Console

from metatune import session
from metatune.budget import core_seconds
from metatune.confirm import LEADERS
from metatune.history import History
from metatune.jobs import TrialJob
from metatune.plan import Plan
from metatune.records.folder import RunFolder
from metatune.records.reading import read_rows
from metatune.records.rows import Ended, Row, Scored
from metatune.search import strategy_of
from metatune.space import load_space, load_yaml
from metatune.space.knobs import ChoiceKnob, FloatKnob, KnobTree
from metatune.tasks.base import Split
from metatune.trial import run_trial

RESULTS = Path("benchmarks/results")
SEARCH, VERDICT = 2.0, 1.0  # minutes
TIMES = tuple(range(10, 121, 10))  # seconds at which the score is asked for
JUDGED = {"confirm": 100, "test": 200}  # tasks
SPACES = {  # the ready spaces, with what fits into two minutes
    "sinusoid": ("search_spaces/sinusoid.yaml", {"full": 1_200_000, "rungs": 3, "reduction": 3}),
    "glyphs": ("search_spaces/quickstart.yaml", {"full": 40_000, "rungs": 3, "reduction": 3}),
}
BUDGETS = (40, 75, 150)  # core seconds of metatune, replayed
CORE_TIMES = (30, 40, 50, 60, 75, 100, 125, 150, 200)  # of Ray Tune


@dataclass(frozen=True)
class Done:
    """A trial that reached the full resource.

    Attributes:
        at: seconds since the start.
        select: what it is ranked by, higher is better.
        job: how it was trained; its folder has the learner.
    """

    at: float
    select: float
    job: TrialJob


def opened(family: str, scratch: Path) -> Path:
    """The space file of a family: the ready one, with a small verdict behind its two minutes."""
    file, resource = SPACES[family]
    plain, _ = load_yaml(Path(file))
    plain |= {
        "resource": resource,
        "rounds": {"count": 1},
        "budget": {"trials": 100_000, "minutes": SEARCH + VERDICT},
        "verdict": {"seeds": 1, "finalists": 1, "best_seeds": 1},
    }
    target = scratch / f"{family}.yaml"
    target.write_text(yaml.safe_dump(plain))
    return target


# --- metatune -----------------------------------------------------------------------------------


def metatune(family: str, seed: int, workers: int, scratch: Path) -> list[Done]:
    """A whole run; who is done when the two minutes are over is not looked at."""
    folder, plan = session.create(opened(family, scratch), out=scratch / "run", seed=seed)
    quiet = Console(file=io.StringIO())
    session.drive(folder, plan, None, session.on_ray(None, workers, folder), quiet)
    rows = read_rows(RunFolder.open(folder.path))
    history = History(plan.info.metric.sign, rows)
    found = []
    for row in rows:
        if isinstance(row, Ended) and row.replica == 0 and row.state == "completed":
            trial = history.trials[row.trial]
            gain = history.gain(trial, trial.rungs[-1])
            assert gain is not None
            job = _job(plan, trial.asked.strategy, folder.trial(trial.id), trial.rungs[-1])
            rungs = plan.rungs(trial.asked.round)
            found.append(Done(row.at, gain, replace(job, trial=trial.id, rungs=rungs)))
    return found


def _job(plan: Plan, strategy: dict[str, Any], folder: Path, recorded: int) -> TrialJob:
    space = plan.space.space
    return TrialJob(
        trial=folder.name, round=1, replica=0, strategy=strategy, family=plan.info.name,
        data_dir=None, episode=space.episode, run_seed=plan.seed,
        rungs=plan.rungs(plan.last_round), recorded=recorded, split="select",
        tasks=space.tasks.select, train=True, folder=str(folder),
    )  # fmt: skip


# --- Ray Tune -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Knobs:
    """The space as OptunaSearch wants conditional ones: a function of a trial that suggests."""

    tree: KnobTree

    def __call__(self, trial: Any) -> None:
        def suggest(knob: Any) -> Any:
            if isinstance(knob, ChoiceKnob):
                return trial.suggest_categorical(knob.name, knob.choices)
            if isinstance(knob, FloatKnob):
                return trial.suggest_float(knob.name, knob.low, knob.high, log=knob.log)
            return trial.suggest_int(knob.name, knob.low, knob.high, log=knob.log)

        self.tree.walk(suggest)


def peer(plan: Plan, rungs: Sequence[int], seed: int) -> tuple[Any, Any]:
    """OptunaSearch and ASHA over the same knobs, beginning with the presets that lie among them."""
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    tree, mode = plan.space.tree, "max" if plan.info.metric.sign > 0 else "min"
    plain = [entry.strategy.model_dump(mode="json") for entry in plan.space.initial]
    points = [params for one in plain if (params := tree.params_of(one)) is not None]
    search = OptunaSearch(
        space=Knobs(tree), metric="score", mode=mode, points_to_evaluate=points, seed=seed
    )
    asha = ASHAScheduler(
        time_attr="resource", metric="score", mode=mode, max_t=rungs[-1],
        grace_period=rungs[0], reduction_factor=plan.space.space.resource.reduction,
    )  # fmt: skip
    return search, asha


def ray_tune(family: str, seed: int, workers: int, scratch: Path) -> list[Done]:
    """A search of two minutes."""
    from metatune.runner import prepare_ray

    prepare_ray(None)
    import ray
    from ray import tune

    space = load_space(opened(family, scratch))
    plan, _ = session.plan_of(space, seed=seed)
    rungs = plan.rungs(plan.last_round)
    search, asha = peer(plan, rungs, seed)
    lost = 0.0 if plan.info.metric.sign > 0 else 1e3  # Optuna never forgets a NaN
    reports = scratch / "reports"
    reports.mkdir()
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}

    class Trainable(tune.Trainable):
        """Trains one strategy, rung by rung."""

        def setup(self, config: dict[str, Any]) -> None:
            strategy = strategy_of(plan.space, config).model_dump(mode="json")
            self._job = _job(plan, strategy, scratch / "trials" / self.trial_id, 0)
            self._rungs = run_trial(self._job)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            result = next(self._rungs)
            ended = result.outcome != "running"
            score = sum(result.scores) / len(result.scores) if result.scores else lost
            if result.outcome == "completed":
                line = {"at": time.time(), "score": score, "rung": result.rung}
                about = line | {"strategy": self._job.strategy, "folder": self._job.folder}
                (reports / f"{self.trial_id}.json").write_text(json.dumps(about))
            return {"score": score, "resource": rungs[result.rung - 1], "done": ended}

    ray.init(
        address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False,
        logging_level="ERROR", object_store_memory=128 * 2**20,
    )  # fmt: skip
    start = time.time()
    tune.Tuner(
        tune.with_resources(Trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=search, scheduler=asha, num_samples=-1, reuse_actors=True,
            max_concurrent_trials=workers, time_budget_s=60 * SEARCH,
        ),
        run_config=tune.RunConfig(
            storage_path=str(scratch / "tune"), verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()  # fmt: skip
    ray.shutdown()
    found = []
    for file in sorted(reports.iterdir()):
        about = json.loads(file.read_text())
        job = _job(plan, about["strategy"], Path(about["folder"]), about["rung"])
        found.append(Done(about["at"] - start, plan.info.metric.sign * about["score"], job))
    return found


# --- live ---------------------------------------------------------------------------------------


def curve(done: list[Done], seed: int, sign: int) -> list[tuple[float, float | None]]:
    """The confirmed score at each of ``TIMES``.

    None while no trial is complete, and where the one that is handed over fails on ``test``.
    """
    known: dict[tuple[str, str], float | None] = {}

    def mean(one: Done, split: Split) -> float | None:
        if (one.job.trial, split) not in known:
            job = replace(
                one.job, split=split, tasks=JUDGED[split], train=False, run_seed=1_000 + seed
            )
            (result,) = run_trial(job)
            scores = result.scores  # none, where a prediction is not finite
            known[one.job.trial, split] = sum(scores) / len(scores) if scores else None
        return known[one.job.trial, split]

    def on_confirm(one: Done) -> float:
        score = mean(one, "confirm")
        return -inf if score is None else sign * score

    found: list[tuple[float, float | None]] = []
    for moment in TIMES:
        ready = sorted((d for d in done if d.at <= moment), key=lambda d: -d.select)[:LEADERS]
        best = max(ready, key=on_confirm, default=None)
        found.append((moment, None if best is None else mean(best, "test")))
    return found


def one(system: str, family: str, seed: int, workers: int) -> dict[str, Any]:
    """One system on one family with one seed."""
    with tempfile.TemporaryDirectory() as scratch:
        search = {"metatune": metatune, "ray tune": ray_tune}[system]
        done = search(family, seed, workers, Path(scratch))
        sign = -1 if family == "sinusoid" else 1
        return {
            "family": family, "system": system, "seed": seed, "completed": len(done),
            "curve": curve(done, seed, sign),
        }  # fmt: skip


def live(seeds: int, out: Path) -> None:
    """Both systems at the same time, seed by seed."""
    known = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    for seed in range(seeds):
        for family in SPACES:
            if any((row["family"], row["seed"]) == (family, seed) for row in known):
                continue
            both = [
                subprocess.Popen(
                    [sys.executable, __file__, "one", system, family, str(seed)],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for system in ("metatune", "ray tune")
            ]
            lines = [process.communicate()[0].splitlines()[-1] for process in both]
            with out.open("a") as file:
                file.writelines(line + "\n" for line in lines)


# --- replayed -----------------------------------------------------------------------------------


def replayed(seed: int, tables: Path) -> list[dict[str, Any]]:
    """Both systems on the table, with one seed."""
    from table import Table

    table = Table("glyphs", tables)
    return [*replayed_metatune(table, seed, tables), *replayed_ray_tune(table.fresh(), seed)]


def replayed_metatune(table: Any, seed: int, tables: Path) -> Iterator[dict[str, Any]]:
    """A run for each budget: what it confirmed, and the core seconds until then.

    With a prior, too, from a run on another problem, as a team has that has searched before.
    """
    from replay import POLICIES, PRIOR, leave_prior, memory, search

    with tempfile.TemporaryDirectory(dir=memory()) as scratch:
        folder, runs = Path(scratch), dict[tuple[int, bool], tuple[Any, list[Row]]]()
        leave_prior(seed, tables, folder)
        for seconds, prior in product(BUDGETS, (False, True)):
            run, known = folder / f"{seconds}-{prior}", {"prior": PRIOR} if prior else {}
            met = search(table, seed, run, seconds=seconds, **POLICIES["+ racing"], **known)
            runs[seconds, prior] = met, read_rows(RunFolder.open(run))
    for (seconds, prior), (met, rows) in runs.items():
        history = History(1, rows)
        assert history.verdict is not None
        before = History(1, [r for r in rows if not (isinstance(r, Scored) and r.split == "test")])
        yield {
            "system": "metatune with a prior" if prior else "metatune", "seed": seed,
            "moment": seconds, "seconds": core_seconds(before),
            "accuracy": met.value(history.trials[history.verdict.winner].asked.strategy),
            "tried": len(history.trials),
        }  # fmt: skip


def replayed_ray_tune(table: Any, seed: int) -> Iterator[dict[str, Any]]:
    """One search; at each of ``CORE_TIMES`` its leaders are confirmed, as if it ended there.

    Two workers, by a clock of their own; searcher and scheduler are told what Tune tells them.
    """
    from table import LOOK, RUNGS, space_text

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "space.yaml"
        file.write_text(space_text(table.problem))
        plan, _ = session.plan_of(load_space(file), seed=seed)
    search, asha = peer(plan, RUNGS, seed)
    clock, spent, tried, order, moments = 0.0, 0.0, 0, count(), list(CORE_TIMES)
    under_way = list[tuple[float, int, Any, float, Any, Iterator[Any]]]()
    complete = list[tuple[float, TrialJob]]()

    def start() -> None:
        trial = SimpleNamespace(trial_id=str(next(order)))
        plain = strategy_of(plan.space, search.suggest(trial.trial_id)).model_dump(mode="json")
        trial.job = TrialJob(
            trial.trial_id, 1, 0, plain, "glyphs", None, plan.space.space.episode, seed, RUNGS, 0,
            "select", LOOK, True, None,
        )  # fmt: skip
        asha.on_trial_add(None, trial)
        forward(trial, table.run(trial.job))

    def forward(trial: Any, rest: Iterator[Any]) -> None:
        seconds, result = next(rest)
        heapq.heappush(under_way, (clock + seconds, next(order), trial, seconds, result, rest))

    while moments:
        while len(under_way) < 2:
            start()
            tried += 1
        clock, _, trial, seconds, result, rest = heapq.heappop(under_way)
        spent += seconds
        while moments and spent > moments[0]:
            moment = moments.pop(0)
            if complete:
                strategy, confirming = _confirmed(complete, table)
                yield {
                    "system": "ray tune", "seed": seed, "moment": moment,
                    "seconds": moment + confirming,
                    "accuracy": table.value(strategy), "tried": tried,
                }  # fmt: skip
        score = sum(result.scores) / len(result.scores) if result.scores else 0.0
        report = {"score": score, "resource": RUNGS[result.rung - 1]}
        report |= {"training_iteration": result.rung}
        if result.outcome == "completed":
            complete.append((score, trial.job))
        if result.outcome != "running":
            asha.on_trial_complete(None, trial, report)
        elif asha.on_trial_result(None, trial, report) == "CONTINUE":
            search.on_trial_result(trial.trial_id, report)
            forward(trial, rest)
            continue
        search.on_trial_complete(trial.trial_id, report)


def _confirmed(complete: list[tuple[float, TrialJob]], table: Any) -> tuple[dict[str, Any], float]:
    """The best on ``confirm`` of the leaders, and the core seconds of finding out."""
    means, spent = list[tuple[float, dict[str, Any]]](), 0.0
    for _, job in sorted(complete, key=lambda pair: -pair[0])[:LEADERS]:
        last = len(job.rungs) if (job.strategy["meta"]["rule"] != "none") else 1
        asked = replace(job, split="confirm", train=False, recorded=last)
        ((seconds, result),) = table.run(asked)
        means.append((sum(result.scores) / len(result.scores), job.strategy))
        spent += seconds
    return max(means, key=lambda pair: pair[0])[1], spent


def replay(seeds: int, tables: Path, out: Path) -> None:
    """All seeds, two at a time."""
    with ProcessPoolExecutor(2) as pool, out.open("w") as file:
        waiting = [pool.submit(replayed, seed, tables) for seed in range(seeds)]
        for done in as_completed(waiting):
            file.writelines(json.dumps(row) + "\n" for row in done.result())
            file.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, seeds, name in (("live", 5, "versus_live"), ("replay", 100, "versus_replay")):
        of_kind = kinds.add_parser(kind)
        of_kind.add_argument("--seeds", type=int, default=seeds)
        of_kind.add_argument("--out", type=Path, default=RESULTS / f"{name}.jsonl")
        of_kind.add_argument("--tables", type=Path, default=RESULTS)
    single = kinds.add_parser("one", help="one search of one system")
    single.add_argument("system")
    single.add_argument("family")
    single.add_argument("seed", type=int)
    single.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if options.kind == "one":
        print(json.dumps(one(options.system, options.family, options.seed, options.workers)))
    elif options.kind == "live":
        live(options.seeds, options.out)
    else:
        replay(options.seeds, options.tables, options.out)


if __name__ == "__main__":
    main()
