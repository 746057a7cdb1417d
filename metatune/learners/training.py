"""Meta-training: state in, state out, one rung at a time.

The batch of meta-step ``i`` depends on the trial's seed and ``i`` alone, so a training that was
interrupted continues as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, isfinite, pi

import torch
from torch import Tensor

from metatune.errors import Diverged
from metatune.learners.backbones import Params
from metatune.learners.learner import Learner, Tensors

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
    params = {name: p.clone().requires_grad_() for name, p in state.params.items()}
    optimiser = _optimiser(learner, params)
    _load_moments(optimiser, params, state.moments)
    hopeless, losses = state.hopeless, 0.0
    for step in range(state.step, until):
        batch = batches(step)
        loss = learner.meta_loss(params, batch)
        value = float(loss.detach())
        hopeless = hopeless + 1 if learner.is_hopeless(value, batch) else 0
        if not isfinite(value):
            raise Diverged(step, "the training loss is not finite")
        # With few steps up to a rung, all of them are evidence enough.
        if hopeless >= PATIENCE or hopeless == until:
            raise Diverged(step, f"the training loss is hopeless ({value:.3g})")
        losses += value
        _step(learner, optimiser, params, loss, step / total)
    trained = {name: p.detach() for name, p in params.items()}
    mean = losses / max(1, until - state.step)
    return replace(
        state, step=until, params=trained, moments=_moments(optimiser, params), hopeless=hopeless
    ), mean


def _optimiser(learner: Learner, params: Params) -> torch.optim.Optimizer:
    outer = learner.strategy.outer
    make = torch.optim.AdamW if outer.kind == "adam" else torch.optim.SGD
    return make(list(params.values()), lr=outer.lr, weight_decay=outer.weight_decay)


def _step(
    learner: Learner,
    optimiser: torch.optim.Optimizer,
    params: Params,
    loss: Tensor,
    progress: float,
) -> None:
    """One meta-step, with the rate that the schedule gives at ``progress`` in [0, 1)."""
    outer = learner.strategy.outer
    shrink = (1 + cos(pi * progress)) / 2 if outer.schedule == "cosine" else 1.0
    for group in optimiser.param_groups:
        group["lr"] = outer.lr * shrink
    grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    for p, grad in zip(params.values(), grads, strict=True):
        p.grad = grad
    if outer.clip > 0:
        torch.nn.utils.clip_grad_norm_(params.values(), outer.clip)
    optimiser.step()


def _moments(optimiser: torch.optim.Optimizer, params: Params) -> Params:
    """The optimiser's tensors as ``<parameter>/<what>``."""
    return {
        f"{name}/{what}": value.detach().clone()
        for name, p in params.items()
        for what, value in optimiser.state.get(p, {}).items()
        if isinstance(value, Tensor)
    }


def _load_moments(optimiser: torch.optim.Optimizer, params: Params, moments: Params) -> None:
    for key, value in moments.items():
        name, what = key.rsplit("/", 1)
        optimiser.state[params[name]][what] = value.clone()
