"""Methods that learn all train classes (or tasks) together, then fit a new task; and none."""

from __future__ import annotations

from metatune.presets.registry import backbone, register
from metatune.strategy import Linear, Logistic, Meta, Outer, Steps, Strategy
from metatune.tasks.base import FamilyInfo


@register
def baseline(info: FamilyInfo) -> Strategy:
    """Joint pre-training, then gradient steps on the new task.

    Classification: "Baseline" of Chen et al. 2019 (arXiv 1904.04232): a classifier over all train
    classes, whose last layer is replaced by a new one (from zero), fitted to the support set with
    the backbone fixed. Adam at 0.001 as there. Differs: 50 full-batch steps at 0.1 where the
    authors' code starts at random and takes 100 epochs of batches of 4 at 0.01, with momentum 0.9
    (dampened by 0.9) and decay 0.001; images come as tasks, there in batches of 16.

    Regression: "pretrained" of MAML's sinusoids (Finn et al. 2017, section 5.1): one network
    fitted to all train tasks together, then fine-tuned on everything, 10 steps at 0.02 (the paper:
    "an automatically tuned step size").
    """
    if info.kind == "regression":
        head, inner = Linear(start="learned"), Steps(steps=10, lr=0.02, scope="all")
    else:
        head, inner = Linear(start="zero"), Steps(steps=50, lr=0.1, scope="head")
    return Strategy(
        backbone=backbone(info),
        head=head,
        inner=inner,
        meta=Meta(rule="joint"),
        outer=Outer(kind="adam", lr=1e-3, schedule="cosine"),
    )


@register
def baseline_plus_plus(info: FamilyInfo) -> Strategy:
    """Baseline++ (Chen et al. 2019, arXiv 1904.04232): a cosine classifier, before and after.

    s_k = scale cos(f(x), w_k), trained over all train classes; for a new task new w_k are fitted
    to the support set with the backbone fixed.

    Differs: w_k start at the class means, not at random, and take 20 full-batch steps at 0.1, as
    long a way as the authors' code takes for 5 examples: 100 epochs of batches of 4 at 0.01, with
    momentum 0.9 dampened by 0.9, which stays 0.01. The scale is 10 before and after, in that code
    10 for more than 200 classes, so 2 for a new task; its classes have a learned norm.
    """
    return Strategy(
        backbone=backbone(info),
        head=Linear(start="prototypes", similarity="cosine", scale=10.0),
        inner=Steps(steps=20, lr=0.1, scope="head"),
        meta=Meta(rule="joint"),
        outer=Outer(kind="adam", lr=1e-3, schedule="cosine"),
    )


@register
def good_embedding(info: FamilyInfo) -> Strategy:
    """A good embedding is all you need (Tian et al. 2020, "RFS-simple", arXiv 2003.11539).

    A classifier over all train classes; for a new task, logistic regression on the features,
    scaled to unit length, with scikit-learn's penalty (C = 1: ``head.penalty`` 1).

    Differs: Adam at 0.001 where the paper uses SGD at 0.05 with momentum 0.9 and decay 0.0005; the
    intercept is penalised, in scikit-learn it is not; the authors' code fits to 5 augmented copies
    of each support image; no distillation.
    """
    return Strategy(
        backbone=backbone(info),
        head=Logistic(penalty=1.0, normalise=True),
        meta=Meta(rule="joint"),
        outer=Outer(kind="adam", lr=1e-3, schedule="cosine"),
    )


@register
def scratch(info: FamilyInfo) -> Strategy:
    """No meta-learning: each task is fitted from a random start by gradient steps on everything.

    The naive baseline of most papers. 50 full-batch steps, at 0.1 (classification) or 0.02
    (regression, where larger rates diverge on targets of size 5).
    """
    return Strategy(
        backbone=backbone(info),
        head=Linear(start="zero"),
        inner=Steps(steps=50, lr=0.02 if info.kind == "regression" else 0.1, scope="all"),
        meta=Meta(rule="none"),
    )
