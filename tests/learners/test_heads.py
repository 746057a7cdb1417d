"""Heads in closed form: equal to scikit-learn and plain numpy, task by task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from metatune.learners.heads import build_head, logistic_weights, ridge_weights
from metatune.learners.interface import Examples
from metatune.strategy import GP, Linear, Logistic, NearestNeighbour, Prototypes, Ridge

PROPERTY = settings(deadline=None, max_examples=25)
SEEDS, SIZES = st.integers(0, 2**32 - 1), st.integers(2, 9)
SMALL = st.integers(1, 6)
DISTANCES = ["euclidean", "cosine"]


def examples(seed: int, support: int, features: int, query: int = 4, outputs: int = 2):
    """Two tasks in double precision: support and query features, and support targets."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    s, q = normal(2, support, features), normal(2, query, features)
    return Examples(s, s), normal(2, support, outputs), Examples(q, q)


def labels(seed: int, support: int, ways: int):
    """One-hot labels of two tasks, every class at least once."""
    rng = np.random.default_rng(seed)
    y = np.stack([rng.permutation(np.arange(support) % ways) for _ in range(2)])
    return y, torch.nn.functional.one_hot(torch.from_numpy(y), ways).double()


def predict(part, support, targets, query, classes=False, views=None):
    head = build_head(part, support.features.shape[2], targets.shape[2], views or {}, classes)
    params = {n: p.double() for n, p in head.init(torch.Generator().manual_seed(0)).items()}
    return head(params, support, targets, query)


def assert_equal(found, fit_and_predict, support, targets, query, rtol=1e-8):
    for task in range(len(targets)):
        arrays = (support.features, targets, query.features)
        expected = fit_and_predict(*(a[task].numpy() for a in arrays))
        np.testing.assert_allclose(found[task].numpy(), expected, rtol=rtol, atol=rtol)


def test_the_linear_head_is_no_closed_form():
    assert build_head(Linear(), 4, 2, {}, classes=True) is None


# --- by comparison --------------------------------------------------------------------------------


def similarity_by_hand(a, b, distance):
    if distance == "cosine":
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))
    return -float(((a - b) ** 2).sum())


@PROPERTY
@given(seed=SEEDS, way=SMALL, shot=SMALL, features=SIZES, scale=st.floats(0.1, 10))
@pytest.mark.parametrize("distance", DISTANCES)
def test_prototypes_are_similarities_to_class_means(distance, seed, way, shot, features, scale):
    s, _, q = examples(seed, way * shot, features)
    y, one_hot = labels(seed, way * shot, way)
    found = predict(Prototypes(distance=distance, scale=scale), s, one_hot, q, classes=True)
    for task, k in np.ndindex(2, way):
        x, z = s.features[task].numpy(), q.features[task].numpy()
        mean = x[y[task] == k].mean(0)
        expected = [scale * similarity_by_hand(point, mean, distance) for point in z]
        np.testing.assert_allclose(found[task, :, k].numpy(), expected, rtol=1e-9, atol=1e-9)


@PROPERTY
@given(seed=SEEDS, neighbours=st.integers(1, 5), features=SIZES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_nearest_neighbours_are_scikit_learns(distance, seed, neighbours, features):
    part = NearestNeighbour(distance=distance, neighbours=neighbours)
    s, y, q = examples(seed, 9, features)

    def regression(x, y, z):
        model = KNeighborsRegressor(neighbours, metric=distance, algorithm="brute")
        return model.fit(x, y).predict(z)

    assert_equal(predict(part, s, y, q), regression, s, y, q)
    classes, one_hot = labels(seed, 9, 3)
    found = predict(part, s, one_hot, q, classes=True)
    for task in range(2):
        model = KNeighborsClassifier(neighbours, metric=distance, algorithm="brute")
        model.fit(s.features[task].numpy(), classes[task])
        shares = model.predict_proba(q.features[task].numpy())
        chosen = np.take_along_axis(shares, found[task].argmax(1, keepdim=True).numpy(), 1)[:, 0]
        np.testing.assert_allclose(chosen, shares.max(1))  # one of those with the most votes


@PROPERTY
@given(seed=SEEDS, way=SMALL, shot=SMALL, features=SMALL)
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_lone_neighbour_is_told_with_the_closest_of_each_class(
    distance, seed, way, shot, features
):
    s, _, q = examples(seed, way * shot, features)
    y, one_hot = labels(seed, way * shot, way)
    found = predict(NearestNeighbour(distance=distance), s, one_hot, q, classes=True)
    for task, point in np.ndindex(2, 4):
        x, z = s.features[task].numpy(), q.features[task, point].numpy()
        near = np.array([similarity_by_hand(z, other, distance) for other in x])
        best = [near[y[task] == k].max() for k in range(way)]
        np.testing.assert_allclose(found[task, point].numpy(), best, rtol=1e-7, atol=1e-7)


def test_neighbours_may_be_those_of_a_view_of_the_inputs():
    s, y, q = examples(0, 6, 4)
    views = {"fingerprint": (1, 3)}
    found = predict(NearestNeighbour(view="fingerprint"), s, y, q, views=views)
    columns = Examples(s.raw[..., 1:3], s.raw[..., 1:3]), Examples(q.raw[..., 1:3], q.raw[..., 1:3])
    torch.testing.assert_close(found, predict(NearestNeighbour(), columns[0], y, columns[1]))


def test_neighbours_that_are_as_close_as_the_last_vote_whatever_their_order():
    x = torch.tensor([[[0.0], [1.0], [1.0], [5.0]]])
    s, y = Examples(x, x), torch.tensor([[[2.0], [4.0], [6.0], [9.0]]])
    q = Examples(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    assert predict(NearestNeighbour(neighbours=2), s, y, q).tolist() == [[[4.0]]]


def test_more_neighbours_than_there_are_support_points_are_all_of_them():
    s, y, q = examples(0, 3, 4)
    found = predict(NearestNeighbour(neighbours=9), s, y, q)
    torch.testing.assert_close(found, y.mean(1, keepdim=True).expand_as(found))


# --- by least squares -----------------------------------------------------------------------------


@PROPERTY
@given(seed=SEEDS, support=SIZES, features=SIZES, penalty=st.floats(1e-3, 1e3))
@pytest.mark.parametrize("intercept", ["free", "penalised"])
def test_ridge_is_scikit_learns(intercept, seed, support, features, penalty):
    s, y, q = examples(seed, support, features)
    found = predict(Ridge(penalty=penalty, intercept=intercept), s, y, q)

    def expected(x, y, z):
        if intercept == "penalised":
            x, z = (np.c_[a, np.ones(len(a))] for a in (x, z))
        model = SklearnRidge(penalty, fit_intercept=intercept == "free", solver="svd")
        return model.fit(x, y).predict(z)

    assert_equal(found, expected, s, y, q, rtol=1e-7)


@pytest.mark.parametrize(("support", "features"), [(3, 20), (20, 3), (4, 3), (3, 3)])
def test_ridge_solves_in_the_smaller_of_examples_and_features(support, features, monkeypatch):
    solved, solve = [], torch.linalg.solve

    def watched(a, b):
        solved.append(a.shape[-1])
        return solve(a, b)

    monkeypatch.setattr(torch.linalg, "solve", watched)
    predict(Ridge(), *examples(0, support, features))
    assert solved == [min(support, features + 1)]  # the intercept is one more


@pytest.mark.parametrize("support", [3, 30])
def test_gradients_of_ridge_reach_features_and_penalty(support):
    s, y, _ = examples(0, support, 5)
    penalty = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, p: ridge_weights(x, y, p.exp()), (s.features.requires_grad_(), penalty)
    )


def test_a_learned_ridge_starts_as_the_fixed_one_and_scales_and_shifts_what_it_predicts():
    s, y, q = examples(1, 5, 3)
    fixed = predict(Ridge(penalty=0.3, learn=False), s, y, q)
    torch.testing.assert_close(
        predict(Ridge(penalty=0.3), s, y, q), fixed, rtol=1e-6, atol=1e-6
    )  # the logarithm of the penalty is a float32
    head = build_head(Ridge(penalty=0.3), 3, 2, {}, classes=False)
    numbers = {"log_penalty": torch.tensor(0.3).log(), "scale": torch.tensor(2.0)}
    found = head(numbers | {"offset": torch.tensor(-1.0)}, s, y, q)
    torch.testing.assert_close(found, 2 * fixed - 1, rtol=1e-6, atol=1e-6)


@PROPERTY
@given(seed=SEEDS, support=SIZES, features=SIZES, noise=st.floats(1e-2, 1e2))
@pytest.mark.parametrize("kind", ["linear", "rbf", "sum"])
def test_a_gaussian_process_is_scikit_learns(kind, seed, support, features, noise):
    s, y, q = examples(seed, support, features)
    parts = {
        "linear": GP(linear="raw", rbf="off", amplitude=2.0, noise=noise),
        "rbf": GP(rbf="raw", amplitude=2.0, lengthscale=0.7, noise=noise),
        "sum": GP(linear="learned", rbf="raw", amplitude=2.0, lengthscale=0.7, noise=noise),
    }
    dot = ConstantKernel(2.0 / features) * DotProduct(sigma_0=0.0, sigma_0_bounds="fixed")
    rbf = ConstantKernel(2.0) * RBF(0.7 * np.sqrt(features))
    kernel = {"linear": dot, "rbf": rbf, "sum": dot + rbf}[kind]

    def expected(x, y, z):
        model = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)
        return model.fit(x, y).predict(z)

    assert_equal(predict(parts[kind], s, y, q), expected, s, y, q, rtol=1e-6)


def test_a_kernel_looks_at_the_view_that_it_names_alone():
    rng = torch.Generator().manual_seed(0)
    raw = [torch.randn(2, n, 5, generator=rng, dtype=torch.float64) for n in (4, 3)]
    _, y, _ = examples(0, 4, 5)
    views = {"first": (0, 2), "last": (2, 5)}

    def found(view, changed):
        s, q = (torch.cat([x[..., :2], changed * x[..., 2:]], 2) for x in raw)
        features = [torch.zeros_like(x) for x in (s, q)]
        part = GP(rbf=view)
        return predict(part, Examples(features[0], s), y, Examples(features[1], q), views=views)

    assert torch.equal(found("first", 1.0), found("first", 9.0))
    assert not torch.allclose(found("last", 1.0), found("last", 9.0))
    assert not torch.allclose(found("raw", 1.0), found("raw", 9.0))


# --- by maximum likelihood ------------------------------------------------------------------------


@PROPERTY
@given(seed=SEEDS, features=SIZES, ways=st.integers(2, 4), penalty=st.floats(0.05, 20))
def test_logistic_regression_is_scikit_learns(seed, features, ways, penalty):
    s, _, q = examples(seed, 3 * ways, features)
    y, one_hot = labels(seed, 3 * ways, ways)
    found = predict(Logistic(penalty=penalty), s, one_hot, q, classes=True).softmax(2)
    for task in range(2):
        x, z = (np.c_[e.features[task].numpy(), np.ones(e.features.shape[1])] for e in (s, q))
        # Two classes: scikit-learn's one vector is the difference of our two.
        strength = 1 / penalty if ways > 2 else 2 / penalty
        model = LogisticRegression(C=strength, fit_intercept=False, tol=1e-10, max_iter=10_000)
        expected = model.fit(x, y[task]).predict_proba(z)
        np.testing.assert_allclose(found[task].numpy(), expected, atol=2e-5)


@PROPERTY
@given(seed=SEEDS, size=st.floats(0.1, 1000), penalty=st.floats(1e-4, 10))
@example(seed=17, size=100.0, penalty=1e-3)  # where whole steps go back and forth forever
@example(seed=23, size=30.0, penalty=1e-2)
def test_newtons_method_ends_at_the_optimum_however_large_features_are(seed, size, penalty):
    s, _, _ = examples(seed, 9, 3)
    _, one_hot = labels(seed, 9, 3)
    x = size * s.features
    weights = logistic_weights(x, one_hot, torch.tensor(penalty, dtype=torch.float64))
    error = torch.bmm(x, weights).softmax(2) - one_hot
    gradient = torch.bmm(x.transpose(1, 2), error) + penalty * weights
    assert float(gradient.abs().max()) < 1e-8 * (1 + float(x.abs().max()))


def test_logistic_regression_on_unit_vectors_ignores_the_length_of_features():
    s, _, q = examples(0, 9, 5)
    _, one_hot = labels(0, 9, 3)
    longer = [Examples(7 * e.features, e.raw) for e in (s, q)]
    for normalise in (True, False):
        part = Logistic(normalise=normalise)
        one = predict(part, s, one_hot, q, classes=True)
        other = predict(part, longer[0], one_hot, longer[1], classes=True)
        assert torch.allclose(one, other) == normalise
