"""What a meta-step costs, in forward-equivalents: a repeatable stand-in for seconds.

One forward pass of one example is 1, its backward pass 2. Differentiating through an inner step
costs about twice the step again. Heads are not counted: next to their backbone they are cheap.
The resource of a trial is set by the run in these units, so no strategy can buy itself more.
"""

from __future__ import annotations

from metatune.strategy import SGD, Strategy
from metatune.tasks.base import Episode

TRAINED = 3  # forward 1 + backward 2


def step_cost(strategy: Strategy, episode: Episode) -> int:
    """Forward-equivalents of one meta-step on ``tasks_per_batch`` training tasks."""
    support, query = episode.n_support, episode.n_query
    cost = TRAINED * (support + query)
    inner = strategy.inner
    if isinstance(inner, SGD) and inner.scope == "all" and strategy.meta.rule != "joint":
        through = 3 if strategy.meta.rule == "second_order" else 1
        cost += inner.steps * TRAINED * support * through
    return cost * strategy.outer.tasks_per_batch


def steps_within(resource: int, strategy: Strategy, episode: Episode) -> int:
    """Whole meta-steps that fit into ``resource``, at least one."""
    return max(1, resource // step_cost(strategy, episode))
