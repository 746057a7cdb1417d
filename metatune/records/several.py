"""Several runs read together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, overload

import pandas as pd
import pyarrow.dataset as ds

from metatune.errors import RunError
from metatune.place import Place, below
from metatune.records.reading import Run, read_run

ABOUT = "folds.json"
"""In a folder that holds a run for each fold: how many there are."""


class Runs(Sequence[Run]):
    """Some runs, in order.

    Their frames are those of the runs below one another. In front stands ``run``, the run's name:
    as a level of the index where a frame has one, else as a column. It is the last part of its
    path, and as many parts before it as it takes to tell the runs apart.

    Attributes:
        names: of the runs.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        """
        Raises:
            RunError: there is none, or one is there twice.
        """
        if not runs:
            raise RunError("found no run; allowed: one or more runs' folders")
        for path, times in Counter(str(run.path) for run in runs).items():
            if times > 1:
                raise RunError(f"{path}: found {times} times; allowed: each run once")
        self._runs = tuple(runs)
        self.names = _names([PurePosixPath(run.path) for run in runs])

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, which: int | str) -> Run: ...
    @overload
    def __getitem__(self, which: slice) -> Runs: ...
    def __getitem__(self, which: int | str | slice) -> Run | Runs:
        """A run by its number or name, or some of them."""
        if isinstance(which, slice):
            return Runs(self._runs[which])
        if isinstance(which, int):
            return self._runs[which]
        if which not in self.names:
            raise RunError(f"found run {which!r}; allowed: {', '.join(self.names)}")
        return self._runs[self.names.index(which)]

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __repr__(self) -> str:
        return f"Runs({', '.join(self.names)})"

    @cached_property
    def trials(self) -> pd.DataFrame:
        """Indexed by ``run`` and ``trial``."""
        return self._together(lambda run: run.trials)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """As of each run."""
        return self._together(lambda run: run.scores)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """As of each run."""
        return self._together(lambda run: run.curves)

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """As of each run."""
        return self._together(lambda run: run.rounds)

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """As of each run."""
        return self._together(lambda run: run.tasks)

    @cached_property
    def looks(self) -> pd.DataFrame:
        """As of each run."""
        return self._together(lambda run: run.looks)

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """As of each run."""
        return self._together(lambda run: run.verdicts)

    def read(
        self, frame: str, columns: Sequence[str] | None = None, where: ds.Expression | None = None
    ) -> pd.DataFrame:
        """A part of a frame of all runs; arguments and errors as of ``Run.read``."""
        return self._together(lambda run: run.read(frame, columns, where))

    def each(self, ask: Callable[..., pd.DataFrame], *args: Any, **options: Any) -> pd.DataFrame:
        """A question to each run by itself; the answers below one another.

        Nothing is compared across runs: each has trials, tasks and a default of its own.

        Args:
            ask: from a run to a frame, such as ``leaderboard``.
            args, options: for ``ask``.

        Raises:
            RunError: their scores are of different metrics.
        """
        metrics = {run.metric: name for name, run in zip(self.names, self, strict=True)}
        if len(metrics) > 1:
            found = ", ".join(f"{metric} ({name})" for metric, name in metrics.items())
            raise RunError(f"found runs with different metrics: {found}; allowed: one metric")
        return self._together(lambda run: ask(run, *args, **options))

    def _together(self, of: Callable[[Run], pd.DataFrame]) -> pd.DataFrame:
        parts = [of(run) for run in self]
        if isinstance(parts[0].index, pd.RangeIndex):
            name = pd.CategoricalDtype(list(self.names))
            for number, part in enumerate(parts):
                own = pd.Categorical.from_codes([number] * len(part), dtype=name)
                parts[number] = part.assign(run=own)[["run", *part.columns]]
            return pd.concat(parts, ignore_index=True)
        return pd.concat(parts, keys=self.names, names=["run", *parts[0].index.names])


def read_runs(*paths: str | Path) -> Runs:
    """Several runs, as ``read_run`` reads each.

    Args:
        paths: of runs, or of folders that hold the runs of folds, as ``metatune run --folds``
            makes them, whose runs come fold by fold.

    Raises:
        RunError: one is no run, or is there twice.
    """
    return Runs([read_run(each) for path in paths for each in _folders(path)])


def is_rotation(path: str | Path) -> bool:
    """Whether a folder holds the runs of folds, as ``metatune run SPACE.yaml --folds`` makes it."""
    return Place.at(path).has(ABOUT)


def folders_of(path: str | Path) -> list[str]:
    """The folders of a rotation's runs, fold by fold: paths or URIs.

    Raises:
        RunError: it is no rotation.
    """
    return [below(path, f"fold-{fold}") for fold in range(_count(path))]


def _folders(path: str | Path) -> Sequence[str | Path]:
    return folders_of(path) if is_rotation(path) else [path]


def _count(path: str | Path) -> int:
    try:
        return int(json.loads(Place.at(path).read(ABOUT))["folds"])
    except (RunError, ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{Place.at(path).name} holds no runs of folds: {ABOUT} cannot be read"
        ) from error


def _names(paths: Sequence[PurePosixPath]) -> tuple[str, ...]:
    """The last parts of paths, as many as it takes to tell them apart."""
    longest = max(len(path.parts) for path in paths)
    for count in range(1, longest + 1):
        names = tuple("/".join(path.parts[-count:]) for path in paths)
        if len(set(names)) == len(names):
            return names
    return tuple(map(str, paths))
