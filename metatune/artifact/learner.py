"""What a user of an artifact holds: a strategy that learns tasks, and a task that it learned."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from metatune.artifact import files
from metatune.artifact import members as m
from metatune.artifact.fallback import Choice, Fallback, choose
from metatune.artifact.inputs import labels_of, numbers_of, rows_of
from metatune.artifact.intervals import Calibration
from metatune.artifact.likeness import Likeness, summary
from metatune.artifact.series import AdaptedSeries, SeriesRules, learn_series
from metatune.errors import ArtifactError
from metatune.learners.interface import Learner, Tensors
from metatune.tasks.base import Episode, FamilyInfo

Array = NDArray[Any]
SUPPORT, LABELS = "support.safetensors", "support.json"
CHUNK = 1024  # query rows that are predicted at a time, where none sees the others


class UnlikeTask(UserWarning):
    """A task is unlike those that the strategy was trained on."""


@dataclass(frozen=True)
class Target:
    """What is predicted.

    Attributes:
        name: of its column; may be empty.
        mean, spread: numbers are learned in this unit: ``(y - mean) / spread``.
        classes: names, where classes mean the same in every task; else empty.
    """

    name: str
    mean: float
    spread: float
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Artifact:
    """A strategy with all that it learned; see ``metatune.load``.

    Attributes:
        stored: as it lies in its folder.
        info: the family of its tasks; it names no groups.
        episode: the shape of the tasks that it was judged on.
        members: the strategy; of an ensemble several.
        inputs: their names; empty where they have none.
        target: what is predicted.
        calibration: of intervals; None where classes are predicted.
        likeness: what training tasks are like.
        fallback: the baseline that learns a task where it does better on the task's own rows;
            None where that was found not to pay.
        series: how the history of a series becomes a task; None of other families.
    """

    stored: files.Stored = field(repr=False)
    info: FamilyInfo
    episode: Episode
    members: tuple[m.Member, ...] = field(repr=False)
    inputs: tuple[str, ...]
    target: Target
    calibration: Calibration | None = field(repr=False)
    likeness: Likeness = field(repr=False)
    fallback: Fallback | None = field(default=None, repr=False)
    series: SeriesRules | None = field(default=None, repr=False)

    @property
    def is_classifier(self) -> bool:
        """True where classes are predicted, else numbers."""
        return self.info.kind == "classification"

    def adapt(self, x: Any, y: Any) -> Adapted:
        """Learn a new task from its support set.

        Args:
            x: inputs ``(N, *input_shape)``, as the family encodes them; or a pandas frame with the
                columns of the family's tables, which is encoded as the run's tables were.
            y: labels ``(N,)``: numbers in their own unit (``(N, outputs)`` of several), or classes.

        Warns:
            UnlikeTask: the task is unlike those that the strategy was trained on.

        Raises:
            ArtifactError: these are no inputs or labels of such a task, in a sentence.
        """
        rows = torch.from_numpy(rows_of(self, x, "x"))
        if self.is_classifier:
            labels: Array
            labels, classes = labels_of(y, self.target.classes)
        else:
            numbers, classes = numbers_of(y, self.info.outputs), np.empty(0, object)
            labels = ((numbers - self.target.mean) / self.target.spread).astype(np.float32)
        if len(labels) != len(rows):
            raise ArtifactError(
                f"y: found {len(labels)} labels; allowed: {len(rows)}, one a row of x"
            )
        adapted = Adapted.of(self, rows, torch.from_numpy(labels), classes)
        y_of = None if self.is_classifier else adapted.y[None]
        names = self.inputs or tuple(f"input {n}" for n in range(rows[0].numel()))
        complaint = self.likeness.complaint(summary(rows[None], y_of)[0], names)
        if complaint is not None:
            warnings.warn(complaint, UnlikeTask, stacklevel=2)
        return adapted

    def adapt_series(self, times: Any, values: Any) -> AdaptedSeries:
        """Learn a series from its history, to forecast the steps after it; needs pandas.

        Args:
            times: ``(R,)`` datetimes, or text; UTC where a zone is given. In any order.
            values: ``(R,)`` raw numbers, one at each time.

        Returns:
            What forecasts as many steps as the run's forecasts looked ahead.

        Warns, Raises:
            As of ``adapt``; where the history is too short, irregular or has gaps, in a sentence.
        """
        return learn_series(self, times, values)

    def learned(
        self, x: Tensor, y: Tensor, way: int, members: tuple[m.Member, ...] | None = None
    ) -> Learned:
        """What a task says of query rows.

        Args:
            x: ``(S, *input_shape)``.
            y: ``(S,)`` numbers of classes, or ``(S, outputs)`` in the unit of the training.
            way: number of classes; of a regression 1.
            members: what learns it; by default the strategy.

        Raises:
            ArtifactError: the strategy was trained for another number of classes.
        """
        members = members or self.members
        learners = tuple(one.learner(self.info, way) for one in members)
        return Learned(members, learners, self.is_classifier, x, y)

    def chosen(self, x: Tensor, y: Tensor, way: int) -> tuple[Learned, Choice | None]:
        """The same by whoever does better on the support set; with the choice, if there is one."""
        strategy, fallback = self.learned(x, y, way), self.fallback
        if fallback is None:
            return strategy, None
        baseline = self.learned(x, y, way, fallback.members)
        choice = choose(strategy.predict, baseline.predict, fallback.name, x, y, self.info)
        return baseline if choice is not None and choice.fell_back else strategy, choice


@dataclass(frozen=True)
class Learned:
    """A task as tensors, ready to be asked.

    Attributes:
        members, learners, classes: as of ``members.predict``.
        x, y: the support set.
    """

    members: tuple[m.Member, ...]
    learners: tuple[Learner, ...]
    classes: bool
    x: Tensor
    y: Tensor

    @property
    def jointly(self) -> bool:
        """True where the query rows that are predicted together inform each other."""
        return any(one.strategy.transductive or one.strategy.has_own_part for one in self.members)

    def __call__(self, queries: Tensor) -> Tensor:
        """``(Q, outputs)`` of query rows ``(Q, *input_shape)``."""
        parts = torch.split(queries, len(queries) if self.jointly else CHUNK)
        return torch.cat([self._of(part) for part in parts])

    def _of(self, queries: Tensor) -> Tensor:
        empty = self.y.new_zeros(len(queries), *self.y.shape[1:])
        return self.predict(Tensors(self.x[None], self.y[None], queries[None], empty[None]))[0]

    def predict(self, batch: Tensors) -> Tensor:
        """``(T, Q, outputs)``: the same learners on other tasks."""
        return m.predict(self.members, self.learners, self.classes, batch)


@dataclass(frozen=True)
class Adapted:
    """A task that was learned.

    The support set is kept and learned anew, together with the query, at each call: that is how
    strategies are trained and judged.

    Attributes:
        artifact: what learned it.
        x: ``(S, *input_shape)`` float32, encoded.
        y: ``(S,)`` numbers of classes, or ``(S, outputs)`` in the unit of the training.
        classes: the class of each number; empty for numbers.
        learned: the same, ready to be asked.
        choice: who learned it, of strategy and fallback, and why; None without a fallback, or
            where the support set is too small to choose by.
    """

    artifact: Artifact
    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    classes: Array
    learned: Learned = field(repr=False, compare=False)
    choice: Choice | None = None

    @property
    def used(self) -> str:
        """Who learned it: ``strategy``, or the name of the baseline that it fell back to."""
        return "strategy" if self.choice is None else self.choice.used

    @staticmethod
    def of(artifact: Artifact, x: Tensor, y: Tensor, classes: Array) -> Adapted:
        """A task that an artifact learns; see the attributes."""
        learned, choice = artifact.chosen(x, y, max(1, len(classes)))
        return Adapted(artifact, x, y, classes, learned, choice)

    def predict(self, x: Any) -> Array:
        """``(Q,)``: classes, or numbers in their own unit (``(Q, outputs)`` of several).

        Args:
            x: query inputs, as of ``Artifact.adapt``.

        Raises:
            ArtifactError: these are no such inputs, or the task cannot be learned.
        """
        found = self._raw(x)
        if self.artifact.is_classifier:
            picked: Array = self.classes[found.argmax(1).numpy()]
            return picked
        return self._in_own_unit(found)

    def predict_proba(self, x: Any) -> Array:
        """``(Q, classes)``: the probability of each of ``classes``; arguments as of ``predict``."""
        if not self.artifact.is_classifier:
            raise ArtifactError(
                "predict_proba: this artifact predicts numbers; allowed: predict, predict_interval"
            )
        probabilities: Array = self._raw(x).double().softmax(1).numpy()
        return probabilities

    def predict_interval(self, x: Any, level: float = 0.9) -> Array:
        """``(Q, 2)``: the lower and upper end (``(Q, outputs, 2)`` of several outputs).

        Of tasks of new groups that are like those of ``confirm``, a label lies within with chance
        ``level`` at least, on average over groups; see ``metatune.artifact.intervals``.

        Args:
            x: as of ``predict``.
            level: the chance, below 1.
        """
        calibration = self.artifact.calibration
        if calibration is None:
            raise ArtifactError(
                "predict_interval: this artifact predicts classes; allowed: predict, predict_proba"
            )
        half = calibration.half_width(self.y.double(), level)
        found = self._raw(x).double()
        ends = [self._in_own_unit(found - half), self._in_own_unit(found + half)]
        return np.stack(ends, -1)

    def save(self, path: str | Path) -> Path:
        """Write artifact and support set into a new folder, for ``metatune.load_adapted``."""
        plain = {"classes": self.classes.tolist()}

        def support(folder: Path) -> None:
            save_file({"x": self.x.contiguous(), "y": self.y.contiguous()}, folder / SUPPORT)
            (folder / LABELS).write_text(json.dumps(plain), encoding="utf-8")

        return files.write(self.artifact.stored, path, support)

    def _raw(self, x: Any) -> Tensor:
        """``(Q, outputs)``: logits, or numbers in the unit of the training."""
        queries = torch.from_numpy(rows_of(self.artifact, x, "x"))
        try:
            found = self.learned(queries)
        except (RuntimeError, ValueError, IndexError, FloatingPointError) as error:
            said = " ".join(str(error).split())[:200]
            raise ArtifactError(
                f"the task cannot be learned from this support set: {said}"
            ) from error
        if not bool(torch.isfinite(found).all()):
            raise ArtifactError(
                f"predictions are not finite: the support set of {len(self.x)} rows is too small "
                "or too strange for this strategy"
            )
        return found

    def _in_own_unit(self, values: Tensor) -> Array:
        target = self.artifact.target
        found: Array = (values.double() * target.spread + target.mean).numpy()
        return found[:, 0] if self.artifact.info.outputs == 1 else found


def names_of(classes: Sequence[Any]) -> Array:
    """Classes as an array of the narrowest type that holds them."""
    same = len({type(one) for one in classes}) == 1
    return np.array(classes) if same else np.array([*classes, None], object)[:-1]
