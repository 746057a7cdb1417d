"""Encoded rows, task by task: made once a machine, mapped into memory by all its processes."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from metatune.errors import DataError
from metatune.tasks.base import ACCURACY, MSE, R2, SPLITS, Metric, Split
from metatune.tasks.cache import cache_dir, mapped_arrays, stamp
from metatune.tasks.splits import group_splits
from metatune.tasks.tables.columns import Column, encode
from metatune.tasks.tables.frames import Frame, find_files
from metatune.tasks.tables.options import TableOptions
from metatune.tasks.tables.rows import (
    Columns,
    by_task,
    groups_of,
    labels,
    read_rows,
    target_scale,
    usable_rows,
)

HASHED = 1 << 22  # numbers that are hashed at a time
_VERSION = "2"
"""Part of the cache's key: to be raised when the making of tables changes."""


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
        write_table(read_rows(options, files, Path(scratch)), options, folder, Path(scratch))


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
    columns = Columns.of(frame, options)
    notes = list(columns.notes)
    kept, task, target = usable_rows(columns, options, notes)
    order = by_task(task, kept)
    task, target = task.of(order), target.of(order)
    groups = groups_of(frame, options, order, task)
    splits = group_splits("table", Counter(groups), options.splits, fold=options.fold)
    split_of = {group: split for split, members in splits.items() for group in members}
    start = np.searchsorted(task.of_row, np.arange(len(task.names) + 1, dtype=np.int32))
    train = np.repeat([split_of[group] == "train" for group in groups], np.diff(start))
    scale = target_scale(target, train)
    y = labels(target, scale, options.target, notes)
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
    about["fingerprint"] = _fingerprint(names, metric_of(classes, options.metric), arrays)
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


def metric_of(classes: Sequence[str], metric: Literal["r2", "mse"]) -> Metric:
    return ACCURACY if classes else MSE if metric == "mse" else R2
