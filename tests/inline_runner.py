"""Whole runs in this process: the real trial, driver, log and ledger, without Ray."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from metatune import session
from metatune.history import History
from metatune.jobs import (
    JobSource,
    RungResult,
    TrialJob,
    job_from_json,
    job_to_json,
    result_from_json,
    result_to_json,
)
from metatune.records.folder import RunFolder
from metatune.records.reading import read_rows
from metatune.records.rows import Row, to_plain
from metatune.trial import run_trial

SPACE = """\
family: {name: sinusoid, shot: 5, query: 5}
seed: 0
resource: {full: 1800, rungs: 3, reduction: 3}
tasks: {select: 8, confirm: 8, test: 8}
budget: {trials: 9}
rounds: {count: 1}
common:
  backbone: {kind: mlp, width: 8, depth: 1}
  outer: {tasks_per_batch: 4}
default: fomaml
initial:
  - fomaml
  - {name: wild, preset: fomaml, inner: {steps: 9, lr: 1.0e9}}       # diverges
  - name: singular                                                   # raises, on dead features
    backbone: {kind: mlp, width: 1, depth: 16}
    head: {kind: ridge, penalty: 1.0e-60}
    inner: {kind: none}
    meta: {rule: first_order}
strategy:
  choose:
    gradient:
      head: {kind: linear, start: learned}
      inner:
        kind: sgd
        scope: all
        steps: {int: [1, 3], limits: [1, 9]}
        lr: {float: [0.001, 0.1], log: true, limits: [1.0e-4, 1.0e9]}
      meta: {rule: {choice: [first_order, second_order]}}
    ridge:
      head: {kind: ridge, penalty: {float: [0.001, 10.0], log: true}}
      inner: {kind: none}
      meta: {rule: first_order}
    joint:
      head: {kind: linear, start: learned}
      inner: {kind: sgd, scope: all, steps: 5, lr: 0.02}
      meta: {rule: joint}
  outer:
    kind: adam
    schedule: constant
    lr: {float: [1.0e-3, 1.0e-2], log: true}
    tasks_per_batch: {int: [2, 4], limits: [1, 30]}
verdict: {seeds: 2, best_seeds: 1, finalists: 2, presets: [maml], baselines: [scratch]}
"""
"""A run of a second, in which every state occurs: the default, one that diverges, one that raises,
a preset, a baseline that needs no training, and proposals."""

TRADE_OFF = """\
family: {name: quadratic, shot: 64, query: 8}
resource: {full: 9000, rungs: 3, reduction: 3}
tasks: {select: 8, confirm: 8, test: 8}
objectives: [score, adapt_seconds]
budget: {trials: 12}
rounds: {count: 1}
common:
  backbone: {kind: none}
  head: {kind: linear, start: learned}
  inner: {kind: sgd, scope: all, steps: 4, lr: 0.05}
  meta: {rule: first_order}
  outer: {kind: adam, lr: 0.001, schedule: constant, tasks_per_batch: 2}
default: middle
initial:
  - {name: middle, inner: {steps: 4}}
  - {name: best, inner: {steps: 16}}
  - {name: good, inner: {steps: 8}}
  - {name: fastest, inner: {steps: 1}}
  - {name: dull, inner: {steps: 8, lr: 0.001}}
strategy:
  inner:
    steps: {int: [1, 16], log: true}
    lr: {float: [0.001, 0.05], log: true}
verdict: {seeds: 1, finalists: 2}
"""
"""A run of two objectives. Each step of a task's quadratic leads nearer to its optimum, and takes
``by_steps``: so more steps are better and slower, and of equally many the larger rate is
better. No strategy beats ``best`` in score or ``fastest`` in seconds."""


class InlineRunner:
    """Runs jobs in this process; as the real one, on the jobs' JSON.

    Args:
        lost: picks the jobs whose worker is lost.
        workers: jobs under way at a time. The newest goes on first, so that the default, which is
            asked first, ends last.
        clock: changes what a job's results say of seconds.
    """

    def __init__(
        self,
        lost: Callable[[TrialJob], bool] = lambda job: False,
        workers: int = 1,
        clock: Callable[[TrialJob, RungResult], RungResult] = lambda job, result: result,
    ) -> None:
        self.jobs: list[TrialJob] = []
        self.workers = workers
        self._lost = lost
        self._clock = clock

    def drain(self, source: JobSource, tick: Callable[[], None] = lambda: None) -> None:
        """Run every job of a source to its end."""
        live: list[tuple[TrialJob, Iterator[RungResult]]] = []
        while live or not source.exhausted:
            while len(live) < self.workers and (job := source.next_job()) is not None:
                self.jobs.append(job)
                live.append((job, run_trial(job_from_json(job_to_json(job)))))
            assert live, "the source has jobs left, and gives none: a run would hang"
            job, rungs = live[-1]
            tick()
            if self._lost(job):
                source.on_lost(job, "the worker was lost: OOM")
                live.pop()
            else:
                result = result_from_json(result_to_json(next(rungs)))
                if not source.on_result(job, self._clock(job, result)):
                    live.pop()

    def watch(self, row: Row, history: History) -> None:
        """Nothing else runs here that could be watched."""


def by_resource(job: TrialJob, result: RungResult) -> RungResult:
    """A clock that repeats: a second for a hundred examples, a tenth for a task."""
    seconds = {"train_seconds": result.resource / 100, "score_seconds": len(result.tasks) / 10}
    return replace(result, **seconds)


def by_steps(job: TrialJob, result: RungResult) -> RungResult:
    """A clock that repeats: scoring a task takes 10 ms an inner step."""
    seconds = 0.01 * float(job.strategy["inner"]["steps"]) * len(result.tasks)
    return replace(result, score_seconds=seconds)


def inline_run(
    space: str,
    folder: Path,
    *,
    trials: int | None = None,
    seed: int | None = None,
    storage: str | None = None,
    console: Console | None = None,
    runner: InlineRunner | None = None,
) -> Path:
    """Run the text of a space file to its verdict.

    Args:
        space: the text; kept beside ``folder``.
        folder: the run's, new.
        trials, seed, storage, console: as of ``session.run``.
        runner: keeps the jobs that it was given.
    """
    file = folder.with_suffix(".yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(space)
    made, plan = session.create(file, out=folder, trials=trials, seed=seed, storage=storage)
    ready = nullcontext(runner or InlineRunner())
    return session.drive(made, plan, storage, ready, console or silent())


def inline_resume(
    folder: Path, *, storage: str | None = None, runner: InlineRunner | None = None
) -> Path:
    """Go on with a run; arguments as of ``inline_run``."""
    made, plan, where = session.reopen(folder, storage=storage)
    return session.drive(made, plan, where, nullcontext(runner or InlineRunner()), silent())


def rows_of(run: Path) -> list[Row]:
    """All that a run recorded, in order."""
    return read_rows(RunFolder.open(run))


def lasting(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows as plain data, without what the clock says."""
    clock = {"at", "seconds", "train_seconds", "score_seconds"}
    return [{k: v for k, v in to_plain(row).items() if k not in clock} for row in rows]


def study_of(run: Path) -> optuna.Study:
    """The study in a run's folder, as Optuna reads it."""
    backend = optuna.storages.journal.JournalFileBackend(str(run / "study.log"))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name=run.name, storage=storage)


def silent() -> Console:
    """A console that nobody sees."""
    return Console(file=io.StringIO())
