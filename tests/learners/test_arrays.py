"""Fitted scikit-learn models as arrays: equal predictions without it, and no trust."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neural_network import MLPClassifier, MLPRegressor

from metatune.errors import ArtifactError
from metatune.learners.arrays import from_arrays, to_arrays
from metatune.learners.pooled import OneThread

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(300, 4))
LABELS = np.sin(ROWS[:, 0]) + ROWS[:, 1] * ROWS[:, 2]
CLASSES = 5
THREE = np.array([0, 1, 4])[np.digitize(LABELS, [-0.5, 0.5])]  # 2 and 3 were never seen
TWO = np.where(LABELS > 0, 3, 1)
ACTIVATIONS = ("relu", "tanh", "logistic", "identity")
REGRESSORS = {
    "linear": [RidgeCV()],
    "trees": [
        HistGradientBoostingRegressor(max_iter=6),
        HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=400),  # nothing but roots
        HistGradientBoostingRegressor(max_iter=5, loss="absolute_error"),
    ],
    "mlp": [MLPRegressor(hidden_layer_sizes=(7, 5), activation=a, max_iter=6) for a in ACTIVATIONS],
}
CLASSIFIERS = {
    "linear": [LogisticRegression(), LogisticRegression(fit_intercept=False)],
    "trees": [HistGradientBoostingClassifier(max_iter=6, early_stopping=False)],
    "mlp": [
        MLPClassifier(hidden_layer_sizes=(7, 5), activation=a, max_iter=6) for a in ACTIVATIONS
    ],
}


def fitted_to(labels, made):
    """Each kind with a model of it."""
    for kind, models in made.items():
        for one in models:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they need not converge
                yield kind, clone(one).fit(ROWS, labels)


OF_NUMBERS = [(kind, one, 0) for kind, one in fitted_to(LABELS, REGRESSORS)]
OF_CLASSES = [
    (kind, one, CLASSES) for labels in (THREE, TWO) for kind, one in fitted_to(labels, CLASSIFIERS)
]
ONE_CLASS = [
    (kind, DummyClassifier(strategy="prior").fit(ROWS, np.full(300, 2)), CLASSES)
    for kind in CLASSIFIERS
]
"""What is fitted where train has one class alone, whatever is asked for."""


@pytest.mark.parametrize(("model", "fitted", "classes"), OF_NUMBERS + OF_CLASSES + ONE_CLASS)
def test_arrays_predict_what_scikit_learn_does(model, fitted, classes):
    rows = np.concatenate([ROWS, RNG.normal(size=(100, 4)) * 5])
    found = from_arrays(model, to_arrays(model, fitted), 4, classes).predict(rows)
    np.testing.assert_allclose(found, OneThread(fitted, classes).predict(rows), atol=1e-9)


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
    model, fitted, classes = data.draw(st.sampled_from(OF_NUMBERS + OF_CLASSES + ONE_CLASS))
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
        found = from_arrays(model, arrays, 4, classes)
    except ArtifactError:
        return
    assert found.predict(ROWS).shape == ((300, classes) if classes else (300,))
