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


def test_regressors_go_by_short_names_or_by_their_own() -> None:
    assert Pooled(model="linear").regressor == OwnPart(use="sklearn.linear_model:RidgeCV")
    part = Pooled(model="sklearn.svm:SVR", options={"C": 2.0})
    assert part.regressor == OwnPart(use="sklearn.svm:SVR", options={"C": 2.0})
