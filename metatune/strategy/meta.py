"""What meta-parameters follow (``Meta``) and by which optimiser (``Outer``)."""

from __future__ import annotations

from typing import Literal

from metatune.strategy.parts import Field, Part


class Meta(Part):
    """What the meta-parameters follow.

    Attributes:
        rule: ``second_order``: the query loss, differentiated through the inner steps;
            ``first_order``: inner gradients taken as constants (closed-form heads are
            differentiated exactly); ``truncated``: through the last ``truncate`` inner steps;
            ``implicit``: through the optimum of the proximal inner problem (iMAML), by
            ``truncate`` conjugate gradient steps; ``reptile``: towards the adapted weights;
            ``joint``: one supervised problem over all train classes or tasks; ``none``: random
            start, nothing is trained by gradients.
        truncate: see ``truncated`` and ``implicit``.
        first_order_until: share of the resource in which second order is replaced by first
            (MAML++'s annealing of the derivative order).
        multi_step_until: share of the resource over which the losses after every inner step
            count, with weights that move to the last (MAML++).
        cross_fit: ``group``: where scales, penalties and blends are learned, what else is learned
            from other tasks' labels (backbone, pooled model) was fitted without the episode's
            group, in ``folds`` folds; what is used in the end is fitted on all. ``auto``: ``group``
            for a pooled model and for a GP beside a backbone, in families with groups.
        folds: see ``cross_fit``.
    """

    rule: Literal[
        "second_order", "first_order", "truncated", "implicit", "reptile", "joint", "none"
    ] = "first_order"
    truncate: int = Field(5, ge=1, le=1000)
    first_order_until: float = Field(0.0, ge=0, le=1)
    multi_step_until: float = Field(0.0, ge=0, le=1)
    cross_fit: Literal["auto", "group", "none"] = "auto"
    folds: int = Field(2, ge=2, le=20)


class Outer(Part):
    """The meta-optimiser.

    ``schedule`` runs over the full resource; ``clip`` is a norm, 0 = off. ``average`` is the decay
    of an exponential moving average of the weights, which is what is judged and used; 0 = off.
    """

    kind: Literal["adam", "sgd"] = "adam"
    lr: float = Field(1e-3, gt=0, le=1e9)
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = Field(0.0, ge=0, le=1)
    clip: float = Field(0.0, ge=0, le=1e6)
    tasks_per_batch: int = Field(4, ge=1, le=1024)
    average: float = Field(0.0, ge=0, lt=1)
