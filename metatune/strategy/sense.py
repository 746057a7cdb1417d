"""Which compositions make sense: one sentence for each reason why one does not."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from metatune.own import load_own, own_problem
from metatune.strategy.backbones import Conv4, NoBackbone, OwnBackbone, SetEncoder
from metatune.strategy.composition import Strategy
from metatune.strategy.diet import ImageAugmentation, TableAugmentation
from metatune.strategy.heads import (
    GP,
    Amortised,
    Linear,
    Logistic,
    NearestNeighbour,
    OwnHead,
    Prototypes,
    Ridge,
)
from metatune.strategy.inner import NoInner, Steps
from metatune.strategy.prior import REGRESSORS, Forecast, Pooled, SupportMean, ZeroMean
from metatune.tasks.base import Episode, FamilyInfo

GRADIENT_RULES = ("second_order", "truncated", "implicit", "reptile")
"""Rules that are about inner steps."""


def problems(strategy: Strategy, info: FamilyInfo, episode: Episode) -> list[str]:
    """Why a composition makes no sense for a family, one sentence each; empty if it does."""
    if strategy.learner is not None:
        return list(_own_learner(strategy))
    return [
        *_backbone(strategy, info),
        *_prior(strategy, info, episode),
        *_head(strategy, info),
        *_diet(strategy, info, episode),
        *_inner(strategy),
        *_rule(strategy, info),
        *_cross_fit(strategy, info),
    ]


def _own_learner(strategy: Strategy) -> Iterator[str]:
    assert strategy.learner is not None
    if problem := own_problem(strategy.learner, "learners", "info", "outputs"):
        yield problem
    plain = Strategy()
    for part in ("prior", "backbone", "head", "inner", "combination"):
        if getattr(strategy, part) != getattr(plain, part):
            yield f"learner takes the place of {part}, which must be left out"
    if strategy.meta.rule not in ("first_order", "none"):
        yield (
            f"learner has a meta_loss of its own: meta.rule {strategy.meta.rule} says nothing, "
            "take first_order (trains) or none"
        )


def _backbone(strategy: Strategy, info: FamilyInfo) -> Iterator[str]:
    backbone, shape = strategy.backbone, info.input_shape
    if isinstance(backbone, Conv4):
        if len(shape) != 3:
            yield f"backbone conv4 needs images, {info.name} has inputs of shape {shape}"
        elif min(shape[1:]) < 2**backbone.depth:
            yield (
                f"backbone.depth {backbone.depth} halves images of {shape[1]}x{shape[2]} to nothing"
            )
    if isinstance(backbone, OwnBackbone):
        problem = own_problem(backbone, "backbones", "input_shape")
        if problem:
            yield problem


def _prior(strategy: Strategy, info: FamilyInfo, episode: Episode) -> Iterator[str]:
    prior = strategy.prior
    if isinstance(prior, ZeroMean):
        return
    classes = info.kind == "classification"
    if classes and not isinstance(prior, Pooled):
        yield f"prior {prior.kind} predicts numbers, {info.name} has classes: take zero"
    if strategy.meta.rule in ("joint", "reptile", "implicit"):
        rule = strategy.meta.rule
        yield f"prior {prior.kind} leaves residuals, which meta.rule {rule} sees none of"
    if isinstance(prior, SupportMean) and prior.learn:
        head = strategy.head
        if isinstance(head, Ridge) and head.intercept == "free":
            yield "prior.learn has no level to learn: head.intercept free takes it off anyway"
    if isinstance(prior, Forecast):
        yield from _forecast(prior, strategy, info)
    if not isinstance(prior, Pooled):
        return
    if problem := own_problem(prior.estimator(classes=classes), "models"):
        what = problem.replace("model.use", "prior.model", 1).replace("model.", "prior.", 1)
        yield what.replace("allowed: module", f"allowed: {', '.join(REGRESSORS)}, module", 1)
    if classes:
        yield from _pooled_classes(prior, strategy, info)
    elif min(e.least_support for e in (episode, *strategy.diet.episodes(episode))) < 2:
        yield "prior pooled summarises other support points: it needs two or more"


def _pooled_classes(prior: Pooled, strategy: Strategy, info: FamilyInfo) -> Iterator[str]:
    if not info.shared_classes:
        yield (
            f"prior pooled knows classes that are the same in every task, {info.name} has others "
            "in each: take zero"
        )
    part = prior.estimator(classes=True)
    if not own_problem(part, "models") and not hasattr(load_own(part, "models"), "predict_proba"):
        yield f"prior.model {prior.model} gives no probabilities (predict_proba), as classes need"
    if not isinstance(strategy.head, Ridge | GP):
        yield (
            f"prior pooled leaves residuals of classes, which head {strategy.head.kind} does not "
            "fit: take ridge or gp"
        )


def _forecast(prior: Forecast, strategy: Strategy, info: FamilyInfo) -> Iterator[str]:
    if prior.name not in info.forecasts:
        allowed = ", ".join(info.forecasts) or f"none, for {info.name} names no forecasts"
        yield f"prior.name {prior.name} is no forecast of {info.name}; allowed: {allowed}"
    augment = strategy.diet.augment
    if isinstance(augment, TableAugmentation) and (augment.dropout or augment.target_scale):
        yield (
            "prior forecast predicts an input in the target's units: diet.augment must leave both "
            "(dropout and target_scale 0)"
        )


def _head(strategy: Strategy, info: FamilyInfo) -> Iterator[str]:
    head, regression = strategy.head, info.kind == "regression"
    if regression and isinstance(head, Prototypes | Logistic):
        yield f"head {head.kind} needs classes, {info.name} is a regression"
    if isinstance(head, Linear):
        if regression and head.start == "prototypes":
            yield f"head.start prototypes needs classes, {info.name} is a regression"
        if regression and head.similarity == "cosine":
            yield f"head.similarity cosine gives bounded values: {info.name} is a regression"
        if head.similarity == "cosine" and head.start in ("zero", "ridge"):
            yield f"head.similarity cosine takes start learned or prototypes, not {head.start}"
    if isinstance(head, GP):
        yield from _kernels(head, strategy, info)
    if isinstance(head, NearestNeighbour) and head.view not in (known := _views(info)):
        allowed = ", ".join(known)
        yield f"head.view looks at {head.view}, which {info.name} has not; allowed: {allowed}"
    if isinstance(head, Amortised) and head.summary == "attention" and head.width % head.heads:
        yield f"head.width {head.width} must be a multiple of head.heads {head.heads}"
    if isinstance(head, OwnHead):
        problem = own_problem(head, "heads", "features", "outputs")
        if problem:
            yield problem


def _views(info: FamilyInfo) -> tuple[str, ...]:
    """What a head can look at."""
    return ("learned", "raw", *info.views)


def _kernels(head: GP, strategy: Strategy, info: FamilyInfo) -> Iterator[str]:
    known = _views(info)
    if not head.kernels():
        yield "head gp needs a kernel: linear, rbf and tanimoto are all off"
    for kernel, view in head.kernels():
        if view not in known:
            allowed = ", ".join(("off", *known))
            yield f"head.{kernel} looks at {view}, which {info.name} has not; allowed: {allowed}"
        if kernel == "tanimoto" and view == "learned":
            yield "head.tanimoto compares counts or bits, which learned features are not"
        if view == "learned" and isinstance(strategy.backbone, NoBackbone):
            yield f"head.{kernel} looks at learned features, and backbone none has none: take raw"


def _diet(strategy: Strategy, info: FamilyInfo, episode: Episode) -> Iterator[str]:
    diet, shape = strategy.diet, info.input_shape
    ways = {e.way for e in diet.episodes(episode)}
    if info.kind == "regression":
        for key in ("start_way", "way"):
            if (found := getattr(diet, key)) not in (None, 1):
                yield f"diet.{key} {found} needs classes, {info.name} is a regression"
    elif info.shared_classes and ways != {episode.way}:
        yield f"diet.way leaves out classes, which are the same in every task of {info.name}"
    elif _has_fixed_outputs(strategy) and ways != {episode.way}:
        other = next(way for way in (diet.way, diet.start_way) if way not in (None, episode.way))
        fixed = "head own" if isinstance(strategy.head, OwnHead) else "head.start learned"
        yield (
            f"{fixed} fixes the number of classes: diet.way {other} differs from the test's "
            f"{episode.way}"
        )
    square = info.kind == "classification" and len(shape) == 3 and shape[1] == shape[2]
    if diet.quarter_turns and not square:
        yield f"diet.quarter_turns needs classes of square images, which {info.name} has not"
    augment = diet.augment
    if isinstance(augment, ImageAugmentation) and len(shape) != 3:
        yield f"diet.augment image needs images, {info.name} has inputs of shape {shape}"
    if isinstance(augment, TableAugmentation):
        if len(shape) == 3:
            yield f"diet.augment table needs tables, {info.name} has images"
        if augment.dropout and prod(shape) == 1:
            yield f"diet.augment.dropout would take the only feature that {info.name} has"
        if augment.target_scale and info.kind == "classification":
            yield f"diet.augment.target_scale needs numbers to predict, {info.name} has classes"


def _has_fixed_outputs(strategy: Strategy) -> bool:
    head = strategy.head
    learned = isinstance(head, Linear) and head.start == "learned"
    return (learned and strategy.meta.rule != "joint") or isinstance(head, OwnHead)


def _inner(strategy: Strategy) -> Iterator[str]:
    inner, head = strategy.inner, strategy.head
    if isinstance(inner, NoInner):
        if isinstance(head, Linear):
            yield "head linear is adapted by gradient steps: inner none leaves it unadapted"
        return
    if not isinstance(head, Linear):
        if inner.scope == "body":
            yield f"head {head.kind} adapts in closed form: inner.scope body has nothing to follow"
        yield f"head {head.kind} adapts in closed form: it takes inner none"
        return
    fixed_body = isinstance(strategy.backbone, NoBackbone) or strategy.backbone.frozen
    if inner.scope == "body" and fixed_body:
        yield "inner.scope body needs a backbone that may change"
    if inner.scope in ("body", "context") and head.start != "learned":
        yield (
            f"inner.scope {inner.scope} leaves the head as it starts: head.start {head.start} "
            "must be learned"
        )
    if inner.scope == "context" and isinstance(strategy.backbone, NoBackbone):
        yield "inner.scope context needs a backbone that reads the context"
    if inner.rate == "per_layer_step" and (inner.test_steps or 0) > inner.steps:
        yield (
            f"inner.test_steps {inner.test_steps} goes beyond the {inner.steps} steps that have "
            "rates of their own"
        )
    if inner.rate != "fixed" and strategy.meta.rule in ("implicit", "reptile", "joint", "none"):
        rule = strategy.meta.rule
        yield f"inner.rate {inner.rate} is not learned by meta.rule {rule}: take fixed"
    if strategy.meta.rule == "implicit" and inner.proximal <= 0:
        yield "meta.rule implicit needs a proximal pull: set inner.proximal above 0"
    if strategy.meta.rule == "implicit" and head.start in ("prototypes", "ridge"):
        yield f"meta.rule implicit pulls to a learned start: head.start {head.start} is computed"
    if strategy.meta.rule == "reptile" and inner.scope != "all":
        yield f"meta.rule reptile moves all weights: inner.scope {inner.scope} must be all"
    if strategy.meta.rule == "reptile" and head.start != "learned":
        yield f"meta.rule reptile moves all weights: head.start {head.start} must be learned"


def _rule(strategy: Strategy, info: FamilyInfo) -> Iterator[str]:
    rule, head, meta = strategy.meta.rule, strategy.head, strategy.meta
    if rule in GRADIENT_RULES and isinstance(strategy.inner, NoInner):
        yield f"meta.rule {rule} has no inner steps to differentiate through"
    if (meta.first_order_until or meta.multi_step_until) and rule != "second_order":
        yield f"meta.first_order_until and multi_step_until belong to second_order, not {rule}"
    learned_head = isinstance(head, Linear) and head.start == "learned"
    if rule == "joint":
        if isinstance(head, GP | Amortised | OwnHead):
            yield f"meta.rule joint trains one layer on features, head {head.kind} is not taught"
        if info.kind == "classification" and learned_head:
            yield (
                "meta.rule joint learns one layer over all train classes, which no new task can "
                "start from: set head.start to zero"
            )
        if info.kind == "regression" and not learned_head:
            yield (
                "meta.rule joint on a regression trains the layer that new tasks start from: take "
                "head linear with start learned"
            )
        if isinstance(strategy.backbone, SetEncoder):
            yield "meta.rule joint has no support set for backbone set_encoder to summarise"
        if isinstance(strategy.inner, Steps) and strategy.inner.scope == "context":
            yield "meta.rule joint never sees the context that inner.scope context adapts"
    if rule in ("first_order", "second_order") and isinstance(head, NearestNeighbour):
        yield "head nearest_neighbour has no gradient: meta.rule takes joint or none"
    if rule == "none" and isinstance(head, Amortised | OwnHead):
        yield f"head {head.kind} knows nothing untrained: meta.rule none leaves it random"
    if rule not in ("none",) and not _learns_something(strategy):
        what = "backbone none" if isinstance(strategy.backbone, NoBackbone) else "a frozen backbone"
        yield f"{what} leaves meta.rule {rule} nothing to learn: take none"


def _learns_something(strategy: Strategy) -> bool:
    head, inner = strategy.head, strategy.inner
    if not isinstance(strategy.backbone, NoBackbone) and not strategy.backbone.frozen:
        return True
    if strategy.meta.rule == "joint":
        return isinstance(head, Linear) and head.start == "learned"
    return (
        (isinstance(head, Linear) and head.start == "learned")
        or isinstance(head, Amortised | OwnHead)
        or (isinstance(head, Ridge | GP | Prototypes | Logistic) and head.learn)
        or strategy.learned_blend
        or (isinstance(inner, Steps) and inner.rate != "fixed")
    )


def _cross_fit(strategy: Strategy, info: FamilyInfo) -> Iterator[str]:
    if strategy.meta.cross_fit != "group":
        return
    if not info.grouped:
        yield f"meta.cross_fit group needs groups that mean something, {info.name} has none"
    elif len(info.groups["train"]) < 2:
        yield f"meta.cross_fit group needs two train groups, {info.name} has one"
    if not strategy.learned_numbers:
        yield "meta.cross_fit group needs scales, penalties or blends to learn: set learn on a part"
    if isinstance(strategy.inner, Steps):
        yield "meta.cross_fit group is for closed-form and pooled parts: it takes inner none"
