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
    """``(sum of support labels + strength * mean) / (shots + strength)``."""

    kind: Literal["support"] = "support"
    strength: float = Field(0.0, ge=0, le=1e6)
    mean: float = Field(0.0, ge=-1e9, le=1e9)
    learn: bool = False


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

    ``model``: ``linear`` (RidgeCV; LogisticRegression), ``trees`` (HistGradientBoosting), ``mlp``
    (MLP), or ``module:Class`` of any regressor or classifier; ``options`` are its keywords. It is
    fitted on at most ``tasks`` episodes.
    """

    kind: Literal["pooled"] = "pooled"
    model: str = "trees"
    options: dict[str, Any] = Field(default_factory=dict)
    tasks: int = Field(1000, ge=1, le=1_000_000)
    input_summary: bool = False
    blend: float = Field(1.0, ge=-10, le=10)
    learn: bool = True

    def estimator(self, *, classes: bool) -> OwnPart:
        """What makes the regressor; of classes the classifier."""
        known = CLASSIFIERS if classes else REGRESSORS
        part = known.get(self.model, OwnPart(use=self.model))
        return part.model_copy(update={"options": {**part.options, **self.options}})


class Forecast(Part):
    """An input that is a forecast of the target itself, such as the seasonal naive one.

    ``name`` is one of those that the family names (``FamilyInfo.forecasts``). The learner on top
    learns what it leaves: ridge around the value of a season ago, a network around it.
    """

    kind: Literal["forecast"] = "forecast"
    name: str = "seasonal_naive"


PriorMean = Annotated[ZeroMean | SupportMean | Pooled | Forecast, Field(discriminator="kind")]
