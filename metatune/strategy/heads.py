"""Heads: features -> predictions.

``Linear`` is adapted by the inner optimiser; all others adapt in closed form, from the support
features and labels straight to predictions. Closed-form heads of classification regress on one-hot
labels where they regress. With ``learn``, a head's own numbers (penalty, scales) are where
meta-training starts; without, they stay.
"""

from __future__ import annotations

from typing import Annotated, Literal

from metatune.strategy.parts import Field, OwnPart, Part


class Linear(Part):
    """A linear layer, adapted by the inner optimiser."""

    kind: Literal["linear"] = "linear"
    start: Literal["zero", "learned", "prototypes", "ridge"] = Field(
        "learned",
        description="`zero`; `learned`; or computed for each task from its support set before the "
        "steps: `prototypes` (Proto-MAML, Triantafillou et al. 2020: weight 2 c_k, bias "
        "-|c_k|^2) or `ridge` (the ridge solution)",
    )
    similarity: Literal["dot", "cosine"] = Field(
        "dot",
        description="`dot`: a plain linear layer; `cosine`: of unit vectors, times `scale`, "
        "without a bias (Baseline++, Chen et al. 2019)",
    )
    scale: float = Field(10.0, gt=0, le=1e4, description="factor of the `cosine`")
    penalty: float = Field(1.0, gt=0, le=1e6, description="penalty of the `ridge` start")


class Ridge(Part):
    """Ridge regression on the support features, in closed form (Bertinetto et al. 2019)."""

    kind: Literal["ridge"] = "ridge"
    penalty: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="of the squared weights; where it starts, with `learn`",
    )
    intercept: Literal["penalised", "free"] = Field(
        "penalised",
        description="`penalised`: as one more feature that is always 1 (R2-D2); `free`: by "
        "centring on the support set (as in statistics)",
    )
    learn: bool = Field(
        True,
        description="penalty, scale and offset of the outputs are meta-learned, from `penalty`, 1 "
        "and 0",
    )


class Logistic(Part):
    """Logistic regression on the support features, solved to its optimum (Tian et al. 2020).

    Gradients are those of the optimum (implicit function theorem).
    """

    kind: Literal["logistic"] = "logistic"
    penalty: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="half of it times the squared weights, bias included (which scikit-learn "
        "leaves free), is added to the summed cross-entropy",
    )
    normalise: bool = Field(False, description="features are scaled to unit length first")
    learn: bool = Field(False, description="the penalty is meta-learned")


class Prototypes(Part):
    """Minus the distance to the class means of the support features (Snell et al. 2017)."""

    kind: Literal["prototypes"] = "prototypes"
    distance: Literal["euclidean", "cosine"] = Field(
        "euclidean",
        description="minus the squared distance, or the cosine",
    )
    scale: float = Field(
        1.0,
        gt=0,
        le=1e4,
        description="factor of the squared distance (1: the paper) or of the cosine",
    )
    learn: bool = Field(False, description="the scale is meta-learned")


class NearestNeighbour(Part):
    """The label of the closest support examples, by vote; in a regression their mean."""

    kind: Literal["nearest_neighbour"] = "nearest_neighbour"
    distance: Literal["euclidean", "cosine", "tanimoto"] = Field(
        "euclidean",
        description="`tanimoto`: the usual similarity of fingerprints, shared bits over bits in "
        "either",
    )
    neighbours: int = Field(
        1,
        ge=1,
        le=1000,
        description="how many of the closest support examples have a say",
    )
    view: str = Field(
        "learned",
        description="what is compared: `learned`, the backbone's features; `raw` inputs; or a view "
        "of these that the family names",
    )


class GP(Part):
    """A Gaussian process over a sum of kernels (Patacchiola et al. 2020; Rasmussen & Williams)."""

    kind: Literal["gp"] = "gp"
    linear: str = Field(
        "off",
        description="the linear kernel: what it looks at: `off`; `learned`, the backbone's "
        "features; `raw`, the inputs; a view of the inputs that the family names (such "
        "as `fingerprint`); or several joined by `+`, one kernel each",
    )
    rbf: str = Field("learned", description="the squared exponential kernel: as `linear`")
    tanimoto: str = Field("off", description="the Tanimoto kernel of counts or bits: as `linear`")
    amplitude: float = Field(1.0, gt=0, le=1e6, description="factor of each kernel")
    lengthscale: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="of `rbf`, in units of the root of the number of features",
    )
    noise: float = Field(0.1, gt=0, le=1e6, description="variance of a label")
    learn: bool = Field(
        True,
        description="amplitudes, length scales, noise and the prior mean of labels are learned "
        "over tasks",
    )

    def kernels(self) -> tuple[tuple[str, str], ...]:
        """Pairs of kernel and what it looks at, in a fixed order."""
        named = {"linear": self.linear, "rbf": self.rbf, "tanimoto": self.tanimoto}
        return tuple(
            (kernel, view)
            for kernel, views in named.items()
            for view in views.split("+")
            if view != "off"
        )


class Amortised(Part):
    """A neural process: a network reads the support set and predicts (Garnelo et al. 2018).

    Support pairs (features, label) are encoded by an MLP; their summary goes with the query's
    features through a decoder. Classes are treated alike: one pass for each, with its indicator as
    the label, so that any number will do.
    """

    kind: Literal["amortised"] = "amortised"
    summary: Literal["mean", "attention"] = Field(
        "mean",
        description="of the support pairs: their `mean` (CNP), or what each query attends to, "
        "`attention` (ANP, Kim et al. 2019)",
    )
    width: int = Field(64, ge=1, le=4096, description="units of a hidden layer")
    depth: int = Field(2, ge=1, le=8, description="hidden layers of the encoder and of the decoder")
    heads: int = Field(4, ge=1, le=64, description="heads of the `attention`")


class OwnHead(OwnPart):
    """A rule of adaptation of your own: a ``metatune.learners.interface.Head``."""

    kind: Literal["own"] = "own"


Head = Annotated[
    Linear | Ridge | Logistic | Prototypes | NearestNeighbour | GP | Amortised | OwnHead,
    Field(discriminator="kind"),
]
