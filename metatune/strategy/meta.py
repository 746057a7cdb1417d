"""What meta-parameters follow (``Meta``) and by which optimiser (``Outer``)."""

from __future__ import annotations

from typing import Literal

from metatune.strategy.parts import Field, Part


class Meta(Part):
    """What the meta-parameters follow."""

    rule: Literal[
        "second_order", "first_order", "truncated", "implicit", "reptile", "joint", "none"
    ] = Field(
        "first_order",
        description="`second_order`: the query loss, differentiated through the inner steps; "
        "`first_order`: inner gradients taken as constants (closed-form heads are differentiated "
        "exactly); `truncated`: through the last `truncate` inner steps; `implicit`: through the "
        "optimum of the proximal inner problem (iMAML), by `truncate` conjugate gradient steps; "
        "`reptile`: towards the adapted weights; `joint`: one supervised problem over all train "
        "classes or tasks; `none`: random start, nothing is trained by gradients",
    )
    truncate: int = Field(
        5, ge=1, le=1000, description="steps of the rules `truncated` and `implicit`"
    )
    first_order_until: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the resource in which second order is replaced by first (MAML++'s "
        "annealing of the derivative order)",
    )
    multi_step_until: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the resource over which the losses after every inner step count, "
        "with weights that move to the last (MAML++)",
    )
    cross_fit: Literal["auto", "group", "none"] = Field(
        "auto",
        description="`group`: where scales, penalties and blends are learned, what else is learned "
        "from other tasks' labels (backbone, pooled model) was fitted without the episode's group, "
        "in `folds` folds; what is used in the end is fitted on all. `auto`: `group` for a pooled "
        "model and for a GP beside a backbone, in families with groups",
    )
    folds: int = Field(2, ge=2, le=20, description="folds of groups of `cross_fit`")


class Outer(Part):
    """The meta-optimiser."""

    kind: Literal["adam", "sgd"] = Field("adam", description="Adam, or plain gradient steps")
    lr: float = Field(1e-3, gt=0, le=1e9, description="its rate, at the start of the schedule")
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="how the rate goes over the full resource; `cosine`: down to 0"
    )
    weight_decay: float = Field(
        0.0, ge=0, le=1, description="decoupled decay of weight matrices, in units of the rate"
    )
    clip: float = Field(
        0.0, ge=0, le=1e6, description="largest norm of a meta-gradient; 0: as it is"
    )
    tasks_per_batch: int = Field(4, ge=1, le=1024, description="tasks a meta-step")
    average: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of an exponential moving average of the weights, which is what is "
        "judged and used; 0: the weights themselves",
    )
