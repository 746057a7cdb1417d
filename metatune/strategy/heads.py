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
    """A linear layer, adapted by the inner optimiser.

    ``start``: ``zero``, ``learned``, or computed for each task from its support set before the
    steps: ``prototypes`` (Proto-MAML, Triantafillou et al. 2020: weight 2 c_k, bias -|c_k|^2) or
    ``ridge`` (the ridge solution of penalty ``penalty``). ``similarity`` ``cosine`` compares unit
    vectors and multiplies by ``scale`` (Baseline++, Chen et al. 2019); it has no bias.
    """

    kind: Literal["linear"] = "linear"
    start: Literal["zero", "learned", "prototypes", "ridge"] = "learned"
    similarity: Literal["dot", "cosine"] = "dot"
    scale: float = Field(10.0, gt=0, le=1e4)
    penalty: float = Field(1.0, gt=0, le=1e6)


class Ridge(Part):
    """Ridge regression on the support features, in closed form (Bertinetto et al. 2019).

    With ``learn``, penalty, scale and offset of the outputs are meta-learned from ``penalty``, 1
    and 0. ``intercept``: ``penalised`` as one more feature that is always 1 (R2-D2), or ``free``
    by centring on the support set (as in statistics).
    """

    kind: Literal["ridge"] = "ridge"
    penalty: float = Field(1.0, gt=0, le=1e6)
    intercept: Literal["penalised", "free"] = "penalised"
    learn: bool = True


class Logistic(Part):
    """Logistic regression on the support features, solved to its optimum (Tian et al. 2020).

    Minimises the summed cross-entropy plus ``penalty / 2`` times the squared weights, bias
    included (which scikit-learn leaves free). ``normalise`` scales features to unit length first.
    Gradients are those of the optimum (implicit function theorem). With ``learn``, the penalty is
    meta-learned.
    """

    kind: Literal["logistic"] = "logistic"
    penalty: float = Field(1.0, gt=0, le=1e6)
    normalise: bool = False
    learn: bool = False


class Prototypes(Part):
    """Minus the distance to the class means of the support features (Snell et al. 2017).

    ``scale`` multiplies the squared Euclidean distance (1: the paper) or the cosine, and is
    meta-learned with ``learn``.
    """

    kind: Literal["prototypes"] = "prototypes"
    distance: Literal["euclidean", "cosine"] = "euclidean"
    scale: float = Field(1.0, gt=0, le=1e4)
    learn: bool = False


class NearestNeighbour(Part):
    """The label of the closest support examples, by vote; in a regression their mean.

    ``tanimoto`` is the usual similarity of fingerprints: shared bits over bits in either. ``view``
    is what is compared: ``learned``, the backbone's features, ``raw`` inputs, or a view of these
    that the family names.
    """

    kind: Literal["nearest_neighbour"] = "nearest_neighbour"
    distance: Literal["euclidean", "cosine", "tanimoto"] = "euclidean"
    neighbours: int = Field(1, ge=1, le=1000)
    view: str = "learned"


class GP(Part):
    """A Gaussian process over a sum of kernels (Patacchiola et al. 2020; Rasmussen & Williams).

    Each of ``linear``, ``rbf``, ``tanimoto`` names what it looks at: ``off``, ``learned`` (the
    backbone's features), ``raw`` (the inputs), a view of the inputs that the family names (such
    as ``fingerprint``), or several joined by ``+``: one kernel each. ``noise`` is the variance of
    a label beside kernels of amplitude ``amplitude``; distances of ``rbf`` are in units of
    ``lengthscale`` times the root of the number of features. With ``learn``, amplitudes, length
    scales, noise and the prior mean of labels are meta-learned.
    """

    kind: Literal["gp"] = "gp"
    linear: str = "off"
    rbf: str = "learned"
    tanimoto: str = "off"
    amplitude: float = Field(1.0, gt=0, le=1e6)
    lengthscale: float = Field(1.0, gt=0, le=1e6)
    noise: float = Field(0.1, gt=0, le=1e6)
    learn: bool = True

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

    Support pairs (features, label) are encoded by an MLP of ``width``; their summary, the mean
    (``mean``: CNP) or what each query attends to (``attention``: ANP, Kim et al. 2019, with
    ``heads`` heads), goes with the query's features through a decoder. Classes are treated
    alike: one pass for each, with its indicator as the label, so that any number will do.
    """

    kind: Literal["amortised"] = "amortised"
    summary: Literal["mean", "attention"] = "mean"
    width: int = Field(64, ge=1, le=4096)
    depth: int = Field(2, ge=1, le=8)
    heads: int = Field(4, ge=1, le=64)


class OwnHead(OwnPart):
    """The user's own rule of adaptation: a ``metatune.learners.interface.Head``."""

    kind: Literal["own"] = "own"


Head = Annotated[
    Linear | Ridge | Logistic | Prototypes | NearestNeighbour | GP | Amortised | OwnHead,
    Field(discriminator="kind"),
]
