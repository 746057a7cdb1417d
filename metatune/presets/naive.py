"""What a practitioner tries first, and what a searched strategy has to beat on tables."""

from __future__ import annotations

from metatune.presets.registry import register
from metatune.strategy import Forecast, Logistic, Meta, NoBackbone, Outer, Pooled, Ridge, Strategy
from metatune.tasks.base import FamilyInfo

NOTHING = 1e6
"""A ridge penalty that leaves less than a thousandth of any weight: the head adds nothing."""


@register
def support_mean(info: FamilyInfo) -> Strategy:
    """The mean of the support labels for every query; of classes the most frequent one.

    A ridge regression whose penalty leaves its intercept alone. Nothing is learned elsewhere; R2
    against the support mean is 0 by its definition.
    """
    del info  # the same for all
    return Strategy(
        backbone=NoBackbone(),
        head=Ridge(penalty=NOTHING, intercept="free", learn=False),
        meta=Meta(rule="none"),
    )


@register
def logistic(info: FamilyInfo) -> Strategy:
    """Logistic regression on the raw inputs of each task by itself.

    Nothing is learned elsewhere. ``head.penalty`` is 1, scikit-learn's default (C = 1), for
    standardised tables; unlike there the intercept is penalised, too.
    """
    del info  # refused where numbers are predicted
    return Strategy(backbone=NoBackbone(), head=Logistic(penalty=1.0), meta=Meta(rule="none"))


def _forecast(name: str) -> Strategy:
    """A forecast that the family names, and nothing else."""
    return Strategy(
        prior=Forecast(name=name),
        backbone=NoBackbone(),
        head=Ridge(penalty=NOTHING, learn=False),
        meta=Meta(rule="none"),
    )


@register
def seasonal_naive(info: FamilyInfo) -> Strategy:
    """The value of a season before: same hour yesterday, same month last year.

    Where forecasts look farther ahead than a season, the last value of that place in the season
    that is known. Nothing is learned; the forecast that others are measured by (Hyndman &
    Athanasopoulos 2021, "Forecasting: principles and practice", section 5.2).
    """
    del info  # refused where no forecast has this name
    return _forecast("seasonal_naive")


@register
def last_value(info: FamilyInfo) -> Strategy:
    """The last value that is known when a forecast is made (a random walk's best forecast).

    As ``seasonal_naive``; refused where the two are the same.
    """
    del info  # refused where no forecast has this name
    return _forecast("last_value")


@register
def seasonal_ridge(info: FamilyInfo) -> Strategy:
    """Ridge around the seasonal naive forecast: each task's own correction of it.

    As ``ridge``, fitted to what ``seasonal_naive`` leaves of the support labels: with few points
    its predictions stay at the naive forecast, not at the support mean.
    """
    del info  # refused where no forecast has this name
    return Strategy(
        prior=Forecast(name="seasonal_naive"),
        backbone=NoBackbone(),
        head=Ridge(penalty=10.0, intercept="free", learn=False),
        meta=Meta(rule="none"),
    )


def _pooled(model: str) -> Strategy:
    """One model over all train tasks, and nothing of a task's own but its support summary."""
    return Strategy(
        prior=Pooled(model=model, learn=False),
        backbone=NoBackbone(),
        head=Ridge(penalty=NOTHING, learn=False),
        meta=Meta(rule="none", cross_fit="none"),
    )


@register
def pooled_linear(info: FamilyInfo) -> Strategy:
    """One linear model over all train tasks (scikit-learn's), without a correction for the task.

    RidgeCV sees an example's inputs and, of the task's support labels, number, mean, standard
    deviation, lowest and highest; it predicts the difference to the support mean. Of classes,
    LogisticRegression sees the inputs, the number of support labels and each class's share of them.
    """
    del info  # refused where each task has classes of its own
    return _pooled("linear")


@register
def boosted_trees(info: FamilyInfo) -> Strategy:
    """One model of boosted trees over all train tasks, without a correction for the task.

    As ``pooled_linear`` with scikit-learn's HistGradientBoosting (Ke et al. 2017); see
    ``pooled_trees`` for the same with each task's own ridge on what it leaves.
    """
    del info  # refused where each task has classes of its own
    return _pooled("trees")


def _around_pooled(model: str) -> Strategy:
    """A pooled model of this kind, and each task's own ridge on what it leaves."""
    return Strategy(
        prior=Pooled(model=model),
        backbone=NoBackbone(),
        head=Ridge(penalty=10.0, intercept="free", learn=True),
        meta=Meta(rule="first_order"),
        outer=Outer(kind="adam", lr=1e-2, schedule="cosine", tasks_per_batch=8),
    )


@register
def pooled_trees(info: FamilyInfo) -> Strategy:
    """Boosted trees over all tasks, and each task's own ridge on what they leave.

    The practitioner's way: one pooled model that sees inputs and a summary of the task's support
    labels, corrected for the task. Trees (scikit-learn's, Ke et al. 2017) are fitted without the
    episode's group where penalty, scale and blend are learned (``meta.cross_fit``), on all after.
    Of classes, ridge fits the labels less the probabilities that the trees give, and is added to
    their logits.
    """
    del info  # refused where each task has classes of its own
    return _around_pooled("trees")


@register
def pooled_ridge(info: FamilyInfo) -> Strategy:
    """One linear model over all train tasks, and each task's own ridge on what it leaves.

    As ``pooled_trees`` with scikit-learn's RidgeCV, of classes LogisticRegression: ridge around the
    pooled mean. Penalty, scale and blend are learned on episodes whose group the pooled model has
    not seen.
    """
    del info  # refused where each task has classes of its own
    return _around_pooled("linear")
