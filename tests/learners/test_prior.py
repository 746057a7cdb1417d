"""Prior means: what is predicted before a learner is, by hand."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import pytest
import torch
from families import SERIES, WAVES, random_tasks

from metatune.learners import prior
from metatune.learners.learner import build_learner
from metatune.strategy import (
    MLP,
    Forecast,
    Linear,
    NearestNeighbour,
    Pooled,
    Ridge,
    Steps,
    Strategy,
    SupportMean,
    ZeroMean,
)
from metatune.tasks.base import Episode

BATCH = random_tasks(WAVES, Episode(1, 4, 3), dtype=torch.float64)


def test_zero_is_nothing():
    assert prior.init(ZeroMean()) == {}
    assert prior.values(ZeroMean(), {}, BATCH, WAVES) is None


@pytest.mark.parametrize(("strength", "mean"), [(0.0, 0.0), (2.0, 5.0)])
def test_the_support_mean_is_drawn_to_the_global_one_as_if_points_had_been_seen_there(
    strength, mean
):
    support, query = prior.values(SupportMean(strength=strength, mean=mean), {}, BATCH, WAVES)
    level = (BATCH.support_y.sum(1) + strength * mean) / (4 + strength)
    torch.testing.assert_close(query, level[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(support, level[:, None])


@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_learned_numbers_start_as_the_fixed_ones(strength):
    part = SupportMean(strength=strength, mean=0.5)
    learned = part.model_copy(update={"learn": True})
    params = prior.init(learned)
    assert set(params) == {"log_strength", "mean"}
    for one, other in zip(
        prior.values(part, {}, BATCH, WAVES),
        prior.values(learned, params, BATCH, WAVES),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    moved = params | {"log_strength": torch.tensor(1.0), "mean": torch.tensor(3.0)}
    _, query = prior.values(learned, moved, BATCH, WAVES)
    expected = (BATCH.support_y.sum(1) + exp(1) * 3) / (4 + exp(1))
    torch.testing.assert_close(query[:, 0], expected)


def test_the_mean_of_the_others_leaves_an_example_out():
    y = torch.tensor([[[1.0], [2.0], [6.0]]])
    assert prior.means_of_others(y).flatten().tolist() == [4.0, 3.5, 1.5]


def test_a_pooled_prior_adds_its_share_to_the_mean_of_the_other_labels():
    batch = replace(
        BATCH, support_pooled=BATCH.support_y * 0 + 1, query_pooled=BATCH.query_y * 0 + 2
    )
    fixed, learned = Pooled(blend=0.5, learn=False), Pooled(blend=0.5)
    assert prior.init(fixed) == {}
    params = prior.init(learned)
    assert params == {"blend": torch.tensor(0.5)}
    for part, numbers in ((fixed, {}), (learned, params)):
        support, query = prior.values(part, numbers, batch, WAVES)
        torch.testing.assert_close(support, prior.means_of_others(batch.support_y) + 0.5)
        own = batch.support_y.mean(1, keepdim=True)
        torch.testing.assert_close(query, (own + 1).expand_as(query))


@pytest.mark.parametrize("parts", [
    {"head": Ridge(intercept="free", learn=False)},
    {"head": NearestNeighbour()},
    {"backbone": MLP(width=5), "head": Linear(start="zero"), "inner": Steps(lr=0.05)},
])  # fmt: skip
def test_a_learner_on_top_learns_what_the_prior_mean_leaves(parts):
    """Labels less the mean learned without a prior, and the mean added again, are the same."""
    part = SupportMean(strength=1.0, mean=2.0)
    with_prior, without = (
        build_learner(Strategy(prior=p, **parts), WAVES, 1) for p in (part, ZeroMean())
    )
    params = {name: p.double() for name, p in without.init(0).items()}
    support, query = prior.values(part, {}, BATCH, WAVES)
    left = replace(BATCH, support_y=BATCH.support_y - support)
    torch.testing.assert_close(
        with_prior.predict(params, BATCH), without.predict(params, left) + query
    )


def test_a_forecast_is_the_input_that_the_family_names():
    batch = random_tasks(SERIES, Episode(1, 4, 3))
    assert prior.init(Forecast()) == {}
    for name, column in SERIES.forecasts.items():
        support, query = prior.values(Forecast(name=name), {}, batch, SERIES)
        assert torch.equal(support[..., 0], batch.support_x[..., column])
        assert torch.equal(query[..., 0], batch.query_x[..., column])


def test_a_head_around_a_forecast_learns_what_the_forecast_leaves():
    """Where the target is the forecast and a constant, ridge finds the constant."""
    batch = random_tasks(SERIES, Episode(1, 6, 5))
    column = [SERIES.forecasts["seasonal_naive"]]
    batch = replace(batch, support_y=batch.support_x[..., column] + 3.0)
    strategy = Strategy(prior=Forecast(), head=Ridge(intercept="free", learn=False))
    learner = build_learner(strategy, SERIES, 1)
    found = learner.predict(learner.init(0), batch)
    torch.testing.assert_close(found, batch.query_x[..., column] + 3.0)
