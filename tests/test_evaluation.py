"""Evaluation: the same tasks for all, judged by hand-checked metrics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.errors import Diverged
from metatune.evaluation import CHUNK, evaluation_tasks, judge, score
from metatune.learners.learner import Learner, build_learner
from metatune.presets import preset
from metatune.strategy import SGD, Conv4, Meta, NoBackbone, Prototypes, Strategy
from metatune.tasks.base import ACCURACY, MSE, SPLITS, Episode, TaskBatch, TaskFamily
from metatune.tasks.sinusoid import SinusoidFamily

SINUSOID = SinusoidFamily()
EPISODE = Episode(way=3, shot=1, query=2)
WAVES = Episode(way=1, shot=4, query=6)


def names(batches: list[TaskBatch]) -> list[str]:
    return [name for batch in batches for name in batch.ids]


def learner_of(family: TaskFamily, name: str, way: int) -> Learner:
    strategy = preset(name, family.info)
    if isinstance(strategy.backbone, Conv4):
        strategy = strategy.model_copy(update={"backbone": Conv4(width=4, depth=2)})
    if isinstance(strategy.inner, SGD):
        few = strategy.inner.model_copy(update={"steps": min(5, strategy.inner.steps)})
        strategy = strategy.model_copy(update={"inner": few})
    return build_learner(strategy, family.info, way)


# --- the tasks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_groups_take_turns(tiny: TaskFamily, count: int) -> None:
    batches = evaluation_tasks(tiny, "select", EPISODE, count, run_seed=0, round_=1)
    assert all(0 < len(batch) <= CHUNK for batch in batches)
    groups = [group for batch in batches for group in batch.groups]
    turns = tiny.usable_groups("select", EPISODE)
    assert groups == [turns[task % 3] for task in range(count)]


def test_tasks_are_fresh_in_each_round_except_those_of_test(tiny: TaskFamily) -> None:
    for split in SPLITS:
        rounds = [names(evaluation_tasks(tiny, split, EPISODE, 10, 0, r)) for r in (1, 2)]
        if split == "test":
            assert rounds[0] == rounds[1]
        else:
            assert not set(rounds[0]) & set(rounds[1])


def test_tasks_follow_from_the_seed_and_no_two_are_alike(tiny: TaskFamily) -> None:
    first, again, other = (
        names(evaluation_tasks(tiny, "confirm", EPISODE, 30, seed, 1)) for seed in (1, 1, 2)
    )
    assert first == again
    assert len(set(first) | set(other)) == 60


def test_more_tasks_begin_with_the_same_ones(tiny: TaskFamily) -> None:
    few, many = (evaluation_tasks(tiny, "select", EPISODE, n, 0, 1) for n in (5, 20))
    assert names(many)[:5] == names(few)
    np.testing.assert_array_equal(few[0].query_x, many[0].query_x[:5])


# --- the scores -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["maml", "protonet", "r2d2", "scratch", "nearest_neighbour"])
def test_scores_do_not_depend_on_how_tasks_are_chunked(tiny: TaskFamily, name: str) -> None:
    learner = learner_of(tiny, name, EPISODE.way)
    params = learner.init(0)
    seeds, groups = list(range(7)), list(tiny.usable_groups("select", EPISODE) * 3)[:7]

    def chunked(size: int) -> list[TaskBatch]:
        starts = range(0, 7, size)
        return [
            tiny.sample("select", EPISODE, seeds[i : i + size], groups[i : i + size])
            for i in starts
        ]

    whole, single, pairs = (score(learner, params, chunked(size), 0) for size in (7, 1, 2))
    for other in (single, pairs):
        assert (other.tasks, other.groups) == (whole.tasks, whole.groups)
        assert other.values == pytest.approx(whole.values, abs=1e-9)
        torch.testing.assert_close(other.predictions, whole.predictions, rtol=2e-3, atol=2e-3)


def test_scores_name_their_tasks_and_keep_predictions_in_float16() -> None:
    learner = learner_of(SINUSOID, "maml", 1)
    batches = evaluation_tasks(SINUSOID, "select", WAVES, 10, 0, 1)
    params = learner.init(0)
    scores = score(learner, params, batches, 0)
    assert scores.tasks == tuple(names(batches))
    assert scores.predictions.shape == (10, 6, 1)
    assert scores.predictions.dtype == torch.float16
    by_hand = [
        float(((kept.numpy().astype(np.float64) - y) ** 2).mean())
        for kept, y in zip(
            scores.predictions, np.concatenate([b.query_y for b in batches]), strict=True
        )
    ]
    assert scores.values == pytest.approx(by_hand, rel=1e-2)


def test_scoring_needs_no_gradient_and_leaves_parameters_alone() -> None:
    learner = learner_of(SINUSOID, "maml", 1)
    params = {name: p.requires_grad_() for name, p in learner.init(0).items()}
    before = {name: p.detach().clone() for name, p in params.items()}
    scores = score(learner, params, evaluation_tasks(SINUSOID, "test", WAVES, 3, 0, 1), 0)
    assert not scores.predictions.requires_grad
    assert all(torch.equal(p, before[name]) for name, p in params.items())


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_diverge(poison: float) -> None:
    learner = learner_of(SINUSOID, "maml", 1)
    params = learner.init(0) | {"head.bias": torch.tensor([poison])}
    with pytest.raises(Diverged, match="predictions are not finite at meta-step 17") as caught:
        score(learner, params, evaluation_tasks(SINUSOID, "select", WAVES, 3, 0, 1), 17)
    assert caught.value.step == 17


def sharp_pixels(tiny: TaskFamily) -> Learner:
    """Prototypes of raw pixels, right nearly always and sure of it beyond what float16 holds."""
    strategy = Strategy(backbone=NoBackbone(), head=Prototypes(scale=1e4), meta=Meta(rule="none"))
    return build_learner(strategy, tiny.info, EPISODE.way)


def test_losses_that_are_hopeless_on_every_task_diverge(tiny: TaskFamily) -> None:
    learner = sharp_pixels(tiny)
    (batch,) = evaluation_tasks(tiny, "select", EPISODE, 6, 0, 1)
    wrong = (batch.query_y + 1) % EPISODE.way
    with pytest.raises(Diverged, match="hopeless at meta-step 3"):
        score(learner, {}, [replace(batch, query_y=wrong)], 3)
    wrong[4] = batch.query_y[4]  # one task that goes well is hope
    assert score(learner, {}, [replace(batch, query_y=wrong)], 3).values[4] == 1.0


def test_predictions_beyond_float16_are_kept_at_its_ends(tiny: TaskFamily) -> None:
    tasks = evaluation_tasks(tiny, "select", EPISODE, 9, 0, 1)
    scores = score(sharp_pixels(tiny), {}, tasks, 0)
    assert bool(torch.isfinite(scores.predictions).all())
    assert float(scores.predictions.min()) == torch.tensor(-6e4).half()
    assert sum(scores.values) / 9 > 0.9  # judged before that


# --- the metrics ----------------------------------------------------------------------------------


def test_accuracy_is_the_share_of_queries_whose_largest_logit_is_the_label() -> None:
    logits = torch.tensor([
        [[3.0, 1.0], [0.0, 2.0], [5.0, 6.0], [1.0, 0.0]],
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]],
    ])  # fmt: skip
    labels = torch.tensor([[0, 1, 0, 0], [0, 0, 0, 1]])
    assert judge(ACCURACY, logits, labels).tolist() == [0.75, 0.0]


@settings(deadline=None, max_examples=50)
@given(
    values=st.lists(
        st.tuples(st.floats(-100, 100, width=32), st.floats(-100, 100, width=32)),
        min_size=1,
        max_size=12,
    )
)
def test_mse_is_the_mean_square_over_queries_and_outputs(
    values: list[tuple[float, float]],
) -> None:
    pairs = torch.tensor(values, dtype=torch.float64)
    found = judge(MSE, pairs[None, :, :1], pairs[None, :, 1:])
    expected = sum((a - b) ** 2 for a, b in values) / len(values)
    assert found.tolist() == pytest.approx([expected], rel=1e-9)
