"""What parts say of themselves."""

from __future__ import annotations

import pytest

from metatune.strategy import GP, OwnPart, Pooled


@pytest.mark.parametrize(("part", "kernels"), [
    (GP(), (("rbf", "learned"),)),
    (GP(rbf="off"), ()),
    (GP(linear="raw", tanimoto="fingerprint"),
     (("linear", "raw"), ("rbf", "learned"), ("tanimoto", "fingerprint"))),
    (GP(rbf="learned+raw"), (("rbf", "learned"), ("rbf", "raw"))),
])  # fmt: skip
def test_a_gaussian_process_has_a_kernel_for_each_view_that_is_named(
    part: GP, kernels: tuple[tuple[str, str], ...]
) -> None:
    assert part.kernels() == kernels


def test_pooled_models_go_by_short_names_or_by_their_own() -> None:
    ridge, logistic = (Pooled(model="linear").estimator(classes=c) for c in (False, True))
    assert ridge == OwnPart(use="sklearn.linear_model:RidgeCV")
    assert logistic.use == "sklearn.linear_model:LogisticRegression"
    part = Pooled(model="sklearn.svm:SVR", options={"C": 2.0})
    assert part.estimator(classes=False) == OwnPart(use="sklearn.svm:SVR", options={"C": 2.0})


def test_options_stand_above_those_that_a_short_name_brings() -> None:
    part = Pooled(model="linear", options={"max_iter": 5, "C": 2.0})
    assert part.estimator(classes=True).options == {"max_iter": 5, "C": 2.0}
