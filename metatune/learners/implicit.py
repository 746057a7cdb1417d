"""Gradients of a solution: the implicit function theorem, by conjugate gradients.

Where ``z`` solves ``g(z, theta) = 0`` with a symmetric positive definite Jacobian ``H = dg/dz``,
``dz/dtheta = -H^-1 dg/dtheta`` whatever way ``z`` was found: nothing has to be kept of the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""``v -> H v`` for every task; ``(T, ...)`` to ``(T, ...)``."""


def conjugate_gradients(product: Product, b: Tensor, iterations: int) -> Tensor:
    """``H^-1 b`` for each task (Hestenes & Stiefel 1952); a task that is solved stays as it is.

    So does one that meets a direction without positive curvature, which the loss of a network may
    have: what it has by then is kept (Steihaug 1983), and at the very first direction a step along
    ``b`` as long as for a curvature of the other sign.

    Args:
        product: ``H v``, symmetric for each task.
        b: ``(T, ...)``.
        iterations: at most as many as a task has unknowns are of use.
    """

    def dot(p: Tensor, q: Tensor) -> Tensor:
        return (p * q).flatten(1).sum(1)

    def along(weight: Tensor, v: Tensor) -> Tensor:
        return weight.view(-1, *(1,) * (v.ndim - 1)) * v

    x, r, p = torch.zeros_like(b), b, b
    rr = dot(r, r)
    enough = torch.finfo(b.dtype).eps ** 2 * rr
    goes_on = rr > enough
    for iteration in range(iterations):
        if not bool(goes_on.any()):
            break
        hp = product(p)
        curvature = dot(p, hp)
        if iteration == 0:
            bent = goes_on & (curvature < 0)
            x = along(torch.where(bent, rr / -curvature, 0.0), p)
        goes_on = goes_on & (curvature > 0)
        step = torch.where(goes_on, rr / curvature, 0.0)
        x, r = x + along(step, p), r - along(step, hp)
        rr, before = dot(r, r), rr
        p = r + along(torch.where(goes_on, rr / before, 0.0), p)
        goes_on = goes_on & (rr > enough)
    return x


class _AtSolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, residual: Tensor, solution: Tensor, product: Product, iterations: int
    ) -> Tensor:
        ctx.product, ctx.iterations = product, iterations
        return solution.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        return -conjugate_gradients(ctx.product, upstream[0], ctx.iterations), None, None, None


def at_solution(residual: Tensor, solution: Tensor, product: Product, iterations: int) -> Tensor:
    """``solution``, with the gradient of the problem that it solves.

    Args:
        residual: ``g(solution, theta)``, ``(T, ...)``, with a graph to theta and none to
            ``solution``.
        solution: without a graph.
        product: ``H v`` at the solution.
        iterations: of conjugate gradients in the backward pass.
    """
    found: Tensor = _AtSolution.apply(residual, solution, product, iterations)  # type: ignore[no-untyped-call]
    return found
