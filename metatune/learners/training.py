"""Meta-training: state in, state out, one rung at a time.

The batch of meta-step ``i`` depends on the trial's seed and ``i`` alone, so a training that was
interrupted continues as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import cos, isfinite, log, pi

import torch
from torch import Tensor

from metatune.errors import Diverged
from metatune.learners.interface import Learner, Params, Tensors
from metatune.learners.meta_optimiser import averaged, update
from metatune.strategy import Outer
from metatune.tasks.base import FamilyInfo

PATIENCE = 10  # hopeless losses in a row before a training is given up


@dataclass(frozen=True)
class TrainingState:
    """Everything that changes while a learner is trained.

    Attributes:
        step: meta-steps done.
        params: meta-parameters.
        moments: the meta-optimiser's state, a tensor a name.
        hopeless: steps in a row with a hopeless loss.
        spent: resource used, in forward-equivalents.
        average: the moving average of the meta-parameters; empty where there is none.
    """

    step: int
    params: Params
    moments: Params
    hopeless: int = 0
    spent: int = 0
    average: Params = field(default_factory=dict)

    @property
    def usable(self) -> Params:
        """The meta-parameters that tasks are learned with."""
        return self.average or self.params


@dataclass(frozen=True)
class Course:
    """What a training goes through.

    Attributes:
        batches: the training tasks of a step, at a share of the full resource.
        cost: forward-equivalents of a step at a share of the full resource.
        full: the full resource, over which schedules run.
    """

    batches: Callable[[int, float], Tensors]
    cost: Callable[[float], int]
    full: int


def start_training(learner: Learner, seed: int) -> TrainingState:
    """The state before the first step."""
    return TrainingState(0, learner.init(seed), {})


def train(
    learner: Learner,
    info: FamilyInfo,
    outer: Outer,
    state: TrainingState,
    course: Course,
    until: int,
) -> tuple[TrainingState, float | None]:
    """Meta-train for as long as steps fit into ``until`` of resource; at least one step in all.

    Args:
        learner: what is trained.
        info: the family, by which losses are called hopeless.
        outer: the meta-optimiser.
        state: where to start; not changed.
        course: tasks, costs and the full resource.
        until: resource, in forward-equivalents.

    Returns:
        The new state and the mean training loss of these steps; None where there were none.

    Raises:
        Diverged: the loss left the finite numbers, or stayed hopeless.
    """
    params, moments, average = state.params, state.moments, state.average
    step, spent, hopeless = state.step, state.spent, state.hopeless
    losses = 0.0
    while True:
        progress = min(spent / course.full, 1.0)
        cost = course.cost(progress)
        if spent + cost > until and step > 0:
            break
        batch = course.batches(step, progress)
        value, grads = loss_and_gradients(learner, params, batch, progress)
        hopeless = hopeless + 1 if is_hopeless(info, value, batch) else 0
        if not isfinite(value):
            raise Diverged(step, "the training loss is not finite")
        if hopeless >= PATIENCE:
            raise Diverged(step, f"the training loss is hopeless ({value:.3g})")
        losses += value
        rate = rate_at(outer, progress)
        params, moments = update(outer, params, grads, moments, step, rate)
        average = averaged(outer, average, params, step)
        step, spent = step + 1, spent + cost
    # With few steps up to a rung, all of them are evidence enough.
    if hopeless and hopeless == step:
        raise Diverged(step - 1, "the training loss is hopeless from the first step on")
    done = step - state.step
    return TrainingState(step, params, moments, hopeless, spent, average), (
        losses / done if done else None
    )


def loss_and_gradients(
    learner: Learner, params: Params, batch: Tensors, progress: float
) -> tuple[float, dict[str, Tensor | None]]:
    """The meta-loss and its gradient for each meta-parameter; None where it has none."""
    tracked = {name: p.detach().requires_grad_() for name, p in params.items()}
    loss = learner.meta_loss(tracked, batch, progress)
    grads = torch.autograd.grad(loss, list(tracked.values()), allow_unused=True)
    return float(loss.detach()), dict(zip(params, grads, strict=True))


def rate_at(outer: Outer, progress: float) -> float:
    """The meta-optimiser's rate at ``progress`` in [0, 1) of the full resource."""
    return outer.lr * ((1 + cos(pi * progress)) / 2 if outer.schedule == "cosine" else 1.0)


def is_hopeless(info: FamilyInfo, loss: float, batch: Tensors) -> bool:
    """True for a loss that no learning comes back from.

    That is a squared error of 1,000 times the targets' variance, or a cross-entropy of 100,000
    times that of guessing (sharp but sound metric heads reach 10,000).
    """
    if info.kind == "regression":
        targets = torch.cat([batch.support_y, batch.query_y], 1)
        targets = targets if batch.mask is None else targets[batch.mask]
        return loss > 1e3 * float(targets.var(correction=0))
    return loss > 1e5 * log(max(2, info.train_classes, int(batch.support_y.max()) + 1))
