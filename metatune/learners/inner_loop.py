"""The inner loop: gradient steps on each task's support loss, all tasks in one program."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metatune.learners.backbones import Params


def adapt(
    params: Params,
    support_loss: Callable[[Params], Tensor],
    tasks: int,
    steps: int,
    lr: float,
    second_order: bool,
) -> Params:
    """``theta_t <- theta_t - lr * grad L_t(theta_t)``, ``steps`` times for every task ``t``.

    Args:
        params: shared starting point; not changed.
        support_loss: maps per-task parameters, each with a leading dimension ``tasks``, to the
            losses ``(tasks,)`` on the support sets.
        tasks: number of tasks.
        steps: gradient steps.
        lr: step size.
        second_order: keep the graph through the gradients, so that the result can be
            differentiated exactly with respect to ``params`` (Finn et al. 2017). Otherwise the
            gradients are constants and the result depends on ``params`` by identity alone.

    Returns:
        Parameters with a leading task dimension.
    """
    differentiable = any(p.requires_grad for p in params.values())
    fast = {name: p.expand(tasks, *p.shape) for name, p in params.items()}
    with torch.enable_grad():
        for _ in range(steps):
            if not differentiable:
                fast = {name: p.detach().requires_grad_() for name, p in fast.items()}
            # Tasks share no parameter here, so the sum's gradient holds each task's own.
            loss = support_loss(fast).sum()
            graph = second_order and differentiable
            grads = torch.autograd.grad(loss, list(fast.values()), create_graph=graph)
            fast = {name: p - lr * g for (name, p), g in zip(fast.items(), grads, strict=True)}
    return fast if differentiable else {name: p.detach() for name, p in fast.items()}
