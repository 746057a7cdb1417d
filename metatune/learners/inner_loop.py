"""The inner loop: gradient steps on each task's support loss, all tasks in one program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from metatune.learners.implicit import at_solution
from metatune.learners.interface import Params
from metatune.strategy import Steps

SupportLoss = Callable[[Params], Tensor]
"""Per-task parameters ``(T, ...)`` to the losses ``(T,)`` on the support sets."""

BETA2, EPS = 0.999, 1e-8  # Adam's usual constants


@dataclass(frozen=True)
class Through:
    """What a result's gradient knows of the steps that led to it.

    Attributes:
        last: gradients are differentiated through in this many last steps (0: first order; None:
            all, second order). Before them, the parameters' identity alone is seen.
        implicit: conjugate gradient steps at the proximal optimum (iMAML); None: unrolled.
    """

    last: int | None = 0
    implicit: int | None = None


FIRST_ORDER, SECOND_ORDER = Through(), Through(last=None)


def init_rates(inner: Steps, adapted: Params) -> Params:
    """Logarithms of the learned rates; empty for a fixed one.

    Args:
        inner: says how many there are.
        adapted: what is adapted, as shared parameters.
    """
    start = torch.tensor(log(inner.lr))
    match inner.rate:
        case "fixed":
            return {}
        case "learned":
            return {"log_rate": start}
        case "per_layer":
            return {f"{layer}.log_rate": start.clone() for layer in _layers(adapted)}
        case "per_layer_step":
            return {f"{layer}.log_rate": start.repeat(inner.steps) for layer in _layers(adapted)}
        case "per_parameter":
            return {
                f"{name}.log_rate": torch.full_like(p, log(inner.lr)) for name, p in adapted.items()
            }


def _layers(params: Params) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] for name in params))


def _rate(inner: Steps, rates: Params, name: str, step: int) -> Tensor | float:
    """The rate of a parameter at a step."""
    match inner.rate:
        case "fixed":
            return inner.lr
        case "learned":
            return rates["log_rate"].exp()
        case "per_parameter":
            return rates[f"{name}.log_rate"].exp()
    of_layer = rates[f"{name.rpartition('.')[0]}.log_rate"].exp()
    return of_layer[step] if inner.rate == "per_layer_step" else of_layer


def adapt(
    inner: Steps,
    start: Params,
    support_loss: SupportLoss,
    rates: Params,
    steps: int,
    through: Through,
) -> list[Params]:
    """``theta_t <- theta_t - rate * direction_t``, ``steps`` times for every task ``t``.

    The direction is the gradient of the support loss plus ``proximal * (theta_t - start_t)``,
    through heavy-ball momentum or Adam (Kingma & Ba 2015) where ``inner.kind`` says so.

    Args:
        inner: optimiser, rate and pull.
        start: one copy a task, ``(T, ...)``; not changed.
        support_loss: see ``SupportLoss``.
        rates: as ``init_rates`` gives them.
        steps: how many.
        through: what gradients of the result know. Where nothing of ``start`` or ``rates`` is to
            be learned, the result has no graph at all.

    Returns:
        The parameters after each step (the last one alone where ``through.implicit``).
    """
    if through.implicit is not None:
        return [_implicit(inner, start, support_loss, steps, through.implicit)]
    tracked = torch.is_grad_enabled() and any(
        p.requires_grad for p in (*start.values(), *rates.values())
    )
    first = 0 if through.last is None else steps - through.last
    fast, path, state = start, [], _Moments()
    with torch.enable_grad():
        for step in range(steps):
            graph = tracked and step >= first
            fast = {name: p if p.requires_grad else _leaf(p) for name, p in fast.items()}
            # Tasks share no parameter here, so the sum's gradient holds each task's own.
            grads = torch.autograd.grad(
                support_loss(fast).sum(), list(fast.values()), create_graph=graph
            )
            moved: Params = {}
            for (name, p), g in zip(fast.items(), grads, strict=True):
                pulled = g + inner.proximal * (p - start[name]) if inner.proximal else g
                direction = state.direction(inner, name, pulled, step)
                moved[name] = p - _rate(inner, rates, name, step) * direction
            fast = moved if tracked else {name: p.detach() for name, p in moved.items()}
            path.append(fast)
    return path


def _leaf(p: Tensor) -> Tensor:
    return p.detach().requires_grad_()


class _Moments:
    """What momentum and Adam remember of a task's earlier gradients."""

    def __init__(self) -> None:
        self._first: Params = {}
        self._second: Params = {}

    def direction(self, inner: Steps, name: str, g: Tensor, step: int) -> Tensor:
        if inner.kind == "sgd":
            return g
        before = self._first.get(name)
        if inner.kind == "momentum":
            m = g if before is None else inner.beta * before + g
            self._first[name] = m
            return m
        m = (1 - inner.beta) * g + (0 if before is None else inner.beta * before)
        v = (1 - BETA2) * g * g + (0 if before is None else BETA2 * self._second[name])
        self._first[name], self._second[name] = m, v
        unbiased = v / (1 - BETA2 ** (step + 1))
        # Under the root, or its derivative is infinite where a gradient is 0.
        return m / (1 - inner.beta ** (step + 1)) / (unbiased + EPS**2).sqrt()


def _implicit(
    inner: Steps, start: Params, support_loss: SupportLoss, steps: int, iterations: int
) -> Params:
    """The proximal optimum with its own gradient (Rajeswaran et al. 2019, iMAML).

    ``phi = argmin L(phi) + proximal / 2 |phi - theta|^2`` is approached by ``steps`` steps; its
    gradient comes from ``(H + proximal) dphi = proximal dtheta``, with H the Hessian of L at phi.
    """
    detached = {name: p.detach() for name, p in start.items()}
    found = adapt(inner, detached, support_loss, {}, steps, FIRST_ORDER)[-1]
    if not torch.is_grad_enabled():
        return found
    names, tasks = list(found), len(next(iter(found.values())))

    def flat(tensors: list[Tensor]) -> Tensor:
        return torch.cat([t.reshape(tasks, -1) for t in tensors], 1)

    phi = {name: _leaf(p) for name, p in found.items()}
    with torch.enable_grad():
        grads = flat(
            list(
                torch.autograd.grad(support_loss(phi).sum(), list(phi.values()), create_graph=True)
            )
        )
    at = flat(list(found.values()))
    # The leaves phi end the graph here: what is left hangs on the start and on shared parameters.
    residual = grads + inner.proximal * (at - flat(list(start.values())))

    def product(v: Tensor) -> Tensor:
        with torch.enable_grad():
            hv = torch.autograd.grad((grads * v).sum(), list(phi.values()), retain_graph=True)
        return flat(list(hv)) + inner.proximal * v

    solved = at_solution(residual, at, product, iterations)
    sizes = [found[name][0].numel() for name in names]
    return {
        name: part.reshape(found[name].shape)
        for name, part in zip(names, torch.split(solved, sizes, 1), strict=True)
    }
