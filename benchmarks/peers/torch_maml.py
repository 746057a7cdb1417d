"""Second-order MAML on 25 sinusoid tasks, MLP 1-40-40-1: TorchOpt or higher, one thread."""

from __future__ import annotations

import json
import sys

import torch
import torch.nn.functional as F
from measured import serve
from torch import nn

options = json.loads(sys.argv[1])
STEPS, TASKS = int(options["steps"]), 25
torch.set_num_threads(1)
net = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
outer = torch.optim.Adam(net.parameters(), lr=1e-3)
batch = torch.randn(4, TASKS, 10, 1)


def by_torchopt():
    import torchopt

    inner = torchopt.MetaSGD(net, lr=0.01)
    outer.zero_grad()
    start_net, start_inner = (torchopt.extract_state_dict(x, by="reference") for x in (net, inner))
    total = torch.zeros(())
    for sx, sy, qx, qy in zip(*batch, strict=True):
        for _ in range(STEPS):
            inner.step(F.mse_loss(net(sx), sy))
        total = total + F.mse_loss(net(qx), qy)
        torchopt.recover_state_dict(net, start_net)
        torchopt.recover_state_dict(inner, start_inner)
    (total / TASKS).backward()
    outer.step()


def by_higher():
    import higher

    inner = torch.optim.SGD(net.parameters(), lr=0.01)
    outer.zero_grad()
    for sx, sy, qx, qy in zip(*batch, strict=True):
        with higher.innerloop_ctx(net, inner, copy_initial_weights=False) as (fast, steps):
            for _ in range(STEPS):
                steps.step(F.mse_loss(fast(sx), sy))
            (F.mse_loss(fast(qx), qy) / TASKS).backward()
    outer.step()


serve(by_higher if options["higher"] else by_torchopt)
