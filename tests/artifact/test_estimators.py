"""scikit-learn's own checks. An artifact has the number of inputs of its family, while checks come
with data of many widths: each check must pass with an artifact of the width that it uses."""

from __future__ import annotations

import warnings
from unittest import SkipTest

import numpy as np
import pytest
from families import family
from made import made
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

import metatune
from metatune import MetaClassifier, MetaRegressor
from metatune.artifact.learner import UnlikeTask
from metatune.errors import ArtifactError
from metatune.strategy import Meta, NoBackbone, Prototypes, Ridge, Strategy
from metatune.tasks.base import Episode

WIDTHS = (1, 2, 3, 4, 5, 8, 10, 20)
NO_TRAINING = {"backbone": NoBackbone(), "meta": Meta(rule="none")}
KINDS = {
    "classification": (MetaClassifier, Strategy(head=Prototypes(), **NO_TRAINING)),
    "regression": (MetaRegressor, Strategy(head=Ridge(), **NO_TRAINING)),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """For each kind, an artifact of each width."""
    folder = tmp_path_factory.mktemp("estimators")
    for kind, (_, strategy) in KINDS.items():
        for width in WIDTHS:
            info = family(kind, (width,))
            made(folder / kind / str(width), strategy, info, Episode(3, 4, 4))
    return folder


def failures(estimator):
    """The checks that it does not pass, by name, with why; and the names of all."""
    failed, names = {}, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for own, check in estimator_checks_generator(estimator, legacy=True):
            name = check.func.__name__
            names.append(name)
            try:
                check(own)
            except SkipTest:  # needs something that is not installed
                pass
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}"
    return failed, names


@pytest.mark.parametrize("kind", KINDS)
def test_each_of_scikit_learns_checks_passes_at_its_width(folders, kind):
    maker = KINDS[kind][0]
    results = [failures(maker(str(folders / kind / str(width)))) for width in WIDTHS]
    names = results[0][1]
    never = {
        name: {failed[name] for failed, _ in results}
        for name in names
        if all(name in failed for failed, _ in results)
    }
    assert len(names) > 40
    assert not never


def test_another_width_is_refused_in_a_sentence(folders):
    failed, _ = failures(MetaRegressor(str(folders / "regression" / "3")))
    widths = [why for why in failed.values() if "inputs a row; allowed: 3 inputs a row" in why]
    assert len(widths) > 10
    # A check that hides why asks for another width, too.
    assert {n for n, why in failed.items() if why not in widths} <= {
        "check_positive_only_tag_during_fit"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_estimator_is_its_artifact(folders, kind):
    """From a path or loaded, in a pipeline of scikit-learn's or by itself."""
    artifact, rng = metatune.load(folders / kind / "3"), np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = x[:, 0] + rng.normal(0, 0.1, 40) if kind == "regression" else np.repeat(["a", "b"], 20)
    maker = KINDS[kind][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlikeTask)
        expected = artifact.adapt(x, y).predict(x)
        for given in (artifact, str(folders / kind / "3")):
            np.testing.assert_array_equal(maker(given).fit(x, y).predict(x), expected)
        scores = cross_val_score(maker(artifact), x, y, cv=4, error_score="raise")
    assert len(scores) == 4
    other = MetaClassifier if kind == "regression" else MetaRegressor
    with pytest.raises(ArtifactError, match=f"allowed: {maker.__name__}"):
        other(artifact).fit(x, y)
