"""Runs written by hand, row by row, and a driver over them that keeps everything in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from metatune.driver import Driver
from metatune.history import History
from metatune.plan import Plan
from metatune.records.folder import RunFolder
from metatune.records.folding import tables
from metatune.records.reading import Run
from metatune.records.rows import Asked, Ended, Origin, Row, Scored, State, Turned
from metatune.space import load_yaml, parse_space, resolve
from metatune.strategy import MLP, Prototypes, Strategy
from metatune.tasks.base import ACCURACY, SPLITS, FamilyInfo, Split

SPACE = """\
family: {name: glyphs, way: 5, shot: 1, query: 2}
resource: {full: 900, rungs: 3, reduction: 3}
tasks: {select: 16, confirm: 16, test: 16}
budget: {trials: 20}
rounds: {count: 1}
common: {backbone: {kind: mlp, width: 8, depth: 1}}
default: protonet
initial: [protonet]
strategy:
  head: {kind: prototypes, scale: {float: [0.1, 10.0], log: true}}
  inner: {kind: none}
  meta: {rule: first_order}
verdict: {seeds: 2, finalists: 2, presets: [r2d2], baselines: [nearest_neighbour]}
"""
"""The default protonet, the preset r2d2, the baseline nearest_neighbour, and prototypes."""

TWO = SPACE.replace("rounds:", "objectives: [score, adapt_seconds]\nrounds:")
"""The same, judged by what a task takes, too."""

GROUPS = tuple(f"script-{letter}" for letter in "abcdefgh")
TASKS = 16


def family(groups: Sequence[str] = GROUPS, grouped: bool = True) -> FamilyInfo:
    """A classification of images; every split has groups of these names."""
    return FamilyInfo(
        name="glyphs",
        kind="classification",
        input_shape=(1, 28, 28),
        outputs=0,
        metric=ACCURACY,
        train_classes=100,
        groups={split: dict.fromkeys(groups, 10) for split in SPLITS},
        grouped=grouped,
        baselines=(),
        about="Written by hand.",
    )


def plan_of(text: str = SPACE, info: FamilyInfo | None = None) -> Plan:
    """What the text of a space file asks for."""
    info = info or family()
    space = parse_space(load_yaml(text)[0])
    return Plan(resolve(space, info), info, 0, space.budget.trials, None)


class Story:
    """The rows of a run.

    Args:
        plan: what the run is to do.
        groups: group of the tasks, in turns.
    """

    def __init__(self, plan: Plan | None = None, groups: Sequence[str] = GROUPS) -> None:
        self.plan = plan or plan_of()
        self.rows: list[Row] = []
        self._groups = [groups[task % len(groups)] for task in range(TASKS)]
        self._trials: dict[str, Asked] = {}

    def trial(
        self,
        name: str,
        *rungs: float | Sequence[float],
        state: State | None = "completed",
        strategy: Strategy | None = None,
        seconds: float = 0.01,
    ) -> str:
        """A trial with its scores on ``select``, rung by rung; returns its id.

        Args:
            name: of a named strategy, or any other for a proposal.
            rungs: scores of the tasks, or one for all.
            state: how it ended; None while it runs.
            strategy: of a proposal; by default one of its own.
            seconds: that a task takes.
        """
        number = len(self._trials)
        named = {entry.name: entry for entry in self.plan.space.initial}
        origin: Origin = named[name].origin if name in named else "proposed"
        if strategy is None:
            strategy = named[name].strategy if name in named else prototypes(1.0 + number / 100)
        asked = Asked(
            trial=f"r1-{number:04d}",
            round=1,
            number=number,
            name=name,
            origin=origin,
            strategy=strategy.model_dump(mode="json"),
            digest=strategy.digest(),
            structure=strategy.structure(),
            params=self.plan.space.params_of(strategy),
        )
        self._trials[asked.trial] = asked
        self.rows.append(asked)
        for rung, scores in enumerate(rungs, start=1):
            self.score(asked.trial, "select", scores, rung=rung, seconds=seconds)
        if state is not None:
            self.rows.append(Ended(asked.trial, state, "", 1.0))
        return asked.trial

    def ensemble(self, name: str, *members: str) -> str:
        """A blend of trials by their names; returns its id."""
        number = sum(isinstance(row, Asked) and row.origin == "ensemble" for row in self.rows)
        trials = {asked.name: asked.trial for asked in self._trials.values()}
        own = [trials[member] for member in members]
        kind = f"ensemble/{len(own)} members"
        digest = f"{name} {own}"
        asked = Asked(
            f"r1-e{number}", 1, number, name, "ensemble", {}, digest, kind, None, members=own
        )
        self.rows.append(asked)
        return asked.trial

    def score(
        self,
        trial: str,
        split: Split,
        scores: float | Sequence[float],
        *,
        replica: int = 0,
        rung: int = 3,
        transductive: bool = False,
        seconds: float = 0.01,
    ) -> None:
        """Scores of a trial on a split: of its tasks, or one for all; ``seconds`` a task."""
        values = [scores] * TASKS if isinstance(scores, int | float) else list(scores)
        row = Scored(
            trial=trial,
            round=1,
            rung=rung,
            split=split,
            replica=replica,
            resource=100 * 3 ** (rung - 1),
            train_seconds=float(rung),
            score_seconds=seconds * TASKS,
            train_loss=None,
            tasks=[f"{split}-{task}" for task in range(TASKS)],
            groups=list(self._groups),
            scores=[float(value) for value in values],
            transductive=transductive,
        )
        self.rows.append(row)

    def turned(self, *incumbents: str) -> None:
        """The round ended."""
        self.rows.append(Turned(1, list(incumbents), [], 1.0))

    def run(self, kept: int | None = None) -> Run:
        """The run as ``read_run`` gives it, after so many of its rows."""
        info = self.plan.info
        about = {"name": info.name, "metric": info.metric.name, "sign": info.metric.sign}
        objectives = list(self.plan.space.space.objectives)
        told = {"family": about, "objectives": objectives}
        return Run(Path("/nowhere"), told, tables(self.rows[:kept]))

    def driver(self) -> Driver:
        """A driver that stands where these rows end; what it records is added to them."""
        nowhere: Any = _Nowhere(self.rows)
        folder = RunFolder(Path("/nowhere"))
        history = History(self.plan.info.metric.sign, self.rows)
        return Driver(folder, self.plan, history, nowhere, nowhere, nowhere, 1, nowhere.watch)


class _Nowhere:
    """Log, ledger, compactor and watcher of a driver whose run is not on disk."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def append(self, *rows: Row) -> None:
        self._rows.extend(rows)

    def sync(self, *anything: object) -> None:
        pass

    def request(self, rows: int) -> None:
        pass

    def watch(self, row: Row, history: History) -> None:
        pass


def prototypes(scale: float) -> Strategy:
    """A strategy of the space, by its one knob."""
    return Strategy(backbone=MLP(width=8, depth=1), head=Prototypes(scale=scale))


def kind_of(rows: Sequence[Row], kind: type[Row]) -> list[Any]:
    """The rows of one kind."""
    return [cast(Any, row) for row in rows if isinstance(row, kind)]
