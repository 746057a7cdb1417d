"""The meta-optimiser as a pure function: parameters, gradients and moments in, new ones out.

``torch.optim`` does the same in place, but its first step imports torch's compiler: 2.5 seconds in
each worker, longer than many a trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import torch
from torch import Tensor

from metatune.learners.interface import Params
from metatune.strategy import Outer

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # Adam's usual constants


def update(
    outer: Outer,
    params: Params,
    grads: Mapping[str, Tensor | None],
    moments: Params,
    step: int,
    lr: float,
) -> tuple[Params, Params]:
    """One step of AdamW (Loshchilov & Hutter 2019), or of SGD with decoupled decay.

    Args:
        outer: which optimiser, its decay and clipping.
        params: meta-parameters.
        grads: gradient of each; None leaves a parameter as it is.
        moments: ``<parameter>/first`` and ``<parameter>/second``; empty before the first step.
        step: from 0.
        lr: the rate at this step.

    Returns:
        New parameters and moments; the old ones are not changed.
    """
    shrink = _clip_factor([g for g in grads.values() if g is not None], outer.clip)
    updated, kept = dict(params), dict(moments)
    for name, grad in grads.items():
        if grad is None:
            continue
        grad = grad * shrink if shrink is not None else grad
        # Weights decay; biases, gains, rates, penalties and scales have no natural zero.
        decay = outer.weight_decay if grad.ndim > 1 else 0.0
        decayed = params[name] * (1 - lr * decay)
        if outer.kind == "sgd":
            updated[name] = decayed - lr * grad
            continue
        first, second = f"{name}/first", f"{name}/second"
        zero = torch.zeros_like(grad)
        m = torch.lerp(moments.get(first, zero), grad, 1 - BETA1)
        v = moments.get(second, zero).mul(BETA2).addcmul(grad, grad, value=1 - BETA2)
        scale = v.sqrt().div_(sqrt(1 - BETA2 ** (step + 1))).add_(EPS)
        updated[name] = torch.addcdiv(decayed, m, scale, value=-lr / (1 - BETA1 ** (step + 1)))
        kept[first], kept[second] = m, v
    return updated, kept


def _clip_factor(grads: list[Tensor], limit: float) -> Tensor | None:
    """What keeps the gradients' joint norm at most ``limit``; None where there is no limit."""
    if limit <= 0 or not grads:
        return None
    norm = torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()
    return (limit / (norm + 1e-6)).clamp(max=1.0)


def averaged(outer: Outer, average: Params, params: Params, step: int) -> Params:
    """The exponential moving average after step ``step``; empty where ``outer.average`` is 0.

    Early on it forgets faster, so that it does not remember the random start.
    """
    if not outer.average:
        return {}
    decay = min(outer.average, (1 + step) / (10 + step))
    return {name: torch.lerp(p, average.get(name, p), decay) for name, p in params.items()}
