"""Tasks that are the rows of a table: the user's own data, from CSV and Parquet files.

A *task* is what one value of the task column (or one file) holds, a *group* what tasks share and
the next user will not have seen. Rows are encoded once (``encoded.py``); a task that is drawn is a
gather of some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError, first_of
from metatune.tasks.base import R2, SPLITS, Episode, FamilyInfo, Split, TaskBatch
from metatune.tasks.draws import Seeds, Whole, without_replacement
from metatune.tasks.pools import Pool, check_classes
from metatune.tasks.splits import SHARES, few_groups, folds
from metatune.tasks.tables.classes import ClassRows
from metatune.tasks.tables.encoded import TableData, metric_of, read_table
from metatune.tasks.tables.options import TableOptions

R2_QUERY = 3  # query rows that R2 takes: of one or two it has no mean
REGRESSION = ("ridge", "support_mean", "pooled_linear", "boosted_trees", "pooled_ridge")
CLASSIFICATION = (
    "ridge", "support_mean", "logistic", "nearest_neighbour", "pooled_linear", "boosted_trees",
    "pooled_ridge",
)  # fmt: skip
OWN_CLASSES = ("ridge", "logistic", "nearest_neighbour")
"""Where each task draws classes of its own: nothing is known of them beforehand."""


def open_table(options: TableOptions) -> TableFamily:
    """The family; arguments and errors as of ``read_table``."""
    return TableFamily(
        read_table(options), options.metric, options.splits, options.fold, options.way
    )


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
            metric=metric_of(data.classes, metric),
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
