"""Prior means: what is predicted before the learner on top fits what is left.

``support``: the mean of the support labels, drawn towards a global mean as if ``strength`` further
points had been seen there; both meta-learned with ``learn``. ``pooled``: one model over all train
tasks, which sees an example's inputs and a summary of its task's support set. ``forecast``: one of
the inputs, which the family names as a forecast of the target. Of classes, which must be the same
in every task, there is ``pooled`` alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from metatune.strategy.parts import Field, OwnPart, Part


class ZeroMean(Part):
    """Nothing."""

    kind: Literal["zero"] = "zero"


class SupportMean(Part):
    """The support mean, drawn to a global one: ``(sum of labels + strength * mean) / (shots +
    strength)``."""

    kind: Literal["support"] = "support"
    strength: float = Field(
        0.0, ge=0, le=1e6, description="how many further points count as seen at `mean`"
    )
    mean: float = Field(0.0, ge=-1e9, le=1e9, description="the global mean")
    learn: bool = Field(False, description="both are meta-learned from there")


REGRESSORS = {
    "linear": OwnPart(use="sklearn.linear_model:RidgeCV"),
    "trees": OwnPart(use="sklearn.ensemble:HistGradientBoostingRegressor"),
    "mlp": OwnPart(use="sklearn.neural_network:MLPRegressor"),
}
"""Regressors by their short names."""

CLASSIFIERS = {
    "linear": OwnPart(use="sklearn.linear_model:LogisticRegression", options={"max_iter": 1000}),
    # Rows held out to stop early would need two of every class, however rare.
    "trees": OwnPart(
        use="sklearn.ensemble:HistGradientBoostingClassifier", options={"early_stopping": False}
    ),
    "mlp": OwnPart(use="sklearn.neural_network:MLPClassifier"),
}
"""Classifiers by the same names."""


class Pooled(Part):
    """A scikit-learn model over all train tasks, times ``blend`` (meta-learned with ``learn``).

    A regressor is added to the support mean: it predicts how an example differs from that. Its
    inputs are the example's, and of the support labels the number, mean, standard deviation, lowest
    and highest. A classifier gives logits: the logarithms of its probabilities. Its inputs are the
    example's, and of the support labels the number and each class's share. Both summaries leave out
    the example itself where it is in the support set; with ``input_summary`` they have the mean
    support input, too.
    """

    kind: Literal["pooled"] = "pooled"
    model: str = Field(
        "trees",
        description="`linear` (RidgeCV; of classes LogisticRegression), `trees` "
        "(HistGradientBoosting), `mlp` (MLP), or `module:Class` of any regressor or classifier",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="keywords of the model")
    tasks: int = Field(
        1000, ge=1, le=1_000_000, description="episodes that it is fitted on, at most"
    )
    input_summary: bool = Field(
        False, description="the mean support input is one more of the model's inputs"
    )
    blend: float = Field(
        1.0, ge=-10, le=10, description="factor of what the model adds to the support mean"
    )
    learn: bool = Field(True, description="the blend is meta-learned from there")

    def estimator(self, *, classes: bool) -> OwnPart:
        """What makes the regressor; of classes the classifier."""
        known = CLASSIFIERS if classes else REGRESSORS
        part = known.get(self.model, OwnPart(use=self.model))
        return part.model_copy(update={"options": {**part.options, **self.options}})


class Forecast(Part):
    """An input that is a forecast of the target itself, such as the seasonal naive one.

    The learner on top learns what it leaves: ridge around the value of a season ago, a network
    around it.
    """

    kind: Literal["forecast"] = "forecast"
    name: str = Field(
        "seasonal_naive", description="one of the forecasts that the family names among its inputs"
    )


PriorMean = Annotated[ZeroMean | SupportMean | Pooled | Forecast, Field(discriminator="kind")]
