"""Evaluation: the same tasks for all, judged by hand-checked metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from families import SERIES, TABLES, alone, padded, random_tasks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from metatune.errors import Diverged
from metatune.evaluation import INPUTS, evaluation_tasks, judge, score, scores_jointly
from metatune.learners.interface import Learner, Params, Tensors, to_tensors
from metatune.learners.learner import build_learner
from metatune.presets import preset
from metatune.strategy import MLP, Conv4, Meta, NoBackbone, Prototypes, Steps, Strategy
from metatune.tasks.base import (
    ACCURACY,
    MAE,
    MSE,
    R2,
    RMSE,
    SPEARMAN,
    SPLITS,
    Episode,
    Metric,
    TaskBatch,
    TaskFamily,
)
from metatune.tasks.formulas.sinusoid import SinusoidFamily

SINUSOID = SinusoidFamily()
EPISODE = Episode(way=3, shot=1, query=2)
WAVES = Episode(way=1, shot=4, query=6)


def names(batches: list[TaskBatch]) -> list[str]:
    return [name for batch in batches for name in batch.ids]


def learner_of(family: TaskFamily, name: str, way: int) -> Learner:
    strategy = preset(name, family.info)
    if isinstance(strategy.backbone, Conv4):
        strategy = strategy.model_copy(update={"backbone": Conv4(width=4, depth=2)})
    if isinstance(strategy.inner, Steps):
        few = strategy.inner.model_copy(update={"steps": min(5, strategy.inner.steps)})
        strategy = strategy.model_copy(update={"inner": few})
    return build_learner(strategy, family.info, way)


# --- the tasks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shot", "expected"), [(1, [64, 26]), (10, [34, 34, 22]), (99, [8] * 11 + [2])]
)
def test_smaller_tasks_are_scored_more_at_a_time(
    tiny: TaskFamily, shot: int, expected: list[int]
) -> None:
    episode = Episode(way=1, shot=shot, query=5)
    batches = evaluation_tasks(tiny, "select", episode, 90, run_seed=0, round_=1)
    assert [len(batch) for batch in batches] == expected
    inputs = batches[0].support_x.size + batches[0].query_x.size
    assert inputs <= INPUTS or len(batches[0]) == 8


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20, 70])
def test_groups_take_turns(tiny: TaskFamily, count: int) -> None:
    batches = evaluation_tasks(tiny, "select", EPISODE, count, run_seed=0, round_=1)
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

    whole, single, pairs = (
        score(learner, tiny.info, params, chunked(size), 0) for size in (7, 1, 2)
    )
    for other in (single, pairs):
        assert (other.tasks, other.groups) == (whole.tasks, whole.groups)
        assert other.values == pytest.approx(whole.values, abs=1e-9)
        torch.testing.assert_close(other.predictions, whole.predictions, rtol=2e-3, atol=2e-3)


def test_scores_name_their_tasks_and_keep_predictions_in_float16() -> None:
    learner = learner_of(SINUSOID, "maml", 1)
    batches = evaluation_tasks(SINUSOID, "select", WAVES, 10, 0, 1)
    params = learner.init(0)
    scores = score(learner, SINUSOID.info, params, batches, 0)
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
    tasks = evaluation_tasks(SINUSOID, "test", WAVES, 3, 0, 1)
    scores = score(learner, SINUSOID.info, params, tasks, 0)
    assert not scores.predictions.requires_grad
    assert all(torch.equal(p, before[name]) for name, p in params.items())


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_diverge(poison: float) -> None:
    learner = learner_of(SINUSOID, "maml", 1)
    params = learner.init(0) | {"head.bias": torch.tensor([poison])}
    tasks = evaluation_tasks(SINUSOID, "select", WAVES, 3, 0, 1)
    with pytest.raises(Diverged, match="predictions are not finite at meta-step 17") as caught:
        score(learner, SINUSOID.info, params, tasks, 17)
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
        score(learner, tiny.info, {}, [replace(batch, query_y=wrong)], 3)
    wrong[4] = batch.query_y[4]  # one task that goes well is hope
    assert score(learner, tiny.info, {}, [replace(batch, query_y=wrong)], 3).values[4] == 1.0


def test_predictions_beyond_float16_are_kept_at_its_ends(tiny: TaskFamily) -> None:
    tasks = evaluation_tasks(tiny, "select", EPISODE, 9, 0, 1)
    scores = score(sharp_pixels(tiny), tiny.info, {}, tasks, 0)
    assert bool(torch.isfinite(scores.predictions).all())
    assert float(scores.predictions.min()) == torch.tensor(-6e4).half()
    assert sum(scores.values) / 9 > 0.9  # judged before that


def test_a_learner_is_told_of_a_task_what_is_prepared_for_it() -> None:
    """As what a pooled model predicts is attached to tensors."""
    learner = learner_of(SINUSOID, "maml", 1)
    tasks = evaluation_tasks(SINUSOID, "select", WAVES, 3, 0, 1)

    def louder(batch: TaskBatch) -> Tensors:
        tensors = to_tensors(batch)
        return replace(tensors, support_y=10 * tensors.support_y)

    params = learner.init(0)
    plain, prepared = (
        score(learner, SINUSOID.info, params, tasks, 0, prepare) for prepare in (to_tensors, louder)
    )
    assert plain.values != prepared.values


# --- whether query points are scored jointly ------------------------------------------------------


@dataclass(frozen=True)
class Centred:
    """A learner of the user's own that centres inputs, on what it is built for."""

    on: str

    def init(self, seed: int) -> Params:
        return {}

    def predict(self, params: Params, batch: Tensors) -> torch.Tensor:
        return batch.query_x - getattr(batch, self.on).mean(1, keepdim=True)

    def meta_loss(self, params: Params, batch: Tensors, progress: float) -> torch.Tensor:
        raise NotImplementedError


@pytest.mark.parametrize(("on", "jointly"), [("support_x", False), ("query_x", True)])
def test_that_query_points_are_scored_jointly_is_measured(on: str, jointly: bool) -> None:
    (tasks,) = evaluation_tasks(SINUSOID, "select", WAVES, 3, 0, 1)
    assert scores_jointly(Centred(on), {}, to_tensors(tasks)) == jointly


@pytest.mark.parametrize("norm", ["support", "transductive", "layer", "none"])
def test_what_is_measured_is_what_built_in_parts_say_of_themselves(
    tiny: TaskFamily, norm: str
) -> None:
    backbone = MLP.model_validate({"width": 8, "norm": norm})
    strategy = Strategy(backbone=backbone, head=Prototypes())
    learner = build_learner(strategy, tiny.info, EPISODE.way)
    (tasks,) = evaluation_tasks(tiny, "select", EPISODE, 3, 0, 1)
    assert scores_jointly(learner, learner.init(0), to_tensors(tasks)) == strategy.transductive


# --- the metrics ----------------------------------------------------------------------------------


def judged(query_y: torch.Tensor, support_y: torch.Tensor | None = None) -> Tensors:
    """Tasks of which only labels matter."""
    nothing = torch.zeros(0)
    return Tensors(nothing, nothing if support_y is None else support_y, nothing, query_y)


def test_accuracy_is_the_share_of_queries_whose_largest_logit_is_the_label() -> None:
    logits = torch.tensor([
        [[3.0, 1.0], [0.0, 2.0], [5.0, 6.0], [1.0, 0.0]],
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]],
    ])  # fmt: skip
    labels = torch.tensor([[0, 1, 0, 0], [0, 0, 0, 1]])
    assert judge(ACCURACY, logits, judged(labels)).tolist() == [0.75, 0.0]


@settings(max_examples=50)
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
    found = judge(MSE, pairs[None, :, :1], judged(pairs[None, :, 1:]))
    expected = sum((a - b) ** 2 for a, b in values) / len(values)
    assert found.tolist() == pytest.approx([expected], rel=1e-9)


def test_r2_compares_with_the_mean_of_the_support_set() -> None:
    support = torch.tensor([[[1.0], [3.0]]])  # mean 2
    query = torch.tensor([[[2.0], [6.0]]])  # so 0 and 16 are left to explain
    for predictions, expected in (([2.0, 6.0], 1.0), ([2.0, 2.0], 0.0), ([2.0, 4.0], 0.75)):
        values = torch.tensor(predictions).view(1, 2, 1)
        assert judge(R2, values, judged(query, support)).tolist() == pytest.approx([expected])


def test_r2_of_targets_that_are_all_alike_is_finite() -> None:
    alike = torch.ones(1, 2, 1)
    assert judge(R2, alike, judged(alike, alike)).tolist() == [1.0]
    assert bool(torch.isfinite(judge(R2, 2 * alike, judged(alike, alike))).all())


def test_rmse_is_the_root_of_each_tasks_mean_square() -> None:
    query = torch.tensor([[[0.0], [0.0]], [[1.0], [1.0]]])
    values = torch.tensor([[[3.0], [4.0]], [[1.0], [1.0]]])
    assert judge(RMSE, values, judged(query)).tolist() == pytest.approx([12.5**0.5, 0.0])


SMALL_NUMBERS = st.integers(-3, 3).map(float)  # with draws


@given(pairs=st.lists(st.tuples(SMALL_NUMBERS, SMALL_NUMBERS), min_size=2, max_size=12))
def test_spearman_is_scipys_and_0_where_nothing_is_told_apart(
    pairs: list[tuple[float, float]],
) -> None:
    values = torch.tensor(pairs)
    found = judge(SPEARMAN, values[None, :, :1], judged(values[None, :, 1:]))
    told_apart = all(len(set(column)) > 1 for column in zip(*pairs, strict=True))
    expected = spearmanr(*zip(*pairs, strict=True)).statistic if told_apart else 0.0
    assert found.tolist() == pytest.approx([expected])


def test_absolute_errors_are_in_units_of_the_support_set() -> None:
    """Labels 1 and 5 of the support deviate by 2; its naive forecast errs by 1 and 3."""
    support_x, support_y = torch.tensor([[[9.0, 2.0], [9.0, 2.0]]]), torch.tensor([[[1.0], [5.0]]])
    query_y = torch.tensor([[[10.0], [20.0]]])
    batch = Tensors(support_x, support_y, torch.zeros(1, 2, 2), query_y)
    predictions = torch.tensor([[[16.0], [10.0]]])  # off by 6 and 10
    assert judge(MAE, predictions, batch).tolist() == pytest.approx([8 / 2])
    assert judge(Metric("mase", -1, naive=1), predictions, batch).tolist() == pytest.approx([8 / 2])
    assert judge(Metric("mase", -1, naive=0), predictions, batch).tolist() == pytest.approx([8 / 6])
    alike = Tensors(support_x, torch.ones(1, 2, 1), torch.zeros(1, 2, 2), query_y)
    assert bool(torch.isfinite(judge(MAE, predictions, alike)).all())


@pytest.mark.parametrize(
    "metric", [ACCURACY, MSE, RMSE, R2, SPEARMAN, MAE, Metric("mase", -1, naive=2)],
    ids=lambda metric: metric.name,
)  # fmt: skip
@given(
    support=st.lists(st.integers(2, 7), min_size=3, max_size=3),
    query=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    seed=st.integers(0, 2**31),
)
def test_padding_is_not_judged(
    metric: Metric, support: list[int], query: list[int], seed: int
) -> None:
    info = SERIES if metric != ACCURACY else TABLES
    episode = Episode(1, 7, 6) if metric != ACCURACY else Episode(3, 3, 2)
    batch = padded(random_tasks(info, episode, seed=seed), support, query, seed)
    outputs = info.outputs or 3
    predictions = torch.randn(*batch.query_y.shape[:2], outputs)
    found = judge(metric, predictions, batch)
    for task, own in enumerate(alone(batch)):
        size = own.query_y.shape[1]
        expected = judge(metric, predictions[[task], :size], own)
        torch.testing.assert_close(found[[task]], expected, rtol=1e-6, atol=1e-9)


def test_padding_is_neither_scored_nor_kept() -> None:
    batch = SINUSOID.sample("select", WAVES, [1, 2])
    masks = np.ones((2, 4), bool), np.ones((2, 6), bool)
    masks[1][1, 3:] = False
    few = replace(batch, support_mask=masks[0], query_mask=masks[1])
    few.query_x[1, 3:] = 1e4
    cut = replace(batch, query_x=batch.query_x[1:, :3], query_y=batch.query_y[1:, :3],
                  support_x=batch.support_x[1:], support_y=batch.support_y[1:], ids=batch.ids[1:],
                  groups=batch.groups[1:])  # fmt: skip
    learner = learner_of(SINUSOID, "maml", 1)
    params = learner.init(0)
    found, expected = (score(learner, SINUSOID.info, params, [b], 0) for b in (few, cut))
    assert found.values[1] == pytest.approx(expected.values[0], rel=1e-5)
    torch.testing.assert_close(found.predictions[1:, :3], expected.predictions)
    assert not found.predictions[1, 3:].any()


# --- query points scored jointly ------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "jointly"), [("support", False), ("transductive", True)])
def test_what_scores_query_points_jointly_is_found_out(
    tiny: TaskFamily, norm: str, jointly: bool
) -> None:
    backbone = Conv4.model_validate({"width": 4, "depth": 2, "norm": norm})
    learner = build_learner(Strategy(backbone=backbone, head=Prototypes()), tiny.info, EPISODE.way)
    batch = to_tensors(tiny.sample("select", EPISODE, [1, 2]))
    assert scores_jointly(learner, learner.init(0), batch) == jointly
