"""How much faster is a meta-step over stacked tasks than a plain loop over tasks?

Second-order MAML on the sinusoid (Finn et al. 2017): MLP 1-40-40-1, 25 tasks, 10 + 10 points. Both
forms compute the same gradients of the same tasks (checked first), eagerly, on one thread. They are
timed in turn, ``--repeats`` times; the ratio is of neighbours in time.

    python benchmarks/inner_loop.py --repeats 7
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch
import torch.nn.functional as F

from metatune.learners.interface import Params, Tensors, to_tensors
from metatune.learners.learner import build_learner
from metatune.learners.training import loss_and_gradients
from metatune.presets import preset
from metatune.seeds import derive_seed
from metatune.strategy import Strategy
from metatune.tasks.base import Episode
from metatune.tasks.registry import open_family

TASKS, EPISODE = 25, Episode(way=1, shot=10, query=10)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each form, each time")
    args = parser.parse_args()
    torch.set_num_threads(1)
    family = open_family("sinusoid")
    batch = to_tensors(
        family.sample("train", EPISODE, [derive_seed(0, "bench", t) for t in range(TASKS)])
    )
    for steps in (1, 5):
        plain = preset("maml", family.info).model_dump()
        plain["inner"]["steps"] = steps
        learner = build_learner(Strategy.model_validate(plain), family.info, 1)
        params = learner.init(0)
        lr = plain["inner"]["lr"]
        _, stacked = loss_and_gradients(learner, params, batch, 0.0)
        for name, gradient in loop_over_tasks(params, batch, steps, lr).items():
            assert stacked[name] is not None
            torch.testing.assert_close(stacked[name], gradient, rtol=1e-4, atol=1e-5)
        forms: dict[str, Callable[[], object]] = {
            "stacked": partial(loss_and_gradients, learner, params, batch, 0.0),
            "loop": partial(loop_over_tasks, params, batch, steps, lr),
        }
        rates: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(args.repeats):
            for name, run in forms.items():
                start, count = perf_counter(), 0
                while perf_counter() - start < args.seconds:
                    run()
                    count += 1
                rates[name].append(count / (perf_counter() - start))
        ratios = [a / b for a, b in zip(rates["stacked"], rates["loop"], strict=True)]
        for name, found in rates.items():
            print(f"{steps} inner steps, {name:8s} {_spread(found)} meta-steps/s")
        print(f"{steps} inner steps, ratio    {_spread(ratios)}", flush=True)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):7.1f} [{min(values):.1f}, {max(values):.1f}]"


if __name__ == "__main__":
    main()
