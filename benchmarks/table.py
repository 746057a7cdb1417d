"""A table of strategies, each trained once, from which whole searches are replayed in seconds.

    python benchmarks/table.py                # glyphs and an earlier problem; 45 minutes, two cores
    python benchmarks/table.py --strategies 30 --out /tmp/table    # a look

Every strategy of the table is drawn at random from one space (the presets are in it, too), trained
once and scored at every rung on every task. A search is then replayed by the real loop, records
and ledger: only its jobs are answered from the table, with the scores and core seconds of the
nearest strategy (``Table.number_of``). All searches so face the same surface, and a hundred seeds
differ in what they propose and in the tasks that they see.

Interrupted, it goes on where it stood. The result is a Parquet file a problem.
"""

from __future__ import annotations

import argparse
import heapq
import json
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import copy
from dataclasses import replace
from itertools import count as endless
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd

from metatune import session
from metatune.evaluation import CHUNK
from metatune.jobs import JobSource, RungResult, TrialJob
from metatune.proposer import propose
from metatune.search import strategy_of
from metatune.seeds import derive_seed
from metatune.space import load_space
from metatune.space.knobs import ChoiceKnob, KnobTree, Params
from metatune.space.scale import spread, width
from metatune.strategy import Strategy
from metatune.tasks.base import Split
from metatune.tasks.registry import open_family
from metatune.trial import run_trial

RESULTS = Path("benchmarks/results")
RUNGS = (2_000, 6_000, 18_000, 54_000)  # examples; a round of the loop has three of them
TASKS: dict[Split, int] = {"select": 80, "confirm": 80, "test": 160}
LOOK = 40  # tasks of `select` and of `confirm` that one round of a replayed search sees
PROBLEMS = {"glyphs": (1, len(RUNGS), 320), "glyphs_5_shot": (5, 3, 80)}  # shot, rungs, strategies

SPACE = """\
family: {{name: glyphs, way: 10, shot: {shot}, query: 3}}
resource: {{full: {full}, rungs: {rungs}, reduction: 3}}
tasks: {{select: {look}, confirm: {look}, test: {test}, race: {race}}}
rounds: {{count: {rounds}, growth: 3}}
adjust: {{region: {region}}}
budget: {{trials: {trials}, core_seconds: {seconds}}}
common:
  backbone: {{kind: conv4, width: 16}}
  outer: {{kind: adam, schedule: constant}}   # so that a training is the beginning of a longer one
default: protonet
initial: [{initial}]
strategy:
  choose:
    prototypes:
      head:
        kind: prototypes
        distance: {{choice: [euclidean, cosine]}}
        scale: {{float: [0.1, 30.0], log: true}}
      inner: {{kind: none}}
      meta: {{rule: first_order}}
    ridge:
      head: {{kind: ridge, penalty: {{float: [0.01, 100.0], log: true}}}}
      inner: {{kind: none}}
      meta: {{rule: first_order}}
    gradient:
      head: {{kind: linear, start: learned}}
      inner:
        kind: sgd
        scope: all
        steps: {{int: [1, 3]}}
        lr: {{float: [0.01, 1.0], log: true}}
      meta: {{rule: {{choice: [first_order, second_order]}}}}
    transfer:
      head: {{kind: linear, start: zero}}
      inner: {{kind: sgd, scope: head, steps: 20, lr: {{float: [0.01, 1.0], log: true}}}}
      meta: {{rule: joint}}
  outer:
    lr: {{float: [3.0e-4, 2.0e-2], log: true}}
    tasks_per_batch: {{choice: [1, 2, 4, 16]}}
verdict: {{seeds: 1, finalists: 1}}
{prior}
"""


def space_text(
    problem: str,
    *,
    rungs: int = 3,
    full: int = RUNGS[-1],
    race: float = 0.0,
    rounds: int = 1,
    trials: int = 1000,
    seconds: float = 1e9,
    initial: str = "protonet, r2d2",
    prior: str = "",
) -> str:
    """The space file of a search on a problem of the table."""
    shot = PROBLEMS[problem][0]
    return SPACE.format(
        shot=shot, rungs=rungs, full=full, look=LOOK, test=TASKS["test"], race=race, rounds=rounds,
        region=str(rounds > 1).lower(), trials=trials, seconds=seconds, initial=initial,
        prior=prior,
    )  # fmt: skip


# --- making it ----------------------------------------------------------------------------------


def strategies_of(problem: str, count: int) -> tuple[list[Strategy], KnobTree]:
    """The named strategies, and others drawn at random from the space."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "space.yaml"
        # Two of these lie outside the space, so searches on the table do not begin with them.
        file.write_text(space_text(problem, initial="protonet, r2d2, fomaml, good_embedding"))
        plan, _ = session.plan_of(load_space(file))
    named = [entry.strategy for entry in plan.space.initial]
    drawn = (
        strategy_of(plan.space, propose(plan.space.tree, [], derive_seed(0, "table", number)))
        for number in range(count - len(named))
    )
    return [*named, *drawn], plan.space.tree


def measure(problem: str, number: int, plain: dict[str, Any]) -> dict[str, Any]:
    """Train one strategy and score it everywhere; seconds are the core's own."""
    shot, rungs, _ = PROBLEMS[problem]
    strategy, family = Strategy.model_validate(plain), open_family("glyphs", None)
    with tempfile.TemporaryDirectory() as scratch:
        space = load_space(_written(Path(scratch) / "space.yaml", space_text(problem)))
        assert space.episode.shot == shot
        job = TrialJob(
            trial=f"{problem}-{number}", round=1, replica=0, strategy=plain, family="glyphs",
            data_dir=None, episode=space.episode, run_seed=0, rungs=RUNGS[:rungs], recorded=0,
            split="select", tasks=TASKS["select"], train=True, folder=scratch,
        )  # fmt: skip
        found, start = list[dict[str, Any]](), process_time()
        for result in run_trial(job, family):
            # Training and scoring by the core's clock, divided as the wall clock had them.
            took, wall = process_time() - start, result.score_seconds or 1e-9
            trained = result.train_seconds - (found[-1]["wall"] if found else 0.0)
            found.append(_row(result) | {"took": took, "wall": result.train_seconds})
            found[-1]["score_share"] = wall / max(1e-9, wall + trained)
            start = process_time()
        done = found[-1]["outcome"] == "completed"
        last = strategy.last_rung(rungs)
        splits: tuple[Split, ...] = ("confirm", "test")
        for rung in sorted({min(3, last), last}) if done else ():
            for split in splits:
                start = process_time()
                elsewhere = replace(
                    job, split=split, tasks=TASKS[split], recorded=rung, train=False
                )
                (result,) = run_trial(elsewhere, family)
                found.append(_row(result) | {"split": split, "took": process_time() - start})
    return {"number": number, "strategy": plain, "found": found}


def _written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def _row(result: RungResult) -> dict[str, Any]:
    return {
        "split": "select",
        "rung": result.rung,
        "outcome": result.outcome,
        "reason": result.reason.strip().splitlines()[-1:],
        "resource": result.resource,
        "loss": result.train_loss,
        "groups": result.groups,
        "scores": result.scores,
    }


def make(problem: str, count: int, out: Path) -> None:
    """Measure what is missing, strategy by strategy, and write the table."""
    lines = out / f"table_{problem}.jsonl"
    strategies, _ = strategies_of(problem, count)
    known = set()
    if lines.exists():
        known = {json.loads(line)["number"] for line in lines.read_text().splitlines()}
    with ProcessPoolExecutor(2) as pool, lines.open("a") as file:
        waiting = [
            pool.submit(measure, problem, number, strategy.model_dump(mode="json"))
            for number, strategy in enumerate(strategies)
            if number not in known
        ]
        for done in as_completed(waiting):
            file.write(json.dumps(done.result()) + "\n")
            file.flush()
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    flat = [
        {"number": row["number"], "strategy": json.dumps(row["strategy"]), **found}
        for row in sorted(rows, key=lambda row: row["number"])
        for found in row["found"]
    ]
    frame = pd.DataFrame(flat).drop(columns=["wall"])
    frame.to_parquet(out / f"table_{problem}.parquet", compression="zstd", compression_level=19)


# --- reading it ---------------------------------------------------------------------------------


class Table:
    """The strategies of a problem with what was measured of them, as one search meets them.

    A proposal is answered by the strategy of the table that is closest to it and was not met yet:
    so a neighbour of one that is known is another one, as it is in a search that trains. Later the
    same proposal gets the same answer.

    Args:
        problem: its name.
        folder: where the file lies.
    """

    def __init__(self, problem: str, folder: Path = RESULTS) -> None:
        frame = pd.read_parquet(folder / f"table_{problem}.parquet")
        self.problem = problem
        _, self._tree = strategies_of(problem, 0)
        self._rows = {
            int(number): {(row.split, row.rung): row for row in own.itertuples()}
            for number, own in frame.groupby("number")
        }
        self._met = dict[str, int]()  # by the hash of what was proposed
        self._params = list[tuple[int, Params]]()
        self._exact = dict[str, int]()
        self._strategies = dict[int, dict[str, Any]]()
        for number, text in frame.groupby("number")["strategy"].first().items():
            plain = self._strategies[int(number)] = json.loads(text)
            self._exact[Strategy.model_validate(plain).digest()] = int(number)
            if (params := self._tree.params_of(plain)) is not None:
                self._params.append((int(number), params))

    def fresh(self) -> Table:
        """The same table for another search."""
        other = copy(self)
        other._met = {}
        return other

    def number_of(self, plain: dict[str, Any]) -> int:
        """Which strategy of the table answers for this one: itself, if it is there.

        Numbers differ by their distance in units of the knob's range, in its scale; choices that
        differ count a whole range.
        """
        digest = Strategy.model_validate(plain).digest()
        if digest not in self._met:
            self._met[digest] = self._exact.get(digest, -1)
            if self._met[digest] < 0:
                self._met[digest] = self._closest(plain)
        return self._met[digest]

    def answer(self, plain: dict[str, Any]) -> Strategy:
        """The strategy of the table that answers for this one."""
        return Strategy.model_validate(self._strategies[self.number_of(plain)])

    def _closest(self, plain: dict[str, Any]) -> int:
        params, taken = self._tree.params_of(plain), set(self._met.values())
        assert params is not None, "only what the space can make is looked up"
        free = [known for known in self._params if known[0] not in taken] or self._params
        return min(free, key=lambda known: self._distance(params, known[1]))[0]

    def _distance(self, a: Params, b: Params) -> float:
        total = 0.0
        for knob in self._tree.knobs():
            if (knob.name in a) != (knob.name in b):
                total += 1
            elif knob.name in a:
                x, y = a[knob.name], b[knob.name]
                if isinstance(knob, ChoiceKnob):
                    total += x != y
                else:
                    total += ((spread(knob, float(x)) - spread(knob, float(y))) / width(knob)) ** 2
        return total

    def value(self, plain: dict[str, Any], split: Split = "test") -> float:
        """The mean score over all tasks of a split at the highest rung; chance where it is lost."""
        rows = self._rows[self.number_of(plain)]
        rungs = [rung for where, rung in rows if where == split]
        return float(rows[split, max(rungs)].scores.mean()) if rungs else 0.1

    def run(self, job: TrialJob) -> Iterator[tuple[float, RungResult]]:
        """What a trial reports, each with the core seconds that it took since the one before."""
        rows = self._rows[self.number_of(job.strategy)]
        strategy = Strategy.model_validate(job.strategy)
        last = strategy.last_rung(len(job.rungs))
        trained, before, paid = 0.0, 0, 0.0
        for rung, resource in enumerate(job.rungs[:last], start=1):
            own = RUNGS.index(resource) + 1 if strategy.trains else 1
            for passed in range(before + 1, own + 1):
                row = rows.get(("select", passed))
                if row is None or row.outcome in ("diverged", "failed"):
                    reason = "".join(row.reason) if row is not None else "lost before"
                    outcome = row.outcome if row is not None else "diverged"
                    yield (
                        0.0,
                        RungResult(rung, outcome, reason, 0, trained, 0.0, None, (), (), (), False),
                    )
                    return
                if job.train:
                    trained += row.took * (1 - row.score_share)
            before = own
            if rung > job.recorded or (not job.train and rung == job.recorded):
                for result in self._scored(job, rows, own, rung, last, trained):
                    spent = result.train_seconds + result.score_seconds
                    yield spent - paid, result
                    paid = spent
                paid = trained

    def _scored(
        self, job: TrialJob, rows: dict[Any, Any], own: int, rung: int, last: int, trained: float
    ) -> Iterator[RungResult]:
        row = rows[job.split, own]
        drawn = self._drawn(job, len(row.scores))
        share = row.score_share if job.split == "select" else 1.0
        whole = row.took * share * len(drawn) / len(row.scores)
        looks = range(CHUNK, len(drawn), CHUNK) if job.looks else ()
        for seen in (*looks, len(drawn)):
            tasks = drawn[:seen]
            ends = seen == len(drawn)
            yield RungResult(
                rung=rung,
                outcome="completed" if ends and rung == last else "running",
                reason="",
                resource=int(row.resource),
                train_seconds=trained,
                score_seconds=whole * seen / len(drawn),
                train_loss=None,
                tasks=tuple(f"task-{task}" for task in tasks),
                groups=tuple(row.groups[task] for task in tasks),
                scores=tuple(float(row.scores[task]) for task in tasks),
                transductive=False,
                whole=ends,
            )

    def _drawn(self, job: TrialJob, known: int) -> list[int]:
        """The tasks that a job is scored on: fresh ones each round, others for each run seed."""
        if job.split == "test":
            return list(range(known))
        random = np.random.default_rng(derive_seed(job.run_seed, "table", job.split))
        order, start = random.permutation(known), LOOK * (job.round - 1) % known
        return [int(task) for task in order[start : start + job.tasks]]


class TableRunner:
    """Answers jobs from a table, two at a time, by a clock of its own.

    Args:
        table: of the problem that is searched.
    """

    workers = 2

    def __init__(self, table: Table) -> None:
        self._table = table
        self.clock = 0.0

    def drain(self, source: JobSource, tick: Callable[[], None] = lambda: None) -> None:
        """Run every job of a source to its end."""
        live = list[tuple[float, int, TrialJob, RungResult, Iterator[tuple[float, RungResult]]]]()
        order = endless()

        def forward(job: TrialJob, rest: Iterator[tuple[float, RungResult]]) -> None:
            seconds, result = next(rest)
            heapq.heappush(live, (self.clock + seconds, next(order), job, result, rest))

        while True:
            while len(live) < self.workers and (job := source.next_job()) is not None:
                forward(job, self._table.run(job))
            if not live:
                return
            self.clock, _, job, result, rest = heapq.heappop(live)
            tick()
            if source.on_result(job, result):
                forward(job, rest)

    def watch(self, row: object, history: object) -> None:
        """Nobody watches."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategies", type=int, help="a problem; by default as many as it has")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for problem, (_, _, count) in PROBLEMS.items():
        make(problem, options.strategies or count, options.out)


if __name__ == "__main__":
    main()
