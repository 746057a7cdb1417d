"""Meta rules: their gradients are right, against differences, formulas and loops by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from families import MOLECULES, SMALL_IMAGES, TABLES, WAVES, random_tasks
from hypothesis import given
from hypothesis import strategies as st

from metatune.learners.interface import Tensors
from metatune.learners.learner import build_learner
from metatune.learners.rules import step_weights
from metatune.learners.training import loss_and_gradients
from metatune.strategy import (
    GP,
    MLP,
    Amortised,
    Conv4,
    Linear,
    Logistic,
    Meta,
    NoBackbone,
    Pooled,
    Prototypes,
    ResidualMLP,
    Ridge,
    SetEncoder,
    Steps,
    Strategy,
    SupportMean,
    problems,
)
from metatune.tasks.base import Episode

NET = MLP(width=5, depth=2, activation="tanh")  # smooth: finite differences mean something
POINTS, CLASSES = Episode(1, 6, 5), Episode(3, 2, 2)
SECOND = Meta(rule="second_order")


def doubled(info, episode, tasks=3):
    return random_tasks(info, episode, tasks, seed=1, dtype=torch.float64)


def learner_of(strategy, info=WAVES, episode=POINTS):
    assert not problems(strategy, info, episode)
    return build_learner(strategy, info, episode.way)


def start_of(learner, seed=3):
    """Double precision, and a little noise on what starts at round numbers."""
    rng = torch.Generator().manual_seed(seed)
    return {
        name: p.double() + 0.1 * torch.randn(p.shape, generator=rng, dtype=torch.float64)
        for name, p in learner.init(seed).items()
    }


def assert_gradient_is_right(learner, batch, progress=0.6, step=1e-5, rtol=1e-6):
    """Along three random directions and, for each parameter, along one of its own."""
    params = start_of(learner)
    _, grads = loss_and_gradients(learner, params, batch, progress)
    taught = {name: g for name, g in grads.items() if g is not None}
    assert taught
    rng = torch.Generator().manual_seed(5)
    directions = [
        {n: torch.randn(g.shape, generator=rng, dtype=g.dtype) for n, g in taught.items()}
        for _ in range(3)
    ]
    directions += [
        {n: torch.randn(g.shape, generator=rng, dtype=g.dtype)} for n, g in taught.items()
    ]
    size = float(torch.cat([g.flatten() for g in taught.values()]).norm())

    def loss(along, at):
        moved = {n: p + at * step * along[n] if n in along else p for n, p in params.items()}
        return float(learner.meta_loss(moved, batch, progress).detach())

    for along in directions:
        # Fourth order: the error of the step is far below that of rounding.
        measured = (8 * (loss(along, 1) - loss(along, -1)) - loss(along, 2) + loss(along, -2)) / (
            12 * step
        )
        found = sum(float((taught[n] * d).sum()) for n, d in along.items())
        assert abs(found - measured) <= rtol * max(size, abs(measured)), along.keys()


# --- through inner steps -------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["all", "head", "body", "context"])
@pytest.mark.parametrize(
    "rate", ["fixed", "learned", "per_layer", "per_layer_step", "per_parameter"]
)
@pytest.mark.parametrize("info", [WAVES, TABLES], ids=["regression", "classes"])
def test_second_order_reaches_starts_and_rates(scope, rate, info):
    episode = POINTS if info is WAVES else CLASSES
    inner = Steps(steps=2, lr=0.2, scope=scope, rate=rate, context=3)
    strategy = Strategy(backbone=NET, inner=inner, meta=SECOND)
    learner = learner_of(strategy, info, episode)
    assert_gradient_is_right(learner, doubled(info, episode))
    _, grads = loss_and_gradients(learner, start_of(learner), doubled(info, episode), 0.6)
    rates = [g for n, g in grads.items() if n.startswith("rate.")]
    assert bool(rates) == (rate != "fixed")
    assert all(g is not None and bool((g != 0).any()) for g in rates)


@pytest.mark.parametrize("kind", ["momentum", "adam"])
@pytest.mark.parametrize("proximal", [0.0, 0.3])
def test_second_order_goes_through_momentum_adam_and_the_pull_to_the_start(kind, proximal):
    inner = Steps(kind=kind, steps=3, lr=0.05, rate="per_layer", proximal=proximal)
    learner = learner_of(Strategy(backbone=NET, inner=inner, meta=SECOND))
    assert_gradient_is_right(learner, doubled(WAVES, POINTS), step=3e-6, rtol=3e-6)


@pytest.mark.parametrize("start", ["zero", "prototypes", "ridge"])
@pytest.mark.parametrize("scope", ["all", "head"])
def test_second_order_goes_through_computed_starts_of_the_head(start, scope):
    inner = Steps(steps=2, lr=0.1, scope=scope)
    strategy = Strategy(backbone=NET, head=Linear(start=start), inner=inner, meta=SECOND)
    assert_gradient_is_right(learner_of(strategy, TABLES, CLASSES), doubled(TABLES, CLASSES))


def test_second_order_goes_through_a_cosine_head():
    head = Linear(similarity="cosine", scale=3.0)
    strategy = Strategy(backbone=NET, head=head, inner=Steps(steps=2), meta=SECOND)
    assert_gradient_is_right(learner_of(strategy, TABLES, CLASSES), doubled(TABLES, CLASSES))


def test_losses_after_every_step_count_by_their_weights():
    meta = Meta(rule="second_order", multi_step_until=1.0, first_order_until=0.2)
    strategy = Strategy(backbone=NET, inner=Steps(steps=3, lr=0.1), meta=meta)
    assert_gradient_is_right(learner_of(strategy), doubled(WAVES, POINTS), progress=0.4)


@pytest.mark.parametrize("norm", ["support", "transductive", "layer"])
@pytest.mark.parametrize("backbone", [NET, ResidualMLP(width=5, activation="tanh")])
def test_second_order_goes_through_normalisation(norm, backbone):
    backbone = backbone.model_copy(update={"norm": norm})
    strategy = Strategy(backbone=backbone, inner=Steps(steps=1, lr=0.1), meta=SECOND)
    assert_gradient_is_right(learner_of(strategy), doubled(WAVES, POINTS))


@pytest.mark.parametrize("norm", ["support", "transductive", "layer", "none"])
@pytest.mark.parametrize("rule", ["second_order", "first_order"])
def test_convolutions_are_differentiated_exactly(norm, rule):
    """Kinks of ReLU and pooling lie apart by far more than the step."""
    if rule == "second_order":
        strategy = Strategy(
            backbone=Conv4(width=3, depth=2, norm=norm), inner=Steps(steps=1, lr=0.1), meta=SECOND
        )
    else:
        strategy = Strategy(backbone=Conv4(width=3, depth=2, norm=norm), head=Ridge())
    learner = learner_of(strategy, SMALL_IMAGES, CLASSES)
    assert_gradient_is_right(learner, doubled(SMALL_IMAGES, CLASSES), step=1e-7, rtol=3e-6)


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.5, 0.9])
def test_the_loss_that_counts_is_that_after_every_step_by_its_weight(progress):
    def loss(steps, meta):
        strategy = Strategy(backbone=NET, inner=Steps(steps=steps, lr=0.1), meta=meta)
        learner = learner_of(strategy)
        batch = doubled(WAVES, POINTS)
        return loss_and_gradients(learner, start_of(learner), batch, progress)[0]

    found = loss(3, Meta(rule="second_order", multi_step_until=0.5))
    weights = step_weights(3, progress, 0.5)
    assert found == pytest.approx(
        sum(w * loss(k, SECOND) for k, w in enumerate(weights, start=1)), rel=1e-12
    )


@given(steps=st.integers(1, 9), progress=st.floats(0, 1), until=st.floats(0.01, 1))
def test_weights_of_the_steps_move_from_all_to_the_last(steps, progress, until):
    weights = step_weights(steps, progress, until)
    assert len(weights) == steps
    assert sum(weights) == pytest.approx(1)
    early = max(0.0, 1 - progress / until) / steps
    assert weights[:-1] == pytest.approx([early] * (steps - 1))
    assert step_weights(steps, 0.0, until) == pytest.approx([1 / steps] * steps)
    assert step_weights(steps, progress, 0.0) == [0.0] * (steps - 1) + [1.0]


# --- rules that see less or other ----------------------------------------------------------------


def losses_and_gradients(metas, progress=0.0, scope="all"):
    """Of three steps on the same tasks from the same start, by other rules."""
    found = []
    for meta in metas:
        inner = Steps(steps=3, lr=0.15, scope=scope)
        learner = learner_of(Strategy(backbone=NET, inner=inner, meta=meta))
        loss, grads = loss_and_gradients(
            learner, start_of(learner), doubled(WAVES, POINTS), progress
        )
        found.append((loss, torch.cat([g.flatten() for g in grads.values()])))
    return found


@pytest.mark.parametrize("scope", ["all", "head"])
def test_the_two_orders_adapt_alike_and_differ_in_their_gradients(scope):
    (one, first), (other, second) = losses_and_gradients([Meta(), SECOND], scope=scope)
    assert one == pytest.approx(other, rel=1e-12)
    assert float((first - second).norm() / second.norm()) > 1e-3


def test_first_order_comes_before_second_where_it_is_annealed():
    annealed = Meta(rule="second_order", first_order_until=0.5)
    for progress, like in ((0.49, Meta()), (0.5, SECOND)):
        (_, found), (_, expected) = losses_and_gradients([annealed, like], progress)
        assert torch.equal(found, expected)


def test_first_order_is_second_order_without_the_second_derivative():
    """A linear model of one weight matrix, one step, by the algebra of the quadratic.

    Support loss |X w - y|^2 / n has the gradient g = 2 X'(X w - y) / n and the Hessian
    H = 2 X'X / n. With w' = w - a g the query loss has the gradient q = 2 Z'(Z w' - v) / m at w'.
    Second order is (I - a H) q; without the second derivative H it is q.
    """
    batch, rate = doubled(MOLECULES, POINTS), 0.05
    expected = {"first_order": [], "second_order": []}
    for rule, found in expected.items():
        strategy = Strategy(inner=Steps(steps=1, lr=rate), meta=Meta(rule=rule))
        learner = learner_of(strategy, MOLECULES)
        params = start_of(learner)
        w = torch.cat([params["head.weight"], params["head.bias"][None]])
        for task in range(len(batch)):
            x, z = (
                torch.cat([s[task], torch.ones_like(s[task][:, :1])], 1)
                for s in (batch.support_x, batch.query_x)
            )
            y, v = batch.support_y[task], batch.query_y[task]
            adapted = w - rate * 2 * x.T @ (x @ w - y) / len(x)
            q = 2 * z.T @ (z @ adapted - v) / len(z)
            hessian = 2 * x.T @ x / len(x)
            second = rule == "second_order"
            found.append(q - rate * hessian @ q if second else q)
        _, grads = loss_and_gradients(learner, params, batch, 0.0)
        got = torch.cat([grads["head.weight"], grads["head.bias"][None]])
        torch.testing.assert_close(got, torch.stack(found).mean(0), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(*(torch.stack(found) for found in expected.values()))


@pytest.mark.parametrize("scope", ["all", "head"])
def test_first_order_of_many_steps_is_the_query_gradient_at_the_adapted_weights(scope):
    inner = Steps(steps=4, lr=0.1, scope=scope)
    learner = learner_of(Strategy(backbone=NET, inner=inner, meta=Meta(rule="first_order")))
    params, batch = start_of(learner), doubled(WAVES, POINTS)
    _, grads = loss_and_gradients(learner, params, batch, 0.0)
    by_hand = {name: torch.zeros_like(p) for name, p in params.items()}
    for task in range(len(batch)):
        fast = {name: p.clone() for name, p in params.items()}
        for _ in range(4):
            step = gradient_by_hand(fast, batch.support_x[task], batch.support_y[task])
            moved = [name for name in fast if scope == "all" or name.startswith("head.")]
            fast |= {name: fast[name] - 0.1 * step[name] for name in moved}
        at_end = gradient_by_hand(fast, batch.query_x[task], batch.query_y[task])
        by_hand = {name: total + at_end[name] / len(batch) for name, total in by_hand.items()}
    for name, g in by_hand.items():
        torch.testing.assert_close(grads[name], g, rtol=1e-9, atol=1e-11)


def net_by_hand(p, x):
    h = torch.tanh(x @ p["backbone.layer0.weight"] + p["backbone.layer0.bias"])
    h = torch.tanh(h @ p["backbone.layer1.weight"] + p["backbone.layer1.bias"])
    return h @ p["head.weight"] + p["head.bias"]


def gradient_by_hand(params, x, y):
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    loss = F.mse_loss(net_by_hand(leaves, x), y)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def test_truncated_beyond_all_steps_is_second_order_and_at_none_first_order():
    def gradient(meta, steps=3):
        strategy = Strategy(backbone=NET, inner=Steps(steps=steps, lr=0.2), meta=meta)
        learner = learner_of(strategy)
        return loss_and_gradients(learner, start_of(learner), doubled(WAVES, POINTS), 0.0)[1]

    full, all_three = gradient(SECOND), gradient(Meta(rule="truncated", truncate=3))
    beyond = gradient(Meta(rule="truncated", truncate=9))
    last = gradient(Meta(rule="truncated", truncate=1))
    first = gradient(Meta(rule="first_order"))
    for name, g in full.items():
        assert torch.equal(g, all_three[name])
        assert torch.equal(g, beyond[name])
    name = "backbone.layer0.weight"
    assert not torch.allclose(last[name], full[name], rtol=1e-3)
    assert not torch.allclose(last[name], first[name], rtol=1e-3)


def test_truncated_is_second_order_from_where_the_steps_before_have_led():
    """Of two steps the last: (I - a H(w1)) q, with w1 as a constant start."""
    batch = doubled(WAVES, POINTS).tasks([0])
    strategy = Strategy(
        backbone=NET, inner=Steps(steps=2, lr=0.2), meta=Meta(rule="truncated", truncate=1)
    )
    learner = learner_of(strategy)
    params = start_of(learner)
    _, grads = loss_and_gradients(learner, params, batch, 0.0)
    step = gradient_by_hand(params, batch.support_x[0], batch.support_y[0])
    after_one = {name: p - 0.2 * step[name] for name, p in params.items()}
    one = learner_of(Strategy(backbone=NET, inner=Steps(steps=1, lr=0.2), meta=SECOND))
    _, expected = loss_and_gradients(one, after_one, batch, 0.0)
    for name, g in expected.items():
        torch.testing.assert_close(grads[name], g, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scope", ["all", "head"])
def test_implicit_equals_unrolled_at_convergence(scope):
    def gradient(meta):
        inner = Steps(steps=600, lr=0.1, proximal=2.0, scope=scope)
        learner = learner_of(Strategy(backbone=NET, inner=inner, meta=meta))
        batch = doubled(WAVES, POINTS, tasks=2)
        return loss_and_gradients(learner, start_of(learner), batch, 0.0)[1]

    implicit, unrolled = gradient(Meta(rule="implicit", truncate=100)), gradient(SECOND)
    assert implicit.keys() == unrolled.keys()
    for name, g in unrolled.items():
        torch.testing.assert_close(implicit[name], g, rtol=1e-6, atol=1e-9)


def test_reptile_moves_to_the_mean_of_the_adapted_weights():
    inner = Steps(steps=3, lr=0.1)
    learner = learner_of(Strategy(backbone=NET, inner=inner, meta=Meta(rule="reptile")))
    params, batch = start_of(learner), doubled(WAVES, POINTS)
    _, grads = loss_and_gradients(learner, params, batch, 0.0)
    moved = {name: torch.zeros_like(p) for name, p in params.items()}
    for task in range(len(batch)):
        x = torch.cat([batch.support_x[task], batch.query_x[task]])
        y = torch.cat([batch.support_y[task], batch.query_y[task]])
        fast = dict(params)
        for _ in range(3):
            step = gradient_by_hand(fast, x, y)
            fast = {name: p - 0.1 * step[name] for name, p in fast.items()}
        moved = {name: m + (params[name] - fast[name]) / len(batch) for name, m in moved.items()}
    for name, m in moved.items():
        torch.testing.assert_close(grads[name], m, rtol=1e-9, atol=1e-12)


def test_joint_is_one_supervised_problem():
    meta = Meta(rule="joint")
    learner = learner_of(Strategy(backbone=NET, inner=Steps(), meta=meta))
    params, batch = start_of(learner), doubled(WAVES, POINTS)
    _, grads = loss_and_gradients(learner, params, batch, 0.0)
    x = torch.cat([batch.support_x, batch.query_x], 1).flatten(0, 1)
    y = torch.cat([batch.support_y, batch.query_y], 1).flatten(0, 1)
    for name, g in gradient_by_hand(params, x, y).items():
        torch.testing.assert_close(grads[name], g, rtol=1e-9, atol=1e-12)


def test_joint_over_classes_is_right():
    strategy = Strategy(
        backbone=NET,
        head=Linear(start="zero"),
        inner=Steps(scope="head"),
        meta=Meta(rule="joint"),
    )
    assert_gradient_is_right(learner_of(strategy, TABLES, CLASSES), doubled(TABLES, CLASSES))


# --- closed forms --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        Ridge(penalty=0.3),
        Ridge(penalty=0.3, intercept="free"),
        GP(rbf="learned", noise=0.3),
        GP(linear="learned+raw", rbf="raw", noise=0.3),
        GP(rbf="learned", tanimoto="fingerprint", noise=0.3),
        Amortised(width=4),
        Amortised(summary="attention", width=4, heads=2),
    ],
    ids=lambda head: head.kind,
)
@pytest.mark.parametrize("prior", [None, SupportMean(strength=1.0, mean=0.5, learn=True)])
def test_closed_forms_of_regressions_are_differentiated_exactly(head, prior):
    strategy = Strategy(backbone=NET, head=head, meta=Meta(cross_fit="none"))
    if prior is not None and getattr(head, "intercept", "") == "free":
        prior = prior.model_copy(update={"learn": False})  # its level would be taken off again
    if prior is not None:
        strategy = strategy.model_copy(update={"prior": prior})
    learner = learner_of(strategy, MOLECULES)
    # The amortised networks have ReLUs: a smaller step meets fewer kinks.
    small = isinstance(head, Amortised)
    batch = doubled(MOLECULES, POINTS)
    assert_gradient_is_right(
        learner, batch, step=1e-7 if small else 1e-5, rtol=3e-6 if small else 1e-6
    )


@pytest.mark.parametrize(
    "head",
    [
        Prototypes(learn=True),
        Prototypes(distance="cosine", scale=5.0, learn=True),
        Ridge(penalty=0.3),
        Logistic(penalty=0.5, learn=True),
        Logistic(penalty=0.5, normalise=True, learn=True),
        GP(rbf="learned"),
    ],
    ids=lambda head: head.kind,
)
def test_closed_forms_of_classes_are_differentiated_exactly(head):
    strategy = Strategy(backbone=NET, head=head)
    assert_gradient_is_right(learner_of(strategy, TABLES, CLASSES), doubled(TABLES, CLASSES))


def test_a_set_encoder_is_differentiated_exactly():
    backbone = SetEncoder(width=5, activation="tanh")
    assert_gradient_is_right(
        learner_of(Strategy(backbone=backbone, head=Ridge())), doubled(WAVES, POINTS)
    )


def with_pooled(batch: Tensors) -> Tensors:
    rng = torch.Generator().manual_seed(9)
    support, query = (
        torch.randn(y.shape, generator=rng, dtype=y.dtype) for y in (batch.support_y, batch.query_y)
    )
    return replace(batch, support_pooled=support, query_pooled=query)


def test_the_blend_of_a_pooled_model_is_learned_by_its_gradient():
    prior = Pooled(model="linear")
    head = Ridge(penalty=0.5, intercept="free")
    strategy = Strategy(prior=prior, backbone=NoBackbone(), head=head)
    learner = learner_of(strategy, MOLECULES)
    batch = with_pooled(doubled(MOLECULES, POINTS))
    assert_gradient_is_right(learner, batch)
    _, grads = loss_and_gradients(learner, start_of(learner), batch, 0.0)
    assert grads["prior.blend"] is not None


# --- cross-fitting -------------------------------------------------------------------------------


def test_scales_are_taught_by_episodes_whose_group_the_backbone_has_not_seen():
    """Each fold's copy learns from the other folds alone; numbers only from the copies' folds."""
    strategy = Strategy(backbone=NET, head=GP(rbf="learned"), meta=Meta(cross_fit="group", folds=2))
    learner = learner_of(strategy, MOLECULES)
    params, batch = start_of(learner), doubled(MOLECULES, POINTS, tasks=4)
    _, grads = loss_and_gradients(learner, params, batch, 0.0)
    assert {n.split(".")[0] for n in params} == {"backbone", "head", "fold0", "fold1"}
    folds = {"train-0": 0, "train-1": 1, "train-2": 0, "train-3": 1}
    for fold in (0, 1):
        spoilt = [t for t, group in enumerate(batch.groups) if folds[group] == fold]
        query_y = batch.query_y.clone()
        query_y[spoilt] += 10.0
        _, other = loss_and_gradients(learner, params, replace(batch, query_y=query_y), 0.0)
        name = "backbone.layer0.weight"
        assert torch.equal(other[f"fold{fold}.{name}"], grads[f"fold{fold}.{name}"])
        assert not torch.equal(other[f"fold{1 - fold}.{name}"], grads[f"fold{1 - fold}.{name}"])
        assert not torch.equal(other[name], grads[name])  # what is used in the end learns from all
    moved = {n: p + 0.1 if n.startswith("backbone.") else p for n, p in params.items()}
    _, elsewhere = loss_and_gradients(learner, moved, batch, 0.0)
    for name in ("head.log_noise", "head.rbf-learned.log_lengthscale"):
        assert torch.equal(elsewhere[name], grads[name])  # the final backbone teaches no number
