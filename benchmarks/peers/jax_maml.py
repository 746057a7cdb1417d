"""Second-order MAML on 25 sinusoid tasks, MLP 1-40-40-1: JAX, jit of vmap, one thread."""

from __future__ import annotations

import json
import os
import sys

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from measured import serve

options = json.loads(sys.argv[1])
STEPS, TASKS = int(options["steps"]), int(options.get("tasks", 25))
os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})


def net(p, x):
    h = jax.nn.relu(x @ p[0] + p[1])
    h = jax.nn.relu(h @ p[2] + p[3])
    return h @ p[4] + p[5]


def loss(p, x, y):
    return jnp.mean((net(p, x) - y) ** 2)


def task(p, sx, sy, qx, qy):
    for _ in range(STEPS):
        p = [a - 0.01 * g for a, g in zip(p, jax.grad(loss)(p, sx, sy), strict=True)]
    return loss(p, qx, qy)


def meta(p, batch):
    return jnp.mean(jax.vmap(task, in_axes=(None, 0, 0, 0, 0))(p, *batch))


@jax.jit
def step(p, m, v, t, batch):
    """A meta-step with Adam."""
    value, g = jax.value_and_grad(meta)(p, batch)
    m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
    v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g, strict=True)]
    p = [
        a - 1e-3 * (b / (1 - 0.9**t)) / (jnp.sqrt(c / (1 - 0.999**t)) + 1e-8)
        for a, b, c in zip(p, m, v, strict=True)
    ]
    return value, p, m, v


draw = np.random.default_rng(0)
shapes = [(1, 40), (40,), (40, 40), (40,), (40, 1), (1,)]
params = [jnp.asarray(draw.normal(size=s) * 0.2, jnp.float32) for s in shapes]
zeros = [jnp.zeros_like(p) for p in params]
batch = [jnp.asarray(draw.normal(size=(TASKS, 10, 1)), jnp.float32) for _ in range(4)]
state = [params, zeros, zeros, 1.0]


def work():
    value, p, m, v = step(*state, batch)
    state[:] = [p, m, v, state[3] + 1]
    return float(value)


serve(work)
