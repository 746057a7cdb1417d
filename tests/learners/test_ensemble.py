"""Ensembles: members learn by themselves and predict together."""

from __future__ import annotations

import pytest
import torch
from families import SMALL_IMAGES, WAVES, random_tasks

from metatune.learners.learner import build_learner
from metatune.learners.training import loss_and_gradients
from metatune.strategy import MLP, Ridge, Seeds, Single, Strategy
from metatune.tasks.base import Episode

THREE = Strategy(backbone=MLP(width=6), head=Ridge(), combination=Seeds(members=3))
ONE = THREE.model_copy(update={"combination": Single()})
CASES = [(SMALL_IMAGES, Episode(3, 2, 2)), (WAVES, Episode(1, 6, 5))]


def members(params):
    prefixes = [f"member{i}." for i in range(3)]
    return [
        {n.removeprefix(prefix): p for n, p in params.items() if n.startswith(prefix)}
        for prefix in prefixes
    ]


def test_an_ensemble_predicts_the_mean_probability_of_its_members():
    batch = random_tasks(SMALL_IMAGES, Episode(3, 2, 2))
    ensemble, alone = (build_learner(s, SMALL_IMAGES, 3) for s in (THREE, ONE))
    params = ensemble.init(0)
    each = [alone.predict(own, batch).softmax(2) for own in members(params)]
    torch.testing.assert_close(ensemble.predict(params, batch).exp(), torch.stack(each).mean(0))
    assert not torch.allclose(each[0], each[1])


def test_in_a_regression_it_predicts_their_mean():
    batch = random_tasks(WAVES, Episode(1, 6, 5))
    ensemble, alone = (build_learner(s, WAVES, 1) for s in (THREE, ONE))
    params = ensemble.init(0)
    each = [alone.predict(own, batch) for own in members(params)]
    torch.testing.assert_close(ensemble.predict(params, batch), torch.stack(each).mean(0))


@pytest.mark.parametrize(("info", "episode"), CASES)
def test_members_follow_their_own_losses(info, episode):
    ensemble, alone = (build_learner(s, info, episode.way) for s in (THREE, ONE))
    batch = random_tasks(info, episode, seed=1, dtype=torch.float64)
    params = {name: p.double() for name, p in ensemble.init(3).items()}
    value, grads = loss_and_gradients(ensemble, params, batch, 0.0)
    losses = []
    for number, own in enumerate(members(params)):
        loss, expected = loss_and_gradients(alone, own, batch, 0.0)
        losses.append(loss)
        for name, g in expected.items():
            torch.testing.assert_close(grads[f"member{number}.{name}"], g)
    assert value == pytest.approx(sum(losses) / 3)
