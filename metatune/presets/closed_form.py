"""Methods that solve the last layer in closed form, and what stands on a pooled model."""

from __future__ import annotations

from metatune.presets.registry import backbone, register
from metatune.strategy import (
    GP,
    Meta,
    NoBackbone,
    Outer,
    Ridge,
    Strategy,
    SupportMean,
    ZeroMean,
)
from metatune.tasks.base import FamilyInfo


def _level(info: FamilyInfo) -> SupportMean | ZeroMean:
    """The support mean where numbers are predicted: their level is the first thing to know."""
    return SupportMean() if info.kind == "regression" else ZeroMean()


@register
def r2d2(info: FamilyInfo) -> Strategy:
    """R2-D2: ridge regression as the last layer (Bertinetto et al. 2019, arXiv 1805.08136).

    W = X^T (X X^T + lambda I)^-1 Y over the support features X and one-hot labels Y; the query
    predictions are a X' W + b.

    lambda is ``head.penalty`` (its start; lambda, a and b are meta-learned with ``head.learn``).
    Adam at 0.005, as in the paper.

    Differs: the authors' code fixes lambda at 50 times the number of support examples and starts a
    at 10 on Omniglot (here both start at 1); its features are the last two blocks of a wider
    network (96 to 512 channels); it trains on 60-way tasks of 1 to 9 shots, one a step, and halves
    the rate every 2000. Here training tasks have the test's shape, 4 a step, with a cosine.
    """
    return Strategy(
        backbone=backbone(info),
        head=Ridge(penalty=1.0, learn=True),
        meta=Meta(rule="first_order"),
        outer=Outer(kind="adam", lr=5e-3, schedule="cosine", tasks_per_batch=4),
    )


@register
def ridge(info: FamilyInfo) -> Strategy:
    """Ridge regression on the raw inputs of each task by itself: nothing is learned elsewhere.

    min |X w + b - y|^2 + lambda |w|^2 with a free intercept b; lambda, ``head.penalty``, is 10,
    which suits fingerprints of a thousand bits and standardised tables of some tens of points.
    """
    del info  # the same for all
    return Strategy(
        backbone=NoBackbone(),
        head=Ridge(penalty=10.0, intercept="free", learn=False),
        meta=Meta(rule="none"),
    )


@register
def frozen_features(info: FamilyInfo) -> Strategy:
    """Ridge regression on the features of a network that nothing changes, for each task by itself.

    What one tries first with a pretrained network: name yours in ``common.backbone`` of the space
    file (docs/own_images.md). Without one, the network is random, and its features are what a
    pretrained one has to beat (random features: Rahimi & Recht 2007). As ``ridge``, with lambda 1
    as in ``r2d2``; nothing is learned elsewhere.
    """
    return Strategy(
        backbone=backbone(info).model_copy(update={"frozen": True}),
        head=Ridge(penalty=1.0, intercept="free", learn=False),
        meta=Meta(rule="none"),
    )


@register
def deep_kernel(info: FamilyInfo) -> Strategy:
    """Deep kernel transfer (Patacchiola et al. 2020, arXiv 1910.05199).

    A Gaussian process a task, with one kernel k(f(x), f(x')) for all: f, length scale, amplitude
    and noise are learned over tasks. RBF; Adam at 0.001.

    Differs: learned on the error of the predictive mean on query points, where the paper maximises
    the marginal likelihood of all points of a task, one task a step. Classes are regressed as 0 and
    1 with one set of kernel numbers; in the authors' code as -1 and 1, with numbers for each class,
    their rate 0.0001, and by default a linear kernel of normalised features.
    """
    return Strategy(
        prior=_level(info),
        backbone=backbone(info),
        head=GP(rbf="learned"),
        meta=Meta(rule="first_order", cross_fit="none"),
        outer=Outer(kind="adam", lr=1e-3, schedule="cosine", tasks_per_batch=4),
    )


@register
def tanimoto_gp(info: FamilyInfo) -> Strategy:
    """A Gaussian process on fingerprints with meta-learned scales: few-shot potency of molecules.

    k(x, x') = a T(x, x'), T the Tanimoto kernel of the family's view ``fingerprint`` (Ralaivola
    et al. 2005); amplitude, noise, the mean of what is left, and the level to which the support
    mean is drawn with its strength are learned over tasks, five numbers in all. Families without
    such a view refuse it.
    """
    return Strategy(
        prior=SupportMean(strength=1.0, learn=True) if info.kind == "regression" else ZeroMean(),
        backbone=NoBackbone(),
        head=GP(rbf="off", tanimoto="fingerprint", noise=0.5),
        meta=Meta(rule="first_order"),
        outer=Outer(kind="adam", lr=3e-2, schedule="cosine", tasks_per_batch=8),
    )
