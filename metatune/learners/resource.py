"""What a meta-step costs, in forward-equivalents: a repeatable stand-in for seconds.

One forward pass of one example is 1, its backward pass 2. Differentiating through an inner step
costs about twice the step again. Heads are not counted: next to their backbone they are cheap.
The resource of a trial is set by the run in these units, so no strategy can buy itself more.
"""

from __future__ import annotations

from metatune.strategy import (
    Diet,
    ImageAugmentation,
    Pooled,
    Seeds,
    Steps,
    Strategy,
    TableAugmentation,
)
from metatune.tasks.base import Episode, FamilyInfo

TRAINED = 3  # forward 1 + backward 2
POOLED_SHARE = 3  # a pooled model's fit takes at most this part of a rung: a third


def step_cost(strategy: Strategy, info: FamilyInfo, episode: Episode) -> int:
    """Forward-equivalents of one meta-step on ``tasks_per_batch`` training tasks."""
    support, query = episode.n_support * (1 + _copies(strategy.diet)), episode.n_query
    meta, inner = strategy.meta, strategy.inner
    cost = TRAINED * (support + query)
    if isinstance(inner, Steps) and inner.scope != "head" and meta.rule != "joint":
        learned_from = support + query if meta.rule == "reptile" else support
        cost = TRAINED * query if meta.rule == "reptile" else cost
        cost += TRAINED * learned_from * (inner.steps + 2 * _differentiated(strategy, inner))
        if meta.multi_step_until:
            cost += TRAINED * query * (inner.steps - 1)
    if strategy.cross_fits_backbone(info):
        cost *= 1 + strategy.folds(info)  # each task teaches all copies but one, and the numbers
    if isinstance(strategy.combination, Seeds):
        cost *= strategy.combination.members
    return cost * strategy.outer.tasks_per_batch


def _differentiated(strategy: Strategy, inner: Steps) -> int:
    """Inner steps that are differentiated through; conjugate gradient steps cost the same."""
    match strategy.meta.rule:
        case "second_order":
            return inner.steps
        case "truncated":
            return min(strategy.meta.truncate, inner.steps)
        case "implicit":
            return strategy.meta.truncate
    return 0


def _copies(diet: Diet) -> int:
    augment = diet.augment
    return augment.copies if isinstance(augment, ImageAugmentation | TableAugmentation) else 0


def pooled_tasks(strategy: Strategy, info: FamilyInfo, episode: Episode, rung: int) -> int:
    """Train tasks that a pooled model is fitted on, where a rung gives ``rung`` of resource."""
    if not isinstance(strategy.prior, Pooled):
        return 0
    within = rung // POOLED_SHARE // _pooled_cost(strategy, info, episode)
    return max(1, min(strategy.prior.tasks, within))


def pooled_cost(strategy: Strategy, info: FamilyInfo, episode: Episode, tasks: int) -> int:
    """Forward-equivalents of fitting a pooled model on so many tasks, folds included."""
    return tasks * _pooled_cost(strategy, info, episode) if tasks else 0


def _pooled_cost(strategy: Strategy, info: FamilyInfo, episode: Episode) -> int:
    fits = max(1, strategy.folds(info))  # F fits on all but one fold, and one on all: F in sum
    return TRAINED * episode.n_query * fits
