"""On quadratics whose best inner rate is algebra, the learned rate approaches it."""

from __future__ import annotations

import pytest
import torch

from metatune.learners.interface import to_tensors
from metatune.learners.learner import build_learner
from metatune.learners.meta_optimiser import update
from metatune.learners.training import loss_and_gradients
from metatune.strategy import Linear, Meta, Outer, Steps, Strategy
from metatune.tasks.base import Episode
from metatune.tasks.formulas.quadratic import START, QuadraticFamily, best_inner_rate

FAMILY = QuadraticFamily()


@pytest.mark.parametrize("rule", ["second_order", "first_order"])
@pytest.mark.parametrize("shot", [4, pytest.param(16, marks=pytest.mark.long)])
@pytest.mark.parametrize("off", [1 / 3, 3.0])
def test_the_learned_rate_approaches_the_algebras(rule, shot, off):
    """Start and rate are both learned; the best start is theta_0 by symmetry."""
    best = best_inner_rate(shot)
    strategy = Strategy(
        head=Linear(start="learned"),
        inner=Steps(steps=1, lr=off * best, rate="learned", scope="head"),
        meta=Meta(rule=rule),
        outer=Outer(lr=0.1, tasks_per_batch=64),
    )
    learner = build_learner(strategy, FAMILY.info, 1)
    params, moments = learner.init(0), {}
    steps, late = 400, []
    for step in range(steps):
        seeds = range(64 * step, 64 * (step + 1))
        batch = to_tensors(FAMILY.sample("train", Episode(1, shot, 8), seeds))
        _, grads = loss_and_gradients(learner, params, batch, step / steps)
        rate = strategy.outer.lr * (1 - step / steps)
        params, moments = update(strategy.outer, params, grads, moments, step, rate)
        if step >= 300:
            late.append(params["rate.log_rate"].exp())
    assert float(torch.stack(late).mean()) == pytest.approx(best, rel=0.05)
    found = torch.cat([params["head.weight"][:, 0], params["head.bias"]]).numpy()
    assert found == pytest.approx(START, abs=0.15)
