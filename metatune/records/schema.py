"""The frames of a run: every column's type, unit and meaning, in one place.

``FRAMES`` describes what ``metatune.read_run`` gives. All but ``tasks``, which is worked out from
``scores``, are stored as tables of the same columns: in memory (``folding``) and as Parquet
(``compaction``), whose files carry units and meanings in their metadata.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa

from metatune.records.rows import STATES, Origin
from metatune.tasks.base import SPLITS

SCHEMA = "6"
"""Version of the tables' columns; raised when one is added, or changes name, type or meaning.

Parquet of another version is not read: the log has all that stands in it.
"""

CODED = ("trial", "split", "task", "group")
"""Columns that repeat few texts: for speed they are read as dictionaries, or categories."""

Type = Literal["string", "strings", "int", "float", "bool"]

_ARROW: Mapping[Type, pa.DataType] = {
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}
_PANDAS: Mapping[Type, str] = {
    "string": "str", "strings": "object", "int": "int64", "float": "float64", "bool": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of a frame.

    Attributes:
        name: its name.
        type: its type in Parquet; ``strings`` is a list of them.
        meaning: what it says.
        unit: unit of its numbers; empty where they have none.
        nullable: may be missing: NaN, or ``pd.NA`` in whole numbers.
        choices: all that it can say, in order, where these are few.
    """

    name: str
    type: Type
    meaning: str
    unit: str = ""
    nullable: bool = False
    choices: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        """The name of its type in pandas."""
        if self.choices:
            return "category"
        return "Int64" if self.type == "int" and self.nullable else _PANDAS[self.type]


@dataclass(frozen=True)
class Frame:
    """A frame of a run.

    Attributes:
        name: its name, as of the attribute of ``Run``.
        about: what a row of it is.
        columns: its columns in order, the index among them.
        index: the column that is its index; empty where rows are numbered.
        more: what columns come behind these.
    """

    name: str
    about: str
    columns: tuple[Column, ...]
    index: str = ""
    more: str = ""


@dataclass(frozen=True)
class Described:
    """A line of the documentation: a column in its frame."""

    frame: str
    column: str
    dtype: str
    unit: str
    meaning: str
    nullable: bool
    index: bool


_TRIAL = Column("trial", "string", "id of the trial, r<round>-<ask number>")
_SPLIT = Column("split", "string", "where the tasks come from", choices=SPLITS)
_PLACE = (
    _TRIAL,
    Column("round", "int", "round of the loop, from 1"),
    Column("rung", "int", "rung at which it was scored, from 1"),
    _SPLIT,
    Column("replica", "int", "0 for the trial, 1, 2, .. for trainings anew, or blends of those"),
)
_TASK = (
    Column("task", "string", "name of the task"),
    Column("group", "string", "group of the task"),
)
_TRANSDUCTIVE = Column("transductive", "bool", "query points were scored jointly")

_TRIALS = Frame(
    "trials",
    "a trial, or an ensemble of trials",
    # All but `trial` may be missing, so that a row about a trial never asked is not lost.
    (
        _TRIAL,
        Column("round", "int", "round in which it was asked, from 1", nullable=True),
        Column("number", "int", "ask number within the round, from 0", nullable=True),
        Column("name", "string", "preset's name, or origin, round and number", nullable=True),
        Column("origin", "string", "why it was asked", nullable=True, choices=get_args(Origin)),
        Column("digest", "string", "hash of the strategy", nullable=True),
        Column("structure", "string", "structural family of the strategy", nullable=True),
        Column("state", "string", "running, or how it ended", choices=("running", *STATES)),
        Column("reason", "string", "why it ended so; missing while it runs", nullable=True),
        Column("rung", "int", "highest rung scored on select", nullable=True),
        Column("resource", "int", "used at that rung", "forward-equivalents", nullable=True),
        Column("train_seconds", "float", "training up to that rung", "s", nullable=True),
        Column("score_seconds", "float", "scoring at that rung", "s", nullable=True),
        Column("seconds", "float", "training and scoring till the end", "s", nullable=True),
        Column("score", "float", "mean over tasks at that rung", "metric", nullable=True),
        Column("node", "string", "address of the node that scored it at that rung", nullable=True),
        Column("strategy", "string", "the strategy as JSON", nullable=True),
        Column("params", "string", "its knobs by name as JSON", nullable=True),
        Column("parent", "string", "the trial that it was made from", nullable=True),
        Column("retries", "int", "times that it went on after its worker was lost, in any split"),
        Column("members", "strings", "of an ensemble, the trials that it blends", nullable=True),
    ),
    index="trial",
    more="Behind these comes a column for each setting of the strategies, named by its path with "
    "dots, such as `head.kind` or `outer.lr`; `strategy.` is put before one that is named as a "
    "column above. Its dtype is the narrowest that holds the values of all trials: Int64, float64, "
    "boolean or str, and object where they differ in kind. It is missing where a strategy has no "
    "such setting. Lists are JSON.",
)
_SCORES = Frame(
    "scores",
    "a task that a trial was scored on at a rung",
    (*_PLACE, *_TASK, Column("score", "float", "metric on the task's query set", "metric"),
     _TRANSDUCTIVE),
)  # fmt: skip
_CURVES = Frame(
    "curves",
    "a set of tasks that a trial was scored on at a rung",
    (
        *_PLACE,
        Column("resource", "int", "used so far", "forward-equivalents"),
        Column("train_seconds", "float", "training so far", "s"),
        Column("score_seconds", "float", "scoring these tasks, adaptation included", "s"),
        Column("train_loss", "float", "mean since the rung before", "loss", nullable=True),
        Column("score", "float", "mean over tasks; missing without any", "metric", nullable=True),
        Column("tasks", "int", "tasks scored", "tasks"),
        _TRANSDUCTIVE,
        Column("learned", "string", "what meta-parameters say of knobs, as JSON", nullable=True),
        Column("node", "string", "address of the node that scored it", nullable=True),
        Column("at", "float", "since the run's start, pauses left out", "s"),
    ),
)
_ROUNDS = Frame(
    "rounds",
    "a round that ended",
    (
        Column("round", "int", "the round that ended, from 1"),
        Column("incumbents", "strings", "trials that lead, best first"),
        Column("moves", "strings", "what was changed, in words"),
        Column("seconds", "float", "wall clock of the round", "s"),
        Column("borne_out", "bool", "confirm bears out that the round brought something"),
        Column("front", "strings", "trials on the Pareto front; empty with one objective"),
    ),
)
_LOOKS = Frame(
    "looks",
    "a time that a reserved split was opened",
    (
        Column("split", "string", "the reserved split that was opened", choices=SPLITS),
        Column("round", "int", "round of the loop"),
        Column("trials", "strings", "who was compared"),
        Column("seeds", "int", "trainings of each, at least; 0 where none is made", "trainings"),
    ),
)
_VERDICTS = Frame(
    "verdicts",
    "a verdict; none before the run has given it",
    (
        Column("winner", "string", "id of the winning trial"),
        Column("rival", "string", "id of the best preset or baseline as chosen on select"),
        Column("claim", "string", "unit of the claim"),
        Column("sentence", "string", "the verdict in words"),
    ),
)
_TASKS = Frame(
    "tasks",
    "a task of a round that strategies were scored on, by what the trials scored at their highest "
    "rung; on test, by the means over the verdict's trainings",
    (
        _SPLIT,
        Column("round", "int", "round of the loop, from 1"),
        *_TASK,
        Column("way", "int", "classes of a task, as the space has it", "classes", nullable=True),
        Column("shot", "int", "support rows, a class where there are classes", "rows", True),
        Column("query", "int", "query rows, a class where there are classes", "rows", True),
        Column("strategies", "int", "trials and ensembles scored on it", "trials"),
        Column("best", "float", "the best score", "metric", nullable=True),
        Column("best_trial", "string", "whose that is; of equals, who was scored first", "", True),
        Column("median", "float", "the median score", "metric", nullable=True),
        Column("worst", "float", "the worst score", "metric", nullable=True),
        Column("spread", "float", "standard deviation of the scores; missing with one", "metric",
               nullable=True),
        Column("default", "float", "the score of the round's default", "metric", nullable=True),
        Column("gain", "float", "by how much the best beats the default; positive is better",
               "metric", nullable=True),
    ),
)  # fmt: skip

FRAMES: Mapping[str, Frame] = {
    frame.name: frame for frame in (_TRIALS, _SCORES, _CURVES, _ROUNDS, _TASKS, _LOOKS, _VERDICTS)
}
"""Every frame of a run by its name."""

COLUMNS: Mapping[str, tuple[Column, ...]] = {
    name: frame.columns for name, frame in FRAMES.items() if frame is not _TASKS
}
"""The columns of every table that is stored, by its name."""


def described() -> Iterator[Described]:
    """Every column of every frame, for documentation."""
    for frame in FRAMES.values():
        for column in frame.columns:
            yield Described(
                frame.name,
                column.name,
                column.dtype,
                column.unit,
                column.meaning,
                column.nullable,
                column.name == frame.index,
            )


def schema(name: str) -> pa.Schema:
    """The columns of a stored table, with units and meanings in their metadata."""
    columns = [
        pa.field(
            column.name,
            _ARROW[column.type],
            nullable=column.nullable,
            metadata={"unit": column.unit, "meaning": column.meaning},
        )
        for column in COLUMNS[name]
    ]
    return pa.schema(columns, metadata={"metatune_schema": SCHEMA, "metatune_table": name})
