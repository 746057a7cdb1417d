"""Heads in closed form: equal to plain numpy, task by task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from metatune.learners import heads
from metatune.strategy import NearestNeighbour, Prototypes

PROPERTY = settings(deadline=None, max_examples=25)
SIZES = st.integers(1, 6)
QUERIES = 2
SEEDS = st.integers(0, 10_000)
DISTANCES = st.sampled_from(["euclidean", "cosine"])

Array = NDArray[np.float64]


def tensor(array: Array) -> Tensor:
    return torch.from_numpy(array)


def labelled(seed: int, tasks: int, way: int, shot: int, features: int) -> tuple[Array, ...]:
    """Support, labels in no order, and queries; every class is there at least once."""
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.permutation(np.repeat(np.arange(way), shot)) for _ in range(tasks)])
    support = rng.normal(size=(tasks, way * shot, features)) + labels[..., None]
    return support, labels, rng.normal(size=(tasks, QUERIES, features))


def one_hot(labels: Array, way: int) -> Tensor:
    return torch.nn.functional.one_hot(tensor(labels), way).double()


def similarity_by_hand(a: Array, b: Array, distance: str) -> float:
    if distance == "cosine":
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))
    return -float(((a - b) ** 2).sum())


@PROPERTY
@given(
    seed=SEEDS, tasks=SIZES, way=SIZES, shot=SIZES, features=SIZES, distance=DISTANCES,
    scale=st.floats(0.1, 10),
)  # fmt: skip
def test_prototypes_are_similarities_to_class_means(
    seed: int, tasks: int, way: int, shot: int, features: int, distance: str, scale: float
) -> None:
    support, labels, query = labelled(seed, tasks, way, shot, features)
    part = Prototypes.model_validate({"distance": distance, "scale": scale})
    found = heads.prototypes(part, tensor(support), one_hot(labels, way), tensor(query))
    for t in range(tasks):
        for k in range(way):
            mean = support[t][labels[t] == k].mean(0)
            for q in range(QUERIES):
                expected = scale * similarity_by_hand(query[t, q], mean, distance)
                assert float(found[t, q, k]) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@PROPERTY
@given(seed=SEEDS, tasks=SIZES, way=SIZES, shot=SIZES, features=SIZES, distance=DISTANCES)
def test_the_nearest_neighbour_is_that_of_a_search_through_all(
    seed: int, tasks: int, way: int, shot: int, features: int, distance: str
) -> None:
    support, labels, query = labelled(seed, tasks, way, shot, features)
    part = NearestNeighbour.model_validate({"distance": distance})
    found = heads.nearest_neighbour(part, tensor(support), one_hot(labels, way), tensor(query))
    assert bool(torch.isfinite(found).all())
    for t in range(tasks):
        for q in range(QUERIES):
            near = [similarity_by_hand(query[t, q], s, distance) for s in support[t]]
            best = {k: max(n for n, y in zip(near, labels[t], strict=True) if y == k)
                    for k in range(way)}  # fmt: skip
            torch.testing.assert_close(
                found[t, q], torch.tensor([best[k] for k in range(way)], dtype=torch.float64)
            )
            if distance == "euclidean" or features > 1:  # in one dimension cosines tie
                assert int(found[t, q].argmax()) == labels[t][int(np.argmax(near))]


def test_points_that_coincide_are_at_no_negative_distance() -> None:
    points = 1e3 + torch.randn(1, 50, 20, generator=torch.Generator().manual_seed(0))
    assert float(heads.squared_distances(points, points).min()) >= 0


def test_cosine_ignores_lengths_and_euclidean_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(
        heads.similarity(a, b, "cosine"), heads.similarity(3 * a, 0.2 * b, "cosine")
    )
    assert float(heads.similarity(a, a, "cosine").amax(2).sub(1).abs().max()) < 1e-12
    differ = heads.similarity(a, b, "euclidean") - heads.similarity(3 * a, b, "euclidean")
    assert float(differ.abs().min()) > 1e-3


@PROPERTY
@given(
    seed=SEEDS, tasks=SIZES, examples=SIZES, features=SIZES, outputs=SIZES,
    penalty=st.floats(1e-2, 1e3),
)  # fmt: skip
def test_ridge_is_the_closed_form_whichever_way_it_is_solved(
    seed: int, tasks: int, examples: int, features: int, outputs: int, penalty: float
) -> None:
    rng = np.random.default_rng(seed)
    x, y, q = (
        rng.normal(size=size)
        for size in (
            (tasks, examples, features),
            (tasks, examples, outputs),
            (tasks, 4, features),
        )
    )
    found = heads.ridge(tensor(x), tensor(y), tensor(q), torch.tensor(penalty)).numpy()
    for t in range(tasks):
        design, query = (np.column_stack([z, np.ones(len(z))]) for z in (x[t], q[t]))
        primal = np.linalg.solve(
            design.T @ design + penalty * np.eye(features + 1), design.T @ y[t]
        )
        dual = design.T @ np.linalg.solve(design @ design.T + penalty * np.eye(examples), y[t])
        np.testing.assert_allclose(primal, dual, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found[t], query @ primal, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("examples", "features"), [(3, 20), (20, 3), (4, 3), (3, 3)])
def test_ridge_solves_in_the_smaller_of_examples_and_features(
    examples: int, features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved = []
    solve = torch.linalg.solve

    def watched(a: Tensor, b: Tensor) -> Tensor:
        solved.append(a.shape[-1])
        solution: Tensor = solve(a, b)
        return solution

    monkeypatch.setattr(torch.linalg, "solve", watched)
    heads.ridge(
        torch.randn(2, examples, features),
        torch.randn(2, examples, 1),
        torch.randn(2, 1, features),
        torch.tensor(1.0),
    )
    assert solved == [min(examples, features + 1)]


@pytest.mark.parametrize("examples", [3, 30])
def test_gradients_of_ridge_reach_features_and_penalty(examples: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)

    support, query, penalty = draw(2, examples, 5), draw(2, 4, 5), draw()
    targets = draw(2, examples, 2).detach()
    assert torch.autograd.gradcheck(
        lambda s, q, p: heads.ridge(s, targets, q, p.exp()), (support, query, penalty)
    )
