"""The learner of a composition: a strategy at work on a family's tasks.

The learner itself is constant; its meta-parameters are a dictionary of tensors that the caller
holds: ``backbone.*``, ``head.*``, ``rate.*`` (of inner steps), ``prior.*``, ``joint.*`` (the layer
over all train classes) and ``fold<k>.backbone.*`` (copies for cross-fitting).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metatune.learners import padding, prior, rules
from metatune.learners.backbones import build_backbone
from metatune.learners.ensemble import Ensemble
from metatune.learners.heads import build_head
from metatune.learners.inner_loop import FIRST_ORDER, Through, adapt, init_rates
from metatune.learners.interface import (
    Backbone,
    Examples,
    Head,
    Learner,
    Params,
    Tensors,
    over,
    under,
)
from metatune.learners.linear_head import LinearHead
from metatune.own import load_own
from metatune.seeds import derive_seed
from metatune.strategy import Linear, Seeds, Steps, Strategy
from metatune.tasks.base import FamilyInfo


def build_learner(strategy: Strategy, info: FamilyInfo, way: int) -> Learner:
    """The learner of a strategy for tasks of ``way`` classes (regression: 1)."""
    outputs = info.outputs or way
    if strategy.learner is not None:
        maker = load_own(strategy.learner, "learners")
        own: Learner = maker(info=info, outputs=outputs, **strategy.learner.options)
        return padding.unpadded_unless_masks(own)
    single = padding.unpadded_unless_masks(_compose(strategy, info, outputs))
    if isinstance(strategy.combination, Seeds):
        return Ensemble(single, strategy.combination.members, info.kind == "classification")
    return single


def _compose(strategy: Strategy, info: FamilyInfo, outputs: int) -> ComposedLearner:
    shape = info.input_shape
    if isinstance(strategy.inner, Steps) and strategy.inner.scope == "context":
        # The context stands beside every input: constant channels of images, columns of tables.
        shape = (shape[0] + strategy.inner.context, *shape[1:])
    grouped = strategy.meta.rule in ("second_order", "truncated")
    backbone = build_backbone(strategy.backbone, shape, grouped)
    classes = info.kind == "classification"
    head = build_head(strategy.head, backbone.features, outputs, info.views, classes)
    part = strategy.head if isinstance(strategy.head, Linear) else Linear()
    layer = LinearHead(part, backbone.features, outputs)
    return ComposedLearner(strategy, info, outputs, backbone, head, layer)


@dataclass(frozen=True)
class ComposedLearner:
    """What a strategy does with a family's tasks.

    Attributes:
        strategy: what it does.
        info: the family.
        outputs: numbers predicted an example: classes of a test task, or regression outputs.
        backbone: inputs to features.
        head: features to predictions in closed form; None where steps adapt ``layer``.
        layer: the linear head, and the layer of joint training.
    """

    strategy: Strategy
    info: FamilyInfo
    outputs: int
    backbone: Backbone
    head: Head | None
    layer: LinearHead

    # --- meta-parameters ------------------------------------------------------------------------

    def init(self, seed: int) -> Params:
        """Meta-parameters before any training."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "init"))
        strategy = self.strategy
        params = over("backbone.", self.backbone.init(generator))
        params |= over("head.", (self.head or self.layer).init(generator))
        if isinstance(strategy.inner, Steps):
            params |= over("rate.", init_rates(strategy.inner, self._adapted(params)))
        params |= over("prior.", prior.init(strategy.prior))
        if self.trains_classifier:
            classes = self.info.train_classes * (4 if strategy.diet.quarter_turns else 1)
            params |= over("joint.", self.layer.random(classes, generator))
        if strategy.cross_fits_backbone(self.info):
            for fold in range(strategy.folds(self.info)):
                params |= over(f"fold{fold}.backbone.", self.backbone.init(generator))
        return params

    def _adapted(self, params: Params) -> Params:
        """What inner steps change, as shared parameters."""
        assert isinstance(self.strategy.inner, Steps)
        scope = self.strategy.inner.scope
        found: Params = {}
        if scope in ("all", "body") and not self._frozen:
            found |= over("backbone.", under("backbone.", params))
        if scope in ("all", "head"):
            random = self.layer.random(self.outputs, torch.Generator().manual_seed(0))
            found |= over("head.", random)
        if scope == "context":
            found["context"] = torch.zeros(self.strategy.inner.context)
        return found

    @property
    def trains_classifier(self) -> bool:
        """True where one layer over all train classes is trained."""
        return self.strategy.meta.rule == "joint" and self.info.kind == "classification"

    @property
    def _frozen(self) -> bool:
        return bool(getattr(self.strategy.backbone, "frozen", False))

    @property
    def masks(self) -> bool:
        """True where all parts take masks: see ``interface.py``."""
        parts = (self.backbone, *([] if self.head is None else [self.head]))
        return all(getattr(part, "masks", False) for part in parts)

    # --- learning a task ------------------------------------------------------------------------

    def predict(self, params: Params, batch: Tensors) -> Tensor:
        """Learn each task from its support set and predict its query set.

        Returns:
            ``(T, Q, outputs)``: logits for classes, values for regression.
        """
        inner = self.strategy.inner
        steps = (inner.test_steps or inner.steps) if isinstance(inner, Steps) else 0
        return self.predictions(params, batch, steps, FIRST_ORDER)[-1]

    def predictions(
        self, params: Params, batch: Tensors, steps: int, through: Through
    ) -> list[Tensor]:
        """Query predictions after each inner step; just the one where there are no steps.

        Args:
            params: meta-parameters; gradients reach those that ask for one.
            batch: the tasks.
            steps: inner steps to take.
            through: what gradients know of the steps.
        """
        params = self.without_frozen(params)
        mean = prior.values(self.strategy.prior, under("prior.", params), batch, self.info)
        targets = self._targets(batch, None if mean is None else mean[0])
        if isinstance(self.strategy.inner, Steps):
            path, predict = self._by_steps(params, batch, targets, steps, through)
            found = [predict(fast) for fast in path]
        else:
            assert self.head is not None
            support, query = self._features(under("backbone.", params), batch)
            found = [self.head(under("head.", params), support, targets, query)]
        return found if mean is None else [values + mean[1] for values in found]

    def adapted(self, params: Params, batch: Tensors, steps: int) -> tuple[Params, Tensor]:
        """What inner steps make of the parameters, ``(T, ...)`` each, and the query predictions."""
        targets = self._targets(batch, None)
        path, predict = self._by_steps(params, batch, targets, steps, FIRST_ORDER)
        return path[-1], predict(path[-1])

    def _by_steps(
        self, params: Params, batch: Tensors, targets: Tensor, steps: int, through: Through
    ) -> tuple[list[Params], Callable[[Params], Tensor]]:
        """What is adapted, after each step; and what is predicted from it for the query."""
        inner, body = self.strategy.inner, under("backbone.", params)
        assert isinstance(inner, Steps)
        y = targets if self.info.kind == "regression" else batch.support_y
        learned, rates = under("head.", params), under("rate.", params)
        n_support = batch.support_x.shape[1]
        if inner.scope == "head" or self.layer.part.start in ("prototypes", "ridge"):
            support, query = self._features(body, batch)
            head = self.layer.start(learned, support.features, targets, batch.support_mask)
        else:
            head = self.layer.start(learned, batch.support_x, targets)
        start = self._start(inner, body, head, len(batch))
        if any(p.requires_grad for p in params.values()):
            # What adapted parameters become depends on more than where they start.
            start = {n: p if p.requires_grad else p.requires_grad_() for n, p in start.items()}

        def support_loss_of_head(fast: Params) -> Tensor:
            predictions = self.layer(under("head.", fast), support.features)
            return self.losses(predictions, y, batch.support_mask)

        def query_by_head(fast: Params) -> Tensor:
            return self.layer(under("head.", fast), query.features)

        if inner.scope == "head":
            path = adapt(inner, start, support_loss_of_head, rates, steps, through)
            return path, query_by_head
        fixed = over("head.", head) | over("backbone.", body)

        def predict(fast: Params, x: Tensor, n_support: int, mask: Tensor | None) -> Tensor:
            now = fixed | fast
            if (context := fast.get("context")) is not None:
                x = beside(x, context)
            features = self._embedded(under("backbone.", now), x, n_support, mask)
            return self.layer(under("head.", now), features)

        def support_loss(fast: Params) -> Tensor:
            mask = batch.support_mask
            return self.losses(predict(fast, batch.support_x, n_support, mask), y, mask)

        def query_predictions(fast: Params) -> Tensor:
            if not self.backbone.support_shapes_query:
                return predict(fast, batch.query_x, 0, batch.query_mask)
            both = torch.cat([batch.support_x, batch.query_x], 1)
            return predict(fast, both, n_support, batch.mask)[:, n_support:]

        return adapt(inner, start, support_loss, rates, steps, through), query_predictions

    def _start(self, inner: Steps, body: Params, head: Params, tasks: int) -> Params:
        """One copy a task of what is adapted."""
        start: Params = {}
        if inner.scope in ("all", "body") and not self._frozen:
            start |= over("backbone.", {n: p.expand(tasks, *p.shape) for n, p in body.items()})
        if inner.scope in ("all", "head"):
            start |= over("head.", head)
        if inner.scope == "context":
            like = next(iter(body.values()))
            start["context"] = like.new_zeros(tasks, inner.context)
        return start

    def _features(self, body: Params, batch: Tensors) -> tuple[Examples, Examples]:
        """Support and query as heads see them, in one pass."""
        n_support = batch.support_x.shape[1]
        x = torch.cat([batch.support_x, batch.query_x], 1)
        both = self._embedded(body, x, n_support, batch.mask)
        return (
            Examples(both[:, :n_support], batch.support_x.flatten(2), batch.support_mask),
            Examples(both[:, n_support:], batch.query_x.flatten(2), batch.query_mask),
        )

    def _embedded(self, body: Params, x: Tensor, n_support: int, mask: Tensor | None) -> Tensor:
        """Features; a backbone without a word of masks is never given one."""
        if mask is None:
            return self.backbone(body, x, n_support)
        return self.backbone(body, x, n_support, mask)  # type: ignore[call-arg]

    def without_frozen(self, params: Params) -> Params:
        """The parameters; those of a frozen backbone as constants."""
        if not self._frozen:
            return params
        return {n: p.detach() if "backbone." in n else p for n, p in params.items()}

    def _targets(self, batch: Tensors, mean: Tensor | None) -> Tensor:
        """``(T, S, O)``: one-hot classes or labels, less what the prior mean says of them.

        Of classes that is the gradient of the log-likelihood in the prior's logits: a head that
        fits it takes a step of boosting (Friedman 2001, "Greedy function approximation").

        Zero in the place of padding.
        """
        if self.info.kind == "classification":
            shared = self.info.shared_classes  # then a support set may lack some
            ways = self.outputs if shared else int(batch.support_y.max()) + 1
            targets = F.one_hot(batch.support_y, ways).to(batch.support_x.dtype)
            targets = targets if mean is None else targets - mean.softmax(2)
        else:
            targets = batch.support_y if mean is None else batch.support_y - mean
        return padding.only_real(targets, batch.support_mask)

    # --- losses ---------------------------------------------------------------------------------

    def losses(self, predictions: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean loss of each task ``(T,)``: cross-entropy for classes, else squared error."""
        return task_losses(self.info, predictions, y, mask)

    def meta_loss(self, params: Params, batch: Tensors, progress: float) -> Tensor:
        """The scalar that meta-training lowers, by the strategy's rule (see ``rules.py``)."""
        return rules.meta_loss(self, params, batch, progress)


def task_losses(
    info: FamilyInfo, predictions: Tensor, y: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean loss of each task ``(T,)``: cross-entropy for classes, else squared error.

    Args:
        info: says which.
        predictions: ``(T, N, O)``.
        y: labels ``(T, N)`` or targets ``(T, N, O)``.
        mask: ``(T, N)``, the examples that count; None: all.
    """
    if info.kind == "regression":
        errors = (predictions - y).square()
        if mask is None:
            return errors.mean(dim=(1, 2))
        return padding.mean(errors, mask).mean(dim=(1, 2))
    losses = F.cross_entropy(predictions.flatten(0, 1), y.flatten(), reduction="none")
    return padding.mean(losses.reshape(y.shape), mask).squeeze(1)


def beside(x: Tensor, context: Tensor) -> Tensor:
    """Inputs ``(T, N, C, ...)`` and each task's context ``(T, c)`` as constant channels."""
    shape = (len(x), x.shape[1], context.shape[1], *x.shape[3:])
    constant = context.reshape(len(x), 1, -1, *(1,) * (x.ndim - 3)).expand(shape)
    return torch.cat([x, constant], 2)
