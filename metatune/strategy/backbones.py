"""Backbones: inputs -> features.

``norm`` says where statistics of a layer come from: ``support`` (of the task's support set alone),
``transductive`` (support and query together: query points then inform each other, and every score
says so), ``layer`` (of each example alone) or ``none``. A ``frozen`` backbone keeps the weights
that it starts with: neither inner steps nor meta-training change them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from metatune.strategy.parts import Field, OwnPart, Part

Norm = Literal["support", "transductive", "layer", "none"]
Activation = Literal["relu", "tanh"]

NORM = (
    "where statistics of a layer come from: `support`, of the task's support set alone; "
    "`transductive`, support and query together; `layer`, of each example alone; `none`"
)
ACTIVATION = "what follows a hidden layer"
FROZEN = "weights stay as they start: neither inner steps nor meta-training change them"


class NoBackbone(Part):
    """Raw inputs, flattened."""

    kind: Literal["none"] = "none"


class MLP(Part):
    """A multi-layer perceptron; images are flattened."""

    kind: Literal["mlp"] = "mlp"
    width: int = Field(40, ge=1, le=4096, description="units of a hidden layer")
    depth: int = Field(2, ge=1, le=16, description="hidden layers")
    activation: Activation = Field("relu", description=ACTIVATION)
    norm: Norm = Field("none", description=NORM)
    frozen: bool = Field(False, description=FROZEN)


class ResidualMLP(Part):
    """A linear layer to ``width``, then ``depth`` blocks ``h + W2 act(W1 norm(h))``."""

    kind: Literal["residual_mlp"] = "residual_mlp"
    width: int = Field(64, ge=1, le=4096, description="units of each block")
    depth: int = Field(2, ge=1, le=16, description="blocks")
    activation: Activation = Field("relu", description=ACTIVATION)
    norm: Norm = Field("layer", description=NORM)
    frozen: bool = Field(False, description=FROZEN)


class Conv4(Part):
    """Blocks of 3x3 convolution, normalisation, ReLU and 2x2 max-pooling."""

    kind: Literal["conv4"] = "conv4"
    width: int = Field(32, ge=1, le=1024, description="channels of each block")
    depth: int = Field(4, ge=1, le=8, description="blocks; each halves the image")
    norm: Norm = Field("support", description=NORM)
    frozen: bool = Field(False, description=FROZEN)


class SetEncoder(Part):
    """Features of an example beside what its support set is like (Zaheer et al. 2017).

    An MLP of each example; the mean of its last layer over the support *inputs* is appended to
    every example of the task, and one more layer of ``width`` follows. No label is seen.
    """

    kind: Literal["set_encoder"] = "set_encoder"
    width: int = Field(
        64,
        ge=1,
        le=4096,
        description="units of a hidden layer, and of the features",
    )
    depth: int = Field(2, ge=1, le=16, description="hidden layers before the support is summed up")
    activation: Activation = Field("relu", description=ACTIVATION)
    frozen: bool = Field(False, description=FROZEN)


class OwnBackbone(OwnPart):
    """A network of your own, pretrained or not.

    ``use`` makes a ``torch.nn.Module`` from inputs ``(N, *input_shape)`` to features, which starts
    with the weights that it has, or a ``metatune.learners.interface.Backbone``.
    """

    kind: Literal["own"] = "own"
    frozen: bool = Field(False, description=FROZEN)


Backbone = Annotated[
    NoBackbone | MLP | ResidualMLP | Conv4 | SetEncoder | OwnBackbone, Field(discriminator="kind")
]
