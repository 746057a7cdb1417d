"""Sine curves: as in the MAML paper, and equal for equal seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.errors import DataError
from metatune.tasks.base import SPLITS, Episode
from metatune.tasks.formulas.sinusoid import SinusoidFamily

FAMILY = SinusoidFamily()
PROPERTY = settings(deadline=None, max_examples=50)  # a busy machine is no failure
SEEDS = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5)


@PROPERTY
@given(seeds=SEEDS, shot=st.integers(1, 12), query=st.integers(1, 12))
def test_points_have_the_shapes_that_base_promises(seeds, shot, query):
    tasks = FAMILY.sample("train", Episode(1, shot, query), seeds)
    assert tasks.support_x.shape == tasks.support_y.shape == (len(seeds), shot, 1)
    assert tasks.query_x.shape == tasks.query_y.shape == (len(seeds), query, 1)
    assert tasks.support_y.dtype == tasks.query_x.dtype == np.float32
    assert tasks.support_class is None
    assert tasks.query_class is None


@PROPERTY
@given(seeds=SEEDS)
def test_points_lie_on_one_sine_curve_of_the_papers_ranges(seeds):
    tasks = FAMILY.sample("test", Episode(1, 20, 200), seeds)
    x = np.concatenate([tasks.support_x, tasks.query_x], axis=1)[..., 0].astype(np.float64)
    y = np.concatenate([tasks.support_y, tasks.query_y], axis=1)[..., 0].astype(np.float64)
    assert np.abs(x).max() <= 5
    for x_t, y_t in zip(x, y, strict=True):
        # A sin(x - p) = (A cos p) sin x - (A sin p) cos x is linear in two unknowns.
        basis = np.stack([np.sin(x_t), -np.cos(x_t)], axis=1)
        (a, b), *_ = np.linalg.lstsq(basis, y_t)
        np.testing.assert_allclose(basis @ [a, b], y_t, atol=1e-5)
        assert 0.1 - 1e-5 <= np.hypot(a, b) <= 5 + 1e-5
        assert b >= -1e-5  # sin(phase) >= 0: the phase lies in [0, pi]


@PROPERTY
@given(seeds=SEEDS, data=st.data())
def test_a_curve_depends_on_its_own_seed_only(seeds, data):
    order = data.draw(st.permutations(range(len(seeds))))
    tasks = FAMILY.sample("train", Episode(1, 5, 5), seeds)
    shuffled = FAMILY.sample("train", Episode(1, 5, 5), [seeds[i] for i in order])
    np.testing.assert_array_equal(shuffled.query_y, tasks.query_y[list(order)])
    assert shuffled.ids == tuple(tasks.ids[i] for i in order)


def test_splits_share_no_curve():
    drawn = [FAMILY.sample(split, Episode(1, 5, 5), range(20)).query_y for split in SPLITS]
    assert len({task.tobytes() for of_split in drawn for task in of_split}) == 80


def test_amplitudes_and_phases_are_spread_over_their_ranges():
    tasks = FAMILY.sample("train", Episode(1, 1, 500), range(400))
    amplitude = np.abs(tasks.query_y).max(1)
    assert 2.2 < amplitude.mean() < 2.9
    assert amplitude.min() < 0.4
    assert amplitude.max() > 4.7


def test_there_is_one_group_and_it_holds_every_episode():
    assert FAMILY.usable_groups("select", Episode(1, 1000, 1)) == ("sinusoid",)
    named = FAMILY.sample("select", Episode(1, 2, 2), [7], groups=["sinusoid"])
    assert named.groups == ("sinusoid",)
    with pytest.raises(DataError, match="allowed is the group 'sinusoid'"):
        FAMILY.sample("select", Episode(1, 2, 2), [7], groups=["Latin"])


@pytest.mark.parametrize("episode", [Episode(5, 1, 1), Episode(1, 0, 1), Episode(1, 1, 0)])
def test_episodes_without_sense_are_refused(episode):
    with pytest.raises(DataError, match="allowed: way 1"):
        FAMILY.check(episode)
