"""The conformance suites: built-in parts pass them, and parts with a fault do not."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metatune import testing
from metatune.learners.backbones import build_backbone
from metatune.learners.heads import build_head
from metatune.learners.learner import build_learner
from metatune.presets import preset
from metatune.strategy import GP, MLP, Amortised, Conv4, Prototypes, SetEncoder
from metatune.tasks.base import Episode
from metatune.tasks.registry import open_family

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.append(str(EXAMPLES))

import own_parts  # noqa: E402 - an example is no package


class TestFourier(testing.BackboneConformance):
    @pytest.fixture
    def part(self):
        return own_parts.Fourier(input_shape=self.input_shape)


class TestSmoother(testing.HeadConformance):
    kind = "regression"

    @pytest.fixture
    def part(self):
        return own_parts.Smoother(features=self.features, outputs=self.outputs)


class TestShrunk(testing.LearnerConformance):
    kind = "regression"

    @pytest.fixture
    def part(self):
        return own_parts.Shrunk(info=self.info, outputs=self.outputs)


class TestSetEncoder(testing.BackboneConformance):
    @pytest.fixture
    def part(self):
        return build_backbone(SetEncoder(width=8), self.input_shape, grouped=False)


class TestConv4(testing.BackboneConformance):
    input_shape = (1, 8, 8)

    @pytest.fixture
    def part(self):
        return build_backbone(Conv4(width=4, depth=2), self.input_shape, grouped=False)


class TestGP(testing.HeadConformance):
    kind = "regression"

    @pytest.fixture
    def part(self):
        return build_head(GP(rbf="raw"), self.features, self.outputs, {}, classes=False)


class TestNeuralProcess(testing.HeadConformance):
    @pytest.fixture
    def part(self):
        part = Amortised(summary="attention", width=8, heads=2)
        return build_head(part, self.features, self.outputs, {}, classes=True)


class TestMAML(testing.LearnerConformance):
    kind = "regression"
    outputs = 1

    @pytest.fixture
    def part(self):
        strategy = preset("maml", self.info).model_copy(
            update={"backbone": MLP(width=8, activation="tanh")}
        )
        return build_learner(strategy, self.info, 1)


class TestSinusoids(testing.FamilyConformance):
    @pytest.fixture
    def part(self):
        return open_family("sinusoid")


class TestGlyphs(testing.FamilyConformance):
    episode = Episode(5, 1, 2)

    @pytest.fixture
    def part(self):
        return open_family("glyphs")


# --- parts with a fault ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Faulty:
    """Prototypes with one fault."""

    fault: str

    @property
    def masks(self):
        return self.fault == "padding"

    def init(self, generator):
        return {"scale": torch.tensor(1.0)}

    def __call__(self, params, support, targets, query):
        head = build_head(Prototypes(), 6, 3, {}, classes=True)
        assert head is not None
        found = params["scale"] * head({}, support, targets, query)
        match self.fault:
            case "neighbours":
                return found - found.mean(1, keepdim=True)
            case "tasks":
                return found - found.mean(0, keepdim=True)
            case "order":
                return found + support.features[:, :1, :1]
            case "padding":
                return found + support.features.mean(1, keepdim=True)[:, :, :1]
            case "shape":
                return found[:, :, :2]
            case "mutation":
                params["scale"].data.add_(1.0)
                return found
            case "gradient":
                return found.detach() + params["scale"] * 0
        return found


class Suite(testing.HeadConformance):
    pass


FAULTS = {
    "neighbours": Suite.test_a_query_point_is_not_judged_by_its_neighbours,
    "tasks": Suite.test_tasks_together_equal_tasks_one_by_one,
    "order": Suite.test_the_order_of_support_points_does_not_matter,
    "padding": Suite.test_a_padded_task_is_learned_and_predicted_as_the_same_task_without_padding,
    "shape": Suite.test_predictions_have_a_row_for_each_query_and_a_column_for_each_output,
    "mutation": Suite.test_inputs_are_not_changed,
    "gradient": Suite.test_the_gradient_is_that_of_finite_differences,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault):
    FAULTS[fault](Suite(), Faulty("none"))
    with pytest.raises(AssertionError):
        FAULTS[fault](Suite(), Faulty(fault))


class Leaky:
    """A learner that looks at what it should predict."""

    def init(self, seed):
        return {"nothing": torch.zeros(())}

    def predict(self, params, batch):
        return torch.nn.functional.one_hot(batch.query_y, 3).float() + params["nothing"]

    def meta_loss(self, params, batch, progress):
        return params["nothing"]


def test_a_leak_of_query_labels_is_found():
    suite = testing.LearnerConformance()
    with pytest.raises(AssertionError):
        suite.test_query_labels_do_not_leak_into_predictions(Leaky())


def test_the_suite_of_families_finds_padding_in_front_of_examples():
    class Before(type(open_family("sinusoid"))):
        def sample(self, split, episode, seeds, groups=None):
            tasks = super().sample(split, episode, seeds, groups)
            masks = {"support_mask": np.ones(tasks.support_x.shape[:2], bool),
                     "query_mask": np.ones(tasks.query_x.shape[:2], bool)}  # fmt: skip
            masks["support_mask"][:, self.padded] = False
            return replace(tasks, **masks)

    suite, family = testing.FamilyConformance(), Before()
    family.padded = slice(7, None)
    suite.test_padding_stands_behind_real_examples_and_counts_for_nothing(family)
    for family.padded in (slice(0, 3), slice(3, 4), slice(None)):
        with pytest.raises(AssertionError):
            suite.test_padding_stands_behind_real_examples_and_counts_for_nothing(family)


def test_the_suite_of_families_finds_a_task_that_depends_on_its_neighbours():
    class Neighbourly(type(open_family("sinusoid"))):
        def sample(self, split, episode, seeds, groups=None):
            tasks = super().sample(split, episode, seeds, groups)
            return replace(tasks, query_y=tasks.query_y + len(seeds))

    with pytest.raises(AssertionError):
        testing.FamilyConformance().test_a_task_depends_on_its_own_seed_alone(Neighbourly())
