"""Fitted scikit-learn regressors as arrays: equal predictions without it, and no trust."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor

from metatune.errors import ArtifactError
from metatune.learners.regressors import from_arrays, to_arrays

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(300, 4))
LABELS = np.sin(ROWS[:, 0]) + ROWS[:, 1] * ROWS[:, 2]
MADE = {
    "linear": [RidgeCV()],
    "trees": [
        HistGradientBoostingRegressor(max_iter=20),
        HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=400),  # nothing but roots
        HistGradientBoostingRegressor(max_iter=5, loss="absolute_error"),
    ],
    "mlp": [
        MLPRegressor(hidden_layer_sizes=(7, 5), activation=activation, max_iter=20)
        for activation in ("relu", "tanh", "logistic", "identity")
    ],
}
FITTED = []
for kind, models in MADE.items():
    for one in models:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they need not converge
            FITTED.append((kind, one.fit(ROWS, LABELS)))


@pytest.mark.parametrize(("model", "fitted"), FITTED)
def test_arrays_predict_what_scikit_learn_does(model, fitted):
    rows = np.concatenate([ROWS, RNG.normal(size=(100, 4)) * 5])
    found = from_arrays(model, to_arrays(model, fitted), 4).predict(rows)
    np.testing.assert_allclose(found, fitted.predict(rows), rtol=1e-12, atol=1e-12)


def test_what_arrays_cannot_say_is_refused():
    poisson = HistGradientBoostingRegressor(max_iter=2, loss="poisson").fit(ROWS, LABELS**2)
    with pytest.raises(ArtifactError, match=r"loss: found poisson"):
        to_arrays("trees", poisson)
    names = HistGradientBoostingRegressor(max_iter=5, categorical_features=[0])
    names.fit(np.c_[RNG.integers(0, 5, 300), ROWS], RNG.integers(0, 2, 300) * 9.0)
    with pytest.raises(ArtifactError, match=r"categorical"):
        to_arrays("trees", names.fit(np.c_[np.arange(300) % 3, ROWS], np.arange(300) % 3 % 2 * 9.0))
    with pytest.raises(ArtifactError, match=r"found my:Model.*allowed: linear, trees, mlp"):
        to_arrays("my:Model", RidgeCV())


@given(data=st.data())
def test_strange_arrays_are_refused_or_harmless(data):
    """No walk goes round for ever, and none leaves the arrays."""
    model, fitted = data.draw(st.sampled_from(FITTED))
    arrays = {name: array.copy() for name, array in to_arrays(model, fitted).items()}
    name = data.draw(st.sampled_from(sorted(arrays)))
    match data.draw(st.sampled_from(["drop", "shape", "type", "value"])):
        case "drop":
            del arrays[name]
        case "shape":
            arrays[name] = arrays[name][..., None]
        case "type":
            arrays[name] = arrays[name].astype(np.float32)
        case "value":
            place = data.draw(st.integers(0, arrays[name].size - 1))
            arrays[name].flat[place] = data.draw(st.sampled_from([-1, 0, 1, 10**9]))
    try:
        found = from_arrays(model, arrays, 4)
    except ArtifactError:
        return
    assert found.predict(ROWS).shape == (300,)
