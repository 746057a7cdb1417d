"""From rows to tables: what a run measured, in columns.

``extend(tables, rows)`` is the one fold, and folding in two steps equals folding at once. So
compaction writes the tables of all rows so far, and reading extends them by the rows since.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from metatune.records.rows import Asked, Concluded, Ended, Looked, Retried, Row, Scored, Turned
from metatune.records.schema import COLUMNS, schema

Key = tuple[str, int, int, str, int]
"""Of a trial's rung: trial, round, rung, split, replica."""

KEY = ("trial", "round", "rung", "split", "replica")
SCORED = ("scores", "curves")
"""The tables in which a rung that is scored again replaces what it was."""


class Source(Protocol):
    """Where a run's tables are read from."""

    def read(
        self, name: str, columns: Sequence[str] | None = None, where: ds.Expression | None = None
    ) -> pa.Table:
        """Some columns (all, in the order of the schema) of the rows that pass a filter."""
        ...


class Tables(dict[str, pa.Table]):
    """A run's tables by their names, in memory."""

    def read(
        self, name: str, columns: Sequence[str] | None = None, where: ds.Expression | None = None
    ) -> pa.Table:
        """As of ``Source``."""
        return chosen(self[name], columns, where)


def chosen(table: pa.Table, columns: Sequence[str] | None, where: ds.Expression | None) -> pa.Table:
    """Some columns of the rows of a table that pass a filter."""
    found = table if where is None else table.filter(where)
    return found if columns is None else found.select(list(columns))


def tables(rows: Sequence[Row]) -> Tables:
    """The tables of a run: ``trials``, ``scores``, ``curves``, ``rounds``, ``looks``, ``verdicts``.

    A rung that was scored twice, as after a crash between a rung's record and its checkpoint,
    counts once: the later scores stand. See ``FRAMES`` for every column's meaning and unit.
    """
    return extend({name: schema(name).empty_table() for name in COLUMNS}, rows)


def extend(before: Mapping[str, pa.Table], rows: Sequence[Row]) -> Tables:
    """The tables of a run that went on: ``extend(tables(a), b)`` equals ``tables(a + b)``."""
    if not rows:
        return Tables(before)
    after = Tables({"trials": extend_trials(before["trials"], rows)})
    new, keys = fresh(rows), keys_of(rows)
    for name, table in new.items():
        old = before[name]
        after[name] = pa.concat_tables([without(old, keys) if name in SCORED else old, table])
    return Tables({name: after[name] for name in COLUMNS})


def fresh(rows: Sequence[Row]) -> Tables:
    """The tables of rows alone, but for the trials, whose rows go on with what was before."""
    scored = list(_last_scored(rows).values())
    return Tables({
        "scores": _scores(scored),
        "curves": _curves(scored),
        "rounds": _plain("rounds", (row for row in rows if isinstance(row, Turned))),
        "looks": _plain("looks", (row for row in rows if isinstance(row, Looked))),
        "verdicts": _plain("verdicts", (row for row in rows if isinstance(row, Concluded))),
    })  # fmt: skip


def extend_trials(before: pa.Table, rows: Iterable[Row]) -> pa.Table:
    """Folds rows into the trials; a trial's whole state is its row, so any table can go on.

    Those of before keep their places, new ones come behind them.
    """
    about = [row for row in rows if isinstance(row, Asked | Scored | Ended | Retried)]
    # A retry makes no trial, nor its place.
    named = sorted(about, key=lambda row: isinstance(row, Retried))
    names = list(dict.fromkeys(row.trial for row in named))
    places = pc.index_in(pa.array(names, pa.string()), before["trial"].combine_chunks())
    known = before.take(places.drop_null()).to_pylist()
    trials: dict[str, dict[str, Any]] = {row["trial"]: row for row in known}
    blank = {**{column.name: None for column in COLUMNS["trials"]}, "retries": 0}
    for row in about:
        if isinstance(row, Retried) and row.trial not in trials:
            continue  # an ensemble that was not chosen
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
                    node=row.node or None,
                )
            case Ended(replica=0):
                trial.update(state=row.state, reason=row.reason, seconds=row.seconds)
            case Retried():
                trial["retries"] += 1
    found = [name in trials for name in names]
    names, places = list(compress(names, found)), places.filter(pa.array(found, pa.bool_()))
    folded = _table("trials", {name: [trials[t][name] for t in names] for name in blank})
    order = np.arange(len(before) + places.null_count)
    old, new = places.is_valid().to_numpy(False), places.is_null().to_numpy(False)
    order[places.drop_null().to_numpy()] = len(before) + np.flatnonzero(old)
    order[len(before) :] = len(before) + np.flatnonzero(new)
    return pa.concat_tables([before, folded]).take(pa.array(order))


def keys_of(rows: Iterable[Row]) -> set[Key]:
    """Which rungs rows are about."""
    return set(_last_scored(rows))


def without(table: pa.Table, keys: Collection[Key]) -> pa.Table:
    """A table of rungs, or of their tasks, less the rows of some of them."""
    trials = pa.array(sorted({key[0] for key in keys}), pa.string())
    suspects = pc.indices_nonzero(pc.is_in(table["trial"], value_set=trials))
    columns = [table[name].take(suspects).to_pylist() for name in KEY]
    places = [key in keys for key in zip(*columns, strict=True)]
    if not any(places):
        return table
    keep = np.ones(len(table), dtype=bool)
    keep[suspects.to_numpy()[places]] = False
    return table.filter(pa.array(keep))


def _last_scored(rows: Iterable[Row]) -> dict[Key, Scored]:
    scored: dict[Key, Scored] = {}
    for row in rows:
        if isinstance(row, Scored):
            key = (row.trial, row.round, row.rung, row.split, row.replica)
            scored.pop(key, None)  # So that the later one also takes the later place.
            scored[key] = row
    return scored


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
        for name in (*KEY, "transductive"):
            columns[name].extend([getattr(row, name)] * len(row.tasks))
        columns["task"].extend(row.tasks)
        columns["group"].extend(row.groups)
        columns["score"].extend(row.scores)
    return _table("scores", columns)


def _curves(rows: Sequence[Scored]) -> pa.Table:
    computed = ("score", "tasks", "learned", "node")
    columns = {
        column.name: [getattr(row, column.name) for row in rows]
        for column in COLUMNS["curves"]
        if column.name not in computed
    }
    columns["score"] = [_mean(row.scores) for row in rows]
    columns["tasks"] = [len(row.tasks) for row in rows]
    columns["learned"] = [
        json.dumps(row.learned, sort_keys=True) if row.learned else None for row in rows
    ]
    columns["node"] = [row.node or None for row in rows]
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
