"""Prior means: what is predicted before the learner on top fits what is left (regression).

``support``: the mean of the support labels, drawn towards a global mean as if ``strength`` further
points had been seen there; both meta-learned with ``learn``. ``pooled``: one model over all train
tasks, which sees an example's inputs and a summary of its task's support set. ``forecast``: one of
the inputs, which the family names as a forecast of the target.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from metatune.strategy.parts import OwnPart, Part


class ZeroMean(Part):
    """Nothing."""

    kind: Literal["zero"] = "zero"


class SupportMean(Part):
    """``(sum of support labels + strength * mean) / (shots + strength)``."""

    kind: Literal["support"] = "support"
    strength: float = Field(0.0, ge=0, le=1e6)
    mean: float = Field(0.0, ge=-1e9, le=1e9)
    learn: bool = False


MODELS = {
    "linear": "sklearn.linear_model:RidgeCV",
    "trees": "sklearn.ensemble:HistGradientBoostingRegressor",
    "mlp": "sklearn.neural_network:MLPRegressor",
}
"""Regressors by their short names."""


class Pooled(Part):
    """A scikit-learn regressor over all train tasks, times ``blend`` (meta-learned with ``learn``).

    It is added to the support mean: it predicts how an example differs from that. Its inputs are
    the example's, and of the support labels the number, mean, standard deviation, lowest and
    highest (without the example itself where it is one of them), and the mean support input with
    ``input_summary``. ``model``: ``linear`` (RidgeCV), ``trees``
    (HistGradientBoostingRegressor), ``mlp`` (MLPRegressor), or ``module:Class`` of any regressor;
    ``options`` are its keywords. It is fitted on at most ``tasks`` episodes.
    """

    kind: Literal["pooled"] = "pooled"
    model: str = "trees"
    options: dict[str, Any] = Field(default_factory=dict)
    tasks: int = Field(1000, ge=1, le=1_000_000)
    input_summary: bool = False
    blend: float = Field(1.0, ge=-10, le=10)
    learn: bool = True

    @property
    def regressor(self) -> OwnPart:
        """What makes the regressor."""
        return OwnPart(use=MODELS.get(self.model, self.model), options=self.options)


class Forecast(Part):
    """An input that is a forecast of the target itself, such as the seasonal naive one.

    ``name`` is one of those that the family names (``FamilyInfo.forecasts``). The learner on top
    learns what it leaves: ridge around the value of a season ago, a network around it.
    """

    kind: Literal["forecast"] = "forecast"
    name: str = "seasonal_naive"


PriorMean = Annotated[ZeroMean | SupportMean | Pooled | Forecast, Field(discriminator="kind")]
