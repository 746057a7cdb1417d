"""Learners: tasks are learned independently, from their support sets alone, by every preset."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from families import MOLECULES, SERIES, SMALL_IMAGES, TABLES, WAVES, random_tasks

from metatune.learners.learner import build_learner, task_losses
from metatune.learners.training import loss_and_gradients
from metatune.presets import PRESETS, presets_for
from metatune.strategy import (
    GP,
    MLP,
    Amortised,
    Conv4,
    Diet,
    Linear,
    Logistic,
    Meta,
    NearestNeighbour,
    NoBackbone,
    NoInner,
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
    ZeroMean,
    problems,
)
from metatune.tasks.base import Episode

FAMILIES = {
    "sinusoid": (WAVES, Episode(1, 10, 6)),
    "images": (SMALL_IMAGES, Episode(5, 1, 2)),
    "more shots": (SMALL_IMAGES, Episode(3, 2, 2)),
    "molecules": (MOLECULES, Episode(1, 8, 6)),
    "series": (SERIES, Episode(1, 8, 6)),
}
BLIND = {  # to the inputs of a support set, by design
    "support_mean", "pooled_linear", "boosted_trees", "seasonal_naive", "last_value"
}  # fmt: skip
CASES = [(name, place) for place, (info, _) in FAMILIES.items() for name in presets_for(info)]


def small(strategy: Strategy) -> Strategy:
    """The preset on a small network, with few steps."""
    changes: dict[str, object] = {}
    if isinstance(strategy.backbone, Conv4):
        changes["backbone"] = strategy.backbone.model_copy(update={"width": 4, "depth": 2})
    if isinstance(strategy.inner, Steps):
        few = {"steps": min(3, strategy.inner.steps), "test_steps": None}
        changes["inner"] = strategy.inner.model_copy(update=few)
    return strategy.model_copy(update=changes)


def with_pooled(strategy: Strategy, batch):
    """The tasks with predictions of a pooled model, where the strategy has one."""
    if not isinstance(strategy.prior, Pooled):
        return batch
    if batch.support_class is not None:
        told = [torch.eye(3)[y].add(0.1).log() for y in (batch.support_y, batch.query_y)]
        return replace(batch, support_pooled=told[0], query_pooled=told[1])
    return replace(batch, support_pooled=batch.support_y * 0.3, query_pooled=batch.query_y * 0.3)


def preset_on(name: str, place: str, dtype=torch.float32):
    info, episode = FAMILIES[place]
    strategy = small(PRESETS[name](info))
    batch = with_pooled(strategy, random_tasks(info, episode, dtype=dtype))
    return strategy, build_learner(strategy, info, episode.way), batch


def predict(learner, batch, seed=0):
    with torch.no_grad():
        return learner.predict(learner.init(seed), batch)


def with_other_neighbours(batch):
    """Another query set, but for the first point of each task."""
    others = batch.query_x.clone()
    others[:, 1:] = 1.5 - others[:, 1:]
    return replace(batch, query_x=others)


def test_every_preset_is_among_the_cases():
    assert {name for name, _ in CASES} == set(PRESETS)


# --- tasks are independent ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "place"), CASES)
def test_together_equals_one_by_one(name, place):
    strategy, learner, batch = preset_on(name, place)
    alone = [predict(learner, batch.tasks([t])) for t in range(len(batch))]
    torch.testing.assert_close(torch.cat(alone), predict(learner, batch), rtol=1e-5, atol=1e-5)
    # The pull of other tasks on a shared support would show in the gradients, too. In float64:
    # conjugate gradients on a network's curvature magnify rounding.
    if strategy.meta.rule in ("joint", "none"):
        return
    strategy, learner, batch = preset_on(name, place, torch.float64)
    params = {parameter: p.double() for parameter, p in learner.init(0).items()}
    value, grads = loss_and_gradients(learner, params, batch, 0.6)
    each = [loss_and_gradients(learner, params, batch.tasks([t]), 0.6) for t in range(len(batch))]
    assert value == pytest.approx(sum(v for v, _ in each) / len(batch), rel=1e-5)
    if strategy.cross_fits_backbone(learner.info):
        return  # copies are taught by means over the tasks that they may see
    for parameter, g in grads.items():
        if g is not None:
            mean = torch.stack([own[parameter] for _, own in each]).mean(0)
            scale = max(1.0, float(mean.abs().max()))
            torch.testing.assert_close(mean / scale, g / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "place"), CASES)
def test_neither_query_labels_nor_order_nor_neighbours_matter(name, place):
    strategy, learner, batch = preset_on(name, place)
    found = predict(learner, batch)

    labels = batch.query_y.flip(1) if batch.query_y.dtype == torch.int64 else batch.query_y + 9
    assert torch.equal(predict(learner, replace(batch, query_y=labels)), found)

    tasks = [2, 0, 1]
    torch.testing.assert_close(
        predict(learner, batch.tasks(tasks)), found[tasks], rtol=1e-4, atol=1e-5
    )

    order = torch.randperm(batch.support_x.shape[1], generator=torch.Generator().manual_seed(1))
    support = {n: getattr(batch, n)[:, order] for n in ("support_x", "support_y")}
    if batch.support_pooled is not None:
        support["support_pooled"] = batch.support_pooled[:, order]
    shuffled = predict(learner, replace(batch, **support))
    near = 1e-3 if name == "logistic" else 1e-5  # Newton's steps end where rounding does
    torch.testing.assert_close(shuffled, found, rtol=max(1e-4, near), atol=near)

    neighbours = predict(learner, with_other_neighbours(batch))
    torch.testing.assert_close(neighbours[:, 0], found[:, 0], rtol=1e-4, atol=1e-5)
    assert not strategy.transductive


@pytest.mark.parametrize(("name", "place"), CASES)
def test_support_inputs_matter_and_the_query_point_itself(name, place):
    _, learner, batch = preset_on(name, place)
    found = predict(learner, batch)
    moved = predict(learner, replace(batch, support_x=2 - batch.support_x))
    if name in BLIND:
        torch.testing.assert_close(moved, found, rtol=1e-3, atol=1e-3)
        return
    assert not torch.allclose(moved, found, atol=1e-4)
    asked = predict(learner, with_other_neighbours(batch))
    assert not torch.allclose(asked[:, 1:], found[:, 1:], atol=1e-4)


CONVOLUTIONS = [
    name for name in presets_for(SMALL_IMAGES)
    if isinstance(PRESETS[name](SMALL_IMAGES).backbone, Conv4)
]  # fmt: skip
TRANSDUCTIVE = [
    Strategy(backbone=Conv4(width=4, depth=2, norm="transductive"), head=Prototypes()),
    Strategy(backbone=MLP(width=6, norm="transductive"), head=Prototypes()),
    Strategy(backbone=Conv4(width=4, depth=2, norm="transductive"), inner=Steps()),
]


@pytest.mark.parametrize("strategy", [*TRANSDUCTIVE, *CONVOLUTIONS])
def test_what_scores_query_points_jointly_says_so(strategy):
    if isinstance(strategy, str):
        strategy = small(PRESETS[strategy](SMALL_IMAGES))
        backbone = strategy.backbone.model_copy(update={"norm": "transductive"})
        strategy = strategy.model_copy(update={"backbone": backbone})
    batch = random_tasks(SMALL_IMAGES, Episode(3, 2, 2))
    learner = build_learner(strategy, SMALL_IMAGES, 3)
    found, changed = predict(learner, batch), predict(learner, with_other_neighbours(batch))
    assert not torch.allclose(found[:, 0], changed[:, 0], atol=1e-4)
    assert strategy.transductive


@pytest.mark.parametrize("norm", ["layer", "none"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_other_norms_are_no_more_transductive(name, norm):
    strategy = small(PRESETS[name](SMALL_IMAGES))
    backbone = strategy.backbone.model_copy(update={"norm": norm})
    strategy = strategy.model_copy(update={"backbone": backbone})
    batch = random_tasks(SMALL_IMAGES, Episode(3, 2, 2))
    learner = build_learner(strategy, SMALL_IMAGES, 3)
    found, changed = predict(learner, batch), predict(learner, with_other_neighbours(batch))
    torch.testing.assert_close(found[:, 0], changed[:, 0], rtol=1e-5, atol=1e-5)
    assert not strategy.transductive


SYMMETRIC = (
    "protonet cosine_protonet r2d2 deep_kernel cnp anp ridge nearest_neighbour good_embedding "
    "baseline scratch proto_maml"
)


@pytest.mark.parametrize("name", SYMMETRIC.split())
def test_other_names_of_the_classes_are_other_columns(name):
    _, learner, batch = preset_on(name, "more shots")
    names = torch.tensor([2, 0, 1])
    renamed = replace(batch, support_y=names[batch.support_y])
    torch.testing.assert_close(
        predict(learner, renamed)[:, :, names], predict(learner, batch), rtol=1e-4, atol=1e-4
    )


# --- pure, and the same everywhere ----------------------------------------------------------------


@pytest.mark.parametrize(("name", "place"), CASES)
def test_inputs_are_not_changed(name, place):
    strategy, learner, batch = preset_on(name, place)
    before = {n: v.clone() for n, v in vars(batch).items() if isinstance(v, torch.Tensor)}
    params = learner.init(0)
    kept = {n: p.clone() for n, p in params.items()}
    learner.predict(params, batch)
    if strategy.meta.rule != "none":
        loss_and_gradients(learner, params, batch, 0.0)
    assert all(torch.equal(getattr(batch, n), v) for n, v in before.items())
    assert all(torch.equal(params[n], p) for n, p in kept.items())


OTHER_PROCESS = """
import sys
sys.path[:0] = {folders!r}
import torch
torch.set_num_threads(1)
from test_learner import KINDS, predict, preset_on
for name, place in KINDS:
    strategy, learner, batch = preset_on(name, place)
    print(repr(predict(learner, batch, seed=5).double().sum().item()))
"""
KINDS = [("maml", "images"), ("r2d2", "images"), ("anp", "sinusoid"), ("tanimoto_gp", "molecules")]


def test_the_same_seed_gives_the_same_in_another_process():
    here = Path(__file__).parent
    code = OTHER_PROCESS.format(folders=[str(here), str(here.parent)])
    environment = os.environ | {"PYTHONHASHSEED": "777"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    for (name, place), line in zip(KINDS, done.stdout.split(), strict=True):
        _, learner, batch = preset_on(name, place)
        own = predict(learner, batch, seed=5).double().sum().item()
        assert float(line) == pytest.approx(own, rel=1e-6), name


@pytest.mark.parametrize(("name", "place"), CASES)
def test_a_start_follows_from_the_seed_alone(name, place):
    _, learner, _ = preset_on(name, place)
    first, again, other = (learner.init(seed) for seed in (1, 1, 2))
    assert all(torch.equal(p, again[n]) for n, p in first.items())
    random = [n for n in first if n.endswith("weight")]
    assert all(not torch.equal(first[n], other[n]) for n in random)


# --- what learning a task is ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "place"), [
    (name, place) for name, place in CASES
    if isinstance(PRESETS[name](FAMILIES[place][0]).inner, Steps)
])  # fmt: skip
def test_learning_a_task_lowers_the_loss_on_its_support_set(name, place):
    strategy, learner, batch = preset_on(name, place)
    again = replace(batch, query_x=batch.support_x, query_y=batch.support_y)
    tiny = strategy.inner.model_copy(update={"steps": 1, "lr": 1e-12})
    still = build_learner(
        strategy.model_copy(update={"inner": tiny}), learner.info, FAMILIES[place][1].way
    )
    learned, unlearned = (
        task_losses(learner.info, predict(who, again), again.query_y) for who in (learner, still)
    )
    assert bool((learned < unlearned).all())


def test_raw_inputs_are_labelled_by_their_nearest_neighbour():
    _, learner, batch = preset_on("nearest_neighbour", "more shots")
    assert learner.init(0) == {}
    found = predict(learner, batch).argmax(2)
    for t in range(len(batch)):
        for q, x in enumerate(batch.query_x[t]):
            distances = [float((x - s).square().sum()) for s in batch.support_x[t]]
            assert found[t, q] == batch.support_y[t, distances.index(min(distances))]


def test_neighbours_of_fingerprints_are_told_by_tanimoto():
    part = NearestNeighbour(distance="tanimoto", neighbours=2)
    learner = build_learner(Strategy(head=part), MOLECULES, 1)
    assert predict(learner, random_tasks(MOLECULES, Episode(1, 8, 6))).shape == (3, 6, 1)


def test_test_steps_are_those_that_a_task_is_learned_with():
    inner = Steps(steps=1, lr=0.1, test_steps=4)
    batch = random_tasks(WAVES, Episode(1, 10, 6))
    found = []
    for steps in (inner, inner.model_copy(update={"steps": 4, "test_steps": None})):
        strategy = Strategy(backbone=MLP(width=6), head=Linear(), inner=steps)
        found.append(predict(build_learner(strategy, WAVES, 1), batch))
    assert torch.equal(*found)


ADAPTED = {
    "all": ["backbone.layer0.bias", "backbone.layer0.weight", "head.bias", "head.weight"],
    "body": ["backbone.layer0.bias", "backbone.layer0.weight"],
    "head": ["head.bias", "head.weight"],
    "context": ["context"],
}


@pytest.mark.parametrize("scope", ADAPTED)
def test_steps_change_what_is_in_their_scope_and_nothing_else(scope):
    inner = Steps(steps=2, lr=0.1, scope=scope)
    learner = build_learner(Strategy(backbone=MLP(width=6, depth=1), inner=inner), WAVES, 1)
    batch, params = random_tasks(WAVES, Episode(1, 10, 6)), learner.init(0)
    adapted, _ = learner.adapted(params, batch, 2)
    assert sorted(adapted) == ADAPTED[scope]
    for name, p in adapted.items():
        before = params.get(name, torch.zeros(inner.context))
        assert p.shape == (3, *before.shape)
        assert not torch.allclose(p, before.expand_as(p))


def test_a_frozen_backbone_stays_as_it_starts():
    strategy = Strategy(
        backbone=MLP(width=6, frozen=True), head=Linear(), inner=Steps(steps=2, lr=0.1)
    )
    learner = build_learner(strategy, WAVES, 1)
    batch, params = random_tasks(WAVES, Episode(1, 10, 6)), learner.init(0)
    _, grads = loss_and_gradients(learner, params, batch, 0.0)
    assert all((g is None) == name.startswith("backbone.") for name, g in grads.items())
    adapted, _ = learner.adapted(params, batch, 2)
    assert all(name.startswith("head.") for name in adapted)


# --- meta-parameters and losses -------------------------------------------------------------------


def test_joint_training_is_one_classifier_over_all_train_classes():
    _, learner, _ = preset_on("baseline", "images")
    params = learner.init(0)
    assert params["joint.weight"].shape == (learner.backbone.features, 12)
    assert "head.weight" not in params


def test_turned_classes_are_classes_of_their_own():
    strategy, _, _ = preset_on("baseline", "images")
    strategy = strategy.model_copy(update={"diet": Diet(quarter_turns=True)})
    turned = build_learner(strategy, SMALL_IMAGES, 5)
    assert turned.init(0)["joint.bias"].shape == (4 * 12,)


def test_losses_are_those_of_each_task():
    _, learner, batch = preset_on("protonet", "more shots")
    logits = predict(learner, batch)
    found = learner.losses(logits, batch.query_y)
    chosen = torch.log_softmax(logits, 2).gather(2, batch.query_y.unsqueeze(2))
    torch.testing.assert_close(found, -chosen.mean((1, 2)))

    _, learner, batch = preset_on("maml", "sinusoid")
    values = predict(learner, batch)
    found = learner.losses(values, batch.query_y)
    torch.testing.assert_close(found, ((values - batch.query_y) ** 2).mean((1, 2)))


# --- whatever makes sense -------------------------------------------------------------------------

BACKBONES = [
    NoBackbone(), MLP(width=4, depth=1), MLP(width=4, frozen=True), ResidualMLP(width=4),
    SetEncoder(width=4), Conv4(width=2, depth=1), Conv4(width=2, depth=1, norm="none"),
]  # fmt: skip
HEADS = [
    Linear(start="zero"), Linear(), Linear(start="prototypes"), Linear(start="ridge"),
    Linear(similarity="cosine"), Ridge(), Ridge(learn=False), Ridge(intercept="free"), Logistic(),
    Prototypes(), NearestNeighbour(), GP(), GP(rbf="raw", tanimoto="fingerprint"),
    Amortised(width=4), Amortised(summary="attention", width=4, heads=2),
]  # fmt: skip
INNERS = [
    NoInner(), *(Steps(steps=2, scope=s) for s in ("all", "head", "body", "context")),
    Steps(steps=2, kind="adam", lr=0.01, rate="per_layer"), Steps(steps=2, lr=0.02, proximal=20.0),
]  # fmt: skip
RULES = ["second_order", "first_order", "truncated", "implicit", "reptile", "joint", "none"]
PRIORS = [ZeroMean(), SupportMean(learn=True), Pooled()]


@cache
def sensible(place: str) -> list[Strategy]:
    """Compositions of every kind of part that ``problems`` lets pass, with small settings."""
    info, episode = FAMILIES[place]
    composed = (
        Strategy(prior=prior, backbone=backbone, head=head, inner=inner, meta=Meta(rule=rule))
        for prior, backbone, head, inner, rule in product(PRIORS, BACKBONES, HEADS, INNERS, RULES)
    )
    return [strategy for strategy in composed if not problems(strategy, info, episode)]


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("place", ["more shots", "sinusoid", "molecules"])
def test_whatever_makes_sense_learns_and_predicts(place, every):
    info, episode = FAMILIES[place]
    strategies = sensible(place)[::every]
    assert len(strategies) > 100 / every
    batch, new = (random_tasks(info, episode, seed=seed) for seed in (0, 1))
    # Closer together: nothing is to be learned where all is told apart from the start.
    batch = replace(batch, support_x=batch.support_x / 4, query_x=batch.query_x / 4)
    for strategy in strategies:
        learner = build_learner(strategy, info, episode.way)
        params = learner.init(0)
        if strategy.meta.rule != "none":
            loss, grads = loss_and_gradients(learner, params, with_pooled(strategy, batch), 0.3)
            assert loss > 0, strategy
            taught = {n: g for n, g in grads.items() if g is not None and bool((g != 0).any())}
            assert taught, f"nothing is learned by {strategy}"
            params = {n: p - 1e-3 * taught[n] if n in taught else p for n, p in params.items()}
        with torch.no_grad():
            predictions = learner.predict(params, with_pooled(strategy, new))
        assert predictions.shape == (len(new), episode.n_query, learner.outputs)
        assert bool(torch.isfinite(predictions).all()), strategy


@pytest.mark.parametrize("way", [2, 4])
@pytest.mark.parametrize("combination", [Single(), Seeds(members=2)])
@pytest.mark.parametrize("head", [
    Linear(start="zero"), Ridge(), Logistic(), Prototypes(), GP(), Amortised(width=4),
])  # fmt: skip
def test_training_tasks_may_have_another_number_of_classes(head, combination, way):
    steps = {"inner": Steps(scope="head")} if isinstance(head, Linear) else {}
    strategy = Strategy(backbone=MLP(width=4), head=head, combination=combination, **steps)
    learner = build_learner(strategy, SMALL_IMAGES, 3)
    params = learner.init(0)
    loss, _ = loss_and_gradients(
        learner, params, random_tasks(SMALL_IMAGES, Episode(way, 2, 2)), 0.0
    )
    assert loss > 0
    assert predict(learner, random_tasks(SMALL_IMAGES, Episode(3, 2, 2))).shape == (3, 6, 3)


SHARED = replace(TABLES, shared_classes=True, train_classes=3)


@pytest.mark.parametrize("name", presets_for(SHARED))
def test_a_support_set_may_lack_classes_that_all_tasks_share(name):
    batch = random_tasks(SHARED, Episode(3, 4, 2))
    few = batch.support_y.clone()
    few[0], few[1][few[1] == 2] = 1, 0  # one class alone, and two of three
    lacking = replace(batch, support_y=few, support_class=few, query_class=batch.query_y)
    strategy = PRESETS[name](SHARED)
    lacking = with_pooled(strategy, lacking)
    learner = build_learner(strategy, SHARED, 3)
    params = learner.init(0)
    found = predict(learner, lacking)
    assert found.shape == (3, 6, 3)
    assert bool(torch.isfinite(found).all())
    if strategy.meta.rule == "none":
        return
    value, grads = loss_and_gradients(learner, params, lacking, 0.0)
    assert np.isfinite(value)
    assert all(bool(torch.isfinite(g).all()) for g in grads.values() if g is not None)


@pytest.mark.parametrize(
    "name", ["support_mean", "ridge", "logistic", "nearest_neighbour", "protonet"]
)
def test_a_class_that_the_support_lacks_is_not_predicted(name):
    batch = random_tasks(SHARED, Episode(3, 4, 2))
    few = torch.where(batch.support_y == 2, 0, batch.support_y)
    learner = build_learner(PRESETS[name](SHARED), SHARED, 3)
    assert not (predict(learner, replace(batch, support_y=few)).argmax(2) == 2).any()
