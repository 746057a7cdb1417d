"""A network of the user's own as a backbone: its weights count, and stay where it is frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import own_networks
import pytest
import torch
from families import SMALL_IMAGES, random_tasks

from metatune import checkpoint
from metatune.errors import SpaceError
from metatune.jobs import TrialJob
from metatune.learners.backbones import build_backbone
from metatune.learners.heads import ridge_weights
from metatune.learners.interface import Params, under
from metatune.learners.learner import build_learner
from metatune.learners.own_network import OwnNetwork
from metatune.presets import preset
from metatune.space.knobs import deep_merge
from metatune.strategy import OwnBackbone, Strategy, problems
from metatune.tasks.base import Episode, TaskFamily
from metatune.testing import BackboneConformance
from metatune.trial import run_trial

SHAPE = SMALL_IMAGES.input_shape
EPISODE = Episode(3, 2, 2)
OWN: dict[str, Any] = {"kind": "own", "use": "own_networks:pretrained"}


def built(name: str = "pretrained", **options: Any) -> OwnNetwork:
    backbone = build_backbone(
        OwnBackbone(use=f"own_networks:{name}", options=options), SHAPE, grouped=False
    )
    assert isinstance(backbone, OwnNetwork)
    return backbone


def strategy(**parts: Any) -> Strategy:
    return Strategy.model_validate({"backbone": OWN, **parts})


def own_weights() -> Params:
    return {name: p.detach() for name, p in own_networks.pretrained(SHAPE).named_parameters()}


class TestPretrained(BackboneConformance):
    input_shape = SHAPE

    @pytest.fixture
    def part(self):
        return built()


def test_features_are_what_the_network_makes_in_evaluation_mode() -> None:
    backbone, network = built(width=5), own_networks.pretrained(SHAPE, width=5).eval()
    x = random_tasks(SMALL_IMAGES, EPISODE).support_x
    assert backbone.features == 5 * 2 * 2
    found = backbone(backbone.init(torch.Generator()), x, x.shape[1])
    expected = network(x.flatten(0, 1)).flatten(1).reshape(len(x), x.shape[1], -1)
    torch.testing.assert_close(found, expected)


def test_its_weights_are_the_start_whatever_the_seed() -> None:
    learner = build_learner(strategy(head={"kind": "ridge"}), SMALL_IMAGES, 3)
    for seed in (0, 1):
        start = under("backbone.", learner.init(seed))
        assert start.keys() == own_weights().keys()
        assert all(torch.equal(start[name], p) for name, p in own_weights().items())


def test_weights_that_are_drawn_are_the_same_each_time_and_disturb_no_other_draws() -> None:
    torch.manual_seed(3)
    first = built("untrained").init(torch.Generator())
    drawn = torch.rand(1)
    second = built("untrained").init(torch.Generator())
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


@pytest.mark.parametrize(("name", "told"), [
    ("wrong_inputs", "own_networks:wrong_inputs fails on inputs of 1x8x8 with RuntimeError"),
    ("two_outputs", "fails on inputs of 1x8x8|makes no tensor of features"),
    ("no_network", "which makes a int; allowed: a torch.nn.Module, or what has the methods"),
])  # fmt: skip
def test_what_is_no_network_for_such_inputs_is_refused(name: str, told: str) -> None:
    with pytest.raises(SpaceError, match=told):
        built(name)


# --- frozen features and a ridge head -------------------------------------------------------------


def test_frozen_features_are_a_preset_with_the_network_in_common() -> None:
    plain = preset("frozen_features", SMALL_IMAGES).model_dump(mode="json")
    mine = Strategy.model_validate(deep_merge(plain, {"backbone": OWN}))
    assert problems(mine, SMALL_IMAGES, EPISODE) == []
    assert not mine.trains
    assert (mine.backbone.kind, mine.head.kind, mine.meta.rule) == ("own", "ridge", "none")
    learner, tasks = build_learner(mine, SMALL_IMAGES, 3), random_tasks(SMALL_IMAGES, EPISODE)
    network = own_networks.pretrained(SHAPE).eval()
    with torch.no_grad():
        support, query = (
            network(x.flatten(0, 1)).reshape(len(x), x.shape[1], -1)
            for x in (tasks.support_x, tasks.query_x)
        )
    y = torch.nn.functional.one_hot(tasks.support_y, 3).float()
    centre, level = support.mean(1, keepdim=True), y.mean(1, keepdim=True)
    weights = ridge_weights(support - centre, y - level, 1.0)
    expected = level + (query - centre) @ weights
    torch.testing.assert_close(learner.predict(learner.init(4), tasks), expected)


def trained(tiny: TaskFamily, folder: Path, own: Strategy) -> Params:
    """The backbone's weights after a whole trial."""
    job = TrialJob(
        trial="t", round=1, replica=0, strategy=own.model_dump(mode="json"), family="tiny",
        data_dir=None, episode=EPISODE, run_seed=0, rungs=(200, 600), recorded=0,
        split="select", tasks=4, train=True, folder=str(folder),
    )  # fmt: skip
    *_, last = run_trial(job, tiny)
    assert last.outcome == "completed", last.reason
    found = checkpoint.load(folder, last.rung)
    assert found is not None
    return under("backbone.", found.state.usable)


STEPS = {"kind": "sgd", "steps": 1, "lr": 0.1}
TRAINED = {
    "ridge, no training": {"head": {"kind": "ridge", "learn": False}, "meta": {"rule": "none"}},
    "ridge, penalty learned": {
        "head": {"kind": "ridge"},
        "meta": {"rule": "first_order"},
        "outer": {"lr": 0.1, "weight_decay": 0.1, "average": 0.9},
    },
    "steps": {
        "head": {"kind": "linear"},
        "inner": {**STEPS, "scope": "all"},
        "meta": {"rule": "second_order"},
    },
    "reptile": {
        "head": {"kind": "linear"},
        "inner": {**STEPS, "scope": "all"},
        "meta": {"rule": "reptile"},
    },
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_frozen_network_is_neither_trained_nor_drawn_anew(
    name: str, tiny: TaskFamily, tmp_path: Path
) -> None:
    own = strategy(**TRAINED[name], backbone={**OWN, "frozen": True})
    assert problems(own, tiny.info, EPISODE) == []
    after = trained(tiny, tmp_path, own)
    assert all(torch.equal(after[weight], p) for weight, p in own_weights().items())


@pytest.mark.parametrize("name", [n for n in TRAINED if n != "ridge, no training"])
def test_a_network_that_is_not_frozen_is_trained_from_its_weights(
    name: str, tiny: TaskFamily, tmp_path: Path
) -> None:
    after, before = trained(tiny, tmp_path, strategy(**TRAINED[name])), own_weights()
    moved = {weight: float((after[weight] - p).abs().max()) for weight, p in before.items()}
    assert any(moved.values())
    assert max(moved.values()) < 3
