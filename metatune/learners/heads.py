"""Heads that adapt in closed form: support features and labels in, query predictions out.

All work on ``T`` tasks at once: support features ``(T, S, F)``, query features ``(T, Q, F)``,
targets ``(T, S, O)`` (one-hot for classes), predictions ``(T, Q, O)`` (logits for classes). See
``interface.Head``; the linear head, which is adapted by steps, is in ``linear_head.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metatune import strategy as parts
from metatune.learners import kernels, padding
from metatune.learners.amortised import NeuralProcess
from metatune.learners.implicit import Product, at_solution, conjugate_gradients
from metatune.learners.interface import Examples, Head, Params
from metatune.own import load_own

Views = Mapping[str, tuple[int, int]]


def build_head(
    part: parts.Head, features: int, outputs: int, views: Views, classes: bool
) -> Head | None:
    """The head of a strategy; None for the linear one, which is adapted by steps."""
    match part:
        case parts.Linear():
            return None
        case parts.Ridge():
            return RidgeHead(part)
        case parts.Logistic():
            return LogisticHead(part)
        case parts.Prototypes():
            return PrototypeHead(part)
        case parts.NearestNeighbour():
            return NeighbourHead(part, views, classes)
        case parts.GP():
            return GPHead(part, views, classes)
        case parts.Amortised():
            return NeuralProcess(part, features, outputs, classes)
        case parts.OwnHead():
            own: Head = load_own(part, "heads")(features=features, outputs=outputs, **part.options)
            return own


def view_of(examples: Examples, view: str, views: Views) -> Tensor:
    """``(T, N, F)``: the features, the raw inputs, or those columns of them that have a name."""
    if view == "learned":
        return examples.features
    start, end = views.get(view, (0, examples.raw.shape[2]))
    return examples.raw[..., start:end]


# --- by comparison -------------------------------------------------------------------------------


def class_means(support: Tensor, targets: Tensor) -> Tensor:
    """``(T, O, F)``: the mean of each class's support features."""
    counts = targets.sum(1).clamp_min(1).unsqueeze(2)
    return torch.bmm(targets.transpose(1, 2), support) / counts


def below_all_where_absent(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits ``(T, Q, O)``; of a class without support examples, less than of any that has some.

    Nothing is known of such a class, and its logit stays finite, so that a loss does.
    """
    absent = (targets.sum(1) == 0).unsqueeze(1)
    if not bool(absent.any()):
        return logits
    lowest = logits.masked_fill(absent, torch.inf).amin(2, keepdim=True)
    return torch.where(absent, lowest - 1, logits)


@dataclass(frozen=True)
class PrototypeHead:
    """Similarity to the class means, times a scale (Snell et al. 2017)."""

    part: parts.Prototypes
    masks: ClassVar[bool] = True

    def init(self, generator: torch.Generator) -> Params:
        return {"log_scale": torch.tensor(log(self.part.scale))} if self.part.learn else {}

    def __call__(
        self, params: Params, support: Examples, targets: Tensor, query: Examples
    ) -> Tensor:
        scale = params["log_scale"].exp() if self.part.learn else self.part.scale
        means = class_means(support.features, targets)
        logits = scale * kernels.similarity(query.features, means, self.part.distance)
        return below_all_where_absent(logits, targets)


@dataclass(frozen=True)
class NeighbourHead:
    """Votes of the closest support examples; the mean of their targets in a regression."""

    part: parts.NearestNeighbour
    views: Views
    classes: bool
    masks: ClassVar[bool] = True

    def init(self, generator: torch.Generator) -> Params:
        return {}

    def __call__(
        self, params: Params, support: Examples, targets: Tensor, query: Examples
    ) -> Tensor:
        asked, known = (view_of(each, self.part.view, self.views) for each in (query, support))
        close = kernels.similarity(asked, known, self.part.distance)
        if support.mask is not None:
            close = close.masked_fill(~support.mask.unsqueeze(1), -torch.inf)
        count = min(self.part.neighbours, close.shape[2])
        if self.classes and count == 1:
            # For each class its closest example: as telling as a vote, and no class is at nothing.
            other = targets.unsqueeze(1) == 0  # (T, 1, S, O)
            closest = close.unsqueeze(3).masked_fill(other, -torch.inf).amax(2)
            return below_all_where_absent(closest, targets)
        # Who is as close as the last of them votes, too: their order says nothing.
        near = (close >= close.topk(count, dim=2).values[..., -1:]).to(targets.dtype)
        if support.mask is not None:  # a task may have fewer than so many
            near = near * support.mask.unsqueeze(1)
        mean = torch.bmm(near, targets) / near.sum(2, keepdim=True)
        # Shares as logits: an even vote is told from none, and the loss stays finite.
        return (mean + 1e-3).log() if self.classes else mean


# --- by least squares ----------------------------------------------------------------------------


def ridge_weights(x: Tensor, targets: Tensor, penalty: Tensor | float) -> Tensor:
    """``(T, F, O)``: ``argmin |X W - Y|^2 + penalty |W|^2``, solved in the smaller of S and F.

    With fewer examples than features in its dual form ``X' (X X' + penalty I)^-1 Y`` (Bertinetto
    et al. 2019, equation 6).
    """
    examples, features = x.shape[1:]
    xt = x.transpose(1, 2)
    if examples <= features:
        gram = torch.bmm(x, xt) + penalty * torch.eye(examples, dtype=x.dtype)
        return torch.bmm(xt, torch.linalg.solve(gram, targets))
    gram = torch.bmm(xt, x) + penalty * torch.eye(features, dtype=x.dtype)
    weights: Tensor = torch.linalg.solve(gram, torch.bmm(xt, targets))
    return weights


def with_one(x: Tensor) -> Tensor:
    """A last feature that is always 1, whose weight is the intercept."""
    return torch.cat([x, torch.ones_like(x[..., :1])], 2)


@dataclass(frozen=True)
class RidgeHead:
    """Ridge regression; ``scale`` and ``offset`` of what it predicts are learned beside it."""

    part: parts.Ridge
    masks: ClassVar[bool] = True

    def init(self, generator: torch.Generator) -> Params:
        if not self.part.learn:
            return {}
        return {
            "log_penalty": torch.tensor(log(self.part.penalty)),
            "scale": torch.tensor(1.0),
            "offset": torch.tensor(0.0),
        }

    def __call__(
        self, params: Params, support: Examples, targets: Tensor, query: Examples
    ) -> Tensor:
        penalty = params["log_penalty"].exp() if self.part.learn else self.part.penalty
        if self.part.intercept == "penalised":
            level = torch.zeros(())
            x, q = with_one(support.features), with_one(query.features)
        else:
            centre, level = (padding.mean(z, support.mask) for z in (support.features, targets))
            x, q, targets = support.features - centre, query.features - centre, targets - level
        x = padding.only_real(x, support.mask)
        values = level + torch.bmm(q, ridge_weights(x, targets, penalty))
        return params["scale"] * values + params["offset"] if self.part.learn else values


@dataclass(frozen=True)
class GPHead:
    """The mean of a Gaussian process given the support set (Rasmussen & Williams 2006, 2.25)."""

    part: parts.GP
    views: Views
    classes: bool
    masks: ClassVar[bool] = True

    def init(self, generator: torch.Generator) -> Params:
        if not self.part.learn:
            return {}
        params = {"log_noise": torch.tensor(log(self.part.noise)), "mean": torch.tensor(0.0)}
        if self.classes:
            params["scale"] = torch.tensor(1.0)
        for kernel, view in self.part.kernels():
            params[f"{kernel}-{view}.log_amplitude"] = torch.tensor(log(self.part.amplitude))
            if kernel == "rbf":
                start = torch.tensor(log(self.part.lengthscale))
                params[f"{kernel}-{view}.log_lengthscale"] = start
        return params

    def __call__(
        self, params: Params, support: Examples, targets: Tensor, query: Examples
    ) -> Tensor:
        noise = params["log_noise"].exp() if self.part.learn else self.part.noise
        mean = params["mean"] if self.part.learn else 0.0
        identity = torch.eye(targets.shape[1], dtype=targets.dtype)
        between = self._kernel(params, support, support)
        if support.mask is not None:
            # Padding is alike to nothing, and its targets are the prior's: so its weight is 0.
            between = between * (support.mask.unsqueeze(1) & support.mask.unsqueeze(2))
        left = padding.only_real(targets - mean, support.mask)
        weights = torch.linalg.solve(between + noise * identity, left)
        values = mean + torch.bmm(self._kernel(params, query, support), weights)
        # Regressed one-hot labels lie in [0, 1]: as logits they want a scale.
        return params["scale"] * values if self.classes and self.part.learn else values

    def _kernel(self, params: Params, a: Examples, b: Examples) -> Tensor:
        total = torch.zeros(())
        for kernel, view in self.part.kernels():
            name = f"{kernel}-{view}"
            x, y = view_of(a, view, self.views), view_of(b, view, self.views)
            if kernel == "rbf":
                learned = params.get(f"{name}.log_lengthscale")
                start = torch.tensor(log(self.part.lengthscale), dtype=x.dtype)
                values = kernels.rbf(x, y, (start if learned is None else learned).exp())
            else:
                values = kernels.linear(x, y) if kernel == "linear" else kernels.tanimoto(x, y)
            log_amplitude = params.get(f"{name}.log_amplitude")
            amplitude = self.part.amplitude if log_amplitude is None else log_amplitude.exp()
            total = total + amplitude * values
        return total


# --- by maximum likelihood -----------------------------------------------------------------------


@dataclass(frozen=True)
class LogisticHead:
    """Multinomial logistic regression at its optimum, by Newton's method."""

    part: parts.Logistic
    masks: ClassVar[bool] = True

    def init(self, generator: torch.Generator) -> Params:
        return {"log_penalty": torch.tensor(log(self.part.penalty))} if self.part.learn else {}

    def __call__(
        self, params: Params, support: Examples, targets: Tensor, query: Examples
    ) -> Tensor:
        penalty = params["log_penalty"].exp() if self.part.learn else self.part.penalty
        x, q = support.features, query.features
        if self.part.normalise:
            x, q = F.normalize(x, dim=2), F.normalize(q, dim=2)
        x = padding.only_real(with_one(x), support.mask)
        weights = logistic_weights(x, targets, torch.as_tensor(penalty, dtype=x.dtype))
        return torch.bmm(with_one(q), weights)


def logistic_weights(x: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """``argmin sum of cross-entropies of X W + penalty / 2 |W|^2``, ``(T, F, O)``.

    Newton's method with conjugate gradients and halved steps; gradients are the optimum's own.
    """
    with torch.no_grad():
        weights = _newton(x.detach(), targets, penalty.detach())
        curvature = _curvature(x.detach(), weights, penalty.detach())
    residual = _logistic_gradient(x, targets, weights, penalty)
    return at_solution(residual, weights, curvature, MOST_CG)


NEWTON_STEPS, MOST_CG = 50, 200


def _newton(x: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    weights = x.new_zeros(len(x), x.shape[2], targets.shape[2])
    loss = _logistic_loss(x, targets, weights, penalty)
    for _ in range(NEWTON_STEPS):
        gradient = _logistic_gradient(x, targets, weights, penalty)
        size = gradient.flatten(1).norm(dim=1)
        if bool((size <= 10 * torch.finfo(x.dtype).eps * (1 + x.flatten(1).norm(dim=1))).all()):
            break
        step = conjugate_gradients(_curvature(x, weights, penalty), gradient, MOST_CG)
        share = torch.ones(len(x), 1, 1, dtype=x.dtype)
        for _ in range(20):  # a full step may overshoot where probabilities saturate
            tried = weights - share * step
            worse = _logistic_loss(x, targets, tried, penalty) > loss
            if not bool(worse.any()):
                break
            share = torch.where(worse[:, None, None], share / 2, share)
        weights = weights - share * step
        loss = _logistic_loss(x, targets, weights, penalty)
    return weights


def _logistic_loss(x: Tensor, targets: Tensor, weights: Tensor, penalty: Tensor) -> Tensor:
    entropy = -(targets * torch.bmm(x, weights).log_softmax(2)).sum((1, 2))
    return entropy + penalty / 2 * weights.square().sum((1, 2))


def _logistic_gradient(x: Tensor, targets: Tensor, weights: Tensor, penalty: Tensor) -> Tensor:
    error = torch.bmm(x, weights).softmax(2) - targets
    return torch.bmm(x.transpose(1, 2), error) + penalty * weights


def _curvature(x: Tensor, weights: Tensor, penalty: Tensor) -> Product:
    p = torch.bmm(x, weights).softmax(2)

    def product(v: Tensor) -> Tensor:
        u = torch.bmm(x, v)
        return torch.bmm(x.transpose(1, 2), p * (u - (p * u).sum(2, keepdim=True))) + penalty * v

    return product
