"""Strategies: plain data with a stable hash, which say of themselves what others need to know."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from families import IMAGES, MOLECULES, WAVES
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from metatune.presets import preset, presets_for
from metatune.strategy import (
    GP,
    MLP,
    Amortised,
    Conv4,
    Diet,
    ImageAugmentation,
    Linear,
    Logistic,
    Meta,
    NearestNeighbour,
    NoBackbone,
    NoInner,
    Outer,
    OwnBackbone,
    OwnHead,
    OwnPart,
    Pooled,
    Prototypes,
    ResidualMLP,
    Ridge,
    Seeds,
    SetEncoder,
    Single,
    Steps,
    Strategy,
    SupportMean,
    TableAugmentation,
    ZeroMean,
)
from metatune.tasks.base import SPLITS

PROPERTY = settings(deadline=None, max_examples=100)
MAML = Strategy(backbone=MLP(), head=Linear(), inner=Steps(), meta=Meta(rule="second_order"))
PROTONET = Strategy(backbone=MLP(), head=Prototypes())
OWN = OwnPart(use="somewhere:Something")

NUMBERS = st.floats(0.1, 10)
OPTIONS = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2)
STRATEGIES = st.builds(
    Strategy,
    prior=st.one_of(
        st.builds(ZeroMean), st.builds(SupportMean, mean=NUMBERS), st.builds(Pooled, blend=NUMBERS)
    ),
    backbone=st.one_of(
        st.builds(NoBackbone),
        st.builds(MLP, width=st.integers(1, 9)),
        st.builds(ResidualMLP, norm=st.sampled_from(["layer", "support"])),
        st.builds(Conv4),
        st.builds(SetEncoder, frozen=st.booleans()),
        st.builds(OwnBackbone, use=st.just("a:b"), options=OPTIONS),
    ),
    head=st.one_of(
        st.builds(Linear, start=st.sampled_from(["zero", "learned", "prototypes", "ridge"])),
        st.builds(Ridge, penalty=NUMBERS),
        st.builds(Logistic, penalty=NUMBERS),
        st.builds(Prototypes, scale=NUMBERS),
        st.builds(NearestNeighbour, neighbours=st.integers(1, 5)),
        st.builds(GP, noise=NUMBERS),
        st.builds(Amortised, summary=st.sampled_from(["mean", "attention"])),
    ),
    inner=st.one_of(st.builds(NoInner), st.builds(Steps, lr=NUMBERS, test_steps=st.none())),
    meta=st.builds(Meta, rule=st.sampled_from(["second_order", "joint", "none"])),
    outer=st.builds(Outer, lr=NUMBERS),
    diet=st.builds(
        Diet,
        way=st.none() | st.integers(1, 9),
        augment=st.one_of(
            st.builds(ImageAugmentation), st.builds(TableAugmentation, noise=NUMBERS)
        ),
    ),
    combination=st.one_of(st.builds(Single), st.builds(Seeds, members=st.integers(2, 5))),
    learner=st.one_of(st.none(), st.builds(OwnPart, use=st.just("a:b"), options=OPTIONS)),
)


def shuffled(data: Any, rng: random.Random) -> Any:
    if not isinstance(data, dict):
        return data
    items = [(key, shuffled(value, rng)) for key, value in data.items()]
    rng.shuffle(items)
    return dict(items)


# --- plain data with a hash -----------------------------------------------------------------------


@PROPERTY
@given(strategy=STRATEGIES)
def test_a_strategy_comes_back_from_plain_data(strategy: Strategy) -> None:
    again = Strategy.model_validate(json.loads(json.dumps(strategy.model_dump(mode="json"))))
    assert again == strategy
    assert again.digest() == strategy.digest()


@PROPERTY
@given(strategy=STRATEGIES, seed=st.integers())
def test_the_order_of_keys_does_not_change_the_hash(strategy: Strategy, seed: int) -> None:
    data = shuffled(strategy.model_dump(mode="json"), random.Random(seed))
    assert Strategy.model_validate(data).digest() == strategy.digest()


@PROPERTY
@given(one=STRATEGIES, other=STRATEGIES)
def test_equal_strategies_and_no_others_have_equal_hashes(one: Strategy, other: Strategy) -> None:
    assert (one.digest() == other.digest()) == (one == other)


def test_what_is_left_out_is_the_default() -> None:
    short = Strategy.model_validate({"backbone": {"kind": "mlp"}, "head": {"kind": "linear"}})
    full = Strategy(backbone=MLP(width=40, depth=2), head=Linear(start="learned"))
    assert short.digest() == full.digest()


def test_another_process_gives_the_same_hashes() -> None:
    code = (
        "import sys, json; from metatune.strategy import Strategy; "
        "print(*[Strategy.model_validate(s).digest() for s in json.load(sys.stdin)])"
    )
    strategies = [preset(name, IMAGES) for name in presets_for(IMAGES)]
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps([s.model_dump(mode="json") for s in strategies]),
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.split() == [s.digest() for s in strategies]


def test_a_hash_is_12_hexadecimal_digits() -> None:
    digest = MAML.digest()
    assert len(digest) == 12
    assert int(digest, 16) >= 0


@pytest.mark.parametrize("data", [
    {"backbone": {"kind": "mlp", "widht": 3}},
    {"backbone": {"kind": "resnet"}},
    {"backbone": {"kind": "mlp", "width": 0}},
    {"backbone": {"kind": "own", "use": ""}},
    {"inner": {"kind": "sgd", "lr": 0.0}},
    {"inner": {"kind": "sgd", "lr": float("nan")}},
    {"inner": {"kind": "adam", "beta": 1.0}},
    {"outer": {"lr": float("inf")}},
    {"outer": {"average": 1.0}},
    {"head": {"kind": "ridge", "penalty": -1}},
    {"prior": {"kind": "support", "strength": -1}},
    {"diet": {"augment": {"kind": "image", "rotate": 181}}},
    {"combination": {"kind": "seeds", "members": 1}},
    {"start": "somewhere"},
    {"heads": {}},
])  # fmt: skip
def test_unknown_keys_and_values_out_of_range_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Strategy.model_validate(MAML.model_dump() | data)


def test_a_strategy_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        MAML.meta = Meta()  # type: ignore[misc]


# --- what it says of itself -----------------------------------------------------------------------


def test_numbers_do_not_change_the_structure_and_parts_do() -> None:
    assert MAML.structure() == "mlp/linear/sgd-all/second_order"
    assert PROTONET.structure() == "mlp/prototypes/none/first_order"
    numbers = MAML.model_copy(update={"inner": Steps(steps=9, lr=3.0), "outer": Outer(lr=1.0)})
    assert numbers.structure() == MAML.structure()
    others = [
        {"backbone": Conv4()}, {"head": Ridge()}, {"inner": Steps(scope="head")},
        {"inner": Steps(kind="adam")}, {"inner": Steps(rate="per_layer")},
        {"meta": Meta(rule="first_order")}, {"prior": SupportMean()}, {"prior": Pooled()},
        {"prior": Pooled(model="linear")}, {"combination": Seeds()}, {"learner": OWN},
    ]  # fmt: skip
    structures = {MAML.model_copy(update=parts).structure() for parts in others}
    assert len(structures | {MAML.structure()}) == len(others) + 1


def test_a_learner_of_the_users_own_is_its_structure() -> None:
    assert Strategy(learner=OWN).structure() == "own/somewhere:Something/none/first_order"


def test_what_trains_ends_at_the_last_rung_and_the_rest_at_the_first() -> None:
    untrained = MAML.model_copy(update={"meta": Meta(rule="none")})
    pooled = untrained.model_copy(update={"prior": Pooled()})
    assert (MAML.trains, MAML.last_rung(4)) == (True, 4)
    assert (untrained.trains, untrained.last_rung(4)) == (False, 1)
    assert (pooled.trains, pooled.last_rung(4)) == (True, 4)  # fitted to what a rung gives


@pytest.mark.parametrize("backbone", [MLP(), ResidualMLP(), Conv4()])
def test_only_transductive_normalisation_is_transductive(
    backbone: MLP | ResidualMLP | Conv4,
) -> None:
    for norm in ("support", "transductive", "layer", "none"):
        normed = backbone.model_copy(update={"norm": norm})
        strategy = PROTONET.model_copy(update={"backbone": normed})
        assert strategy.transductive == (norm == "transductive")


@pytest.mark.parametrize("backbone", [NoBackbone(), SetEncoder(), OwnBackbone(use="a:b")])
def test_a_backbone_without_a_norm_is_not_called_transductive(
    backbone: NoBackbone | SetEncoder | OwnBackbone,
) -> None:
    assert not PROTONET.model_copy(update={"backbone": backbone}).transductive


@pytest.mark.parametrize("parts", [
    {"backbone": OwnBackbone(use="a:b")}, {"head": OwnHead(use="a:b")}, {"learner": OWN},
])  # fmt: skip
def test_parts_of_the_users_own_are_known_as_such(parts: dict[str, Any]) -> None:
    assert MAML.model_copy(update=parts).has_own_part
    assert not MAML.has_own_part


@pytest.mark.parametrize(("parts", "learned"), [
    ({"head": Ridge()}, True),
    ({"head": Ridge(learn=False)}, False),
    ({"head": GP()}, True),
    ({"head": Prototypes()}, False),
    ({"head": Prototypes(learn=True)}, True),
    ({"head": Logistic()}, False),
    ({"head": Logistic(learn=True)}, True),
    ({"head": NearestNeighbour()}, False),
    ({"head": NearestNeighbour(), "prior": SupportMean()}, False),
    ({"head": NearestNeighbour(), "prior": SupportMean(learn=True)}, True),
    ({"head": NearestNeighbour(), "prior": Pooled()}, True),
    ({"head": NearestNeighbour(), "prior": Pooled(learn=False)}, False),
])  # fmt: skip
def test_numbers_of_head_and_prior_are_learned_where_they_say_so(
    parts: dict[str, Any], learned: bool
) -> None:
    assert Strategy(**parts).learned_numbers == learned


# --- cross-fitting --------------------------------------------------------------------------------

DEEP_KERNEL = Strategy(backbone=MLP(), head=GP())
AUTO, GROUP, NEVER = (Meta(cross_fit=how, folds=3) for how in ("auto", "group", "none"))


@pytest.mark.parametrize(("parts", "folds"), [
    # By itself where other tasks' labels would make the episode's own look easy ..
    ({"meta": AUTO}, 3),
    ({"meta": AUTO, "prior": Pooled(), "head": Ridge(), "backbone": NoBackbone()}, 3),
    ({"meta": AUTO, "head": Ridge()}, 0),
    ({"meta": AUTO, "backbone": NoBackbone(), "head": GP(rbf="raw")}, 0),
    # .. else where it is asked for.
    ({"meta": GROUP, "head": Ridge()}, 3),
    ({"meta": NEVER}, 0),
    ({"meta": GROUP, "learner": OWN}, 0),
    # There are four train groups.
    ({"meta": Meta(folds=9)}, 4),
])  # fmt: skip
def test_folds_are_those_that_are_asked_for_and_that_groups_allow(
    parts: dict[str, Any], folds: int
) -> None:
    strategy = DEEP_KERNEL.model_copy(update=parts)
    assert strategy.folds(MOLECULES) == folds
    assert strategy.folds(WAVES) == 0  # its groups mean nothing


@pytest.mark.parametrize(("parts", "copies"), [
    ({}, True),
    ({"backbone": MLP(frozen=True)}, False),
    ({"backbone": NoBackbone(), "head": Ridge(), "prior": Pooled()}, False),
    ({"head": GP(learn=False)}, False),
    ({"meta": Meta(rule="joint")}, False),
    ({"meta": NEVER}, False),
    ({"head": Logistic(learn=True), "meta": GROUP}, True),
    ({"head": Linear(), "inner": Steps(), "prior": Pooled()}, False),
])  # fmt: skip
def test_backbones_are_copied_where_they_learn_beside_numbers(
    parts: dict[str, Any], copies: bool
) -> None:
    assert DEEP_KERNEL.model_copy(update=parts).cross_fits_backbone(MOLECULES) == copies


def test_a_single_group_cannot_be_left_out() -> None:
    lone = replace(MOLECULES, groups={split: {split: 3} for split in SPLITS})
    assert not DEEP_KERNEL.cross_fits_backbone(lone)
