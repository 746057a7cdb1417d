"""A learner: a strategy at work on a family's tasks.

The learner itself is constant; its meta-parameters are a dictionary of tensors that the caller
holds. ``predict`` learns every task of a batch from its support set and predicts its query set.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from metatune.learners import heads
from metatune.learners.backbones import Backbone, Params, build_backbone, init_linear, linear
from metatune.learners.inner_loop import adapt
from metatune.seeds import derive_seed
from metatune.strategy import SGD, Linear, NearestNeighbour, Prototypes, Ridge, Strategy
from metatune.tasks.base import FamilyInfo, TaskBatch


@dataclass(frozen=True)
class Tensors:
    """A batch of ``T`` tasks as tensors; ``support_y`` and ``query_y`` as in ``TaskBatch``."""

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    support_class: Tensor | None
    query_class: Tensor | None

    def __len__(self) -> int:
        return self.support_x.shape[0]


def to_tensors(batch: TaskBatch) -> Tensors:
    """The batch as tensors that share its memory."""
    classes = (batch.support_class, batch.query_class)
    return Tensors(
        torch.from_numpy(batch.support_x),
        torch.from_numpy(batch.support_y),
        torch.from_numpy(batch.query_x),
        torch.from_numpy(batch.query_y),
        *(None if c is None else torch.from_numpy(c) for c in classes),
    )


@dataclass(frozen=True)
class Learner:
    """What a strategy does with a family's tasks.

    Attributes:
        strategy: what it does.
        info: the family.
        outputs: numbers predicted an example: classes of a test task, or regression outputs.
        backbone: inputs to features.
    """

    strategy: Strategy
    info: FamilyInfo
    outputs: int
    backbone: Backbone

    # --- meta-parameters ------------------------------------------------------------------------

    def init(self, seed: int) -> Params:
        """Meta-parameters before any training."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "init"))
        params = {f"backbone.{k}": p for k, p in self.backbone.init(generator).items()}
        features = self.backbone.features
        match self.strategy.head:
            case Linear(start="learned"):
                weight, bias = init_linear(features, self.outputs, generator)
                params |= {"head.weight": weight, "head.bias": bias}
            case Ridge() as ridge if ridge.learn:
                params["head.log_penalty"] = torch.tensor(log(ridge.penalty))
                params["head.scale"] = torch.tensor(1.0)
                params["head.offset"] = torch.tensor(0.0)
        if self._trains_classifier:
            weight, bias = init_linear(features, self.info.train_classes, generator)
            params |= {"joint.weight": weight, "joint.bias": bias}
        return params

    @property
    def _trains_classifier(self) -> bool:
        return self.strategy.meta.rule == "joint" and self.info.kind == "classification"

    # --- learning a task ------------------------------------------------------------------------

    def predict(self, params: Params, batch: Tensors) -> Tensor:
        """Learn each task from its support set and predict its query set.

        Returns:
            ``(T, Q, outputs)``: logits for classes, values for regression; differentiable with
            respect to ``params`` in the way that ``strategy.meta.rule`` says.
        """
        body, head = _split(params)
        if isinstance(self.strategy.inner, SGD):
            return self._predict_by_steps(body, head, batch, self.strategy.inner)
        support, query = self._features(body, batch)
        targets = self._targets(batch.support_y)
        match self.strategy.head:
            case Prototypes() as part:
                return heads.prototypes(part, support, targets, query)
            case NearestNeighbour() as part:
                return heads.nearest_neighbour(part, support, targets, query)
            case Ridge() as part:
                if not part.learn:
                    return heads.ridge(support, targets, query, torch.tensor(part.penalty))
                values = heads.ridge(support, targets, query, head["log_penalty"].exp())
                return head["scale"] * values + head["offset"]
        raise AssertionError("a linear head needs inner steps; Strategy.problems refuses this")

    def _predict_by_steps(self, body: Params, head: Params, batch: Tensors, inner: SGD) -> Tensor:
        tasks, n_support = batch.support_x.shape[:2]
        second_order = self.strategy.meta.rule == "second_order"
        if not head:
            zeros, outputs = batch.support_x.new_zeros, self.outputs
            head = {"weight": zeros(self.backbone.features, outputs), "bias": zeros(outputs)}
            if any(p.requires_grad for p in body.values()):
                # The adapted head is a function of the body, through which gradients are to pass.
                head = {name: p.requires_grad_() for name, p in head.items()}
        if inner.scope == "head":
            support, query = self._features(body, batch)

            def head_loss(fast: Params) -> Tensor:
                return self.losses(linear(support, **fast), batch.support_y)

            fast = adapt(head, head_loss, tasks, inner.steps, inner.lr, second_order)
            return linear(query, **fast)

        def loss(fast: Params) -> Tensor:
            body, head = _split(fast)
            features = self.backbone(body, batch.support_x, n_support)
            return self.losses(linear(features, **head), batch.support_y)

        start = _join(body, head)
        body, head = _split(adapt(start, loss, tasks, inner.steps, inner.lr, second_order))
        _, query = self._features(body, batch)
        return linear(query, **head)

    def _features(self, body: Params, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Features of support and query, in one pass."""
        n_support = batch.support_x.shape[1]
        both = self.backbone(body, torch.cat([batch.support_x, batch.query_x], 1), n_support)
        return both[:, :n_support], both[:, n_support:]

    # --- losses ---------------------------------------------------------------------------------

    def _targets(self, y: Tensor) -> Tensor:
        """Regression targets of a head in closed form: one-hot for classes."""
        if self.info.kind == "regression":
            return y
        return F.one_hot(y, self.outputs).to(torch.get_default_dtype())

    def losses(self, predictions: Tensor, y: Tensor) -> Tensor:
        """Mean loss of each task ``(T,)``: cross-entropy for classes, else squared error."""
        if self.info.kind == "regression":
            return (predictions - y).square().mean(dim=(1, 2))
        losses = F.cross_entropy(predictions.flatten(0, 1), y.flatten(), reduction="none")
        return losses.reshape(y.shape).mean(1)

    def meta_loss(self, params: Params, batch: Tensors) -> Tensor:
        """The loss that meta-training lowers, a scalar."""
        if self.strategy.meta.rule != "joint":
            return self.losses(self.predict(params, batch), batch.query_y).mean()
        body, head = _split(params)
        # All examples of all tasks are one supervised batch: one "task" without a query.
        x = torch.cat([batch.support_x, batch.query_x], 1).flatten(0, 1).unsqueeze(0)
        features = self.backbone(body, x, x.shape[1])
        if self._trains_classifier:
            assert batch.support_class is not None
            assert batch.query_class is not None
            y = torch.cat([batch.support_class, batch.query_class], 1).flatten()
            logits = linear(features, params["joint.weight"], params["joint.bias"])
            return F.cross_entropy(logits[0], y)
        y = torch.cat([batch.support_y, batch.query_y], 1).flatten(0, 1).unsqueeze(0)
        return self.losses(linear(features, head["weight"], head["bias"]), y).mean()

    def is_hopeless(self, loss: float, batch: Tensors) -> bool:
        """True for a loss that no learning comes back from.

        That is a squared error of 1,000 times the targets' variance, or a cross-entropy of
        100,000 times that of guessing (sharp but sound metric heads reach 10,000).
        """
        if self.info.kind == "regression":
            targets = torch.cat([batch.support_y, batch.query_y], 1)
            return loss > 1e3 * float(targets.var(correction=0))
        classes = self.info.train_classes if self._trains_classifier else self.outputs
        return loss > 1e5 * log(max(2, classes))


def build_learner(strategy: Strategy, info: FamilyInfo, way: int) -> Learner:
    """The learner of a strategy for tasks of ``way`` classes (regression: 1)."""
    grouped = strategy.meta.rule == "second_order"
    backbone = build_backbone(strategy.backbone, info.input_shape, grouped)
    return Learner(strategy, info, info.outputs or way, backbone)


def _split(params: Params) -> tuple[Params, Params]:
    """Body and head, without their prefixes."""

    def under(prefix: str) -> Params:
        return {k.removeprefix(prefix): p for k, p in params.items() if k.startswith(prefix)}

    return under("backbone."), under("head.")


def _join(body: Params, head: Params) -> Params:
    """The inverse of ``_split``."""
    return {f"backbone.{k}": p for k, p in body.items()} | {f"head.{k}": p for k, p in head.items()}
