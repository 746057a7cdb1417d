"""Methods in which a network reads the support set and predicts: no optimisation at test time."""

from __future__ import annotations

from metatune.presets.registry import backbone, register
from metatune.strategy import Amortised, Meta, Outer, Strategy
from metatune.tasks.base import FamilyInfo


@register
def cnp(info: FamilyInfo) -> Strategy:
    """Conditional neural processes (Garnelo et al. 2018, arXiv 1807.01613).

    r = mean over the support set of h(x_i, y_i); prediction g(x, r). h and g are MLPs of 128
    units (``head.width``), on the backbone's features. Adam at 0.001, 16 tasks a batch.

    Differs: the squared error (or cross-entropy) is learned on, not a Gaussian likelihood, so no
    variance is predicted; each class is read by the same network with its indicator as y, where
    the paper concatenates a mean of each class. The authors' code for curves has 4 layers in h,
    Adam at 0.0001, 64 tasks a batch, support sets of random size, and support points as targets.
    """
    return Strategy(
        backbone=backbone(info),
        head=Amortised(summary="mean", width=128, depth=2),
        meta=Meta(rule="first_order"),
        outer=Outer(kind="adam", lr=1e-3, schedule="cosine", tasks_per_batch=16),
    )


@register
def anp(info: FamilyInfo) -> Strategy:
    """Attentive neural processes (Kim et al. 2019, arXiv 1901.05761), the deterministic path.

    As ``cnp`` with r(x) = multi-head attention of the query x over the support pairs: 8 heads, 128
    units, 16 tasks a batch, as in the authors' code.

    Differs: no latent path and no self-attention among support points; keys and queries are linear
    in the features, where that code has an MLP first, and Adam at 0.0001. See also ``cnp``.
    """
    return Strategy(
        backbone=backbone(info),
        head=Amortised(summary="attention", width=128, depth=2, heads=8),
        meta=Meta(rule="first_order"),
        outer=Outer(kind="adam", lr=1e-3, schedule="cosine", tasks_per_batch=16),
    )
