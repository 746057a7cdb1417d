"""Meta-training: state in, state out, one rung at a time.

The batch of meta-step ``i`` depends on the trial's seed and ``i`` alone, so a training that was
interrupted continues as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, isfinite, pi

import torch

from metatune.errors import Diverged
from metatune.learners.backbones import Params
from metatune.learners.learner import Learner, Tensors
from metatune.learners.meta_optimiser import update
from metatune.strategy import Outer

PATIENCE = 10  # hopeless losses in a row before a training is given up


@dataclass(frozen=True)
class TrainingState:
    """Everything that changes while a learner is trained.

    Attributes:
        step: meta-steps done.
        params: meta-parameters.
        moments: the meta-optimiser's state, a tensor a name.
        hopeless: steps in a row with a hopeless loss.
    """

    step: int
    params: Params
    moments: Params
    hopeless: int = 0


def start_training(learner: Learner, seed: int) -> TrainingState:
    """The state before the first step."""
    return TrainingState(0, learner.init(seed), {})


def train(
    learner: Learner,
    state: TrainingState,
    batches: Callable[[int], Tensors],
    until: int,
    total: int,
) -> tuple[TrainingState, float]:
    """Meta-train from ``state.step`` to step ``until``.

    Args:
        learner: what is trained.
        state: where to start; not changed.
        batches: the training tasks of a step.
        until: meta-step to stop before.
        total: meta-steps of the full resource, over which the schedule runs.

    Returns:
        The new state and the mean training loss of these steps.

    Raises:
        Diverged: the loss left the finite numbers, or stayed hopeless.
    """
    params, moments = state.params, state.moments
    hopeless, losses = state.hopeless, 0.0
    for step in range(state.step, until):
        batch = batches(step)
        tracked = {name: p.detach().requires_grad_() for name, p in params.items()}
        loss = learner.meta_loss(tracked, batch)
        value = float(loss.detach())
        hopeless = hopeless + 1 if learner.is_hopeless(value, batch) else 0
        if not isfinite(value):
            raise Diverged(step, "the training loss is not finite")
        # With few steps up to a rung, all of them are evidence enough.
        if hopeless >= PATIENCE or hopeless == until:
            raise Diverged(step, f"the training loss is hopeless ({value:.3g})")
        losses += value
        grads = torch.autograd.grad(loss, list(tracked.values()), allow_unused=True)
        params, moments = update(
            learner.strategy.outer,
            params,
            dict(zip(params, grads, strict=True)),
            moments,
            step,
            rate_at(learner.strategy.outer, step / total),
        )
    mean = losses / max(1, until - state.step)
    return TrainingState(until, params, moments, hopeless), mean


def rate_at(outer: Outer, progress: float) -> float:
    """The meta-optimiser's rate at ``progress`` in [0, 1) of the full resource."""
    return outer.lr * ((1 + cos(pi * progress)) / 2 if outer.schedule == "cosine" else 1.0)
