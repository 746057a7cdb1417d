"""Learners: tasks are learned independently, from their support sets alone, by every preset."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from metatune.learners.learner import Learner, Tensors, build_learner, to_tensors
from metatune.learners.training import start_training, train
from metatune.presets import PRESETS, preset, presets_for
from metatune.seeds import derive_seed
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
from metatune.tasks.base import Episode, TaskFamily
from metatune.tasks.sinusoid import SinusoidFamily

SINUSOID = SinusoidFamily()
CONV = Conv4(width=4, depth=2)
IMAGES_EPISODE, WAVES_EPISODE = Episode(way=3, shot=2, query=2), Episode(way=1, shot=5, query=4)
CASES = [
    *(("tiny", name) for name in PRESETS),
    *(("sinusoid", name) for name in presets_for(SINUSOID.info)),
]
CONVOLUTIONS = [name for name in PRESETS if name != "nearest_neighbour"]
NORMED = [("tiny", name, norm) for name in CONVOLUTIONS for norm in ("support", "layer", "none")]

Case = Callable[..., tuple[Learner, dict[str, Tensor], Tensors]]


@pytest.fixture
def case(tiny: TaskFamily) -> Case:
    """A preset (5 steps at most) on a family: the learner, its random start, and four tasks."""

    def make(
        where: str, name: str, norm: str = "support"
    ) -> tuple[Learner, dict[str, Tensor], Tensors]:
        family, episode = (tiny, IMAGES_EPISODE) if where == "tiny" else (SINUSOID, WAVES_EPISODE)
        strategy = preset(name, family.info)
        if isinstance(strategy.backbone, Conv4):
            backbone = CONV.model_copy(update={"norm": norm})
            strategy = strategy.model_copy(update={"backbone": backbone})
        if isinstance(strategy.inner, SGD):
            inner = strategy.inner.model_copy(update={"steps": min(5, strategy.inner.steps)})
            strategy = strategy.model_copy(update={"inner": inner})
        learner = build_learner(strategy, family.info, episode.way)
        seeds = [derive_seed(0, "test", task) for task in range(4)]
        return learner, learner.init(0), to_tensors(family.sample("train", episode, seeds))

    return make


def of_tasks(batch: Tensors, tasks: Tensor) -> Tensors:
    return Tensors(
        batch.support_x[tasks],
        batch.support_y[tasks],
        batch.query_x[tasks],
        batch.query_y[tasks],
        None,
        None,
    )


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# --- tasks are independent ------------------------------------------------------------------------


@pytest.mark.parametrize(("where", "name"), CASES)
def test_tasks_learned_together_equal_tasks_learned_one_at_a_time(
    case: Case, where: str, name: str
) -> None:
    learner, params, batch = case(where, name)
    together = learner.predict(params, batch)
    alone = [learner.predict(params, of_tasks(batch, torch.tensor([t]))) for t in range(4)]
    assert together.shape == (4, batch.query_x.shape[1], learner.outputs)
    assert_close(together, torch.cat(alone))


@pytest.mark.parametrize(("where", "name"), CASES)
def test_permuting_tasks_permutes_predictions(case: Case, where: str, name: str) -> None:
    learner, params, batch = case(where, name)
    order = torch.tensor([2, 0, 3, 1])
    moved = learner.predict(params, of_tasks(batch, order))
    assert_close(moved, learner.predict(params, batch)[order])


# --- within a task --------------------------------------------------------------------------------


@pytest.mark.parametrize(("where", "name"), CASES)
def test_the_order_of_support_points_does_not_matter(case: Case, where: str, name: str) -> None:
    learner, params, batch = case(where, name)
    order = torch.randperm(batch.support_x.shape[1], generator=torch.Generator().manual_seed(0))
    moved = Tensors(
        batch.support_x[:, order],
        batch.support_y[:, order],
        batch.query_x,
        batch.query_y,
        None,
        None,
    )
    assert_close(learner.predict(params, moved), learner.predict(params, batch))


@pytest.mark.parametrize(("where", "name"), CASES)
def test_support_points_do_matter(case: Case, where: str, name: str) -> None:
    learner, params, batch = case(where, name)
    other = batch.support_x.clone()
    other[:, 0] = 2 - other[:, 0]
    moved = Tensors(other, batch.support_y, batch.query_x, batch.query_y, None, None)
    before, after = learner.predict(params, batch), learner.predict(params, moved)
    assert not torch.allclose(before, after, atol=1e-4)


@pytest.mark.parametrize(("where", "name"), CASES)
def test_query_labels_never_reach_a_prediction(case: Case, where: str, name: str) -> None:
    learner, params, batch = case(where, name)
    unknown = torch.full_like(batch.query_y, -1)
    blind = Tensors(batch.support_x, batch.support_y, batch.query_x, unknown, None, None)
    assert torch.equal(learner.predict(params, blind), learner.predict(params, batch))


@pytest.mark.parametrize(
    ("where", "name", "norm"),
    [
        *NORMED,
        ("tiny", "nearest_neighbour", ""),
        *((where, name, "") for where, name in CASES if where == "sinusoid"),
    ],
)
def test_a_prediction_does_not_depend_on_other_query_points(
    case: Case, where: str, name: str, norm: str
) -> None:
    learner, params, batch = case(where, name, norm)
    others = batch.query_x.clone()
    others[:, 1:] = 5 * others[:, 1:] + 1
    moved = Tensors(batch.support_x, batch.support_y, others, batch.query_y, None, None)
    before, after = learner.predict(params, batch), learner.predict(params, moved)
    assert_close(after[:, 0], before[:, 0])
    assert not torch.allclose(after[:, 1:], before[:, 1:], atol=1e-4)
    assert not learner.strategy.transductive


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_transductive_prediction_does_and_says_so(case: Case, name: str) -> None:
    learner, params, batch = case("tiny", name, "transductive")
    others = batch.query_x.clone()
    others[:, 1:] = 5 * others[:, 1:] + 1
    moved = Tensors(batch.support_x, batch.support_y, others, batch.query_y, None, None)
    before, after = learner.predict(params, batch), learner.predict(params, moved)
    assert not torch.allclose(before[:, 0], after[:, 0], atol=1e-4)
    assert learner.strategy.transductive


def test_raw_pixels_are_labelled_by_their_nearest_neighbour(case: Case) -> None:
    learner, params, batch = case("tiny", "nearest_neighbour")
    assert params == {}
    found = learner.predict(params, batch).argmax(2)
    for t in range(4):
        for q, x in enumerate(batch.query_x[t]):
            distances = [float((x - s).square().sum()) for s in batch.support_x[t]]
            assert found[t, q] == batch.support_y[t, distances.index(min(distances))]


def test_learning_a_task_lowers_the_loss_on_its_support_set(case: Case) -> None:
    for where, name in CASES:
        learner, params, batch = case(where, name)
        if isinstance(learner.strategy.inner, SGD):
            again = Tensors(
                batch.support_x, batch.support_y, batch.support_x, batch.support_y, None, None
            )
            one_step = learner.strategy.inner.model_copy(update={"steps": 1, "lr": 1e-12})
            still = build_learner(
                learner.strategy.model_copy(update={"inner": one_step}), learner.info, 3
            )
            learned, unlearned = (
                who.losses(who.predict(params, again), again.query_y) for who in (learner, still)
            )
            assert bool((learned < unlearned).all()), name


# --- meta-parameters and losses -------------------------------------------------------------------


def test_a_start_follows_from_the_seed_alone(case: Case) -> None:
    learner, _, _ = case("tiny", "maml")
    first, again, other = (learner.init(seed) for seed in (1, 1, 2))
    assert all(torch.equal(p, again[name]) for name, p in first.items())
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_losses_are_those_of_each_task(case: Case) -> None:
    learner, params, batch = case("tiny", "protonet")
    logits = learner.predict(params, batch)
    found = learner.losses(logits, batch.query_y)
    chosen = torch.log_softmax(logits, 2).gather(2, batch.query_y.unsqueeze(2))
    torch.testing.assert_close(found, -chosen.mean((1, 2)))

    learner, params, batch = case("sinusoid", "maml")
    values = learner.predict(params, batch)
    found = learner.losses(values, batch.query_y)
    torch.testing.assert_close(found, ((values - batch.query_y) ** 2).mean((1, 2)))


@pytest.mark.parametrize(
    ("name", "hopeful", "hopeless"), [("protonet", 9e4, 1.2e5), ("baseline", 2.8e5, 3e5)]
)
def test_a_cross_entropy_is_hopeless_at_100_000_times_that_of_guessing(
    case: Case, name: str, hopeful: float, hopeless: float
) -> None:
    learner, _, batch = case("tiny", name)  # 3 classes, or the 18 of joint training
    assert not learner.is_hopeless(hopeful, batch)
    assert learner.is_hopeless(hopeless, batch)


def test_a_squared_error_is_hopeless_at_1_000_times_the_targets_variance(case: Case) -> None:
    learner, _, batch = case("sinusoid", "maml")
    variance = float(torch.cat([batch.support_y, batch.query_y], 1).var(correction=0))
    assert not learner.is_hopeless(0.99e3 * variance, batch)
    assert learner.is_hopeless(1.01e3 * variance, batch)


def test_joint_training_is_one_classifier_over_all_train_classes(case: Case) -> None:
    learner, params, _ = case("tiny", "baseline")
    assert params["joint.weight"].shape == (learner.backbone.features, 18)
    assert "head.weight" not in params


def accepted(kind: str) -> list[Strategy]:
    """Compositions of every kind of part that ``problems`` lets pass, with small settings."""
    images = kind == "classification"
    backbones = [NoBackbone(), MLP(width=4, depth=1)]
    if images:
        backbones += [
            CONV.model_copy(update={"width": 2, "norm": norm}) for norm in ("support", "none")
        ]
    heads = [
        Linear(start="zero"), Linear(start="learned"), Ridge(learn=True), Ridge(learn=False),
        Prototypes(), NearestNeighbour(),
    ]  # fmt: skip
    inners = [NoInner(), SGD(steps=2, scope="all"), SGD(steps=2, scope="head")]
    rules = [Meta(rule=rule) for rule in ("second_order", "first_order", "joint", "none")]
    diets = [Diet(), Diet(way=2, shot=1), Diet(way=4, query=1)]
    return [
        Strategy(
            backbone=backbone, head=head, inner=inner, meta=meta, diet=diet,
            outer=Outer(tasks_per_batch=2),
        )
        for backbone, head, inner, meta, diet in product(backbones, heads, inners, rules, diets)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_whatever_makes_sense_trains_and_predicts(kind: str, tiny: TaskFamily) -> None:
    family, episode = (
        (tiny, IMAGES_EPISODE) if kind == "classification" else (SINUSOID, WAVES_EPISODE)
    )
    sensible = [s for s in accepted(kind) if not s.problems(family.info, episode)]
    assert len(sensible) > 20
    for strategy in sensible:
        diet = strategy.diet.episode(episode)
        learner = build_learner(strategy, family.info, episode.way)
        state = start_training(learner, 0)
        if strategy.trains:
            trainee = build_learner(strategy, family.info, diet.way)
            batch = to_tensors(family.sample("train", diet, [1, 2]))
            before = state
            state, loss = train(trainee, state, [batch].__getitem__, 1, 1)
            assert loss > 0
            moved = [n for n, p in state.params.items() if not torch.equal(p, before.params[n])]
            assert moved, f"nothing is learned by {strategy}"
        tasks = to_tensors(family.sample("select", episode, [3, 4, 5]))
        with torch.no_grad():
            predictions = learner.predict(state.params, tasks)
        assert predictions.shape == (3, episode.n_query, learner.outputs)
        assert bool(torch.isfinite(predictions).all()), strategy
