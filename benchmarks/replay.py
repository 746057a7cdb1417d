"""What each means of the search brings: whole searches replayed from a table of strategies.

    python benchmarks/table.py                # makes the table, once
    python benchmarks/replay.py --seeds 100   # fifteen minutes on two cores

The real loop runs, with its records, statistics, proposals and stops; only trainings are looked up
(``table.py``). Each policy has what the one above it has, and one means more. All get the same
core seconds, in which the verdict's trainings are counted. What is compared is the accuracy, on
all test tasks, of the strategy that a search would hand over.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pyarrow as pa
from rich.console import Console
from table import RESULTS, RUNGS, Table, TableRunner, space_text, strategies_of

from metatune import proposer, session
from metatune.budget import core_seconds
from metatune.history import History
from metatune.prior import learn_prior, prior_of, write_prior
from metatune.records.folder import RunFolder
from metatune.records.reading import read_rows, read_run

BUDGETS = (75,)  # core seconds
# The run that a prior is made from: on another problem, for so many core seconds.
EARLIER: dict[str, Any] = {"rungs": 3, "race": 0.05, "full": RUNGS[2], "seconds": 150}
PRIOR = "prior: prior.parquet"  # as a line of the space file
ROUNDS: dict[str, Any] = {"rungs": 3, "race": 0.05, "rounds": 2, "full": RUNGS[-2]}
POLICIES: dict[str, dict[str, Any]] = {
    "best preset on select": {"rungs": 1, "trials": 1},  # what the file names is tried in any case
    "random": {"rungs": 1},
    "+ TPE and mutations": {"rungs": 1},
    "+ halving": {"rungs": 4},
    "+ racing": {"rungs": 4, "race": 0.05},
    "+ rounds": ROUNDS,
    "+ prior": ROUNDS,
}


def search(table: Table, seed: int, folder: Path, **wanted: Any) -> Table:
    """One run of a second or two, with the folder that it leaves; ``wanted``: of ``space_text``.

    Returns:
        The table as this search met it.
    """
    own = table.fresh()
    space = folder.with_suffix(".yaml")
    space.write_text(space_text(table.problem, **wanted))
    made, plan = session.create(space, out=folder, seed=seed)
    # The study is for people to look at, and nobody looks here.
    nowhere: Any = optuna.storages.InMemoryStorage()
    quiet = Console(file=io.StringIO())
    session.drive(made, plan, nowhere, nullcontext(TableRunner(own)), quiet)
    return own


def leave_prior(seed: int, tables: Path, folder: Path) -> None:
    """Run an earlier search, and leave what it learned in ``prior.parquet``.

    Scores belong to the strategies of the table that answered: so a later search is told of these,
    not of their neighbours that were proposed, for which another table has other answers.
    """
    met = search(Table("glyphs_5_shot", tables), seed, folder / "earlier", **EARLIER)
    known = learn_prior([read_run(folder / "earlier")])
    rows = dict[str, dict[str, Any]]()
    for row in known.to_pylist():
        strategy = met.answer(json.loads(row["strategy"]))
        told = {
            "strategy": strategy.model_dump_json(),
            "digest": strategy.digest(),
            "structure": strategy.structure(),
        }
        rows.setdefault(told["digest"], row | told)
    write_prior(
        prior_of(pa.Table.from_pylist(list(rows.values()), known.schema)), folder / "prior.parquet"
    )


@contextmanager
def at_random() -> Iterator[None]:
    """Every proposal is drawn from the space alone."""
    before = proposer.STARTUP, proposer.MUTATIONS
    proposer.STARTUP, proposer.MUTATIONS = 10**9, 0.0
    try:
        yield
    finally:
        proposer.STARTUP, proposer.MUTATIONS = before


def replay(seed: int, tables: Path) -> list[dict[str, Any]]:
    """All policies at all budgets with one seed."""
    table, found = Table("glyphs", tables), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory(dir=memory()) as scratch:
        folder = Path(scratch)
        leave_prior(seed, tables, folder)
        for seconds in BUDGETS:
            named, _ = strategies_of("glyphs", 0)
            found.append({
                "policy": "default", "seconds": seconds, "seed": seed, "winner": "protonet",
                "accuracy": table.value(named[0].model_dump(mode="json")), "tried": 0, "used": 0.0,
            })  # fmt: skip
            for number, policy in enumerate(POLICIES):
                wanted = {"seconds": seconds, **POLICIES[policy]}
                if policy == "+ prior":
                    wanted["prior"] = PRIOR
                out = folder / f"{seconds}-{number}"
                with at_random() if policy == "random" else nullcontext():
                    met = search(table, seed, out, **wanted)
                found.append(row_of(out, policy, seconds, seed, met))
    return found


def row_of(run: Path, policy: str, seconds: float, seed: int, table: Table) -> dict[str, Any]:
    """What a run ended with."""
    history = History(1, read_rows(RunFolder.open(run)))
    assert history.verdict is not None
    winner = history.trials[history.verdict.winner].asked
    return {
        "policy": policy,
        "seconds": seconds,
        "seed": seed,
        "winner": winner.name,
        "accuracy": table.value(winner.strategy),
        "tried": sum(trial.asked.origin == "proposed" for trial in history.trials.values()),
        "used": round(core_seconds(history), 1),
    }


def memory() -> str | None:
    """A folder in memory where there is one: a run syncs every row."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--tables", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=RESULTS / "replay.jsonl")
    options = parser.parse_args()
    known = set()
    if options.out.exists():
        known = {json.loads(line)["seed"] for line in options.out.read_text().splitlines()}
    with ProcessPoolExecutor(2) as pool, options.out.open("a") as file:
        waiting = [
            pool.submit(replay, seed, options.tables)
            for seed in range(options.seeds)
            if seed not in known
        ]
        for done in as_completed(waiting):
            file.writelines(json.dumps(row) + "\n" for row in done.result())
            file.flush()
    frame = pd.read_json(options.out, lines=True)
    print(frame.groupby(["seconds", "policy"], sort=False)["accuracy"].agg(["mean", "std"]))


if __name__ == "__main__":
    main()
