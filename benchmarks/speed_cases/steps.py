"""Meta-steps on one core: MAML on sinusoids, and plain training of many small networks.

MAML as in Finn et al. 2017, second order: MLP 1-40-40-1, 25 tasks, 10 + 10 points, 1 and 5 inner
steps. The reference is a plain loop over tasks with ``torch.autograd.grad``; both compute the same
gradients of the same tasks, which is checked first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from metatune.learners.inner_loop import FIRST_ORDER, adapt
from metatune.learners.interface import Params, Tensors, to_tensors
from metatune.learners.learner import build_learner
from metatune.learners.meta_optimiser import update
from metatune.learners.training import loss_and_gradients
from metatune.presets import preset
from metatune.seeds import derive_seed
from metatune.strategy import Steps, Strategy
from metatune.tasks.base import Episode
from metatune.tasks.registry import open_family
from speed_cases import SECONDS, Case, by_turns, per_second

sys.path.append(str(Path(__file__).parents[1] / "peers"))
from environment import Peer, python

TASKS, EPISODE = 25, Episode(way=1, shot=10, query=10)


def cases(scale: float) -> Iterator[Case]:
    torch.set_num_threads(1)
    for steps in (1, 5):
        yield from maml(steps, scale * SECONDS)
    yield tables(scale * SECONDS)


def maml(steps: int, seconds: float) -> Iterator[Case]:
    """One meta-step with its update, eagerly."""
    family = open_family("sinusoid")
    seeds = [derive_seed(0, "bench", task) for task in range(TASKS)]
    batch = to_tensors(family.sample("train", EPISODE, seeds))
    plain = preset("maml", family.info).model_dump()
    plain["inner"]["steps"] = steps
    strategy = Strategy.model_validate(plain)
    learner = build_learner(strategy, family.info, 1)
    params, lr = learner.init(0), plain["inner"]["lr"]
    _, stacked = loss_and_gradients(learner, params, batch, 0.0)
    for name, gradient in loop_over_tasks(params, batch, steps, lr).items():
        assert stacked[name] is not None
        torch.testing.assert_close(stacked[name], gradient, rtol=1e-4, atol=1e-5)

    def ours() -> None:
        _, grads = loss_and_gradients(learner, params, batch, 0.0)
        update(strategy.outer, params, grads, {}, 0, 1e-3)

    def loop() -> None:
        grads = loop_over_tasks(params, batch, steps, lr)
        update(strategy.outer, params, grads, {}, 0, 1e-3)

    forms = {name: partial(per_second, work, seconds) for name, work in
             {"ours": ours, "loop": loop}.items()}  # fmt: skip
    peers = {
        "TorchOpt": partial(Peer, "torch_maml", steps=steps, higher=0),
        "higher": partial(Peer, "torch_maml", steps=steps, higher=1),
        "JAX jit + vmap": partial(Peer, "jax_maml", steps=steps),
    }
    what = f"MAML, {steps} inner step{'s' if steps > 1 else ''}, 25 sinusoids, eager"
    found = by_turns(forms)
    yield Case(what, "plain loop over tasks", "meta-steps/s", found["ours"], found["loop"], 8)
    if python() is None:
        return
    for name, peer in peers.items():
        with peer() as running:
            found = by_turns(
                {"ours": forms["ours"], "theirs": partial(running.per_second, seconds)}
            )
        yield Case(what, name, "meta-steps/s", found["ours"], found["theirs"])


def loop_over_tasks(params: Params, batch: Tensors, steps: int, lr: float) -> Params:
    """The plain form: every task by itself, ``torch.autograd.grad`` with ``create_graph``."""
    params = {name: p.detach().requires_grad_() for name, p in params.items()}

    def net(p: Params, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(torch.addmm(p["backbone.layer0.bias"], x, p["backbone.layer0.weight"]))
        h = torch.relu(torch.addmm(p["backbone.layer1.bias"], h, p["backbone.layer1.weight"]))
        return torch.addmm(p["head.bias"], h, p["head.weight"])

    total = torch.zeros(())
    for task in range(len(batch)):
        fast = params
        for _ in range(steps):
            loss = F.mse_loss(net(fast, batch.support_x[task]), batch.support_y[task])
            grads = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            fast = {n: p - lr * g for (n, p), g in zip(fast.items(), grads, strict=True)}
        total = total + F.mse_loss(net(fast, batch.query_x[task]), batch.query_y[task])
    grads = torch.autograd.grad(total / len(batch), list(params.values()))
    return dict(zip(params, grads, strict=True))


def tables(seconds: float) -> Case:
    """Networks 20-64-64-10 on 16 data sets of 64 rows at once, by Adam, as baselines are fitted."""
    sets, rows, steps = 16, 64, 20
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(sets, rows, 20, generator=draw)
    y = torch.randint(10, (sets, rows), generator=draw)
    sizes = [(20, 64), (64, 64), (64, 10)]
    start = {}
    for number, (inputs, outputs) in enumerate(sizes):
        bound = inputs**-0.5
        weight = torch.empty(sets, inputs, outputs).uniform_(-bound, bound, generator=draw)
        start |= {f"{number}.weight": weight, f"{number}.bias": torch.zeros(sets, outputs)}
    inner = Steps(kind="adam", steps=steps, lr=0.001)

    def losses(p: Params) -> torch.Tensor:
        h = x
        for number in range(3):
            h = torch.baddbmm(p[f"{number}.bias"].unsqueeze(1), h, p[f"{number}.weight"])
            h = torch.relu(h) if number < 2 else h
        return (
            F.cross_entropy(h.flatten(0, 1), y.flatten(), reduction="none").view(sets, -1).mean(1)
        )

    def ours() -> Params:
        with torch.no_grad():
            return adapt(inner, start, losses, {}, steps, FIRST_ORDER)[-1]

    def loop() -> list[Params]:
        found = []
        for one in range(sets):
            net = nn.Sequential(
                nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
            )
            own = dict(zip(start, net.parameters(), strict=True))
            with torch.no_grad():
                for name, p in own.items():
                    p.copy_(start[name][one].T if p.ndim == 2 else start[name][one])
            adam = torch.optim.Adam(net.parameters(), lr=0.001)
            for _ in range(steps):
                adam.zero_grad()
                F.cross_entropy(net(x[one]), y[one]).backward()
                adam.step()
            found.append({name: p.detach() for name, p in own.items()})
        return found

    found_by_loop = loop()
    stacked = {
        name: torch.stack(
            [own[name].T if own[name].ndim == 2 else own[name] for own in found_by_loop]
        )
        for name in start
    }
    # Adam turns the rounding of gradients near zero into whole steps: what is learned is the same.
    torch.testing.assert_close(losses(ours()), losses(stacked), rtol=1e-3, atol=1e-4)
    found = by_turns({"ours": partial(per_second, ours, seconds),
                      "loop": partial(per_second, loop, seconds)})  # fmt: skip
    ours_, theirs_ = ([sets * steps * rate for rate in found[name]] for name in ("ours", "loop"))
    return Case("table MLPs 20-64-64-10, 16 data sets at once, Adam", "a loop of torch.optim",
                "model-steps/s", ours_, theirs_, 8)  # fmt: skip
