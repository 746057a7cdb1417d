"""Strategies: plain data with a stable hash; compositions without sense are refused in words."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from metatune.presets import PRESETS, preset, presets_for
from metatune.strategy import (
    MLP,
    SGD,
    Conv4,
    Diet,
    Linear,
    Meta,
    NearestNeighbour,
    NoBackbone,
    NoInner,
    Outer,
    Prototypes,
    Ridge,
    Strategy,
)
from metatune.tasks.base import ACCURACY, MSE, SPLITS, Episode, FamilyInfo

PROPERTY = settings(deadline=None, max_examples=100)


def family(kind: str, shape: tuple[int, ...]) -> FamilyInfo:
    classes = kind == "classification"
    return FamilyInfo(
        name="some",
        kind="classification" if classes else "regression",
        input_shape=shape,
        outputs=0 if classes else 1,
        metric=ACCURACY if classes else MSE,
        train_classes=50 if classes else 0,
        groups={split: {"all": 50} for split in SPLITS},
        grouped=False,
        baselines=(),
        about="some tasks",
    )


IMAGES, WAVES = family("classification", (1, 28, 28)), family("regression", (1,))
TABLES = family("classification", (12,))
FIVE_WAY, POINTS = Episode(5, 1, 5), Episode(1, 10, 10)

MAML = Strategy(backbone=MLP(), head=Linear(), inner=SGD(), meta=Meta(rule="second_order"))
PROTONET = Strategy(backbone=MLP(), head=Prototypes())

STRATEGIES = st.builds(
    Strategy,
    backbone=st.one_of(st.builds(NoBackbone), st.builds(MLP), st.builds(Conv4)),
    head=st.one_of(
        st.builds(Linear), st.builds(Ridge), st.builds(Prototypes), st.builds(NearestNeighbour)
    ),
    inner=st.one_of(st.builds(NoInner), st.builds(SGD)),
    meta=st.builds(Meta),
    outer=st.builds(Outer),
    diet=st.builds(Diet),
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
    strategies = [preset(name, IMAGES) for name in PRESETS]
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
    {"inner": {"kind": "sgd", "lr": 0.0}},
    {"inner": {"kind": "sgd", "lr": float("nan")}},
    {"outer": {"lr": float("inf")}},
    {"head": {"kind": "ridge", "penalty": -1}},
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
    numbers = MAML.model_copy(update={"inner": SGD(steps=9, lr=3.0), "outer": Outer(lr=1.0)})
    assert numbers.structure() == MAML.structure()
    for part in (
        {"backbone": Conv4()}, {"head": Ridge()}, {"inner": SGD(scope="head")},
        {"meta": Meta(rule="first_order")},
    ):  # fmt: skip
        assert MAML.model_copy(update=part).structure() != MAML.structure()


def test_what_trains_ends_at_the_last_rung_and_the_rest_at_the_first() -> None:
    untrained = MAML.model_copy(update={"meta": Meta(rule="none")})
    assert (MAML.trains, MAML.last_rung(4)) == (True, 4)
    assert (untrained.trains, untrained.last_rung(4)) == (False, 1)


def test_only_transductive_normalisation_is_transductive() -> None:
    for norm in ("support", "transductive", "layer", "none"):
        strategy = PROTONET.model_copy(update={"backbone": Conv4(norm=norm)})
        assert strategy.transductive == (norm == "transductive")
    assert not PROTONET.transductive


def test_a_diet_changes_only_what_it_names() -> None:
    assert Diet().episode(FIVE_WAY) == FIVE_WAY
    assert Diet(way=20).episode(FIVE_WAY) == Episode(20, 1, 5)
    assert Diet(shot=3, query=2).episode(FIVE_WAY) == Episode(5, 3, 2)


# --- compositions without sense -------------------------------------------------------------------


def problems(info: FamilyInfo, base: Strategy, **parts: Any) -> list[str]:
    episode = POINTS if info.kind == "regression" else FIVE_WAY
    return base.model_copy(update=parts).problems(info, episode)


@pytest.mark.parametrize(("info", "base", "parts", "said"), [
    (TABLES, PROTONET, {"backbone": Conv4()}, "backbone conv4 needs images"),
    (IMAGES, PROTONET, {"backbone": Conv4(depth=5)}, "backbone.depth 5 halves images of 28x28"),
    (family("classification", (3, 40, 15)), PROTONET, {"backbone": Conv4(depth=4)},
     "backbone.depth 4 halves images of 40x15"),
    (WAVES, PROTONET, {}, "head prototypes needs classes"),
    (WAVES, PROTONET, {"head": NearestNeighbour(), "meta": Meta(rule="none")},
     "head nearest_neighbour needs classes"),
    (WAVES, MAML, {"diet": Diet(way=5)}, "diet.way 5 needs classes"),
    (TABLES, MAML, {"diet": Diet(way=10)}, "head.start learned fixes the number of classes"),
    (TABLES, MAML, {"meta": Meta(rule="joint")}, "set head.start to zero"),
    (WAVES, MAML, {"meta": Meta(rule="joint"), "head": Linear(start="zero")},
     "meta.rule joint on a regression"),
    (WAVES, MAML, {"meta": Meta(rule="joint"), "head": Ridge(), "inner": NoInner()},
     "meta.rule joint on a regression"),
    (TABLES, MAML, {"inner": NoInner(), "meta": Meta()}, "inner none leaves it unadapted"),
    (TABLES, PROTONET, {"inner": SGD()}, "head prototypes adapts in closed form"),
    (TABLES, MAML, {"head": Ridge(), "meta": Meta()}, "head ridge adapts in closed form"),
    (TABLES, PROTONET, {"meta": Meta(rule="second_order")},
     "meta.rule second_order has no inner steps"),
    (TABLES, PROTONET, {"head": NearestNeighbour()}, "head nearest_neighbour has no gradient"),
    (TABLES, PROTONET, {"backbone": NoBackbone()}, "backbone none leaves meta.rule first_order"),
    (TABLES, PROTONET, {"backbone": NoBackbone(), "meta": Meta(rule="joint")},
     "backbone none leaves meta.rule joint"),
    (TABLES, PROTONET, {"backbone": NoBackbone(), "head": Ridge(learn=False)},
     "backbone none leaves meta.rule first_order"),
    (TABLES, MAML, {"backbone": NoBackbone(), "head": Linear(start="zero")},
     "backbone none leaves meta.rule second_order"),
])  # fmt: skip
def test_a_composition_without_sense_is_refused_with_one_sentence(
    info: FamilyInfo, base: Strategy, parts: dict[str, Any], said: str
) -> None:
    (sentence,) = problems(info, base, **parts)
    assert said in sentence
    assert not sentence.endswith(".")


def test_several_problems_are_all_named() -> None:
    found = problems(WAVES, PROTONET, backbone=Conv4(), inner=SGD())
    assert len(found) == 3


@pytest.mark.parametrize(("info", "base", "parts"), [
    (IMAGES, PROTONET, {"backbone": Conv4(depth=4)}),
    (family("classification", (3, 16, 40)), PROTONET, {"backbone": Conv4(depth=4)}),
    (IMAGES, PROTONET, {"diet": Diet(way=20)}),
    (TABLES, MAML, {"diet": Diet(way=10), "head": Linear(start="zero")}),
    (TABLES, MAML, {"meta": Meta(rule="joint"), "head": Linear(start="zero")}),
    (TABLES, MAML, {"backbone": NoBackbone()}),
    (TABLES, PROTONET, {"backbone": NoBackbone(), "head": Ridge(learn=True)}),
    (TABLES, PROTONET, {"backbone": NoBackbone(), "meta": Meta(rule="none")}),
    (TABLES, PROTONET, {"head": NearestNeighbour(), "meta": Meta(rule="joint")}),
    (WAVES, MAML, {"diet": Diet(shot=3)}),
    (WAVES, MAML, {"meta": Meta(rule="joint")}),
])  # fmt: skip
def test_unusual_compositions_with_sense_are_accepted(
    info: FamilyInfo, base: Strategy, parts: dict[str, Any]
) -> None:
    assert problems(info, base, **parts) == []


@pytest.mark.parametrize("info", [IMAGES, WAVES, TABLES])
def test_every_preset_offered_is_accepted_and_every_other_refused(info: FamilyInfo) -> None:
    for name, build in PRESETS.items():
        assert (problems(info, build(info)) == []) == (name in presets_for(info))
