"""Tasks that are the rows of a table: the user's own data, from CSV and Parquet files.

A *task* is what one value of the task column (or one file) holds, a *group* what tasks share and
the next user will not have seen. Rows are encoded once, task by task, and mapped into memory by all
processes of a machine; a task that is drawn is a gather of some.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from metatune.errors import DataError, OptionError, first_of
from metatune.tasks.base import (
    ACCURACY,
    MSE,
    R2,
    SPLITS,
    Episode,
    FamilyInfo,
    Metric,
    Split,
    TaskBatch,
)
from metatune.tasks.cache import cache_dir, mapped_arrays, stamp
from metatune.tasks.draws import Seeds, Whole, without_replacement
from metatune.tasks.pools import Pool, check_classes
from metatune.tasks.splits import SHARES, few_groups, folds, group_splits
from metatune.tasks.tables.classes import ClassRows
from metatune.tasks.tables.columns import (
    Column,
    as_numbers,
    coded_text,
    encode,
    guess_kind,
    guess_target,
    is_given,
    moments,
    pieces,
)
from metatune.tasks.tables.frames import Frame, find_files, listed, read_frame, task_names

FILE = "file"
"""As task: each file is a task, unless a column has this name."""
NO_GROUP = "(no group)"
MOST_CLASSES = 1024
R2_QUERY = 3  # query rows that R2 takes: of one or two it has no mean
FARTHEST = 1e6  # standard deviations of train: beyond that a target is cut
HASHED = 1 << 22  # numbers that are hashed at a time
_VERSION = "2"
"""Part of the cache's key: to be raised when the making of tables changes."""
REGRESSION = ("ridge", "support_mean", "pooled_linear", "boosted_trees", "pooled_ridge")
CLASSIFICATION = (
    "ridge", "support_mean", "logistic", "nearest_neighbour", "pooled_linear", "boosted_trees",
    "pooled_ridge",
)  # fmt: skip
OWN_CLASSES = ("ridge", "logistic", "nearest_neighbour")
"""Where each task draws classes of its own: nothing is known of them beforehand."""


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
        fold: which fold of the splits.
        way: classes a task; below the number of all, a task draws so many of its own.
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
    fold: int = 0
    way: int | None = None

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
        fingerprint: sha256 of inputs, labels, tasks, groups, splits and metric, in hex digits.
        columns: how the inputs of further rows are made, see ``columns.encode_more``.
        target: name of the target, and of a number mean and standard deviation in train.
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
    fingerprint: str
    columns: tuple[Column, ...]
    target: tuple[str, float, float]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """``(T,)`` rows of each task."""
        return np.diff(self.start)


# --- from files to rows --------------------------------------------------------------------------


def open_table(options: TableOptions) -> TableFamily:
    """The family; arguments and errors as of ``read_table``."""
    return TableFamily(
        read_table(options), options.metric, options.splits, options.fold, options.way
    )


def read_table(options: TableOptions) -> TableData:
    """The rows of all files, from the cache where the same files were read before.

    Files are the same where paths, sizes and times of change are. ``x`` and ``y`` are mapped into
    memory: all processes of a machine share one copy, of which only what is used is read.

    Raises:
        OptionError: an option names what the files do not have.
        DataError: a file cannot be read, nothing is left to learn from, or the disk is full.
    """
    files, notes = find_files(options.data)
    try:
        arrays = mapped_arrays("table", _key(options, files), partial(_write, options, files))
    except OSError as error:
        allowed = "room for thrice the data in the folder that METATUNE_CACHE names"
        raise DataError(
            f"table: cannot write encoded rows to {cache_dir()} ({error}); allowed: {allowed}"
        ) from error
    about = json.loads(arrays["about"].tobytes())
    names = {key: tuple(about[key]) for key in ("tasks", "groups", "classes", "inputs")}
    return TableData(
        x=np.asarray(arrays["x"]),
        y=np.asarray(arrays["y"]),
        start=np.array(arrays["start"]),
        splits={split: tuple(about["splits"][split]) for split in SPLITS},
        numbers=about["numbers"],
        kinds=about["kinds"],
        notes=(*notes, *about["notes"]),
        fingerprint=about["fingerprint"],
        columns=tuple(Column.of(column) for column in about["columns"]),
        target=tuple(about["target"]),
        **names,
    )


def _key(options: TableOptions, files: Sequence[Path]) -> str:
    """Hash of all that encoded rows depend on: however the files were named."""
    told = {name: value for name, value in asdict(options).items() if name not in ("data", "way")}
    versions = (_VERSION, pd.__version__, pa.__version__)
    return hashlib.sha256(
        json.dumps([versions, told, stamp(files)], sort_keys=True).encode()
    ).hexdigest()


def _write(options: TableOptions, files: Sequence[Path], folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        write_table(_read(options, files, Path(scratch)), options, folder, Path(scratch))


def write_table(frame: Frame, options: TableOptions, folder: Path, scratch: Path) -> None:
    """Make inputs, tasks and splits of rows, and write them as the arrays of ``read_table``.

    Args:
        frame: all rows; columns are read one at a time.
        options: what they mean.
        folder: where ``x.npy``, ``y.npy``, ``start.npy`` and ``about.npy`` are written.
        scratch: a folder that may be deleted afterwards.

    Raises:
        OptionError, DataError: as of ``read_table``.
    """
    columns = _Columns.of(frame, options)
    notes = list(columns.notes)
    kept, task, target = _usable_rows(columns, options, notes)
    order = _by_task(task, kept)
    task, target = task.of(order), target.of(order)
    groups = _groups(frame, options, order, task)
    splits = group_splits("table", Counter(groups), options.splits, fold=options.fold)
    split_of = {group: split for split, members in splits.items() for group in members}
    start = np.searchsorted(task.of_row, np.arange(len(task.names) + 1, dtype=np.int32))
    train = np.repeat([split_of[group] == "train" for group in groups], np.diff(start))
    scale = _target_scale(target, train)
    y = _labels(target, scale, options.target, notes)
    classes = target.names
    np.save(folder / "y.npy", y)
    np.save(folder / "start.npy", start)
    del kept, target, y  # as long as the rows
    used = {name: kind for name, kind in columns.kinds.items() if kind != "skip"}
    inputs = encode(frame, used, order, train, options.levels, scratch)
    if not inputs.names:
        allowed = "a column beside task, target and group that varies in train"
        raise DataError(f"table: found no column to predict from; allowed: {allowed}")
    _save_rows(folder / "x.npy", (len(order), len(inputs.names)), inputs.blocks())
    about = {
        "tasks": task.names,
        "groups": groups,
        "classes": classes,
        "splits": splits,
        "inputs": inputs.names,
        "numbers": inputs.numbers,
        "kinds": columns.kinds,
        "notes": [*notes, *inputs.notes],
        "columns": [asdict(column) for column in inputs.columns],
        "target": (options.target, *scale),
    }
    names = (task.names, groups, classes, splits, inputs.names)
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("x", "y", "start")]
    about["fingerprint"] = _fingerprint(names, _metric(classes, options.metric), arrays)
    np.save(folder / "about.npy", np.frombuffer(json.dumps(about).encode(), np.uint8))


def _save_rows(path: Path, shape: tuple[int, int], blocks: Iterable[NDArray[np.float32]]) -> None:
    """A file as of ``np.save``, block by block. (On a full disk a map kills the process.)"""
    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, about | {"shape": shape})
        for block in blocks:
            block.tofile(file)


def _fingerprint(names: tuple[object, ...], metric: Metric, arrays: Iterable[NDArray[Any]]) -> str:
    digest = hashlib.sha256(repr((names, metric.name)).encode())
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        rows = max(1, HASHED // max(1, array[:1].size))
        for start in range(0, len(array), rows):
            digest.update(array[start : start + rows].tobytes())
    return digest.hexdigest()


# --- which rows, and what for --------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """The rows as they were read, and what each column is for."""

    frame: Frame
    kinds: dict[str, str]
    by_file: bool
    notes: tuple[str, ...]

    @staticmethod
    def of(frame: Frame, options: TableOptions) -> _Columns:
        names = [str(name) for name in frame.rows.columns]
        used = (options.task, options.target, options.group)
        unknown = [name for name in options.columns if name not in names]
        if unknown:
            raise OptionError("table", "columns", f"no column {unknown[0]!r}", listed(names))
        kinds = {
            name: options.columns.get(name) or guess_kind(name, frame.rows[name])
            for name in names
            if name not in used
        }
        skipped = [name for name, kind in kinds.items() if kind == "skip"]
        unasked = [name for name in skipped if name not in options.columns]
        notes = [f"{', '.join(unasked)}: left out, since empty or without a name."]
        by_file = options.task == FILE and FILE not in names
        return _Columns(frame, kinds, by_file, (*frame.notes, *(notes if unasked else ())))


def _read(options: TableOptions, files: Sequence[Path], scratch: Path) -> Frame:
    roles = {"task": options.task, "target": options.target, "group": options.group}
    text = {options.task, options.group or ""}
    text |= {name for name, kind in options.columns.items() if kind == "category"}
    required = [
        (role, column)
        for role, column in roles.items()
        if column is not None and (role, column) != ("task", FILE)
    ]
    return read_frame(files, scratch, required, text - {FILE})


@dataclass(frozen=True)
class _Named:
    """Text of ``R`` rows, as numbers of names in the names' order; -1 where there is none."""

    of_row: NDArray[np.int32]
    names: tuple[str, ...]

    @staticmethod
    def by(words: NDArray[Any], places: NDArray[np.int64]) -> _Named:
        """From the place of each row's word; a word may stand twice, or be None."""
        named = np.array([word is not None for word in words], bool)
        names, numbers = np.unique(words[named].astype(str), return_inverse=True)
        number = np.full(len(words), -1, np.int32)
        number[named] = numbers
        return _Named(number[places], tuple(str(name) for name in names))

    def of(self, rows: NDArray[np.int64]) -> _Named:
        """Some rows, and the names that they have."""
        of_row = self.of_row[rows]
        found = np.zeros(len(self.names), bool)
        found[of_row] = True
        number = (np.cumsum(found) - 1).astype(np.int32)
        names = tuple(n for n, there in zip(self.names, found, strict=True) if there)
        return _Named(number[of_row], names)

    @property
    def known(self) -> NDArray[np.bool_]:
        return self.of_row >= 0


@dataclass(frozen=True)
class _Numbers:
    """Numbers of ``R`` rows to predict; NaN where there is none."""

    of_row: NDArray[np.float64]
    names: tuple[str, ...] = ()

    def of(self, rows: NDArray[np.int64]) -> _Numbers:
        return _Numbers(self.of_row[rows])

    @property
    def known(self) -> NDArray[np.bool_]:
        return np.isfinite(self.of_row)


def _usable_rows(
    columns: _Columns, options: TableOptions, notes: list[str]
) -> tuple[NDArray[np.bool_], _Named, _Named | _Numbers]:
    """Which rows have a task and a target; both of all rows. Notes say what is left out."""
    frame = columns.frame
    rows = len(frame.rows)
    if rows == 0:
        raise DataError(f"table: found no rows in {len(frame.files)} files; allowed: some")
    task = _tasks(columns, options)
    kept = task.known
    _note_rows(notes, ~kept, rows, f"{options.task}, the task, is missing")
    column = frame.rows[options.target]
    target = _target(column, options)
    given = is_given(column)
    _note_rows(notes, kept & ~given, rows, f"{options.target}, the target, is missing")
    strange = kept & given & ~target.known
    if strange.any():
        first = int(np.flatnonzero(strange)[0])
        cell = str(column.iloc[first])[:40]
        what = f"{options.target}, the target, is no number (first: {cell!r} in "
        _note_rows(notes, strange, rows, f"{what}{frame.place(first)})")
    del column  # as long as the rows
    kept = kept & target.known
    if isinstance(target, _Numbers) and options.metric == "r2":
        alike = kept & _same_in_each_task(task, target, kept)
        tasks = len(np.unique(task.of_row[alike]))
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


def _tasks(columns: _Columns, options: TableOptions) -> _Named:
    frame = columns.frame
    if columns.by_file:
        words = np.array(task_names(frame.files), object)
        return _Named.by(words, np.repeat(np.arange(len(words)), frame.sizes))
    return _named(frame.rows[options.task])


def _named(column: pd.Series) -> _Named:
    places, words = coded_text(column)
    return _Named.by(words, places)


def _target(column: pd.Series, options: TableOptions) -> _Named | _Numbers:
    """The target of each row: a number, or a class."""
    if (options.predict or guess_target(column)) == "number":
        numbers = _Numbers(as_numbers(column))
        if not numbers.known.any():
            allowed = "a column of numbers, or predict: class"
            found = f"no number in {options.target!r}"
            raise OptionError("table", "target", found, allowed)
        return numbers
    classes = _named(column)
    count = len(classes.names)
    if not 2 <= count <= MOST_CLASSES:
        allowed = f"2 to {MOST_CLASSES}, or predict: number"
        found = f"{count} classes in {options.target!r}"
        raise OptionError("table", "target", found, allowed)
    return classes


def _same_in_each_task(
    task: _Named, target: _Numbers, kept: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Rows of tasks with one value of the target."""
    same = np.zeros(len(kept), bool)
    of_task, values = task.of_row[kept], target.of_row[kept]
    lowest, highest = np.full((2, len(task.names)), [[np.inf], [-np.inf]])
    np.minimum.at(lowest, of_task, values)
    np.maximum.at(highest, of_task, values)
    same[kept] = (lowest == highest)[of_task]
    return same


def _by_task(task: _Named, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rows that are kept, task by task."""
    last = len(task.names)
    return np.argsort(np.where(kept, task.of_row, last), kind="stable")[: np.count_nonzero(kept)]


def _groups(
    frame: Frame, options: TableOptions, order: NDArray[np.int64], task: _Named
) -> tuple[str, ...]:
    """The group of each task: the one that its rows name, or the task itself.

    Args:
        frame: all rows.
        options: names the column, or none.
        order: the rows that are used, task by task.
        task: of these.
    """
    if options.group is None:
        return task.names
    group = _named(frame.rows[options.group])
    named = group.of_row[order]
    order = np.flatnonzero(named >= 0)
    tasks, named = task.of_row[order], named[order]
    known, first = np.unique(tasks, return_index=True)
    found = np.full(len(task.names), -1)
    found[known] = named[first]
    wrong = np.flatnonzero(named != found[tasks])
    if len(wrong):
        row = wrong[0]
        one, other = (group.names[n][:60] for n in (found[tasks[row]], named[row]))
        told = f"{one!r} and {other!r} within the task {task.names[tasks[row]]:.60}"
        raise OptionError("table", "group", told, "one group a task")
    return tuple(group.names[number] if number >= 0 else NO_GROUP for number in found)


def _target_scale(target: _Named | _Numbers, train: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean and standard deviation of a number in train; 0 and 1 of classes."""
    if isinstance(target, _Named):
        return 0.0, 1.0
    mean, spread = moments(target.of_row[train])
    return float(mean), float(spread) or 1.0


def _labels(
    target: _Named | _Numbers, scale: tuple[float, float], name: str, notes: list[str]
) -> NDArray[np.float32] | NDArray[np.int64]:
    """Numbers in standard units of train, cut far outside of it; or numbers of classes."""
    if isinstance(target, _Named):
        return target.of_row.astype(np.int64)
    (mean, spread), cut = scale, 0
    y = np.empty(len(target.of_row), np.float32)
    for piece in pieces(len(y)):
        scaled = (target.of_row[piece] - mean) / (spread or 1.0)
        cut += int(np.count_nonzero(np.abs(scaled) > FARTHEST))
        y[piece] = np.clip(scaled, -FARTHEST, FARTHEST)
    if cut:
        notes.append(
            f"{cut} values of {name}, the target, lie more than {FARTHEST:g} standard deviations "
            "from the mean of train: cut there."
        )
    return y


def _metric(classes: Sequence[str], metric: Literal["r2", "mse"]) -> Metric:
    return ACCURACY if classes else MSE if metric == "mse" else R2


# --- from rows to tasks --------------------------------------------------------------------------


class TableFamily:
    """Regression or classification within the rows of one task.

    Args:
        data: the rows.
        metric: of numbers.
        shares: of each split.
        fold: which fold of the splits the data are.
        way: classes a task, below the number of all: a task draws so many of its own, and rows of
            each. None, or all of them: every task has all, and rows are drawn whatever theirs.
    """

    def __init__(
        self,
        data: TableData,
        metric: Literal["r2", "mse"] = "r2",
        shares: Mapping[str, float] = SHARES,
        fold: int = 0,
        way: int | None = None,
    ) -> None:
        self._data, self._shares, self._fold = data, shares, fold
        self._sizes = data.sizes
        self._pools: dict[tuple[Split, Episode], Pool] = {}
        self._cells_of: dict[int, Pool] = {}
        drawn = way is not None and way < len(data.classes)
        self._classes = ClassRows.of(data.y, data.start) if drawn else None  # type: ignore[arg-type]
        count = Counter(data.groups)
        classes = len(data.classes)
        numbers, inputs = data.numbers, len(data.inputs)
        views = {"numbers": (0, numbers), "categories": (numbers, inputs)}
        self.info = FamilyInfo(
            name="table",
            kind="classification" if classes else "regression",
            input_shape=(inputs,),
            outputs=0 if classes else 1,
            metric=_metric(data.classes, metric),
            train_classes=classes,
            groups={s: {group: count[group] for group in data.splits[s]} for s in SPLITS},
            grouped=True,
            baselines=OWN_CLASSES if drawn else CLASSIFICATION if classes else REGRESSION,
            about="Your own data: the rows of CSV or Parquet files, see docs/own_data.md.",
            views={name: (a, b) for name, (a, b) in views.items() if a < b},
            shared_classes=bool(classes) and not drawn,
        )

    @property
    def data(self) -> TableData:
        """The rows."""
        return self._data

    @property
    def folds(self) -> int:
        """How many folds the splits have."""
        return folds(Counter(self._data.groups), self._shares)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return self._data.inputs

    @property
    def encoding(self) -> Mapping[str, Any]:
        """How rows of a task that is new become inputs and labels."""
        data = self._data
        name, mean, spread = data.target
        return {
            "columns": [asdict(column) for column in data.columns],
            "inputs": list(data.inputs),
            "target": name,
            "mean": mean,
            "spread": spread,
            "classes": list(data.classes),
        }

    @property
    def fingerprint(self) -> str:
        """sha256 of inputs, labels, tasks, groups, splits and metric, in hex digits."""
        return self._data.fingerprint

    def notes(self, episode: Episode) -> tuple[str, ...]:
        """What the data are, what was left out and why, and what the splits hang on."""
        return tuple(self._notes(episode))

    def _notes(self, episode: Episode) -> Iterator[str]:
        data, info = self._data, self.info
        what = f"{len(data.classes)} classes" if data.classes else "a number"
        if self._classes is not None:
            what = f"{episode.way} a task of {what}"
        yield (
            f"{len(data.tasks)} tasks with {len(data.x)} rows; {what} from {len(data.inputs)} "
            f"inputs: {first_of(data.inputs)}."
        )
        yield from data.notes
        enough = self._enough(episode)
        small = [name for name, ok in zip(data.tasks, enough, strict=True) if not ok]
        whole, least = episode.n_support + episode.n_query, episode.least_examples
        fewer = int((self._sizes[enough] < whole).sum()) if episode.fewest is not None else 0
        if fewer:
            yield (
                f"{fewer} of {len(data.tasks)} tasks have fewer than {whole} rows and take part "
                f"with what they have, {least} or more."
            )
            _, query = episode.divided(self._sizes[self._sizes >= least])
            thin = int((query < R2_QUERY).sum())
            if thin and info.metric == R2:
                yield (
                    f"{thin} of them have fewer than {R2_QUERY} query rows: their R2 may be far "
                    "below 0 by chance alone, and metric: mse says more."
                )
        if small:
            needed = f"{least} rows"
            if self._classes is not None:
                needed = f"{episode.way} classes of {episode.shot + episode.query} rows"
            yield (
                f"{len(small)} of {len(data.tasks)} tasks have fewer than {needed} and are "
                f"never drawn: {first_of(small)}."
            )
        yield from few_groups(info, self._shares, self._fold)

    def usable_groups(self, split: Split, episode: Episode) -> tuple[str, ...]:
        """The groups of a split that have a task with enough rows."""
        return self._pool(split, episode).groups

    def check(self, episode: Episode) -> None:
        """Raise DataError unless every split has a task with enough rows, or classes of enough."""
        if self._classes is not None:
            if episode.fewest is not None:
                found = f"fewest {episode.fewest} where each task draws classes of its own"
                raise DataError(
                    f"table: found {found}; allowed: none, for all tasks are of one size"
                )
            own, usable = self._classes, {s: bool(self.usable_groups(s, episode)) for s in SPLITS}
            sizes = {s: [own.sizes(task) for task in self._tasks_in(s)] for s in SPLITS}
            check_classes("table", episode, usable, sizes, "task", "rows")
            return
        way = len(self._data.classes) or 1
        if episode.way != way or episode.shot < 1 or episode.query < 1:
            found = f"way {episode.way}, shot {episode.shot}, query {episode.query}"
            classes = f" (classes {first_of(self._data.classes)})" if self._data.classes else ""
            raise DataError(f"table: found {found}; allowed: way {way}{classes}, the others from 1")
        needed = episode.least_examples
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
        replacement; classes are as the rows have them. The rows of a smaller task are divided as
        ``Episode.divided`` has it, and its first support row stands in the place of padding. Where
        tasks have classes of their own, a seed draws ``way`` of the task's classes, then rows of
        each; they stand class by class.

        Raises:
            DataError: where no group, or a group asked for, can hold such a task.
        """
        data, pool = self._data, self._pool(split, episode)
        drawn = np.array([int(seed) for seed in seeds], np.uint64)
        group = pool.draw_groups("table", split, drawn, groups)
        if self._classes is not None:
            task = pool.members[pool.draw(drawn, 5, group)]
            return self._n_way(drawn, task, pool.names(group), episode)
        task = pool.members[pool.draw(drawn, 2, group)]
        support, query = episode.n_support, episode.n_query
        rows = without_replacement(drawn, 3, self._sizes[task], support + query)
        real = None
        if (self._sizes[task] < support + query).any():
            place, real = _places(episode, self._sizes[task])
            rows = np.take_along_axis(rows, place, 1)
        rows += data.start[task][:, None]
        x, y = data.x[rows], data.y[rows]
        classes = bool(data.classes)
        if not classes:
            y = y[..., None]
        return TaskBatch(
            support_x=x[:, :support],
            support_y=y[:, :support],
            query_x=x[:, support:],
            query_y=y[:, support:],
            ids=self._ids(task, drawn),
            groups=pool.names(group),
            support_class=y[:, :support] if classes else None,  # type: ignore[arg-type]
            query_class=y[:, support:] if classes else None,  # type: ignore[arg-type]
            support_mask=None if real is None else real[:, :support],
            query_mask=None if real is None else real[:, support:],
        )

    def _n_way(
        self, seeds: Seeds, task: Whole, groups: tuple[str, ...], episode: Episode
    ) -> TaskBatch:
        """Classes of each task, and rows of each class."""
        own = self._classes
        assert own is not None
        cells = self._cells(episode.shot + episode.query)
        drawn = cells.draw_classes(seeds, task, own.start, episode)
        return TaskBatch(
            support_x=self._data.x[own.rows[drawn.support]],
            query_x=self._data.x[own.rows[drawn.query]],
            ids=self._ids(task, seeds),
            groups=groups,
            **drawn.labelled(own.classes[drawn.classes]),
        )

    def _ids(self, task: Whole, seeds: Seeds) -> tuple[str, ...]:
        names, pairs = self._data.tasks, zip(task.tolist(), seeds.tolist(), strict=True)
        return tuple(f"{names[number]}-{seed:012x}" for number, seed in pairs)

    def _pool(self, split: Split, episode: Episode) -> Pool:
        """The tasks with enough rows, or classes of enough."""
        key = (split, episode)
        if key not in self._pools:
            enough = self._enough(episode)
            self._pools[key] = Pool.of(
                {
                    group: [task for task in self._tasks_of[group] if enough[task]]
                    for group in self._data.splits[split]
                }
            )
        return self._pools[key]

    def _enough(self, episode: Episode) -> NDArray[np.bool_]:
        """``(T,)``: which tasks can hold an episode."""
        if self._classes is None:
            return np.asarray(self._sizes >= episode.least_examples)
        classes = np.diff(self._cells(episode.shot + episode.query).first)
        return np.asarray(classes >= episode.way)

    def _cells(self, count: int) -> Pool:
        """The classes of at least so many rows, by task."""
        assert self._classes is not None
        if count not in self._cells_of:
            self._cells_of[count] = self._classes.cells(count)
        return self._cells_of[count]

    def _tasks_in(self, split: Split) -> list[int]:
        return [task for group in self._data.splits[split] for task in self._tasks_of[group]]

    @cached_property
    def _tasks_of(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for task, group in enumerate(self._data.groups):
            found.setdefault(group, []).append(task)
        return found

    def _largest(self, split: Split) -> int:
        return int(self._sizes[self._tasks_in(split)].max())


def _places(
    episode: Episode, sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which of its rows, in the order they are drawn in, stands in each of a task's places.

    Returns:
        ``(T, S + Q)`` numbers of rows, 0 in the place of padding; and where there is none.
    """
    support, query = np.arange(episode.n_support), np.arange(episode.n_query)
    own, others = (count[:, None] for count in episode.divided(sizes))
    real = np.concatenate([support < own, query < others], 1)
    place = np.concatenate([np.broadcast_to(support, (len(sizes), len(support))), own + query], 1)
    return np.where(real, place, 0), real
