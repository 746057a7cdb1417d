"""Kernels and similarities: equal to their formulas, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.learners import kernels

PROPERTY = settings(deadline=None, max_examples=25)
SEEDS = st.integers(0, 2**32 - 1)


def points(seed: int, features: int = 4):
    rng = torch.Generator().manual_seed(seed)
    return (torch.randn(2, n, features, generator=rng, dtype=torch.float64) for n in (3, 5))


@PROPERTY
@given(seed=SEEDS, features=st.integers(1, 6), lengthscale=st.floats(0.1, 10))
def test_kernels_are_their_formulas(seed, features, lengthscale):
    a, b = points(seed, features)
    scale = torch.tensor(lengthscale, dtype=torch.float64)
    linear, rbf = kernels.linear(a, b), kernels.rbf(a, b, scale)
    for t, i, j in np.ndindex(2, 3, 5):
        x, y = a[t, i].numpy(), b[t, j].numpy()
        assert float(linear[t, i, j]) == pytest.approx(x @ y / features)
        far = np.square(x - y).sum() / (2 * features * lengthscale**2)
        assert float(rbf[t, i, j]) == pytest.approx(np.exp(-far))


@PROPERTY
@given(seed=SEEDS, bits=st.integers(1, 40))
def test_tanimoto_is_shared_bits_over_bits_in_either(seed, bits):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2, (2, 3, bits)), rng.integers(0, 2, (2, 4, bits))
    found = kernels.tanimoto(torch.from_numpy(a).double(), torch.from_numpy(b).double())
    for t, i, j in np.ndindex(2, 3, 4):
        either = np.sum((a[t, i] | b[t, j]) > 0)
        expected = np.sum(a[t, i] & b[t, j]) / either if either else 0.0
        assert found[t, i, j] == pytest.approx(expected)


def test_points_that_coincide_are_at_no_negative_distance():
    same = 1e3 + torch.randn(1, 50, 20, generator=torch.Generator().manual_seed(0))
    assert float(kernels.squared_distances(same, same).min()) >= 0


def test_cosine_ignores_lengths_and_euclidean_does_not():
    a, b = points(0)
    torch.testing.assert_close(
        kernels.similarity(a, b, "cosine"), kernels.similarity(3 * a, 0.2 * b, "cosine")
    )
    assert float(kernels.similarity(a, a, "cosine").amax(2).sub(1).abs().max()) < 1e-12
    differ = kernels.similarity(a, b, "euclidean") - kernels.similarity(3 * a, b, "euclidean")
    assert float(differ.abs().min()) > 1e-3


def test_similarities_are_told_apart_by_name():
    a, b = points(1)
    assert torch.equal(kernels.similarity(a, b, "euclidean"), -kernels.squared_distances(a, b))
    bits = [(x > 0).double() for x in (a, b)]
    assert torch.equal(kernels.similarity(*bits, "tanimoto"), kernels.tanimoto(*bits))
