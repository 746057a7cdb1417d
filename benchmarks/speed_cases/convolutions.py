"""Convolutions: Conv4-64 on 28 x 28 images, 5-way 1-shot, one core.

The reference is a plain loop over tasks in the usual layout (nchw), with batch statistics, which
computes the same loss of the same tasks; it is checked first.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metatune.learners.interface import Params, Tensors
from metatune.learners.learner import build_learner
from metatune.learners.training import loss_and_gradients
from metatune.presets import preset
from metatune.strategy import Conv4, Strategy
from metatune.tasks.registry import open_family
from speed_cases import Case, by_turns, per_second

WAY, TASKS, QUERY, STEPS, LR = 5, 4, 15, 5, 0.1


def cases(scale: float) -> Iterator[Case]:
    torch.set_num_threads(1)
    for name, goal in (("protonet", 1.5), ("fomaml", 1.1), ("maml", 1.1)):
        yield one(name, goal, 4 * scale)


def one(name: str, goal: float, seconds: float) -> Case:
    family = open_family("glyphs")
    plain = preset(name, family.info).model_dump()
    plain["backbone"] = Conv4(width=64, norm="transductive").model_dump()
    if name != "protonet":
        plain["inner"] |= {"steps": STEPS, "lr": LR}
    learner = build_learner(Strategy.model_validate(plain), family.info, WAY)
    params, batch = learner.init(0), images()

    def ours() -> float:
        return loss_and_gradients(learner, params, batch, 0.0)[0]

    def loop() -> float:
        tracked = {n: p.detach().requires_grad_() for n, p in params.items()}
        total = torch.zeros(())
        for task in range(TASKS):
            each = (batch.support_x[task], batch.support_y[task], batch.query_x[task],
                    batch.query_y[task])  # fmt: skip
            loss = (
                prototypes(plain, tracked, *each)
                if name == "protonet"
                else maml(tracked, *each, second_order=name == "maml")
            )
            total = total + loss / TASKS
        torch.autograd.grad(total, list(tracked.values()), allow_unused=True)
        return float(total)

    assert abs(ours() - loop()) < 1e-3 * abs(loop()), (name, ours(), loop())
    found = by_turns({"ours": partial(per_second, ours, seconds),
                      "loop": partial(per_second, loop, seconds)})  # fmt: skip
    steps = "" if name == "protonet" else f", {STEPS} inner steps"
    what = f"{name}, Conv4-64, {TASKS} tasks, {WAY}-way 1-shot, {QUERY} questions a class{steps}"
    return Case(what, "plain loop over tasks, nchw", "meta-steps/s", found["ours"], found["loop"],
                goal)  # fmt: skip


def images() -> Tensors:
    draw = np.random.default_rng(0)

    def x(count: int) -> Tensor:
        values = draw.normal(size=(TASKS, WAY * count, 1, 28, 28)).astype(np.float32)
        return torch.from_numpy(values)

    def y(count: int) -> Tensor:
        return torch.arange(WAY).repeat_interleave(count).repeat(TASKS, 1)

    return Tensors(x(1), y(1), x(QUERY), y(QUERY))


def conv4(params: Params, x: Tensor) -> Tensor:
    for block in range(4):
        name = f"backbone.block{block}"
        x = F.conv2d(x, params[f"{name}.weight"], padding=1)
        x = F.batch_norm(
            x, None, None, params[f"{name}.scale"], params[f"{name}.shift"], training=True
        )
        x = F.max_pool2d(torch.relu(x), 2)
    return x.flatten(1)


def prototypes(
    plain: dict, params: Params, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor
) -> Tensor:
    features = conv4(params, torch.cat([sx, qx]))
    support, query = features[: len(sx)], features[len(sx) :]
    means = torch.stack([support[sy == c].mean(0) for c in range(WAY)])
    scale = params["head.log_scale"].exp() if "head.log_scale" in params else plain["head"]["scale"]
    return F.cross_entropy(-scale * torch.cdist(query, means) ** 2, qy)


def maml(
    params: Params, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor, *, second_order: bool
) -> Tensor:
    fast = params
    both = torch.cat([sx, qx])
    for _ in range(STEPS):
        features = conv4(fast, sx)
        loss = F.cross_entropy(features @ fast["head.weight"] + fast["head.bias"], sy)
        grads = torch.autograd.grad(loss, list(fast.values()), create_graph=second_order)
        fast = {n: p - LR * g for (n, p), g in zip(fast.items(), grads, strict=True)}
    features = conv4(fast, both)[len(sx) :]
    return F.cross_entropy(features @ fast["head.weight"] + fast["head.bias"], qy)
