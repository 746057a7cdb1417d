"""Neural processes: what a support set is summarised as, and to whom it speaks."""

from __future__ import annotations

import pytest
import torch

from metatune.learners.heads import build_head
from metatune.learners.interface import Examples
from metatune.strategy import Amortised


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learned(part: Amortised, features: int, outputs: int, classes: bool):
    """The head as a function of support, targets and query features."""
    head = build_head(part, features, outputs, {}, classes)
    params = {n: p.double() for n, p in head.init(torch.Generator().manual_seed(0)).items()}
    return lambda s, y, q: head(params, Examples(s, s), y, Examples(q, q))


MEAN, ATTENTION = Amortised(width=8), Amortised(summary="attention", width=8, heads=2)
SUPPORT, QUERY = drawn(1, 2, 6, 5), drawn(2, 2, 3, 5)


@pytest.mark.parametrize("part", [MEAN, ATTENTION])
def test_a_support_set_given_twice_says_the_same(part):
    predict, y = learned(part, 5, 2, classes=False), drawn(3, 2, 6, 2)
    once = predict(SUPPORT, y, QUERY)
    twice = predict(torch.cat([SUPPORT] * 2, 1), torch.cat([y] * 2, 1), QUERY)
    torch.testing.assert_close(once, twice)


@pytest.mark.parametrize("part", [MEAN, ATTENTION])
def test_any_number_of_classes_will_do(part):
    predict = learned(part, 5, 3, classes=True)
    for ways in (2, 3, 7):
        y = torch.nn.functional.one_hot(torch.arange(6) % ways, ways).double().expand(2, 6, ways)
        assert predict(SUPPORT, y, QUERY).shape == (2, 3, ways)


@pytest.mark.parametrize("part", [MEAN, ATTENTION])
def test_other_names_of_the_classes_are_other_columns(part):
    predict, order = learned(part, 5, 3, classes=True), [2, 0, 1]
    y = torch.nn.functional.one_hot(torch.arange(6) % 3, 3).double().expand(2, 6, 3)
    found = predict(SUPPORT, y[..., order], QUERY)
    torch.testing.assert_close(found, predict(SUPPORT, y, QUERY)[..., order])


def test_to_a_lone_support_point_attention_is_undivided():
    """Its weight is 1 for every query, so its key says nothing and its value all."""
    head = build_head(ATTENTION, 5, 1, {}, classes=False)
    params = {n: p.double() for n, p in head.init(torch.Generator().manual_seed(0)).items()}
    lone, y = Examples(SUPPORT[:, :1], SUPPORT[:, :1]), drawn(3, 2, 1, 1)
    query = Examples(QUERY, QUERY)
    before = head(params, lone, y, query)
    for name, matters in (("to_key", False), ("to_query", False), ("to_value", True)):
        other = params | {f"{name}.weight": 3 * params[f"{name}.weight"]}
        assert torch.allclose(head(other, lone, y, query), before) != matters
