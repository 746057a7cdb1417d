"""What a task is, and what a source of tasks must offer.

A *task* is one learning problem: a support set to learn from and a query set to be judged on. A
*family* is a source of tasks with four splits that share no group. This module needs numpy only,
so a driver can look at data without importing torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "select", "confirm", "test"]
SPLITS: tuple[Split, ...] = ("train", "select", "confirm", "test")


@dataclass(frozen=True)
class Episode:
    """The shape of a task.

    Attributes:
        way: classes a task; 1 for regression.
        shot: support examples a class (regression: support points).
        query: query examples a class (regression: query points).
        per_class: False where shot and query count the examples of a whole task, whose classes
            are as its data have them.
        fewest: support examples with which a task that has fewer than support and query ask for
            takes part, padded; None: such a task is never drawn. Families whose tasks can all be
            of one size take no notice.
    """

    way: int
    shot: int
    query: int
    per_class: bool = True
    fewest: int | None = None

    @property
    def n_support(self) -> int:
        return self.way * self.shot if self.per_class else self.shot

    @property
    def n_query(self) -> int:
        return self.way * self.query if self.per_class else self.query

    @property
    def least_support(self) -> int:
        """Support examples of the smallest task that takes part."""
        return self.n_support if self.fewest is None else min(self.fewest, self.n_support)

    @property
    def least_examples(self) -> int:
        """Examples, support and query together, of the smallest task that takes part."""
        return self.n_support + self.n_query if self.fewest is None else self.least_support + 1

    def divided(self, examples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Support and query examples of tasks that have so many, each ``least_examples`` or more.

        A task with fewer than both ask for gives its support their share of them, rounded down,
        and ``least_support`` at least; the others are its query.
        """
        support, query = self.n_support, self.n_query
        share = examples * support // (support + query)
        own = np.minimum(np.maximum(share, self.least_support), support)
        return own, np.minimum(examples - own, query)


@dataclass(frozen=True)
class TaskBatch:
    """``T`` tasks of one shape: ``S`` support and ``Q`` query examples each.

    A smaller task is padded behind its real examples. What stands there is an example of the task
    (its first support example, where nothing speaks against it), so that whatever is computed of
    it is finite; it counts for nothing.

    Attributes:
        support_x: ``(T, S, *input_shape)`` float32.
        support_y: ``(T, S)`` int64 labels in [0, way), or ``(T, S, outputs)`` float32 targets.
        query_x: ``(T, Q, *input_shape)`` float32.
        query_y: as ``support_y``, with Q.
        ids: one name a task, unique within the split for a given seed.
        groups: the group of each task.
        support_class: ``(T, S)`` int64, the class's number among all classes of the split, for
            joint pre-training; None for regression.
        query_class: ``(T, Q)`` int64, likewise.
        support_mask: ``(T, S)`` bool, True where an example is real, as at least one is; None:
            all are.
        query_mask: ``(T, Q)`` bool, likewise. There are both masks or none.
    """

    support_x: NDArray[np.float32]
    support_y: NDArray[np.int64] | NDArray[np.float32]
    query_x: NDArray[np.float32]
    query_y: NDArray[np.int64] | NDArray[np.float32]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    support_class: NDArray[np.int64] | None = None
    query_class: NDArray[np.int64] | None = None
    support_mask: NDArray[np.bool_] | None = None
    query_mask: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Metric:
    """How a task is judged.

    Attributes:
        name: ``accuracy``; ``mse``; ``rmse``, its root on each task; ``r2`` against the mean of the
            support labels; ``spearman``, the correlation of ranks, 0 where all predictions are
            equal; ``mae``, mean absolute error in units of the support labels' standard
            deviation; ``mase``, in units of the mean absolute error that a naive forecast has on
            the support set (Hyndman & Koehler 2006, "Another look at measures of forecast
            accuracy").
        sign: +1 where higher is better, -1 where lower is.
        naive: of ``mase``: the input that is the naive forecast.
    """

    name: Literal["accuracy", "mse", "rmse", "r2", "spearman", "mae", "mase"]
    sign: Literal[1, -1]
    naive: int | None = None


ACCURACY = Metric("accuracy", 1)
MSE = Metric("mse", -1)
RMSE = Metric("rmse", -1)
R2 = Metric("r2", 1)
SPEARMAN = Metric("spearman", 1)
MAE = Metric("mae", -1)


@dataclass(frozen=True)
class FamilyInfo:
    """What learners and reports need to know of a family, as plain data.

    Attributes:
        name: as in the space file.
        kind: what is predicted.
        input_shape: of one example, such as ``(1, 28, 28)`` or ``(1,)``.
        outputs: regression: numbers predicted an example; classification: 0.
        metric: the score of one task.
        train_classes: classes in ``train``; 0 for regression.
        groups: groups of each split with the number of classes (or tasks) in each. A family
            whose tasks share nothing (drawn afresh each time) has one group a split.
        grouped: False where groups mean nothing, as for tasks drawn from a formula, or for classes
            that no group holds.
        baselines: presets that stand in every leaderboard of this family.
        about: one sentence for ``metatune families``.
        views: named ranges ``[from, to)`` of a table's columns, which kernels can look at alone.
        shared_classes: classes mean the same in every task: each task has the number of all of
            them as its way, and a support set may lack some.
        forecasts: inputs that are forecasts of an example's target, in its own units, by name:
            what ``prior: {kind: forecast}`` predicts.
        licence: of the data, where it is known; else empty.
    """

    name: str
    kind: Literal["classification", "regression"]
    input_shape: tuple[int, ...]
    outputs: int
    metric: Metric
    train_classes: int
    groups: Mapping[Split, Mapping[str, int]]
    grouped: bool
    baselines: tuple[str, ...]
    about: str
    views: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    shared_classes: bool = False
    forecasts: Mapping[str, int] = field(default_factory=dict)
    licence: str = ""

    def effective_groups(self, split: Split) -> float:
        """Number of equally large groups that would weigh the same: (sum n)^2 / sum n^2."""
        sizes = list(self.groups[split].values())
        return sum(sizes) ** 2 / sum(n * n for n in sizes)


class TaskFamily(Protocol):
    """A source of tasks. Deterministic: equal arguments give equal tasks in every process."""

    @property
    def info(self) -> FamilyInfo: ...

    @property
    def fingerprint(self) -> str:
        """A content hash of the data, for the record of a run."""
        ...

    def check(self, episode: Episode) -> None:
        """Raise DataError, with what is at hand, unless every split can draw such tasks."""
        ...

    def usable_groups(self, split: Split, episode: Episode) -> tuple[str, ...]:
        """The groups of a split that can hold such a task, in a fixed order.

        Evaluation cycles over them, so that every group gets equally many tasks. Groups too
        small for the episode are left out, here and where a seed draws its group.
        """
        ...

    def sample(
        self,
        split: Split,
        episode: Episode,
        seeds: Sequence[int],
        groups: Sequence[str] | None = None,
    ) -> TaskBatch:
        """Draw one task a seed; a task depends on its own seed (and group) alone.

        Args:
            split: where to draw from.
            episode: way, shots and query points.
            seeds: one a task.
            groups: the group of each task; None lets each seed draw its group.
        """
        ...


@runtime_checkable
class Tells(Protocol):
    """A family that has something to say of its data, such as what was left out and why."""

    def notes(self, episode: Episode) -> tuple[str, ...]:
        """Sentences for people, given the shape of the tasks."""
        ...


def notes_of(family: TaskFamily, episode: Episode) -> tuple[str, ...]:
    """What a family has to say of its data; nothing where it has not."""
    return family.notes(episode) if isinstance(family, Tells) else ()


@runtime_checkable
class Rotates(Protocol):
    """A family whose splits are one fold of several: each rotating group is in ``test`` of one."""

    @property
    def folds(self) -> int:
        """How many folds there are."""
        ...


@runtime_checkable
class NamesInputs(Protocol):
    """A family whose inputs have names, such as those of a table's columns."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """One name an input, in their order."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """A family whose inputs are made from the columns of the user's own tables."""

    @property
    def encoding(self) -> Mapping[str, Any]:
        """How rows of a task that is new become inputs and labels, as plain data.

        ``columns``, plain ``tables.columns.Column``; ``inputs``, their names in order; ``target``,
        its column; ``mean`` and ``spread`` of a number; ``classes``, their names (numbers: none).
        """
        ...


@runtime_checkable
class ReadsSeries(Protocol):
    """A family whose tasks are stretches of time series."""

    @property
    def reading(self) -> Mapping[str, Any]:
        """How a history that is new becomes a task, as plain data: ``timeseries.reading``."""
        ...
