"""Reading a run, finished or going on: as pandas frames to look at, as rows to resume from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from metatune.errors import RunError, first_of, one_line
from metatune.place import Place
from metatune.records.difficulty import tasks_of
from metatune.records.folder import RunFolder
from metatune.records.folding import Source
from metatune.records.frames import frame_of, settings_of
from metatune.records.log import scan, segment_names
from metatune.records.rows import Row
from metatune.records.schema import COLUMNS, FRAMES, schema
from metatune.records.snapshot import refuse_missing, snapshot


@dataclass(frozen=True)
class Run:
    """What a run measured, as it was when it was read. ``FRAMES`` has every column of its frames.

    A frame is read when it is first asked for, and kept; ``read`` gives a part of one, reads no
    more than that, and keeps nothing.

    Attributes:
        path: the run's folder; of one elsewhere a URI, without secrets.
        info: its ``run.json``.
    """

    path: Path | str
    info: dict[str, Any]
    _tables: Source = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    @property
    def sign(self) -> int:
        """+1 where a higher score is better, -1 where a lower one is.

        Raises:
            RunError: ``run.json`` does not say.
        """
        sign = self._of_family("sign")
        if sign not in (1, -1):
            raise RunError(f"{self.path}/run.json: family.sign: found {sign!r}; allowed: 1 or -1")
        return int(sign)

    @property
    def metric(self) -> str:
        """The name of the metric; errors as of ``sign``."""
        return str(self._of_family("metric"))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial, indexed by ``trial``; behind the columns of the table come those of
        the strategy, named like ``head.kind`` and ``outer.lr``, lists as JSON."""
        return self.read("trials")

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row a task that a trial was scored on at a rung."""
        return self.read("scores")

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row a set of tasks that a trial was scored on at a rung."""
        return self.read("curves")

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row a round that ended; ``incumbents`` and ``moves`` hold lists."""
        return self.read("rounds")

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """One row a task of a round, with how well strategies did on it."""
        return tasks_of(self)

    @cached_property
    def looks(self) -> pd.DataFrame:
        """One row a time that a reserved split was opened; ``trials`` holds lists."""
        return self.read("looks")

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row a verdict; none before the run has given it."""
        return self.read("verdicts")

    def read(
        self,
        frame: str,
        columns: Sequence[str] | None = None,
        where: ds.Expression | None = None,
        *,
        categories: bool = False,
    ) -> pd.DataFrame:
        """A part of a stored frame: no other columns and row groups are read from Parquet.

        Args:
            frame: any but ``tasks``, which is worked out.
            columns: of its columns, by default all; an index comes by itself. Of the trials'
                strategies all columns come, or none.
            where: which rows; of any columns that the frame has in ``FRAMES``.
            categories: names that repeat, such as those of trials and tasks, as categories, which
                take a tenth of the memory and of the time.

        Raises:
            RunError: there is no such frame or column, or the filter does not fit them.

        >>> run.read("scores", ["trial", "score"], pc.field("split") == "test")  # doctest: +SKIP
        """
        if frame not in COLUMNS:
            raise RunError(f"found frame {frame!r}; allowed: {', '.join(COLUMNS)}")
        index, known = FRAMES[frame].index, {column.name: column for column in COLUMNS[frame]}
        wanted = list(known) if columns is None else list(dict.fromkeys([index, *columns]))
        wanted = [name for name in wanted if name]
        if unknown := [str(name) for name in wanted if name not in known]:
            raise RunError(
                f"{frame}: found column {first_of(unknown)}; allowed: {', '.join(known)}"
            )
        if where is not None:
            _try_filter(frame, where)
        table = self._tables.read(frame, wanted, where)
        found = frame_of(table, [known[name] for name in wanted], categories)
        if frame == "trials" and columns is None:
            own = settings_of(table["strategy"].to_pylist())
            taken = {name: f"strategy.{name}" for name in own.columns if name in known}
            found = pd.concat([found, own.rename(columns=taken)], axis=1)
        return found.set_index(index) if index else found

    def _of_family(self, key: str) -> Any:
        family = self.info.get("family")
        if not isinstance(family, dict) or key not in family:
            raise RunError(f"{self.path}/run.json: found no family.{key}: the file is not whole")
        return family[key]


def read_run(path: str | Path) -> Run:
    """A run's records as frames; also of a run that is going on, or has not measured anything.

    Args:
        path: the run's folder, or a URI such as ``s3://bucket/runs/one``, see ``metatune.place``.

    Raises:
        RunError: it is no run, cannot be read, or its log is damaged before its end.

    >>> read_run("runs/omniglot").trials.nlargest(3, "score")  # doctest: +SKIP
    """
    place = Place.at(path)
    if not place.has("run.json"):
        raise RunError(f"{place.name} is not a run folder: run.json is missing")
    info = _info(place)
    if not place.has("records"):
        raise RunError(f"{place.shown('records')} is missing: the run's folder is not whole")
    return Run(place.name, info, snapshot(place))


def read_rows(folder: RunFolder) -> list[Row]:
    """Every row of a run in order, all drivers' segments: what a resume folds over.

    Raises:
        RunError: the log is damaged before its end, or a part of it is missing.
    """
    place = folder.place
    refuse_missing(place)
    names = [f"records/{name}" for name in segment_names(place.listed("records"))]
    return [row for name in names for row in scan(place.read(name), place.shown(name)).rows]


def read_info(folder: RunFolder) -> dict[str, Any]:
    """What ``run.json`` says.

    Raises:
        RunError: it cannot be read.
    """
    return _info(folder.place)


def _info(place: Place) -> dict[str, Any]:
    shown = place.shown("run.json")
    try:
        info = json.loads(place.read("run.json"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{shown} cannot be read: {one_line(str(error))}") from error
    if not isinstance(info, dict):
        raise RunError(f"{shown} holds a {type(info).__name__}: expected an object")
    return info


def _try_filter(frame: str, where: ds.Expression) -> None:
    """Refuses a filter that does not fit, so that no later error is its fault."""
    try:
        schema(frame).empty_table().filter(where)
    except (pa.ArrowException, TypeError) as error:
        names = ", ".join(column.name for column in COLUMNS[frame])
        first = one_line(str(error).splitlines()[0])[:200]
        raise RunError(f"{frame}: found filter {where}: {first}; columns: {names}") from None
