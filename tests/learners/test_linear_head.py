"""The linear head: before its first step it is what its start says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from metatune.learners.heads import build_head
from metatune.learners.interface import Examples
from metatune.learners.linear_head import LinearHead
from metatune.strategy import Linear, NearestNeighbour, Prototypes, Ridge

TASKS, WAYS, SHOT, FEATURES = 2, 3, 2, 5


def drawn(n: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(n)
    return torch.randn(TASKS, n, FEATURES, generator=rng, dtype=torch.float64)


SUPPORT, QUERY = drawn(WAYS * SHOT), drawn(4)
TARGETS = F.one_hot(torch.arange(WAYS).repeat(SHOT), WAYS).double().expand(TASKS, -1, -1)


def at_start(part: Linear, learned=None) -> torch.Tensor:
    head = LinearHead(part, FEATURES, WAYS)
    return head(head.start(learned or {}, SUPPORT, TARGETS), QUERY)


def closed_form(part: Ridge | Prototypes | NearestNeighbour) -> torch.Tensor:
    head = build_head(part, FEATURES, WAYS, {}, classes=True)
    return head({}, Examples(SUPPORT, SUPPORT), TARGETS, Examples(QUERY, QUERY))


def test_from_zero_nothing_is_predicted():
    assert torch.equal(at_start(Linear(start="zero")), torch.zeros(TASKS, 4, WAYS).double())
    assert LinearHead(Linear(start="zero"), FEATURES, WAYS).init(torch.Generator()) == {}


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_from_ridge_it_predicts_as_ridge_does(penalty):
    found = at_start(Linear(start="ridge", penalty=penalty))
    torch.testing.assert_close(found, closed_form(Ridge(penalty=penalty, learn=False)))


def test_from_prototypes_it_is_the_prototypical_network():
    """Up to the square of the query, which is the same for all classes."""
    found = at_start(Linear(start="prototypes")).log_softmax(2)
    torch.testing.assert_close(found, closed_form(Prototypes()).log_softmax(2))


def test_by_cosine_it_compares_with_the_prototypes_direction():
    found = at_start(Linear(start="prototypes", similarity="cosine", scale=3.0))
    torch.testing.assert_close(found, closed_form(Prototypes(distance="cosine", scale=3.0)))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_learned_start_is_the_same_for_every_task(similarity):
    part = Linear.model_validate({"similarity": similarity})
    head = LinearHead(part, FEATURES, WAYS)
    learned = {n: p.double() for n, p in head.init(torch.Generator().manual_seed(0)).items()}
    assert set(learned) == ({"weight", "bias"} if similarity == "dot" else {"weight"})
    start = head.start(learned, SUPPORT, TARGETS)
    assert all(torch.equal(p, learned[n].expand_as(p)) for n, p in start.items())
    torch.testing.assert_close(head(start, QUERY), head(learned, QUERY))
