"""The inner optimiser: how a task is learned by gradient steps on its support set."""

from __future__ import annotations

from typing import Annotated, Literal

from metatune.strategy.parts import Field, Part


class NoInner(Part):
    """No gradient steps on the support set."""

    kind: Literal["none"] = "none"


class Steps(Part):
    """Gradient steps on the mean support loss."""

    kind: Literal["sgd", "momentum", "adam"] = Field(
        "sgd",
        description="`sgd`: plain steps; `momentum`: heavy ball, `beta`; `adam`: beta1 `beta`, "
        "beta2 0.999",
    )
    steps: int = Field(1, ge=1, le=1000, description="steps in training")
    test_steps: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="steps when a task is learned for use; left out: as many as in training",
    )
    lr: float = Field(
        0.1, gt=0, le=1e9, description="the rate; with `rate` other than `fixed` its start"
    )
    scope: Literal["all", "head", "body", "context"] = Field(
        "all",
        description="what is adapted: `all`, the `head`, the `body`, or `context` (CAVIA: a vector "
        "of `context` numbers, zero at the start, given beside every input)",
    )
    rate: Literal["fixed", "learned", "per_layer", "per_layer_step", "per_parameter"] = Field(
        "fixed",
        description="`fixed`; `learned`, one for all; `per_layer`; `per_layer_step` (MAML++); "
        "`per_parameter` (Meta-SGD). Learned rates are positive: their logarithm is learned",
    )
    proximal: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="strength of a pull to the start, `proximal / 2 * (theta - start)^2`",
    )
    beta: float = Field(0.9, ge=0, lt=1, description="decay of `momentum`, beta1 of `adam`")
    context: int = Field(5, ge=1, le=1024, description="numbers in the context vector")


Inner = Annotated[NoInner | Steps, Field(discriminator="kind")]
