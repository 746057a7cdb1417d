"""Tasks that are the rows of a table: the user's own data, from CSV and Parquet files.

A *task* is what one value of the task column (or one file) holds, a *group* what tasks share and
the next user will not have seen. Rows are held once; a task that is drawn is a gather of some.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError, OptionError, first_of
from metatune.tasks.base import (
    ACCURACY,
    MSE,
    R2,
    SPLITS,
    Episode,
    FamilyInfo,
    Split,
    TaskBatch,
)
from metatune.tasks.columns import as_numbers, as_text, encode, guess_kind, guess_target
from metatune.tasks.draws import without_replacement
from metatune.tasks.frames import Frame, listed, read_frame, task_names
from metatune.tasks.pools import Pool
from metatune.tasks.splits import few_groups, group_splits

FILE = "file"
"""As task: each file is a task, unless a column has this name."""
NO_GROUP = "(no group)"
MOST_CLASSES = 1024
SHARES = {"train": 0.5, "select": 0.2, "confirm": 0.1, "test": 0.2}
REGRESSION = ("ridge", "support_mean", "pooled_linear", "boosted_trees", "pooled_ridge")
CLASSIFICATION = ("ridge", "support_mean", "logistic", "nearest_neighbour")


@dataclass(frozen=True)
class TableOptions:
    """What ``metatune.space.families.Table`` says, as plain data; the same names and meaning.

    Attributes:
        data: files, globs or folders, absolute.
        task: column, or ``file``.
        target: column.
        group: column; None: each task is a group.
        predict: None: classes where the target is text, a boolean or one of up to 10 whole
            numbers, else a number.
        metric: of numbers.
        columns: the kind of columns that are not what they look like.
        levels: values of a category with an input of their own.
        splits: share of each split.
    """

    data: tuple[str, ...]
    task: str
    target: str
    group: str | None = None
    predict: Literal["number", "class"] | None = None
    metric: Literal["r2", "mse"] = "r2"
    columns: Mapping[str, str] = field(default_factory=dict)
    levels: int = 16
    splits: Mapping[str, float] = field(default_factory=lambda: SHARES)

    @staticmethod
    def of(plain: Mapping[str, Any]) -> TableOptions:
        """From plain data; what is left out takes its default."""
        if not plain:
            allowed = "CSV or Parquet files; `metatune init DATA` writes a space file for yours"
            raise OptionError("table", "data", "nothing", allowed)
        return TableOptions(**{**plain, "data": tuple(plain["data"])})


@dataclass(frozen=True)
class TableData:
    """``R`` rows of ``T`` tasks, task by task.

    Attributes:
        x: ``(R, F)`` float32, contiguous.
        y: ``(R,)`` float32 in standard units of train, or int64 numbers of classes.
        start: ``(T + 1,)``: task t's rows are ``start[t]:start[t + 1]``.
        tasks, groups: ``T`` names.
        classes: names of the classes; empty for numbers.
        splits: the groups of each split.
        inputs: names of the ``F`` inputs.
        numbers: how many of them, the first ones, are numbers.
        kinds: the kind of each column but those of the options.
        notes: what was left out and why.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32] | NDArray[np.int64]
    start: NDArray[np.int64]
    tasks: tuple[str, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    splits: Mapping[Split, tuple[str, ...]]
    inputs: tuple[str, ...]
    numbers: int
    kinds: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """``(T,)`` rows of each task."""
        return np.diff(self.start)


# --- from files to rows --------------------------------------------------------------------------


def open_table(options: TableOptions) -> TableFamily:
    """The family; arguments and errors as of ``read_table``."""
    return TableFamily(read_table(options), options.metric)


def read_table(options: TableOptions) -> TableData:
    """Read all files and make inputs, tasks and splits of them.

    Raises:
        OptionError: an option names what the files do not have.
        DataError: a file cannot be read, or nothing is left to learn from.
    """
    columns = _Columns.of(options)
    frame, notes = columns.frame, [*columns.frame.notes]
    kept, task, target = _usable_rows(columns, options, notes)
    frame = frame.kept(kept)
    names, of_task = np.unique(task[kept].astype(str), return_inverse=True)
    order = np.argsort(of_task, kind="stable")
    frame, of_task, target = _in_order(frame, order), of_task[order], target[kept][order]
    groups = _groups(columns, options, kept, order, of_task, names)
    splits = table_splits(_sizes(groups), options.splits)
    split_of = {group: split for split, members in splits.items() for group in members}
    train = np.array([split_of[group] == "train" for group in groups])[of_task]
    used = {name: kind for name, kind in columns.kinds.items() if kind != "skip"}
    inputs = encode(frame, used, train, options.levels)
    notes += inputs.notes
    if not inputs.names:
        raise DataError("table: no column is left to predict from: each is constant or left out")
    y, classes = _labels(target, train)
    return TableData(
        x=inputs.x,
        y=y,
        start=np.concatenate([[0], np.cumsum(np.bincount(of_task, minlength=len(names)))]),
        tasks=tuple(str(name) for name in names),
        groups=groups,
        classes=classes,
        splits=splits,
        inputs=inputs.names,
        numbers=inputs.numbers,
        kinds=columns.kinds,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Columns:
    """The rows as they were read, and what each column is for."""

    frame: Frame
    kinds: dict[str, str]
    by_file: bool

    @staticmethod
    def of(options: TableOptions) -> _Columns:
        roles = {"task": options.task, "target": options.target, "group": options.group}
        text = {options.task, options.group or ""}
        text |= {name for name, kind in options.columns.items() if kind == "category"}
        frame = _read(options, roles, text - {FILE})
        by_file = options.task == FILE and FILE not in frame.rows.columns
        used = {column for column in roles.values() if column is not None}
        unknown = [name for name in options.columns if name not in frame.rows.columns]
        if unknown:
            raise OptionError("table", "columns", f"no column {unknown[0]!r}", listed(frame.rows))
        kinds = {
            str(name): options.columns.get(str(name)) or guess_kind(str(name), frame.rows[name])
            for name in frame.rows.columns
            if name not in used
        }
        skipped = [name for name, kind in kinds.items() if kind == "skip"]
        unasked = [name for name in skipped if name not in options.columns]
        if unasked:
            note = f"{', '.join(unasked)}: left out, since empty or without a name."
            frame = Frame(frame.rows, frame.file, frame.line, frame.files, (*frame.notes, note))
        return _Columns(frame, kinds, by_file)


def _read(options: TableOptions, roles: Mapping[str, str | None], text: set[str]) -> Frame:
    required = [
        (role, column)
        for role, column in roles.items()
        if column is not None and (role, column) != ("task", FILE)
    ]
    return read_frame(options.data, required, text)


def _usable_rows(
    columns: _Columns, options: TableOptions, notes: list[str]
) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[Any]]:
    """Which rows have a task and a target; both of all rows. Notes say what is left out."""
    frame = columns.frame
    rows = len(frame.rows)
    if rows == 0:
        raise DataError(f"table: found no rows in {len(frame.files)} files; allowed: some")
    if columns.by_file:
        task = np.array(task_names(frame.files), object)[frame.file]
    else:
        task = as_text(frame.rows[options.task]).to_numpy(object)
    kept = np.array([name is not None for name in task])
    _note_rows(notes, ~kept, rows, f"{options.task}, the task, is missing")
    target, readable = _target(frame, options)
    given = as_text(frame.rows[options.target]).notna().to_numpy()
    _note_rows(notes, kept & ~given, rows, f"{options.target}, the target, is missing")
    strange = kept & given & ~readable
    if strange.any():
        first = int(np.flatnonzero(strange)[0])
        cell = str(frame.rows[options.target].iloc[first])[:40]
        what = f"{options.target}, the target, is no number (first: {cell!r} in "
        _note_rows(notes, strange, rows, f"{what}{frame.place(first)})")
    kept &= readable
    if target.dtype == np.float64 and options.metric == "r2":
        alike = kept & _same_in_each_task(task, target, kept)
        tasks = len(set(task[alike]))
        _note_rows(notes, alike, rows, f"the target never changes within their task ({tasks})")
        kept &= ~alike
    if not kept.any():
        raise OptionError(
            "table", "target", f"no row of {rows} to learn from: {' '.join(notes)}", "some"
        )
    return kept, task, target


def _note_rows(notes: list[str], left_out: NDArray[np.bool_], rows: int, why: str) -> None:
    if left_out.any():
        notes.append(f"{left_out.sum()} of {rows} rows are left out: {why}.")


def _target(frame: Frame, options: TableOptions) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The target of each row, float64 or text; and where it can be used."""
    column = frame.rows[options.target]
    if (options.predict or guess_target(column)) == "number":
        numbers = as_numbers(column)
        if not np.isfinite(numbers).any():
            allowed = "a column of numbers, or predict: class"
            found = f"no number in {options.target!r}"
            raise OptionError("table", "target", found, allowed)
        return numbers, np.isfinite(numbers)
    text = as_text(column)
    count = text.nunique()
    if not 2 <= count <= MOST_CLASSES:
        allowed = f"2 to {MOST_CLASSES}, or predict: number"
        found = f"{count} classes in {options.target!r}"
        raise OptionError("table", "target", found, allowed)
    return text.to_numpy(object), text.notna().to_numpy()


def _same_in_each_task(
    task: NDArray[Any], target: NDArray[np.float64], kept: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Rows of tasks with one value of the target."""
    same = np.zeros(len(task), bool)
    rows = np.flatnonzero(kept)
    if not len(rows):
        return same
    _, of_task = np.unique(task[rows].astype(str), return_inverse=True)
    lowest, highest = np.full(of_task.max() + 1, np.inf), np.full(of_task.max() + 1, -np.inf)
    np.minimum.at(lowest, of_task, target[rows])
    np.maximum.at(highest, of_task, target[rows])
    same[rows] = (lowest == highest)[of_task]
    return same


def _in_order(frame: Frame, order: NDArray[np.int64]) -> Frame:
    rows = frame.rows.iloc[order].reset_index(drop=True)
    return Frame(rows, frame.file[order], frame.line[order], frame.files, frame.notes)


def _groups(
    columns: _Columns,
    options: TableOptions,
    kept: NDArray[np.bool_],
    order: NDArray[np.int64],
    of_task: NDArray[np.int64],
    names: NDArray[Any],
) -> tuple[str, ...]:
    """The group of each task: the one that its rows name, or the task itself."""
    if options.group is None:
        return tuple(str(name) for name in names)
    text = as_text(columns.frame.rows[options.group]).to_numpy(object)[kept][order]
    found: dict[int, str] = {}
    for task, group in zip(of_task.tolist(), text, strict=True):
        if group is not None and found.setdefault(task, group) != group:
            told = f"{found[task]!r} and {group!r} within the task {names[task]!s:.60}"
            raise OptionError("table", "group", told, "one group a task")
    return tuple(found.get(task, NO_GROUP) for task in range(len(names)))


def _sizes(groups: Sequence[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    return sizes


def table_splits(
    sizes: Mapping[str, int], shares: Mapping[str, float], family: str = "table"
) -> dict[Split, tuple[str, ...]]:
    """The groups of each split, see ``group_splits``; sizes are numbers of tasks."""
    return group_splits(family, sizes, shares, "without a group column each task is a group")


def _labels(
    target: NDArray[Any], train: NDArray[np.bool_]
) -> tuple[NDArray[np.float32] | NDArray[np.int64], tuple[str, ...]]:
    """Numbers in standard units of train, or numbers of classes with the names of these."""
    if target.dtype == np.float64:
        seen = target[train]
        spread = seen.std() or 1.0
        return ((target - seen.mean()) / spread).astype(np.float32), ()
    classes, numbers = np.unique(target.astype(str), return_inverse=True)
    return numbers.astype(np.int64), tuple(str(name) for name in classes)


# --- from rows to tasks --------------------------------------------------------------------------


class TableFamily:
    """Regression or classification within the rows of one task.

    Args:
        data: the rows.
        metric: of numbers.
    """

    def __init__(self, data: TableData, metric: Literal["r2", "mse"] = "r2") -> None:
        self._data = data
        self._sizes = data.sizes
        self._pools: dict[tuple[Split, int], Pool] = {}
        count = _sizes(data.groups)
        classes = len(data.classes)
        numbers, inputs = data.numbers, len(data.inputs)
        views = {"numbers": (0, numbers), "categories": (numbers, inputs)}
        self.info = FamilyInfo(
            name="table",
            kind="classification" if classes else "regression",
            input_shape=(inputs,),
            outputs=0 if classes else 1,
            metric=ACCURACY if classes else MSE if metric == "mse" else R2,
            train_classes=classes,
            groups={s: {group: count[group] for group in data.splits[s]} for s in SPLITS},
            grouped=True,
            baselines=CLASSIFICATION if classes else REGRESSION,
            about="Your own data: the rows of CSV or Parquet files, see docs/own_data.md.",
            views={name: (a, b) for name, (a, b) in views.items() if a < b},
            shared_classes=bool(classes),
        )

    @property
    def data(self) -> TableData:
        """The rows."""
        return self._data

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return self._data.inputs

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of inputs, labels, tasks, groups and splits, in hex digits."""
        data = self._data
        names = (data.tasks, data.groups, data.classes, dict(data.splits), data.inputs)
        digest = hashlib.sha256(repr((names, self.info.metric.name)).encode())
        for array in (data.x, data.y, data.start):
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def notes(self, episode: Episode) -> tuple[str, ...]:
        """What the data are, what was left out and why, and what the splits hang on."""
        return tuple(self._notes(episode))

    def _notes(self, episode: Episode) -> Iterator[str]:
        data, info = self._data, self.info
        what = f"{len(data.classes)} classes" if data.classes else "a number"
        yield (
            f"{len(data.tasks)} tasks with {len(data.x)} rows; {what} from {len(data.inputs)} "
            f"inputs: {first_of(data.inputs)}."
        )
        yield from data.notes
        needed = episode.n_support + episode.n_query
        small = [name for name, n in zip(data.tasks, self._sizes, strict=True) if n < needed]
        if small:
            yield (
                f"{len(small)} of {len(data.tasks)} tasks have fewer than {needed} rows and are "
                f"never drawn: {first_of(small)}."
            )
        yield from few_groups(info)

    def usable_groups(self, split: Split, episode: Episode) -> tuple[str, ...]:
        """The groups of a split that have a task with enough rows."""
        return self._pool(split, episode).groups

    def check(self, episode: Episode) -> None:
        """Raise DataError unless every split has a task with enough rows."""
        way = len(self._data.classes) or 1
        if episode.way != way or episode.shot < 1 or episode.query < 1:
            found = f"way {episode.way}, shot {episode.shot}, query {episode.query}"
            classes = f" (classes {first_of(self._data.classes)})" if self._data.classes else ""
            raise DataError(f"table: found {found}; allowed: way {way}{classes}, the others from 1")
        needed = episode.n_support + episode.n_query
        for split in SPLITS:
            if not self.usable_groups(split, episode):
                most = {s: self._largest(s) for s in SPLITS}
                told = ", ".join(f"{s} {n}" for s, n in most.items())
                raise DataError(
                    f"table: found no task of split {split!r} with {needed} rows, support and "
                    f"query together; allowed: at most {min(most.values())} (largest tasks: {told})"
                )

    def sample(
        self,
        split: Split,
        episode: Episode,
        seeds: Sequence[int],
        groups: Sequence[str] | None = None,
    ) -> TaskBatch:
        """Draw one task a seed: x ``(T, S, F)``; y ``(T, S, 1)``, or ``(T, S)`` for classes.

        A seed draws its group evenly, then one of the group's tasks evenly, then rows without
        replacement; classes are as the rows have them.

        Raises:
            DataError: where no group, or a group asked for, can hold such a task.
        """
        data, pool = self._data, self._pool(split, episode)
        drawn = np.array([int(seed) for seed in seeds], np.uint64)
        group = pool.draw_groups("table", split, drawn, groups)
        task = pool.members[pool.draw(drawn, 2, group)]
        support, query = episode.n_support, episode.n_query
        rows = without_replacement(drawn, 3, self._sizes[task], support + query)
        rows += data.start[task][:, None]
        x, y = data.x[rows], data.y[rows]
        classes = bool(data.classes)
        if not classes:
            y = y[..., None]
        names = data.tasks
        return TaskBatch(
            support_x=x[:, :support],
            support_y=y[:, :support],
            query_x=x[:, support:],
            query_y=y[:, support:],
            ids=tuple(
                f"{names[t]}-{s:012x}" for t, s in zip(task.tolist(), drawn.tolist(), strict=True)
            ),
            groups=pool.names(group),
            support_class=y[:, :support] if classes else None,  # type: ignore[arg-type]
            query_class=y[:, support:] if classes else None,  # type: ignore[arg-type]
        )

    def _pool(self, split: Split, episode: Episode) -> Pool:
        """The tasks with enough rows."""
        key = (split, episode.n_support + episode.n_query)
        if key not in self._pools:
            self._pools[key] = Pool.of(
                {
                    group: [task for task in self._tasks_of[group] if self._sizes[task] >= key[1]]
                    for group in self._data.splits[split]
                }
            )
        return self._pools[key]

    @cached_property
    def _tasks_of(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for task, group in enumerate(self._data.groups):
            found.setdefault(group, []).append(task)
        return found

    def _largest(self, split: Split) -> int:
        groups = self._data.splits[split]
        return max(int(self._sizes[task]) for group in groups for task in self._tasks_of[group])
