"""Learned numbers: their gradients are right and are followed downhill, and what they come to is
the algebra's, written into a child that is trained cold."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest
import torch
from families import MOLECULES, TABLES, WAVES, random_tasks
from hypothesis import given
from hypothesis import strategies as st

from metatune.gradient import learned_knobs, promote, write_back
from metatune.jobs import TrialJob
from metatune.learners.learner import build_learner
from metatune.learners.resource import step_cost
from metatune.learners.training import Course, TrainingState, loss_and_gradients, train
from metatune.strategy import (
    GP,
    MLP,
    Linear,
    Logistic,
    Meta,
    Outer,
    Pooled,
    Prototypes,
    Ridge,
    Seeds,
    Single,
    Steps,
    Strategy,
    SupportMean,
    problems,
)
from metatune.tasks.base import Episode
from metatune.tasks.formulas.quadratic import QuadraticFamily, best_inner_rate
from metatune.trial import run_trial

NET = MLP(width=5, depth=2, activation="tanh")  # smooth: finite differences mean something
POINTS, CLASSES = Episode(1, 6, 5), Episode(3, 2, 2)
SECOND = Meta(rule="second_order")

PARENTS = {
    "rate": (Strategy(backbone=NET, inner=Steps(steps=3, lr=0.2), meta=SECOND), WAVES),
    "rate of one first-order step": (
        Strategy(backbone=NET, inner=Steps(steps=1, lr=0.2), meta=Meta(rule="first_order")),
        WAVES,
    ),
    "rate through Adam": (
        Strategy(backbone=NET, inner=Steps(kind="adam", steps=2, lr=0.05), meta=SECOND),
        WAVES,
    ),
    "rate of the head from prototypes": (
        Strategy(
            backbone=NET,
            head=Linear(start="prototypes"),
            inner=Steps(steps=2, lr=0.1, scope="head"),
            meta=SECOND,
        ),
        TABLES,
    ),
    "ridge": (Strategy(backbone=NET, head=Ridge(penalty=0.5, learn=False)), WAVES),
    "ridge, free intercept": (
        Strategy(backbone=NET, head=Ridge(penalty=2.0, intercept="free", learn=False)),
        TABLES,
    ),
    "logistic": (Strategy(backbone=NET, head=Logistic(penalty=0.5)), TABLES),
    "prototypes": (Strategy(backbone=NET, head=Prototypes(scale=0.5)), TABLES),
    "cosine": (Strategy(backbone=NET, head=Prototypes(distance="cosine", scale=5.0)), TABLES),
    "gp": (
        Strategy(
            prior=SupportMean(strength=2.0),
            head=GP(
                linear="raw",
                rbf="raw",
                tanimoto="fingerprint",
                lengthscale=0.7,
                noise=0.3,
                learn=False,
            ),
        ),
        MOLECULES,
    ),
    "strength and mean": (
        Strategy(prior=SupportMean(strength=1.5, mean=0.3), backbone=NET, head=Ridge(penalty=0.5)),
        WAVES,
    ),
    "blend": (
        Strategy(prior=Pooled(blend=0.7, learn=False), head=Ridge(penalty=0.5, learn=False)),
        MOLECULES,
    ),
}
KNOBS = {
    "gp": {"head.amplitude", "head.lengthscale", "head.noise", "prior.strength", "prior.mean"},
    "strength and mean": {"prior.strength", "prior.mean", "head.penalty"},
    "blend": {"prior.blend", "head.penalty"},
    "ridge": {"head.penalty"},
    "ridge, free intercept": {"head.penalty"},
    "logistic": {"head.penalty"},
    "prototypes": {"head.scale"},
    "cosine": {"head.scale"},
}
ENDS = ("log_rate", "log_penalty", "log_scale", "log_amplitude", "log_lengthscale", "log_noise",
        "log_strength", "prior.mean", "blend")  # fmt: skip


def promoted(name, seed=3):
    """Learner, meta-parameters in double precision, batch, and names of the learned numbers."""
    parent, info = PARENTS[name]
    episode = POINTS if info.kind == "regression" else CLASSES
    strategy = promote(parent, info, episode)
    assert strategy is not None
    learner = build_learner(strategy, info, episode.way)
    params = {n: p.double() for n, p in learner.init(seed).items()}
    numbers = [n for n in params if n.endswith(ENDS)]
    assert set(learned_knobs(strategy, params)) == KNOBS.get(name, {"inner.lr"})
    batch = random_tasks(info, episode, 4, seed=seed, dtype=torch.float64)
    if isinstance(strategy.prior, Pooled):
        noise = torch.randn(batch.query_y.shape, generator=torch.Generator().manual_seed(9))
        near = batch.support_y - batch.support_y.mean(1, keepdim=True)
        batch = replace(batch, support_pooled=0.5 * near, query_pooled=noise.double())
    return learner, params, batch, numbers


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARENTS)
def test_hypergradients_are_those_of_finite_differences(name):
    """Each to 1e-5 of its own size; the values are those that the parent's knobs have."""
    learner, params, batch, numbers = promoted(name)
    assert numbers
    _, grads = loss_and_gradients(learner, params, batch, 0.0)
    for number in numbers:

        def loss(by, number=number):
            moved = params | {number: params[number] + by}
            return float(learner.meta_loss(moved, batch, 0.0).detach())

        step = 1e-3  # of fourth order: its error is far below 1e-5 of the derivative
        measured = (8 * (loss(step) - loss(-step)) - loss(2 * step) + loss(-2 * step)) / (12 * step)
        assert abs(measured) > 1e-6
        assert float(grads[number]) == pytest.approx(measured, rel=1e-5), number


@given(name=st.sampled_from(list(PARENTS)), seed=st.integers(0, 1000))
def test_training_moves_learned_numbers_downhill(name, seed):
    """Where one step of the real training leads them the loss is lower, opposite it is higher."""
    learner, params, batch, numbers = promoted(name, seed)
    _, info = PARENTS[name]
    course = Course(batches=lambda step, progress: batch, cost=lambda progress: 1, full=1)
    outer = Outer(kind="sgd", lr=1e-4, schedule="constant")
    state, _ = train(learner, info, outer, TrainingState(0, params, {}), course, until=1)

    def loss(by):
        moved = {n: params[n] + by * (state.params[n] - params[n]) for n in numbers}
        return float(learner.meta_loss(params | moved, batch, 0.0).detach())

    assert loss(1.0) < loss(0.0) < loss(-1.0)


@given(name=st.sampled_from(list(PARENTS)), by=st.floats(-1, 1))
def test_a_knob_means_what_the_meta_parameter_meant(name, by):
    """The child predicts at its start what its numbers would have predicted as meta-parameters."""
    parent, info = PARENTS[name]
    learner, params, batch, numbers = promoted(name)
    episode = POINTS if info.kind == "regression" else CLASSES
    moved = params | {number: params[number] + by for number in numbers}
    child = write_back(parent, learned_knobs(learner.strategy, moved))
    cold = build_learner(child, info, episode.way)
    start = {n: p.double() for n, p in cold.init(3).items()}
    torch.testing.assert_close(
        cold.predict(start, batch), learner.predict(moved, batch), rtol=1e-4, atol=1e-4
    )


# --- to the algebra's values ----------------------------------------------------------------------

QUADRATIC = QuadraticFamily()


def trial(strategy, episode, steps, name, seed_of=None, tasks=400):
    """A cold trial of so many meta-steps on quadratics."""
    job = TrialJob(
        trial=name,
        round=1,
        replica=0,
        strategy=strategy.model_dump(mode="json"),
        family="quadratic",
        data_dir=None,
        episode=episode,
        run_seed=2,
        rungs=(steps * step_cost(strategy, QUADRATIC.info, episode),),
        recorded=0,
        split="select",
        tasks=tasks,
        train=True,
        folder=None,
        seed_of=seed_of,
    )
    (result,) = run_trial(job)
    assert result.outcome == "completed", result.reason
    return result


@pytest.mark.parametrize(
    ("shot", "off", "combination"),
    [
        *((shot, off, Single()) for shot in (4, 16) for off in (1 / 3, 3.0)),
        (4, 3.0, Seeds(members=2)),
    ],
)
def test_the_child_has_the_algebras_rate_and_beats_its_parent_cold(shot, off, combination):
    best, episode, steps = best_inner_rate(shot), Episode(1, shot, 8), 300
    parent = Strategy(
        head=Linear(start="learned"),
        inner=Steps(steps=1, lr=off * best, scope="head"),
        meta=SECOND,
        outer=Outer(lr=0.1, tasks_per_batch=32),
        combination=combination,
    )
    learner = promote(parent, QUADRATIC.info, episode)
    assert learner is not None
    learned = trial(learner, episode, steps, "learning").learned
    assert learned == {"inner.lr": pytest.approx(best, rel=0.1)}
    child = write_back(parent, learned)
    assert child.inner.lr == learned["inner.lr"]
    assert child == parent.model_copy(
        update={"inner": parent.inner.model_copy(update={"lr": learned["inner.lr"]})}
    )
    assert not problems(child, QUADRATIC.info, episode)
    before, after = (
        trial(each, episode, 100, name, seed_of="parent")
        for each, name in ((parent, "parent"), (child, "child"))
    )
    assert before.learned == after.learned == {}
    assert before.tasks == after.tasks
    assert fmean(after.scores) < fmean(before.scores)
