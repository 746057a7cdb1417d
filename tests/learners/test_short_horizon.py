"""Rates of the meta-optimiser: differences of whole trials find the best one, short looks do not.

On noisy quadratics the best constant rate over a whole training is algebra. Wu, Ren, Liao & Grosse
2018, "Understanding short-horizon bias in stochastic meta-optimization" (arXiv 1803.02021): the
gradient of the loss a few steps ahead drives the rate far below it, since noise shows at once and
progress along flat directions late.
"""

from __future__ import annotations

from math import nan
from statistics import fmean

import pytest
import torch

from metatune.gradient import probes, step
from metatune.jobs import TrialJob
from metatune.learners.interface import to_tensors
from metatune.learners.learner import build_learner
from metatune.learners.meta_optimiser import update
from metatune.learners.resource import step_cost
from metatune.strategy import Linear, Meta, Outer, Steps, Strategy, problems
from metatune.tasks.base import Episode
from metatune.tasks.formulas.noisy_quadratic import (
    DIMENSIONS,
    DISTANCE,
    NoisyQuadraticFamily,
    best_rate,
    excess_loss,
)
from metatune.trial import run_trial

FAMILY = NoisyQuadraticFamily()
EPISODE = Episode(1, 2 * DIMENSIONS, 2 * DIMENSIONS)
STEPS = 200  # the full horizon
BEST = best_rate(STEPS, tasks=1)


def trained_at(rate: float) -> Strategy:
    """Plain stochastic gradient descent, a task a step.

    The inner step is too small to change anything: where the training led is what is judged.
    """
    return Strategy(
        head=Linear(start="learned"),
        inner=Steps(steps=1, lr=1e-9, scope="head"),
        meta=Meta(rule="joint"),
        outer=Outer(kind="sgd", lr=rate, schedule="constant", tasks_per_batch=1),
    )


def loss_above_least(rate: float) -> float:
    """Of a whole training, as a multiple of the best rate's: what is expected, by the algebra."""
    return float(
        excess_loss(rate, STEPS, 1, DISTANCE**2) / excess_loss(BEST, STEPS, 1, DISTANCE**2)
    )


def whole_trial(strategy: Strategy, trial: str) -> float:
    """Score of a cold trial: the mean over three trainings; higher is better, nan diverged."""
    full = STEPS * step_cost(strategy, FAMILY.info, EPISODE)
    scores = []
    for replica in range(3):
        job = TrialJob(
            trial=trial,
            round=1,
            replica=replica,
            strategy=strategy.model_dump(mode="json"),
            family="noisy_quadratic",
            data_dir=None,
            episode=EPISODE,
            run_seed=3,
            rungs=(full,),
            recorded=0,
            split="select",
            tasks=100,
            train=True,
            folder=None,
            seed_of="parent",
        )
        (result,) = run_trial(job, FAMILY)
        scores.append(-fmean(result.scores) if result.outcome == "completed" else nan)
    return fmean(scores)


@pytest.mark.parametrize("off", [1 / 8, pytest.param(2.0, marks=pytest.mark.long)])
def test_differences_of_whole_trials_approach_the_best_rate_of_the_whole_training(off):
    parent = trained_at(off * BEST)
    assert not problems(parent, FAMILY.info, EPISODE)
    for _ in range(5):
        low, high = probes(parent, "outer.lr", factor=2)
        trials = {"low": low, "parent": parent, "high": high}
        down, middle, up = (whole_trial(s, name) for name, s in trials.items())
        child = step(parent, "outer.lr", 2, down, middle, up)
        if child is None:
            break
        parent = child
    assert child is None
    assert BEST / 1.25 < parent.outer.lr < 1.25 * BEST
    assert loss_above_least(parent.outer.lr) < 1.1


@pytest.mark.parametrize("ahead", [1, 5])
def test_the_gradient_of_a_short_look_ahead_leaves_the_best_rate_for_a_small_one(ahead):
    """At every step the rate follows the gradient of the loss ``ahead`` steps later."""
    strategy = trained_at(BEST)
    learner = build_learner(strategy, FAMILY.info, 1)
    params, log_rate, moments = learner.init(0), {"rate": torch.tensor(BEST).log()}, {}

    def loss(params, *seeds):
        return learner.meta_loss(params, to_tensors(FAMILY.sample("train", EPISODE, seeds)), 0.0)

    def moved(params, rate, seed, graph):
        """One step of the training."""
        leaves = {n: p if p.requires_grad else p.requires_grad_() for n, p in params.items()}
        grads = torch.autograd.grad(loss(leaves, seed), list(leaves.values()), create_graph=graph)
        return {n: p - rate * g for (n, p), g in zip(leaves.items(), grads, strict=True)}

    for number in range(STEPS):
        log = log_rate["rate"].detach().requires_grad_()
        later, first = params, 10**6 * (number + 1)
        for seed in range(ahead):
            later = moved(later, log.exp(), first + seed, graph=True)
        judges = range(first + ahead, first + ahead + 8)
        (grad,) = torch.autograd.grad(loss(later, *judges), log)
        log_rate, moments = update(Outer(), log_rate, {"rate": grad}, moments, number, lr=0.1)
        taken = moved(params, log_rate["rate"].exp(), number, graph=False)
        params = {n: p.detach() for n, p in taken.items()}
    rate = float(log_rate["rate"].exp())
    assert rate < BEST / 2
    assert loss_above_least(rate) > 2
