"""The log as tables: what a run measured, in columns, in memory and as Parquet.

``extend(tables, rows)`` is the one fold from rows to tables, and folding in two steps equals
folding at once. Compaction therefore writes the tables of all rows so far into a new generation,
and reading extends the newest generation by the log's lines beyond it::

    records/parquet-<n>/<table>.parquet     whole-run tables
    records/parquet-<n>/manifest.json       which bytes of which segment they cover; written last

A generation counts only with its manifest, and only where the covered bytes of the log still have
the checksum noted there. The log stays: it is what a resume reads, and what reading falls back to.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import threading
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metatune.errors import RunError
from metatune.records.folder import RunFolder, locked, sync_folder, write_atomically
from metatune.records.log import read_log, scan, segments
from metatune.records.rows import Asked, Concluded, Ended, Looked, Row, Scored, Turned

logger = logging.getLogger(__name__)

SCHEMA = "4"
"""Version of the tables' columns; raised when one is added, or changes name, type or meaning.

Parquet of another version is not read: the log has all that stands in it.
"""

ROW_GROUP = 1 << 20
"""Rows in a Parquet row group."""

Type = Literal["string", "strings", "int", "float", "bool"]
Tables = dict[str, pa.Table]
Key = tuple[str, int, int, str, int]

_KEY = ("trial", "round", "rung", "split", "replica")
_GENERATION = re.compile(r"parquet-(\d+)")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its name.
        type: its type.
        meaning: what it says.
        unit: unit of its numbers; empty where they have none.
        nullable: may be missing.
    """

    name: str
    type: Type
    meaning: str
    unit: str = ""
    nullable: bool = False


_PLACE = (
    Column("trial", "string", "id of the trial"),
    Column("round", "int", "round of the loop, from 1"),
    Column("rung", "int", "rung at which it was scored, from 1"),
    Column("split", "string", "where the tasks come from"),
    Column("replica", "int", "0 for the trial, 1, 2, .. for trainings anew, or blends of those"),
)
_TRANSDUCTIVE = Column("transductive", "bool", "query points were scored jointly")

COLUMNS: Mapping[str, tuple[Column, ...]] = {
    # All but `trial` may be missing, so that a row about a trial never asked is not lost.
    "trials": (
        Column("trial", "string", "id of the trial"),
        Column("round", "int", "round in which it was asked, from 1", nullable=True),
        Column("number", "int", "ask number within the round, from 0", nullable=True),
        Column("name", "string", "preset's name, or origin, round and number", nullable=True),
        Column("origin", "string", "why it was asked", nullable=True),
        Column("digest", "string", "hash of the strategy", nullable=True),
        Column("structure", "string", "structural family of the strategy", nullable=True),
        Column("state", "string", "'running', or how the trial ended"),
        Column("reason", "string", "why it ended so; missing while it runs", nullable=True),
        Column("rung", "int", "highest rung scored on select", nullable=True),
        Column("resource", "int", "used at that rung", "forward-equivalents", nullable=True),
        Column("train_seconds", "float", "training up to that rung", "s", nullable=True),
        Column("score_seconds", "float", "scoring at that rung", "s", nullable=True),
        Column("seconds", "float", "training and scoring till the end", "s", nullable=True),
        Column("score", "float", "mean over tasks at that rung", "metric", nullable=True),
        Column("strategy", "string", "the strategy as JSON", nullable=True),
        Column("params", "string", "its knobs by name as JSON", nullable=True),
        Column("parent", "string", "the trial that it was made from", nullable=True),
        Column("members", "strings", "of an ensemble, the trials that it blends", nullable=True),
    ),
    "scores": (
        *_PLACE,
        Column("task", "string", "name of the task"),
        Column("group", "string", "group of the task"),
        Column("score", "float", "metric on the task's query set", "metric"),
        _TRANSDUCTIVE,
    ),
    "curves": (
        *_PLACE,
        Column("resource", "int", "used so far", "forward-equivalents"),
        Column("train_seconds", "float", "training so far", "s"),
        Column("score_seconds", "float", "scoring these tasks, adaptation included", "s"),
        Column("train_loss", "float", "mean since the rung before", "loss", nullable=True),
        Column("score", "float", "mean over tasks; missing without any", "metric", nullable=True),
        Column("tasks", "int", "tasks scored", "tasks"),
        _TRANSDUCTIVE,
        Column("learned", "string", "what meta-parameters say of knobs, as JSON", nullable=True),
        Column("at", "float", "since the run's start, pauses left out", "s"),
    ),
    "rounds": (
        Column("round", "int", "the round that ended, from 1"),
        Column("incumbents", "strings", "trials that lead, best first"),
        Column("moves", "strings", "what was changed, in words"),
        Column("seconds", "float", "wall clock of the round", "s"),
        Column("borne_out", "bool", "confirm bears out that the round brought something"),
        Column("front", "strings", "trials on the Pareto front; empty with one objective"),
    ),
    "looks": (
        Column("split", "string", "the reserved split that was opened"),
        Column("round", "int", "round of the loop"),
        Column("trials", "strings", "who was compared"),
        Column("seeds", "int", "trainings of each, at least; 0 where none is made", "trainings"),
    ),
    "verdicts": (
        Column("winner", "string", "id of the winning trial"),
        Column("rival", "string", "id of the best preset or baseline as chosen on select"),
        Column("claim", "string", "unit of the claim"),
        Column("sentence", "string", "the verdict in words"),
    ),
}


# --- from rows to tables --------------------------------------------------------------------------


def tables(rows: Sequence[Row]) -> Tables:
    """The tables of a run: ``trials``, ``scores``, ``curves``, ``rounds``, ``looks``, ``verdicts``.

    A rung that was scored twice, as after a crash between a rung's record and its checkpoint,
    counts once: the later scores stand. See ``COLUMNS`` for every column's meaning and unit.
    """
    return extend({name: schema(name).empty_table() for name in COLUMNS}, rows)


def extend(before: Mapping[str, pa.Table], rows: Sequence[Row]) -> Tables:
    """The tables of a run that went on: ``extend(tables(a), b)`` equals ``tables(a + b)``."""
    if not rows:
        return dict(before)
    scored: dict[Key, Scored] = {}
    for row in rows:
        if isinstance(row, Scored):
            key = (row.trial, row.round, row.rung, row.split, row.replica)
            scored.pop(key, None)  # So that the later one also takes the later place.
            scored[key] = row
    new = {
        "scores": _scores(scored.values()),
        "curves": _curves(scored.values()),
        "rounds": _plain("rounds", (row for row in rows if isinstance(row, Turned))),
        "looks": _plain("looks", (row for row in rows if isinstance(row, Looked))),
        "verdicts": _plain("verdicts", (row for row in rows if isinstance(row, Concluded))),
    }
    after = {"trials": _trials(before["trials"], rows)}
    for name, table in new.items():
        old = before[name]
        if name in ("scores", "curves"):
            old = _without(old, scored.keys())
        after[name] = pa.concat_tables([old, table])
    return after


def schema(name: str) -> pa.Schema:
    """The columns of a table, with units and meanings in their metadata."""
    types = {
        "string": pa.string(),
        "strings": pa.list_(pa.string()),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
    }
    columns = [
        pa.field(
            column.name,
            types[column.type],
            nullable=column.nullable,
            metadata={"unit": column.unit, "meaning": column.meaning},
        )
        for column in COLUMNS[name]
    ]
    return pa.schema(columns, metadata={"metatune_schema": SCHEMA, "metatune_table": name})


def _trials(before: pa.Table, rows: Iterable[Row]) -> pa.Table:
    """Folds rows into the trials; a trial's whole state is its row, so any table can go on."""
    trials: dict[str, dict[str, Any]] = {row["trial"]: row for row in before.to_pylist()}
    blank = {column.name: None for column in COLUMNS["trials"]}
    for row in rows:
        if not isinstance(row, Asked | Scored | Ended):
            continue
        trial = trials.setdefault(row.trial, {**blank, "trial": row.trial, "state": "running"})
        match row:
            case Asked():
                trial.update(_asked(row))
            case Scored(replica=0, split="select") if row.rung >= (trial["rung"] or row.rung):
                trial.update(
                    rung=row.rung,
                    resource=row.resource,
                    train_seconds=row.train_seconds,
                    score_seconds=row.score_seconds,
                    score=_mean(row.scores),
                )
            case Ended(replica=0):
                trial.update(state=row.state, reason=row.reason, seconds=row.seconds)
    columns = {name: [trial[name] for trial in trials.values()] for name in blank}
    return _table("trials", columns)


def _asked(row: Asked) -> dict[str, Any]:
    names = ("round", "number", "name", "origin", "digest", "structure", "parent", "members")
    return {
        **{name: getattr(row, name) for name in names},
        # What is blended has come to its end before.
        **({"state": "completed"} if row.members else {}),
        "strategy": json.dumps(row.strategy),
        "params": None if row.params is None else json.dumps(row.params),
    }


def _scores(rows: Iterable[Scored]) -> pa.Table:
    columns: dict[str, list[Any]] = {column.name: [] for column in COLUMNS["scores"]}
    for row in rows:
        for name in (*_KEY, "transductive"):
            columns[name].extend([getattr(row, name)] * len(row.tasks))
        columns["task"].extend(row.tasks)
        columns["group"].extend(row.groups)
        columns["score"].extend(row.scores)
    return _table("scores", columns)


def _curves(rows: Iterable[Scored]) -> pa.Table:
    found = list(rows)
    computed = ("score", "tasks", "learned")
    columns = {
        column.name: [getattr(row, column.name) for row in found]
        for column in COLUMNS["curves"]
        if column.name not in computed
    }
    columns["score"] = [_mean(row.scores) for row in found]
    columns["tasks"] = [len(row.tasks) for row in found]
    columns["learned"] = [
        json.dumps(row.learned, sort_keys=True) if row.learned else None for row in found
    ]
    return _table("curves", columns)


def _plain(name: str, rows: Iterable[Row]) -> pa.Table:
    found = list(rows)
    names = [column.name for column in COLUMNS[name]]
    return _table(name, {column: [getattr(row, column) for row in found] for column in names})


def _mean(scores: Sequence[float]) -> float | None:
    return sum(scores) / len(scores) if scores else None


def _table(name: str, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    fields = schema(name)
    arrays = [_array(columns[field.name], field.type) for field in fields]
    return pa.Table.from_arrays(arrays, schema=fields)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array[Any]:
    try:
        return pa.array(values, kind, from_pandas=False)
    except UnicodeEncodeError:
        # A traceback may quote a file name that is not UTF-8; it must not hide all other rows.
        return pa.array([_encodable(value) for value in values], kind, from_pandas=False)


def _encodable(value: Any) -> Any:
    if isinstance(value, list):
        return [_encodable(part) for part in value]
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _without(table: pa.Table, keys: Collection[Key]) -> pa.Table:
    """The table less the rows of rungs that were scored again."""
    trials = pa.array(sorted({key[0] for key in keys}), pa.string())
    suspects = pc.indices_nonzero(pc.is_in(table["trial"], value_set=trials))
    columns = [table[name].take(suspects).to_pylist() for name in _KEY]
    places = [key in keys for key in zip(*columns, strict=True)]
    if not any(places):
        return table
    keep = np.ones(len(table), dtype=bool)
    keep[suspects.to_numpy()[places]] = False
    return table.filter(pa.array(keep))


# --- generations ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Covered:
    """What a generation holds of one segment.

    Attributes:
        bytes: bytes from the segment's beginning, up to the end of a line.
        crc32: their checksum.
    """

    bytes: int
    crc32: int


@dataclass(frozen=True)
class Manifest:
    """What a generation holds.

    Attributes:
        generation: its number, from 1.
        segments: by name, what it covers of the log.
    """

    generation: int
    segments: dict[str, Covered]


@dataclass(frozen=True)
class Snapshot:
    """A run's tables at one instant.

    Attributes:
        tables: the tables.
        manifest: the generation that they extend; None where they come from the log alone.
        segments: by name, what the tables cover of the log.
        fresh: rows of the log beyond the generation.
    """

    tables: Tables
    manifest: Manifest | None
    segments: dict[str, Covered]
    fresh: int


def snapshot(folder: RunFolder) -> Snapshot:
    """A run's tables from its newest generation and the log beyond it; safe while it goes on.

    Raises:
        RunError: the log is damaged before its end.
    """
    while (manifest := newest(folder)) is not None:
        try:
            before = _read_tables(generation_path(folder, manifest.generation))
        except (OSError, ValueError) as error:
            if newest(folder) != manifest:
                continue  # A newer generation took its place while it was being read.
            logger.warning("generation %d is damaged: %s", manifest.generation, error)
            break
        tail = _tail(folder, manifest.segments)
        if tail is None:
            break
        rows, covered = tail
        return Snapshot(extend(before, rows), manifest, covered, len(rows))
    refuse_missing(folder)
    whole = _tail(folder, {})
    assert whole is not None  # Nothing is covered, so nothing can contradict it.
    return Snapshot(tables(whole[0]), None, whole[1], len(whole[0]))


def newest(folder: RunFolder) -> Manifest | None:
    """The manifest of the newest complete generation; None where there is none."""
    for number in sorted(_generations(folder), reverse=True):
        try:
            text = (generation_path(folder, number) / "manifest.json").read_bytes()
            data = json.loads(text)
            if data["metatune_schema"] == SCHEMA:
                covered = {name: Covered(**each) for name, each in data["segments"].items()}
                return Manifest(number, covered)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def generation_path(folder: RunFolder, number: int) -> Path:
    """Folder of a generation."""
    return folder.records / f"parquet-{number}"


def all_rows(folder: RunFolder) -> list[Row]:
    """Every row of the log, in order, all drivers' segments.

    Raises:
        RunError: the log is damaged before its end, or a segment that Parquet covers is missing.
    """
    refuse_missing(folder)
    return [row for segment in segments(folder) for row in read_log(segment)]


def refuse_missing(folder: RunFolder) -> None:
    """Refuses a log that lacks a segment known to the newest generation.

    Raises:
        RunError: a segment is missing.
    """
    manifest = newest(folder)
    for name in sorted(manifest.segments) if manifest else []:
        if not (folder.records / name).exists():
            raise RunError(
                f"{folder.records / name} is missing: the run cannot go on without this part of "
                "its log; restore it from a copy"
            )


def _tail(
    folder: RunFolder, covered: Mapping[str, Covered]
) -> tuple[list[Row], dict[str, Covered]] | None:
    """The rows beyond what is covered, and what is covered with them.

    None where the covered part is not what the log says, or rows would come out of order.
    """
    rows: list[Row] = []
    after = dict(covered)
    for segment in segments(folder):
        data = segment.read_bytes()
        known = covered.get(segment.name, Covered(0, 0))
        if zlib.crc32(memoryview(data)[: known.bytes]) != known.crc32 or len(data) < known.bytes:
            return None
        if rows and known.bytes:
            return None  # An earlier segment grew after this one was compacted.
        found = scan(data, segment, known.bytes)
        rows += found.rows
        fresh = memoryview(data)[known.bytes : found.end]
        after[segment.name] = Covered(found.end, zlib.crc32(fresh, known.crc32))
    return rows, after


def _read_tables(path: Path) -> Tables:
    # Not mapped into memory: the files may be removed as soon as this returns.
    return {name: pq.read_table(path / f"{name}.parquet", memory_map=False) for name in COLUMNS}


def _generations(folder: RunFolder) -> list[int]:
    try:
        names = os.listdir(folder.records)
    except FileNotFoundError:
        return []
    return [int(match[1]) for name in names if (match := _GENERATION.fullmatch(name))]


# --- compaction -----------------------------------------------------------------------------------


def compact(folder: RunFolder) -> Path | None:
    """Writes all rows so far as a new generation of Parquet, and removes older ones.

    Killed at any instant, it leaves the run reading as before. The log is not touched.

    Args:
        folder: the run.

    Returns:
        The newest generation's folder, or None for a run without rows.

    Raises:
        RunError: the log is damaged before its end, or another process is compacting.
        OSError: the disk is full or broken.
    """
    busy = f"run {folder.path} is being compacted by another process"
    with locked(folder.records / ".compact.lock", 60.0, busy):
        found = snapshot(folder)
        if not found.fresh:
            manifest = found.manifest
            return None if manifest is None else generation_path(folder, manifest.generation)
        number = 1 + max(_generations(folder), default=0)
        path = generation_path(folder, number)
        path.mkdir()
        for name, table in found.tables.items():
            write_atomically(path / f"{name}.parquet", _to_parquet(table))
        sync_folder(folder.records)
        contents = {
            "generation": number,
            "metatune_schema": SCHEMA,
            "segments": {name: asdict(each) for name, each in found.segments.items()},
        }
        write_atomically(path / "manifest.json", json.dumps(contents, indent=1) + "\n")
        for older in _generations(folder):
            if older < number:
                _remove(generation_path(folder, older))
        return path


def _to_parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=ROW_GROUP, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _remove(path: Path) -> None:
    # The manifest first: without it, what a crash leaves is no generation.
    (path / "manifest.json").unlink(missing_ok=True)
    # What cannot be removed now is tried again by the next compaction.
    shutil.rmtree(path, ignore_errors=True)


class Compactor:
    """Compacts a run in the background.

    A compaction that fails costs nothing, since the log holds every row: it is logged, kept in
    ``failure`` and tried again. ``close`` compacts a last time, and raises if that fails.
    """

    def __init__(self, folder: RunFolder, every: int = 500) -> None:
        """
        Args:
            folder: the run.
            every: rows between compactions.
        """
        if every < 1:
            raise ValueError(f"every must be at least 1 row, not {every}")
        self.failure: Exception | None = None
        self._folder = folder
        self._every = every
        self._waiting = 0
        self._closing = False
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> Compactor:
        """Starts the background thread; starting twice does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="metatune-compactor")
            self._thread.daemon = True
            self._thread.start()
        return self

    def request(self, rows: int = 1) -> None:
        """Says that rows were appended to the log; returns at once.

        Args:
            rows: how many.
        """
        with self._wake:
            self._waiting += rows
            self._wake.notify()

    def close(self) -> None:
        """Waits for a compaction at work, and compacts a last time; twice does nothing more.

        Raises:
            RunError: the last compaction failed; the log holds every row.
        """
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        self._compact()
        if self.failure is not None:
            raise RunError(
                f"run {self._folder.path} was not compacted: {self.failure}; "
                "nothing is lost, its log holds every row"
            ) from self.failure

    def __enter__(self) -> Compactor:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except RunError:
            if error is None:  # Otherwise the first error is the one to show; this one is logged.
                raise

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or self._waiting >= self._every)
                if self._closing:
                    return
                self._waiting = 0
            self._compact()

    def _compact(self) -> None:
        try:
            compact(self._folder)
            self.failure = None
        except Exception as error:
            self.failure = error
            logger.warning("run %s was not compacted: %s", self._folder.path, error)
