"""Conformance suites: what a part of your own must pass, by supplying one fixture.

Subclass a suite in a test file and give it a fixture ``part``::

    import pytest
    from metatune.testing import HeadConformance
    from my_parts import MyRule

    class TestMyRule(HeadConformance):
        @pytest.fixture
        def part(self):
            return MyRule(features=self.features, outputs=self.outputs)

A part that is a class at the top of an importable module can be checked in another process, too;
that is how it will be used.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from metatune.learners.heads import RidgeHead
from metatune.learners.interface import Backbone, Head, Learner, Params, Tensors, to_tensors
from metatune.learners.learner import ComposedLearner, build_learner
from metatune.learners.linear_head import LinearHead
from metatune.learners.padding import by_size, unpadded_unless_masks
from metatune.learners.training import loss_and_gradients
from metatune.strategy import Linear, Meta, Ridge, Strategy
from metatune.tasks.base import ACCURACY, MSE, SPLITS, Episode, FamilyInfo, TaskFamily

TASKS, SHOT, QUERY = 3, 4, 5


class _OtherProcess:
    """A process with a hash seed of its own, in which parts predict what is sent to them.

    One serves all suites, since to start it takes longer than most suites do.
    """

    _CODE = """
import os, pickle, sys
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # whatever parts print is no answer
sent = sys.stdin.buffer
while sent.peek(1):
    sys.path[:] = pickle.load(sent)  # first, for the parts are found by it
    learner, batch, seed = pickle.load(sent)
    found = learner.predict(learner.init(seed), batch)
    pickle.dump(found.detach().numpy(), answers)
    answers.flush()
"""
    _running: ClassVar[_OtherProcess | None] = None

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1"},
        )
        atexit.register(self._end)

    @classmethod
    def running(cls) -> _OtherProcess:
        """The one that runs; a new one where a part has ended it."""
        if cls._running is None or cls._running._process.poll() is not None:
            cls._running = cls()
        return cls._running

    def predict(self, learner: Learner, batch: Tensors, seed: int) -> Tensor:
        """What the learner predicts there, started by this seed."""
        self._send(sys.path)
        self._send((learner, batch, seed))
        assert self._process.stdout is not None
        try:
            found: Tensor = torch.from_numpy(pickle.load(self._process.stdout))
        except EOFError:
            self._process.wait()
            raise AssertionError("the part raised in another process: see above") from None
        return found

    def _send(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(pickle.dumps(what))
        self._process.stdin.flush()

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()


class _Conformance:
    """What holds for every way of learning a task.

    Attributes:
        kind: what the tasks of the suite ask for.
        input_shape: of one example.
        outputs: classes of a task, or numbers predicted.
        tolerance: largest difference that rounding explains, for values about 1.
        trains: False for a part without meta-parameters.
    """

    kind: ClassVar[Literal["classification", "regression"]] = "classification"
    input_shape: ClassVar[tuple[int, ...]] = (6,)
    outputs: ClassVar[int] = 3
    tolerance: ClassVar[float] = 1e-5
    trains: ClassVar[bool] = True

    def learner(self, part: Any) -> Learner:
        """The part within a whole learner."""
        raise NotImplementedError

    @property
    def info(self) -> FamilyInfo:
        """A family of random tasks."""
        classes = self.kind == "classification"
        return FamilyInfo(
            name="random",
            kind=self.kind,
            input_shape=self.input_shape,
            outputs=0 if classes else self.outputs,
            metric=ACCURACY if classes else MSE,
            train_classes=12 if classes else 0,
            groups={split: {"random": 12} for split in SPLITS},
            grouped=False,
            baselines=(),
            about="Random tasks.",
        )

    def batch(self) -> Tensors:
        """Random tasks that can be learned: inputs lie near what their labels say."""
        rng = torch.Generator().manual_seed(7)
        ways = self.outputs if self.kind == "classification" else 1
        sides = []
        centres = torch.randn(TASKS, ways, *self.input_shape, generator=rng)
        weights = torch.randn(TASKS, prod(self.input_shape), self.outputs, generator=rng)
        for each in (SHOT, QUERY):
            label = torch.arange(ways).repeat_interleave(each).expand(TASKS, -1)
            noise = torch.randn(TASKS, ways * each, *self.input_shape, generator=rng)
            x = centres[:, label[0]] + 0.5 * noise
            y = label.clone() if self.kind == "classification" else x.flatten(2) @ weights
            sides.append((x, y, label.clone() if self.kind == "classification" else None))
        (sx, sy, sc), (qx, qy, qc) = sides
        return Tensors(sx, sy, qx, qy, sc, qc, groups=("random",) * TASKS)

    def start(self, learner: Learner) -> Params:
        """Meta-parameters that differ from task to task of the suite in nothing."""
        return learner.init(0)

    # --- the tests ------------------------------------------------------------------------------

    def test_predictions_have_a_row_for_each_query_and_a_column_for_each_output(
        self, part: Any
    ) -> None:
        predictions = self._predict(part, self.batch())
        rows = self.batch().query_x.shape[:2]
        assert tuple(predictions.shape) == (*rows, self.outputs)
        assert bool(torch.isfinite(predictions).all())

    def test_inputs_are_not_changed(self, part: Any) -> None:
        learner, batch, untouched = self.learner(part), self.batch(), self.batch()
        params = self.start(learner)
        before = {name: p.clone() for name, p in params.items()}
        learner.predict(params, batch)
        loss_and_gradients(learner, params, batch, 0.0) if self.trains else None
        for name in ("support_x", "support_y", "query_x", "query_y"):
            assert torch.equal(getattr(batch, name), getattr(untouched, name)), name
        for name, p in before.items():
            assert torch.equal(params[name], p), name

    def test_query_labels_do_not_leak_into_predictions(self, part: Any) -> None:
        batch = self.batch()
        other = replace(batch, query_y=batch.query_y.flip(1) + (0 if self._classes else 100))
        assert torch.equal(self._predict(part, batch), self._predict(part, other))

    def test_a_query_point_is_not_judged_by_its_neighbours(self, part: Any) -> None:
        batch = self.batch()
        others = batch.query_x.clone()
        others[:, 1:] = others[:, 1:].flip(0) * 3
        found = self._predict(part, replace(batch, query_x=others))[:, 0]
        self._close(found, self._predict(part, batch)[:, 0])

    def test_the_order_of_tasks_does_not_matter(self, part: Any) -> None:
        batch, order = self.batch(), [2, 0, 1]
        self._close(self._predict(part, batch.tasks(order)), self._predict(part, batch)[order])

    def test_the_order_of_support_points_does_not_matter(self, part: Any) -> None:
        batch = self.batch()
        size = batch.support_x.shape[1]
        order = torch.randperm(size, generator=torch.Generator().manual_seed(1))
        shuffled = replace(
            batch, support_x=batch.support_x[:, order], support_y=batch.support_y[:, order]
        )
        self._close(self._predict(part, shuffled), self._predict(part, batch))

    def test_tasks_together_equal_tasks_one_by_one(self, part: Any) -> None:
        batch = self.batch()
        alone = [self._predict(part, batch.tasks([task])) for task in range(len(batch))]
        self._close(torch.cat(alone), self._predict(part, batch))

    def test_a_padded_task_is_learned_and_predicted_as_the_same_task_without_padding(
        self, part: Any
    ) -> None:
        learner = unpadded_unless_masks(self.learner(part))  # as every part is used
        params, batch = self.start(learner), _padded(self.batch())
        with torch.no_grad():
            found = learner.predict(params, batch)
            for task in range(len(batch)):
                ((_, own),) = by_size(batch.tasks([task]))
                size = own.query_x.shape[1]
                self._close(found[task, :size], learner.predict(params, own)[0])
            loss, other = (learner.meta_loss(params, b, 0.0) for b in (batch, _spoilt(batch)))
        self._close(loss, other)

    def test_the_gradient_is_that_of_finite_differences(self, part: Any) -> None:
        if not self.trains:
            return
        learner, batch = self.learner(part), self._double(self.batch())
        params = {name: p.double() for name, p in self.start(learner).items()}
        _, grads = loss_and_gradients(learner, params, batch, 0.0)
        rng = torch.Generator().manual_seed(3)
        along = {n: torch.randn(p.shape, generator=rng, dtype=p.dtype) for n, p in params.items()}
        step = 1e-6
        ends = [
            float(
                learner.meta_loss(
                    {n: p + sign * step * along[n] for n, p in params.items()}, batch, 0.0
                ).detach()
            )
            for sign in (1, -1)
        ]
        found = sum(float((g * along[n]).sum()) for n, g in grads.items() if g is not None)
        np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-7)

    def test_the_same_seed_gives_the_same_in_another_process(self, part: Any) -> None:
        learner, batch = self.learner(part), self.batch()
        here = learner.predict(learner.init(5), batch)
        there = _OtherProcess.running().predict(learner, batch, seed=5)
        self._close(there, here)

    def test_meta_parameters_can_be_saved_and_loaded(self, part: Any) -> None:
        learner, batch = self.learner(part), self.batch()
        params = self.start(learner)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            save_file({name: p.detach().contiguous() for name, p in params.items()}, path)
            loaded = load_file(path)
        assert loaded.keys() == params.keys()
        assert torch.equal(learner.predict(loaded, batch), learner.predict(params, batch))

    # --- helpers --------------------------------------------------------------------------------

    @property
    def _classes(self) -> bool:
        return self.kind == "classification"

    def _predict(self, part: Any, batch: Tensors) -> torch.Tensor:
        learner = self.learner(part)
        with torch.no_grad():
            return learner.predict(self.start(learner), batch)

    def _double(self, batch: Tensors) -> Tensors:
        y = (batch.support_y, batch.query_y)
        support_y, query_y = y if self._classes else (y[0].double(), y[1].double())
        return replace(
            batch,
            support_x=batch.support_x.double(),
            query_x=batch.query_x.double(),
            support_y=support_y,
            query_y=query_y,
        )

    def _close(self, found: torch.Tensor, expected: torch.Tensor) -> None:
        torch.testing.assert_close(found, expected, rtol=self.tolerance, atol=self.tolerance)


def _padded(batch: Tensors) -> Tensors:
    """The tasks, of which task ``t`` has lost its last ``t`` support and query examples."""
    lost = torch.arange(len(batch)).unsqueeze(1)
    masks: dict[str, Any] = {
        f"{side}_mask": torch.arange(x.shape[1]) < x.shape[1] - lost
        for side, x in (("support", batch.support_x), ("query", batch.query_x))
    }
    return _spoilt(replace(batch, **masks), 50.0)


def _spoilt(batch: Tensors, shift: float = 1.0) -> Tensors:
    """The same tasks, with other inputs and labels in the place of padding."""
    changed: dict[str, Any] = {}
    for side in ("support", "query"):
        mask: torch.Tensor | None = getattr(batch, f"{side}_mask")
        for name in ("x", "y"):
            values: torch.Tensor = getattr(batch, f"{side}_{name}")
            other = values + shift if values.is_floating_point() else values.flip(1)
            if mask is not None:
                here = mask.view(*mask.shape, *(1,) * (values.ndim - 2))
                changed[f"{side}_{name}"] = torch.where(here, values, other)
    return replace(batch, **changed)


class BackboneConformance(_Conformance):
    """For a ``metatune.learners.interface.Backbone``, under a ridge head.

    The fixture builds it for ``self.input_shape``.
    """

    def learner(self, part: Backbone) -> Learner:
        """The backbone under a ridge head."""
        strategy = Strategy(head=Ridge(learn=False))
        layer = LinearHead(Linear(), part.features, self.outputs)
        head = RidgeHead(Ridge(learn=False))
        return ComposedLearner(strategy, self.info, self.outputs, part, head, layer)

    def test_features_have_the_size_that_is_told(self, part: Backbone) -> None:
        params, x = part.init(torch.Generator().manual_seed(0)), self.batch().support_x
        assert tuple(part(params, x, x.shape[1]).shape) == (*x.shape[:2], part.features)

    def test_each_task_may_have_weights_of_its_own(self, part: Backbone) -> None:
        params, x = part.init(torch.Generator().manual_seed(0)), self.batch().support_x
        copies = {n: p.expand(len(x), *p.shape) for n, p in params.items()}
        self._close(part(copies, x, x.shape[1]), part(params, x, x.shape[1]))


class HeadConformance(_Conformance):
    """For a ``metatune.learners.interface.Head``, on raw inputs.

    The fixture builds it for ``self.features`` and ``self.outputs``.
    """

    @property
    def features(self) -> int:
        """Features an example."""
        return prod(self.input_shape)

    def learner(self, part: Head) -> Learner:
        """The rule of adaptation on raw inputs."""
        from metatune.learners.backbones import RawInputs

        layer = LinearHead(Linear(), self.features, self.outputs)
        raw = RawInputs(self.features)
        return ComposedLearner(Strategy(), self.info, self.outputs, raw, part, layer)


class LearnerConformance(_Conformance):
    """For a whole ``metatune.learners.interface.Learner``.

    The fixture builds it for ``self.info`` and ``self.outputs``.
    """

    def learner(self, part: Learner) -> Learner:
        """The learner itself."""
        return part


class FamilyConformance:
    """For a ``metatune.tasks.base.TaskFamily``; ``part`` is the family.

    Attributes:
        episode: the shape of the tasks that are drawn.
    """

    episode: ClassVar[Episode] = Episode(1, 10, 10)

    def test_shapes_are_those_that_info_tells(self, part: TaskFamily) -> None:
        info, episode = part.info, self.episode
        for split in SPLITS:
            tasks = part.sample(split, episode, range(3))
            support, query = episode.n_support, episode.n_query
            assert tasks.support_x.shape == (3, support, *info.input_shape)
            assert tasks.query_x.shape == (3, query, *info.input_shape)
            assert tasks.support_x.dtype == np.float32
            outputs = (info.outputs,) if info.kind == "regression" else ()
            assert tasks.support_y.shape == (3, support, *outputs)
            assert len(set(tasks.ids)) == 3
            to_tensors(tasks)

    def test_padding_stands_behind_real_examples_and_counts_for_nothing(
        self, part: TaskFamily
    ) -> None:
        strategy = Strategy(head=Ridge(learn=False), meta=Meta(rule="none"))
        learner = build_learner(strategy, part.info, self.episode.way)
        for split in SPLITS:
            tasks = part.sample(split, self.episode, range(8))
            masks = (tasks.support_mask, tasks.query_mask)
            for mask, x in zip(masks, (tasks.support_x, tasks.query_x), strict=True):
                assert (mask is None) == (masks[0] is None)
                assert np.isfinite(x).all()
                if mask is not None:
                    assert mask.shape == x.shape[:2]
                    assert mask.dtype == np.bool_
                    assert mask[:, 0].all()
                    assert (mask[:, :-1] >= mask[:, 1:]).all()
            if tasks.query_mask is not None:
                batch, real = to_tensors(tasks), torch.from_numpy(tasks.query_mask)
                found, other = (learner.predict({}, b)[real] for b in (batch, _spoilt(batch)))
                torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-4)

    def test_a_task_depends_on_its_own_seed_alone(self, part: TaskFamily) -> None:
        some = part.sample("train", self.episode, [1, 2, 3])
        other = part.sample("train", self.episode, [3, 1])
        np.testing.assert_array_equal(some.support_x[[2, 0]], other.support_x)
        np.testing.assert_array_equal(some.query_y[[2, 0]], other.query_y)
        assert [some.ids[2], some.ids[0]] == list(other.ids)

    def test_groups_of_splits_are_apart(self, part: TaskFamily) -> None:
        if not part.info.grouped:
            return
        seen: set[str] = set()
        for split in SPLITS:
            groups = set(part.info.groups[split])
            assert not groups & seen
            assert set(part.usable_groups(split, self.episode)) <= groups
            seen |= groups

    def test_a_group_can_be_asked_for(self, part: TaskFamily) -> None:
        for split in SPLITS:
            usable: Sequence[str] = part.usable_groups(split, self.episode)
            assert usable
            tasks = part.sample(split, self.episode, [5], [usable[-1]])
            assert tasks.groups == (usable[-1],)

    def test_the_content_hash_is_stable(self, part: TaskFamily) -> None:
        assert part.fingerprint == part.fingerprint
        assert len(part.fingerprint) >= 16
