"""Meta rules: the scalar whose gradient the meta-parameters follow.

The value is what stands in the records; where a rule's gradient is not that of its value, the
gradient is that of another scalar, which is added with the value taken off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from metatune.learners.cross_fit import fold_of_group
from metatune.learners.inner_loop import FIRST_ORDER, SECOND_ORDER, Through
from metatune.learners.interface import Params, Tensors, under
from metatune.strategy import Meta, Steps

if TYPE_CHECKING:
    from metatune.learners.learner import ComposedLearner

Rule = Callable[["ComposedLearner", Params, Tensors, float], Tensor]


def meta_loss(learner: ComposedLearner, params: Params, batch: Tensors, progress: float) -> Tensor:
    """The scalar that meta-training lowers at ``progress`` of the resource."""
    if learner.strategy.cross_fits_backbone(learner.info):
        return _cross_fitted(learner, params, batch, progress)
    rule: Rule = {"joint": _joint, "reptile": _reptile}.get(learner.strategy.meta.rule, _episodic)
    return rule(learner, params, batch, progress)


def _episodic(learner: ComposedLearner, params: Params, batch: Tensors, progress: float) -> Tensor:
    """The query loss after learning from the support set."""
    losses = episode_losses(learner, params, batch, progress)
    return losses.mean()


def episode_losses(
    learner: ComposedLearner, params: Params, batch: Tensors, progress: float
) -> Tensor:
    """The query loss of each task ``(T,)``; over all inner steps where they count (MAML++)."""
    meta, inner = learner.strategy.meta, learner.strategy.inner
    steps = inner.steps if isinstance(inner, Steps) else 0
    path = learner.predictions(params, batch, steps, _through(meta, progress))
    weights = step_weights(len(path), progress, meta.multi_step_until)
    return sum(
        (
            w * learner.losses(p, batch.query_y, batch.query_mask)
            for w, p in zip(weights, path, strict=True)
            if w
        ),
        start=torch.zeros(()),
    )


def _through(meta: Meta, progress: float) -> Through:
    match meta.rule:
        case "second_order":
            return FIRST_ORDER if progress < meta.first_order_until else SECOND_ORDER
        case "truncated":
            return Through(last=meta.truncate)
        case "implicit":
            return Through(implicit=meta.truncate)
    return FIRST_ORDER


def step_weights(steps: int, progress: float, until: float) -> list[float]:
    """How much the loss after each step counts (Antoniou et al. 2019, multi-step loss).

    All alike at the start; the weight of all but the last falls linearly to 0 at ``until`` of the
    resource. They sum to 1.
    """
    early = max(0.0, 1 - progress / until) / steps if until else 0.0
    return [early] * (steps - 1) + [1 - early * (steps - 1)]


def _reptile(learner: ComposedLearner, params: Params, batch: Tensors, progress: float) -> Tensor:
    """Towards the adapted weights: the gradient is ``theta - mean over tasks of phi``.

    Nichol, Achiam & Schulman 2018 (arXiv 1803.02999). A task has no query set of its own here:
    its weights are fitted to all of its examples.
    """
    inner = learner.strategy.inner
    assert isinstance(inner, Steps)
    whole = replace(
        batch,
        support_x=torch.cat([batch.support_x, batch.query_x], 1),
        support_y=torch.cat([batch.support_y, batch.query_y], 1),
        support_mask=batch.mask,
    )
    fixed = {name: p.detach() for name, p in params.items()}
    with torch.no_grad():
        adapted, predictions = learner.adapted(fixed, whole, inner.steps)
    pull = torch.stack(
        [(params[name] - phi).square().sum() for name, phi in adapted.items()]
    ).sum() / (2 * len(batch))
    losses = learner.losses(predictions, batch.query_y, batch.query_mask)
    return losses.mean() + pull - pull.detach()


def _joint(learner: ComposedLearner, params: Params, batch: Tensors, progress: float) -> Tensor:
    """All examples of all tasks as one supervised batch: one "task" without a query."""
    params = learner.without_frozen(params)
    body = under("backbone.", params)
    x = _all_examples(batch.support_x, batch.query_x, batch.mask).unsqueeze(0)
    features = learner.backbone(body, x, x.shape[1])
    top = "joint." if learner.trains_classifier else "head."
    values = learner.layer(under(top, params), features)
    if learner.trains_classifier:
        assert batch.support_class is not None
        assert batch.query_class is not None
        y = _all_examples(batch.support_class, batch.query_class, batch.mask)
        return F.cross_entropy(values[0], y)
    y = _all_examples(batch.support_y, batch.query_y, batch.mask).unsqueeze(0)
    return learner.losses(values, y).mean()


def _all_examples(support: Tensor, query: Tensor, mask: Tensor | None) -> Tensor:
    """``(N, ...)``: the real ones of ``(T, S, ...)`` and ``(T, Q, ...)``, of all tasks."""
    both = torch.cat([support, query], 1)
    return both.flatten(0, 1) if mask is None else both[mask]


def _cross_fitted(
    learner: ComposedLearner, params: Params, batch: Tensors, progress: float
) -> Tensor:
    """Scales, penalties and blends from episodes whose group the backbone has not seen.

    For each fold a copy of the backbone is trained on the other folds; its episodes teach the
    numbers of head and prior, with the copy held fixed. The backbone that is used in the end is
    trained on all, with those numbers held fixed.
    """
    folds, of_group = (
        learner.strategy.folds(learner.info),
        fold_of_group(learner.strategy, learner.info),
    )
    numbers = {n: p for n, p in params.items() if "backbone." not in n}
    fixed = _detached(numbers)

    def losses(body: Params, numbers: Params, some: Tensors) -> Tensor:
        return episode_losses(learner, body | numbers, some, progress)

    final = {n: p for n, p in params.items() if n.startswith("backbone.")}
    value = losses(final, fixed, batch).mean()
    total = value
    for fold in range(folds):
        copy = under(f"fold{fold}.", params)
        inside = [t for t, group in enumerate(batch.groups) if of_group[group] == fold]
        outside = [t for t, group in enumerate(batch.groups) if of_group[group] != fold]
        if outside:
            total = total + losses(copy, fixed, batch.tasks(outside)).mean()
        if inside:
            taught = losses(_detached(copy), numbers, batch.tasks(inside))
            total = total + taught.sum() / len(batch)
    return value.detach() + total - total.detach()


def _detached(params: Params) -> Params:
    return {name: p.detach() for name, p in params.items()}
