"""The classes that tasks have of their own, and the rows of each: what N-way tasks draw from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metatune.tasks.draws import Whole
from metatune.tasks.pools import Pool


@dataclass(frozen=True)
class ClassRows:
    """``R`` rows of ``T`` tasks, class by class. A *cell* is a class of a task; there are ``C``.

    Attributes:
        rows: ``(R,)``: numbers of rows, int32 where they fit.
        start: ``(C + 1,)``: cell c's rows are ``rows[start[c]:start[c + 1]]``.
        classes: ``(C,)``: the number of each cell's class among all of the table.
        first: ``(T + 1,)``: task t's cells are ``first[t]:first[t + 1]``.
    """

    rows: NDArray[np.integer]
    start: Whole
    classes: Whole
    first: Whole

    @staticmethod
    def of(y: Whole, start: Whole) -> ClassRows:
        """From numbers of classes ``(R,)``; task t's are ``start[t]:start[t + 1]``."""
        small = len(y) <= np.iinfo(np.int32).max
        rows: NDArray[np.integer] = np.empty(len(y), np.int32 if small else np.int64)
        for begin, end in zip(start[:-1].tolist(), start[1:].tolist(), strict=True):
            rows[begin:end] = begin + np.argsort(y[begin:end], kind="stable")
        own = y[rows]
        new = np.ones(len(y), bool)  # where another cell begins
        new[1:] = own[1:] != own[:-1]
        new[start[:-1]] = True
        begins = np.flatnonzero(new)
        return ClassRows(
            rows, np.append(begins, len(y)), own[begins], np.searchsorted(begins, start)
        )

    def cells(self, count: int) -> Pool:
        """The cells of at least ``count`` rows, task by task; the pool's groups are the tasks."""
        enough = np.diff(self.start) >= count
        so_far = np.append(0, np.cumsum(enough))
        tasks = tuple(str(task) for task in range(len(self.first) - 1))
        return Pool(tasks, so_far[self.first], np.flatnonzero(enough))

    def sizes(self, task: int) -> Whole:
        """The rows of each class of a task."""
        found: Whole = np.diff(self.start[self.first[task] : self.first[task + 1] + 1])
        return found
