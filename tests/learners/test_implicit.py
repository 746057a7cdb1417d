"""Conjugate gradients solve what can be solved, task by task; solutions have their gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.learners.implicit import at_solution, conjugate_gradients

PROPERTY = settings(deadline=None, max_examples=25)
SEEDS, SIZES = st.integers(0, 2**32 - 1), st.integers(1, 8)


def systems(seed: int, size: int, tasks: int = 3):
    """Matrices that are positive definite, and right-hand sides."""
    rng = torch.Generator().manual_seed(seed)
    a = torch.randn(tasks, size, size, generator=rng, dtype=torch.float64)
    matrix = a @ a.transpose(1, 2) + 0.5 * torch.eye(size)
    return matrix, torch.randn(tasks, size, generator=rng, dtype=torch.float64)


def times(matrix: torch.Tensor):
    return lambda v: (matrix @ v[..., None])[..., 0]


# --- conjugate gradients --------------------------------------------------------------------------


@PROPERTY
@given(seed=SEEDS, size=SIZES)
def test_conjugate_gradients_solve_linear_systems(seed, size):
    matrix, b = systems(seed, size)
    found = conjugate_gradients(times(matrix), b, 4 * size)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, b), rtol=1e-6, atol=1e-8)


@PROPERTY
@given(seed=SEEDS, size=SIZES, iterations=st.integers(1, 20))
def test_tasks_that_are_solved_together_are_those_solved_alone(seed, size, iterations):
    matrix, b = systems(seed, size)
    together = conjugate_gradients(times(matrix), b, iterations)
    for task in range(3):
        own = conjugate_gradients(times(matrix[[task]]), b[[task]], iterations)
        torch.testing.assert_close(together[[task]], own, rtol=1e-6, atol=1e-8)


def test_unknowns_may_have_any_shape():
    matrix, b = systems(0, 6)
    product = times(matrix)
    found = conjugate_gradients(lambda v: product(v.flatten(1)).view_as(v), b.view(3, 2, 3), 24)
    torch.testing.assert_close(found.flatten(1), torch.linalg.solve(matrix, b))


def test_iterations_beyond_the_solution_change_nothing():
    matrix, b = systems(1, 5)
    found = [conjugate_gradients(times(matrix), b, count) for count in (20, 500)]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_of_nothing_the_solution_is_nothing():
    matrix, b = systems(2, 4)
    b[1] = 0
    found = conjugate_gradients(times(matrix), b, 16)
    assert torch.equal(found[1], torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(found, torch.linalg.solve(matrix, b))


def indefinite(size: int) -> torch.Tensor:
    return torch.diag(torch.tensor([(-1.0) ** i for i in range(size)], dtype=torch.float64))


@PROPERTY
@given(seed=SEEDS, size=st.integers(2, 8), iterations=st.integers(1, 40))
@pytest.mark.parametrize("kind", ["indefinite", "negative", "zero"])
def test_a_task_without_positive_curvature_stays_finite_and_disturbs_no_other(
    kind, seed, size, iterations
):
    matrix, b = systems(seed, size)
    alone = conjugate_gradients(times(matrix), b, iterations)
    worst = {
        "indefinite": indefinite(size),
        "negative": -matrix[1],
        "zero": torch.zeros(size, size, dtype=torch.float64),
    }[kind]
    matrix = torch.stack([matrix[0], worst, matrix[2]])
    found = conjugate_gradients(times(matrix), b, iterations)
    assert bool(torch.isfinite(found).all())
    torch.testing.assert_close(found[[0, 2]], alone[[0, 2]], rtol=1e-9, atol=1e-9)


@PROPERTY
@given(seed=SEEDS, size=st.integers(2, 8))
def test_what_a_task_has_before_it_meets_such_a_direction_is_kept(seed, size):
    """At first a step along b; later what lowers the quadratic, as all steps before have done."""
    matrix, b = systems(seed, size, tasks=1)
    first = conjugate_gradients(times(-matrix), b, 10)
    torch.testing.assert_close(first, b * (b * b).sum() / (b * times(matrix)(b)).sum())
    some = conjugate_gradients(times(matrix - 2 * torch.eye(size)), b, 40)[0]
    quadratic = some @ (matrix[0] - 2 * torch.eye(size)).double() @ some / 2 - b[0] @ some
    assert float(quadratic) <= 0


# --- gradients of a solution ----------------------------------------------------------------------


def test_a_solution_has_the_gradient_of_the_problem_that_it_solves():
    """x = A^-1 c, so dx = A^-1 dc, however x was found."""
    matrix, b = systems(3, 5)
    b.requires_grad_()
    with torch.no_grad():
        solution = torch.linalg.solve(matrix, b)
    found = at_solution(times(matrix)(solution) - b, solution, times(matrix), 30)
    assert torch.equal(found, solution)
    weights = torch.arange(15.0, dtype=torch.float64).view(3, 5)
    (gradient,) = torch.autograd.grad((weights * found).sum(), b)
    torch.testing.assert_close(gradient, torch.linalg.solve(matrix, weights))


def test_the_gradient_reaches_what_the_matrix_depends_on():
    matrix, b = systems(4, 4)

    def solved(strength):
        shifted = matrix + strength * torch.eye(4, dtype=torch.float64)
        with torch.no_grad():
            solution = torch.linalg.solve(shifted, b)
        return at_solution(times(shifted)(solution) - b, solution, times(shifted.detach()), 30)

    strength = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(solved, (strength,))
