"""Compositions without sense are refused in words, each reason with one sentence."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import replace
from typing import Any

import pytest
from families import IMAGES, MOLECULES, SERIES, TABLES, WAVES, family

from metatune.presets import PRESETS, presets_for
from metatune.strategy import (
    GP,
    MLP,
    Amortised,
    Conv4,
    Diet,
    Forecast,
    ImageAugmentation,
    Linear,
    Logistic,
    Meta,
    NearestNeighbour,
    NoBackbone,
    NoInner,
    OwnBackbone,
    OwnHead,
    OwnPart,
    Pooled,
    Prototypes,
    ResidualMLP,
    Ridge,
    Seeds,
    SetEncoder,
    Steps,
    Strategy,
    SupportMean,
    TableAugmentation,
    problems,
    sense,
)
from metatune.tasks.base import SPLITS, Episode, FamilyInfo

WIDE, TALL = family("classification", (3, 40, 15)), family("classification", (3, 16, 40))
SHARED = replace(TABLES, shared_classes=True)
LONE = replace(MOLECULES, groups={split: {split: 3} for split in SPLITS})

MAML = Strategy(backbone=MLP(), head=Linear(), inner=Steps(), meta=Meta(rule="second_order"))
PROTONET = Strategy(backbone=MLP(), head=Prototypes())
RIDGE = Strategy(backbone=MLP(), head=Ridge())
RAW = Strategy(backbone=NoBackbone(), head=Ridge())
OWN = Strategy(learner=OwnPart(use="own_things:Learner"))
JOINT, UNTRAINED, REPTILE = (Meta(rule=rule) for rule in ("joint", "none", "reptile"))
IMPLICIT, GROUPS = Meta(rule="implicit"), Meta(cross_fit="group")

MODULE = """\
class Net:
    def __init__(self, input_shape, width=3): ...

class Rule:
    def __init__(self, features, outputs): ...

class Learner:
    def __init__(self, info, outputs): ...
"""


@pytest.fixture(autouse=True)
def _own_things(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's own."""
    (tmp_path / "own_things.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def said_of(info: FamilyInfo, base: Strategy, parts: dict[str, Any]) -> list[str]:
    """What is said of a strategy with other parts, for 5-way 1-shot tasks or 10 points."""
    episode = Episode(1, 10, 10) if info.kind == "regression" else Episode(5, 1, 5)
    return problems(base.model_copy(update=parts), info, episode)


REFUSED: list[tuple[FamilyInfo, Strategy, dict[str, Any], list[str]]] = [
    # --- backbone
    (TABLES, PROTONET, {"backbone": Conv4()},
     ["backbone conv4 needs images, some has inputs of shape (12,)"]),
    (IMAGES, PROTONET, {"backbone": Conv4(depth=5)},
     ["backbone.depth 5 halves images of 28x28 to nothing"]),
    (WIDE, PROTONET, {"backbone": Conv4(depth=4)},
     ["backbone.depth 4 halves images of 40x15 to nothing"]),
    (TABLES, PROTONET, {"backbone": OwnBackbone(use="own_things:Nett")},
     ["backbone.use: found own_things:Nett; the module own_things has no Nett"]),
    (TABLES, PROTONET, {"backbone": OwnBackbone(use="own_things:Net", options={"widht": 3})},
     ["backbone.options: own_things:Net says: got an unexpected keyword argument 'widht'"]),
    # --- prior
    (TABLES, RIDGE, {"prior": SupportMean()},
     ["prior support predicts numbers, some has classes: take zero"]),
    (TABLES, RIDGE, {"prior": Pooled()},
     ["prior pooled knows classes that are the same in every task, some has others in each: take "
      "zero"]),
    (SHARED, PROTONET, {"prior": Pooled()},
     ["prior pooled leaves residuals of classes, which head prototypes does not fit: take ridge or "
      "gp"]),
    (SHARED, RIDGE, {"prior": Pooled(model="sklearn.linear_model:Ridge")},
     ["prior.model sklearn.linear_model:Ridge gives no probabilities (predict_proba), as classes "
      "need"]),
    (SHARED, RIDGE, {"prior": Pooled(), "meta": JOINT},
     ["prior pooled leaves residuals, which meta.rule joint sees none of"]),
    (WAVES, MAML, {"prior": SupportMean(), "meta": JOINT},
     ["prior support leaves residuals, which meta.rule joint sees none of"]),
    (WAVES, MAML, {"prior": SupportMean(), "meta": REPTILE},
     ["prior support leaves residuals, which meta.rule reptile sees none of"]),
    (WAVES, MAML, {"prior": Pooled(), "meta": IMPLICIT, "inner": Steps(proximal=1)},
     ["prior pooled leaves residuals, which meta.rule implicit sees none of"]),
    (WAVES, RIDGE, {"prior": Pooled(model="sklearn.svm:SRV")},
     ["prior.model: found sklearn.svm:SRV; the module sklearn.svm has no SRV"]),
    (WAVES, RIDGE, {"prior": Pooled(model="treees")},
     ["prior.model: found treees; allowed: linear, trees, mlp, module:name"]),
    (WAVES, RIDGE, {"prior": SupportMean(learn=True), "head": Ridge(intercept="free")},
     ["prior.learn has no level to learn: head.intercept free takes it off anyway"]),
    (WAVES, RIDGE, {"prior": Pooled(model="linear", options={"alhpa": 1})},
     ["prior.options: sklearn.linear_model:RidgeCV says: got an unexpected keyword argument "
      "'alhpa'"]),
    (WAVES, RIDGE, {"prior": Pooled(), "diet": Diet(shot=1)},
     ["prior pooled summarises other support points: it needs two or more"]),
    (WAVES, RIDGE, {"prior": Pooled(), "diet": Diet(start_shot=1)},
     ["prior pooled summarises other support points: it needs two or more"]),
    (WAVES, RAW, {"prior": Forecast()},
     ["prior.name seasonal_naive is no forecast of some; allowed: none, for some names no "
      "forecasts"]),
    (SERIES, RAW, {"prior": Forecast(name="naive")},
     ["prior.name naive is no forecast of some; allowed: last_value, seasonal_naive"]),
    (SERIES, RAW, {"prior": Forecast(),
                   "diet": Diet(augment=TableAugmentation(target_scale=1.0))},
     ["prior forecast predicts an input in the target's units: diet.augment must leave both "
      "(dropout and target_scale 0)"]),
    # --- head
    (WAVES, PROTONET, {}, ["head prototypes needs classes, some is a regression"]),
    (WAVES, PROTONET, {"head": Logistic()}, ["head logistic needs classes, some is a regression"]),
    (WAVES, MAML, {"head": Linear(start="prototypes")},
     ["head.start prototypes needs classes, some is a regression"]),
    (WAVES, MAML, {"head": Linear(similarity="cosine")},
     ["head.similarity cosine gives bounded values: some is a regression"]),
    (TABLES, MAML, {"head": Linear(similarity="cosine", start="zero")},
     ["head.similarity cosine takes start learned or prototypes, not zero"]),
    (TABLES, MAML, {"head": Linear(similarity="cosine", start="ridge")},
     ["head.similarity cosine takes start learned or prototypes, not ridge"]),
    (WAVES, RIDGE, {"head": Amortised(summary="attention", width=10, heads=4)},
     ["head.width 10 must be a multiple of head.heads 4"]),
    (TABLES, RIDGE, {"head": OwnHead(use="own_things:Roule")},
     ["head.use: found own_things:Roule; the module own_things has no Roule"]),
    (TABLES, RAW, {"head": NearestNeighbour(view="fingerprint"), "meta": UNTRAINED},
     ["head.view looks at fingerprint, which some has not; allowed: learned, raw"]),
    (TABLES, RIDGE, {"head": GP(rbf="off")},
     ["head gp needs a kernel: linear, rbf and tanimoto are all off"]),
    (TABLES, RIDGE, {"head": GP(tanimoto="fingerprint")},
     ["head.tanimoto looks at fingerprint, which some has not; allowed: off, learned, raw"]),
    (MOLECULES, RIDGE, {"head": GP(linear="learned+descriptors")},
     ["head.linear looks at descriptors, which some has not; allowed: off, learned, raw, "
      "fingerprint"]),
    (MOLECULES, RIDGE, {"head": GP(tanimoto="learned")},
     ["head.tanimoto compares counts or bits, which learned features are not"]),
    (MOLECULES, RAW, {"head": GP()},
     ["head.rbf looks at learned features, and backbone none has none: take raw"]),
    # --- diet
    (SHARED, PROTONET, {"diet": Diet(way=3)},
     ["diet.way leaves out classes, which are the same in every task of some"]),
    (WAVES, MAML, {"diet": Diet(way=5)}, ["diet.way 5 needs classes, some is a regression"]),
    (WAVES, MAML, {"diet": Diet(start_way=3)},
     ["diet.start_way 3 needs classes, some is a regression"]),
    (TABLES, MAML, {"diet": Diet(way=10)},
     ["head.start learned fixes the number of classes: diet.way 10 differs from the test's 5"]),
    (TABLES, MAML, {"diet": Diet(start_way=3)},
     ["head.start learned fixes the number of classes: diet.way 3 differs from the test's 5"]),
    (TABLES, PROTONET, {"diet": Diet(quarter_turns=True)},
     ["diet.quarter_turns needs classes of square images, which some has not"]),
    (WIDE, PROTONET, {"diet": Diet(quarter_turns=True)},
     ["diet.quarter_turns needs classes of square images, which some has not"]),
    (TABLES, PROTONET, {"diet": Diet(augment=ImageAugmentation())},
     ["diet.augment image needs images, some has inputs of shape (12,)"]),
    (IMAGES, PROTONET, {"diet": Diet(augment=TableAugmentation())},
     ["diet.augment table needs tables, some has images"]),
    (WAVES, RIDGE, {"diet": Diet(augment=TableAugmentation(dropout=0.1))},
     ["diet.augment.dropout would take the only feature that some has"]),
    (TABLES, PROTONET, {"diet": Diet(augment=TableAugmentation(target_scale=1))},
     ["diet.augment.target_scale needs numbers to predict, some has classes"]),
    # --- inner
    (TABLES, MAML, {"inner": NoInner(), "meta": Meta()},
     ["head linear is adapted by gradient steps: inner none leaves it unadapted"]),
    (TABLES, PROTONET, {"inner": Steps()},
     ["head prototypes adapts in closed form: it takes inner none"]),
    (TABLES, MAML, {"head": Ridge()}, ["head ridge adapts in closed form: it takes inner none"]),
    (TABLES, RIDGE, {"inner": Steps(scope="body")},
     ["head ridge adapts in closed form: inner.scope body has nothing to follow",
      "head ridge adapts in closed form: it takes inner none"]),
    (TABLES, MAML, {"backbone": NoBackbone(), "inner": Steps(scope="body")},
     ["inner.scope body needs a backbone that may change"]),
    (TABLES, MAML, {"backbone": MLP(frozen=True), "inner": Steps(scope="body")},
     ["inner.scope body needs a backbone that may change"]),
    (TABLES, MAML, {"head": Linear(start="zero"), "inner": Steps(scope="body")},
     ["inner.scope body leaves the head as it starts: head.start zero must be learned"]),
    (TABLES, MAML, {"head": Linear(start="prototypes"), "inner": Steps(scope="context")},
     ["inner.scope context leaves the head as it starts: head.start prototypes must be learned"]),
    (TABLES, MAML, {"backbone": NoBackbone(), "inner": Steps(scope="context")},
     ["inner.scope context needs a backbone that reads the context"]),
    (TABLES, MAML, {"inner": Steps(rate="per_layer_step", steps=3, test_steps=4)},
     ["inner.test_steps 4 goes beyond the 3 steps that have rates of their own"]),
    (WAVES, MAML, {"inner": Steps(rate="per_layer", proximal=1), "meta": IMPLICIT},
     ["inner.rate per_layer is not learned by meta.rule implicit: take fixed"]),
    (WAVES, MAML, {"inner": Steps(rate="learned"), "meta": JOINT},
     ["inner.rate learned is not learned by meta.rule joint: take fixed"]),
    (WAVES, MAML, {"meta": IMPLICIT},
     ["meta.rule implicit needs a proximal pull: set inner.proximal above 0"]),
    (TABLES, MAML, {"head": Linear(start="ridge"), "inner": Steps(proximal=1), "meta": IMPLICIT},
     ["meta.rule implicit pulls to a learned start: head.start ridge is computed"]),
    (TABLES, MAML, {"inner": Steps(scope="head"), "meta": REPTILE},
     ["meta.rule reptile moves all weights: inner.scope head must be all"]),
    (TABLES, MAML, {"head": Linear(start="zero"), "meta": REPTILE},
     ["meta.rule reptile moves all weights: head.start zero must be learned"]),
    # --- rule
    *((TABLES, PROTONET, {"meta": Meta(rule=rule)},
       [f"meta.rule {rule} has no inner steps to differentiate through"])
      for rule in ("second_order", "truncated", "implicit", "reptile")),
    (WAVES, MAML, {"meta": Meta(rule="first_order", first_order_until=0.5)},
     ["meta.first_order_until and multi_step_until belong to second_order, not first_order"]),
    (WAVES, MAML, {"meta": Meta(rule="truncated", multi_step_until=0.5)},
     ["meta.first_order_until and multi_step_until belong to second_order, not truncated"]),
    (TABLES, RIDGE, {"head": GP(), "meta": JOINT},
     ["meta.rule joint trains one layer on features, head gp is not taught"]),
    (TABLES, RIDGE, {"head": Amortised(), "meta": JOINT},
     ["meta.rule joint trains one layer on features, head amortised is not taught"]),
    (TABLES, RIDGE, {"head": OwnHead(use="own_things:Rule"), "meta": JOINT},
     ["meta.rule joint trains one layer on features, head own is not taught"]),
    (TABLES, MAML, {"meta": JOINT},
     ["meta.rule joint learns one layer over all train classes, which no new task can start "
      "from: set head.start to zero"]),
    (WAVES, MAML, {"meta": JOINT, "head": Linear(start="zero")},
     ["meta.rule joint on a regression trains the layer that new tasks start from: take head "
      "linear with start learned"]),
    (WAVES, RIDGE, {"meta": JOINT},
     ["meta.rule joint on a regression trains the layer that new tasks start from: take head "
      "linear with start learned"]),
    (TABLES, PROTONET, {"backbone": SetEncoder(), "meta": JOINT},
     ["meta.rule joint has no support set for backbone set_encoder to summarise"]),
    (WAVES, MAML, {"inner": Steps(scope="context"), "meta": JOINT},
     ["meta.rule joint never sees the context that inner.scope context adapts"]),
    (TABLES, PROTONET, {"head": NearestNeighbour()},
     ["head nearest_neighbour has no gradient: meta.rule takes joint or none"]),
    (WAVES, RIDGE, {"head": Amortised(), "meta": UNTRAINED},
     ["head amortised knows nothing untrained: meta.rule none leaves it random"]),
    (WAVES, RIDGE, {"head": OwnHead(use="own_things:Rule"), "meta": UNTRAINED},
     ["head own knows nothing untrained: meta.rule none leaves it random"]),
    (TABLES, PROTONET, {"backbone": NoBackbone()},
     ["backbone none leaves meta.rule first_order nothing to learn: take none"]),
    (TABLES, PROTONET, {"backbone": NoBackbone(), "meta": JOINT},
     ["backbone none leaves meta.rule joint nothing to learn: take none"]),
    (TABLES, PROTONET, {"backbone": MLP(frozen=True)},
     ["a frozen backbone leaves meta.rule first_order nothing to learn: take none"]),
    (TABLES, RAW, {"head": Ridge(learn=False)},
     ["backbone none leaves meta.rule first_order nothing to learn: take none"]),
    (TABLES, MAML, {"backbone": NoBackbone(), "head": Linear(start="zero")},
     ["backbone none leaves meta.rule second_order nothing to learn: take none"]),
    # --- cross-fitting
    (TABLES, RIDGE, {"meta": GROUPS},
     ["meta.cross_fit group needs groups that mean something, some has none"]),
    (LONE, RIDGE, {"meta": GROUPS}, ["meta.cross_fit group needs two train groups, some has one"]),
    (MOLECULES, RIDGE, {"meta": GROUPS, "head": Ridge(learn=False)},
     ["meta.cross_fit group needs scales, penalties or blends to learn: set learn on a part"]),
    (MOLECULES, MAML, {"meta": Meta(rule="first_order", cross_fit="group"), "prior": Pooled()},
     ["meta.cross_fit group is for closed-form and pooled parts: it takes inner none"]),
    # --- a whole learner of one's own
    (TABLES, OWN, {"learner": OwnPart(use="own_things:Lerner")},
     ["learner.use: found own_things:Lerner; the module own_things has no Lerner"]),
    *((TABLES, OWN, {part: value},
       [f"learner takes the place of {part}, which must be left out"])
      for part, value in {
          "prior": SupportMean(), "backbone": MLP(), "head": Ridge(), "inner": Steps(),
          "combination": Seeds(),
      }.items()),
    (TABLES, OWN, {"meta": JOINT},
     ["learner has a meta_loss of its own: meta.rule joint says nothing, take first_order "
      "(trains) or none"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("info", "base", "parts", "said"), REFUSED, ids=[said[-1][:60] for *_, said in REFUSED]
)
def test_a_composition_without_sense_is_refused_in_these_words(
    info: FamilyInfo, base: Strategy, parts: dict[str, Any], said: list[str]
) -> None:
    assert said_of(info, base, parts) == said


def test_every_sentence_that_can_be_said_has_its_case_above() -> None:
    told = [sentence for *_, said in REFUSED for sentence in said]
    patterns = []
    for node in ast.walk(ast.parse(inspect.getsource(sense))):
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.JoinedStr | ast.Constant):
            pieces = node.value.values if isinstance(node.value, ast.JoinedStr) else [node.value]
            patterns.append(
                "".join(
                    re.escape(piece.value) if isinstance(piece, ast.Constant) else ".+"
                    for piece in pieces
                )
            )
    assert len(patterns) > 40
    unsaid = [p for p in patterns if not any(re.fullmatch(p, sentence) for sentence in told)]
    assert not unsaid


def test_sentences_end_without_a_full_stop() -> None:
    assert not [line for *_, said in REFUSED for line in said if line.endswith(".")]


def test_several_problems_are_all_named() -> None:
    found = said_of(WAVES, PROTONET, {"backbone": Conv4(), "inner": Steps()})
    assert len(found) == 3


# --- compositions with sense ----------------------------------------------------------------------


@pytest.mark.parametrize(("info", "base", "parts"), [
    (IMAGES, PROTONET, {"backbone": Conv4(depth=4)}),
    (TALL, PROTONET, {"backbone": Conv4(depth=4)}),
    (TABLES, MAML, {"backbone": NoBackbone()}),
    (TABLES, RAW, {}),
    (TABLES, PROTONET, {"backbone": NoBackbone(), "meta": UNTRAINED}),
    (TABLES, RIDGE, {"backbone": OwnBackbone(use="own_things:Net", options={"width": 9})}),
    (TABLES, RIDGE, {"backbone": SetEncoder()}),
    (WAVES, MAML, {"backbone": ResidualMLP(norm="transductive")}),
    # A network that stays random has still features; what is on it learns.
    (TABLES, RIDGE, {"backbone": MLP(frozen=True)}),
    (TABLES, MAML, {"backbone": MLP(frozen=True), "inner": Steps(scope="all")}),
    (TABLES, MAML, {"backbone": MLP(frozen=True), "head": Linear(start="ridge"),
                    "inner": Steps(rate="learned")}),
    # Priors under heads of every kind.
    (WAVES, MAML, {"prior": SupportMean(learn=True)}),
    (MOLECULES, MAML, {"prior": Pooled(), "meta": Meta()}),
    (MOLECULES, RAW, {"prior": Pooled(), "head": Ridge(learn=False)}),
    (MOLECULES, RAW, {"prior": Pooled(), "head": NearestNeighbour(), "meta": UNTRAINED}),
    (WAVES, RIDGE, {"prior": Pooled(model="sklearn.svm:SVR", options={"C": 3.0})}),
    (SHARED, RAW, {"prior": Pooled()}),  # with one support point, too: its summary is of none
    (SHARED, RAW, {"prior": Pooled(), "head": GP(rbf="raw")}),
    # Heads.
    (WAVES, RAW, {"head": NearestNeighbour(neighbours=3), "meta": UNTRAINED}),
    (TABLES, PROTONET, {"head": NearestNeighbour(), "meta": JOINT}),
    (TABLES, PROTONET, {"head": Logistic(), "meta": JOINT}),
    (TABLES, RAW, {"head": Logistic(learn=True)}),
    (TABLES, RIDGE, {"head": OwnHead(use="own_things:Rule")}),
    (MOLECULES, RIDGE, {"head": GP(linear="raw", rbf="learned+raw", tanimoto="fingerprint")}),
    (MOLECULES, RAW, {"head": GP(rbf="off", tanimoto="fingerprint", learn=False),
                      "meta": UNTRAINED}),
    (WAVES, RIDGE, {"head": Amortised(summary="attention", width=12, heads=4)}),
    (WAVES, MAML, {"head": Linear(start="ridge")}),
    (TABLES, MAML, {"head": Linear(similarity="cosine", start="prototypes"), "meta": JOINT}),
    # Inner steps and rules.
    (TABLES, MAML, {"meta": JOINT, "head": Linear(start="zero")}),
    (WAVES, MAML, {"meta": JOINT}),
    (WAVES, MAML, {"inner": Steps(kind="adam", beta=0.0), "meta": REPTILE}),
    (TABLES, MAML, {"inner": Steps(scope="head", proximal=1), "meta": IMPLICIT}),
    (TABLES, MAML, {"inner": Steps(proximal=1), "head": Linear(start="zero"), "meta": IMPLICIT}),
    (TABLES, MAML, {"inner": Steps(scope="context"), "meta": Meta(rule="first_order")}),
    (TABLES, MAML, {"inner": Steps(scope="body", rate="per_parameter")}),
    (TABLES, MAML, {"inner": Steps(rate="per_layer_step", steps=5, test_steps=3)}),
    (TABLES, MAML, {"meta": Meta(rule="truncated", truncate=9)}),
    # Diets.
    (IMAGES, PROTONET, {"diet": Diet(way=20)}),
    (IMAGES, PROTONET, {"diet": Diet(start_way=2, start_shot=5)}),
    (TABLES, MAML, {"diet": Diet(way=10), "head": Linear(start="zero")}),
    (TABLES, RIDGE, {"head": Amortised(), "diet": Diet(way=3)}),
    (WAVES, MAML, {"diet": Diet(shot=3)}),
    (IMAGES, MAML, {"diet": Diet(quarter_turns=True, augment=ImageAugmentation(rotate=10))}),
    (TABLES, PROTONET, {"diet": Diet(augment=TableAugmentation(dropout=0.2, copies=2))}),
    (WAVES, MAML, {"diet": Diet(augment=TableAugmentation(noise=0.1, target_scale=1))}),
    # Cross-fitting, ensembles and learners of one's own.
    (MOLECULES, RIDGE, {"meta": GROUPS}),
    (MOLECULES, RAW, {"prior": Pooled(), "meta": GROUPS}),
    (TABLES, RIDGE, {"combination": Seeds(members=5), "meta": UNTRAINED}),
    (TABLES, OWN, {}),
    (WAVES, OWN, {"meta": UNTRAINED, "diet": Diet(shot=2)}),
])  # fmt: skip
def test_unusual_compositions_with_sense_are_accepted(
    info: FamilyInfo, base: Strategy, parts: dict[str, Any]
) -> None:
    assert said_of(info, base, parts) == []


@pytest.mark.parametrize("info", [IMAGES, WAVES, TABLES, MOLECULES])
def test_every_preset_offered_is_accepted_and_every_other_refused(info: FamilyInfo) -> None:
    for name, build in PRESETS.items():
        assert (said_of(info, build(info), {}) == []) == (name in presets_for(info)), name


def test_pooled_models_need_two_support_points_in_the_smallest_task() -> None:
    told = ["prior pooled summarises other support points: it needs two or more"]
    strategy = RIDGE.model_copy(update={"prior": Pooled()})
    for fewest, expected in ((None, []), (2, []), (1, told)):
        assert problems(strategy, WAVES, Episode(1, 10, 10, fewest=fewest)) == expected
