"""Falling back to a baseline: who learns a task, and whether that is found to pay."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import MOLECULES, SEGMENTS, TABLES, WAVES, random_tasks
from hypothesis import given
from hypothesis import strategies as st
from made import made, stored

import metatune
from metatune.artifact import files
from metatune.artifact import members as m
from metatune.artifact.card import card
from metatune.artifact.fallback import MOST_FOLDS, choose, folds, without_each
from metatune.artifact.measures import weigh
from metatune.errors import ArtifactError
from metatune.learners.interface import Tensors
from metatune.learners.learner import build_learner
from metatune.presets import preset
from metatune.session import planned
from metatune.strategy import MLP, Prototypes, Strategy
from metatune.tasks.base import MAE, Episode, TaskBatch

RIDGE, MEAN = preset("ridge", MOLECULES), preset("support_mean", MOLECULES)
METRIC = Prototypes()


def predicts(strategy, info, way=1):
    """How a strategy that needs no training predicts."""
    learner = build_learner(strategy, info, way)
    member = m.Member(strategy, learner.init(0))
    return lambda batch: member.predict(learner, batch)


# --- rows are left out ----------------------------------------------------------------------------


@given(rows=st.integers(3, 100))
def test_up_to_32_rows_of_numbers_are_left_out_one_by_one(rows):
    found = folds(torch.zeros(rows, 1), WAVES)
    assert len(found.unique()) == min(rows, MOST_FOLDS)
    counts = found.bincount()
    assert counts.max() - counts.min() <= 1


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=80), shared=st.booleans())
def test_each_class_keeps_a_row_where_the_task_has_its_own(labels, shared):
    y = torch.tensor(np.unique(labels, return_inverse=True)[1])
    found = folds(y, SEGMENTS if shared else TABLES)
    if found is None:
        assert len(y) < 3 or (not shared and y.bincount().min() < 2)
        return
    number = int(found.max()) + 1
    assert set(found.tolist()) == set(range(number))
    assert number <= MOST_FOLDS
    if not shared:
        for fold in range(number):
            assert set(y[found != fold].tolist()) == set(y.tolist())


@pytest.mark.parametrize(("info", "shot"), [(MOLECULES, 6), (MOLECULES, 45), (TABLES, 5)])
def test_all_folds_at_once_say_what_each_says_alone(info, shot):
    episode = Episode(1 if info.outputs else 3, shot, 1)
    task = random_tasks(info, episode, tasks=1, seed=4)
    x, y = task.support_x[0], task.support_y[0]
    predict = predicts(RIDGE if info.outputs else Strategy(head=METRIC), info, episode.way)
    fold = folds(y, info)
    batch = without_each(x, y, fold)
    found = predict(batch)
    for k in range(int(fold.max()) + 1):
        kept, out = fold != k, fold == k
        alone = predict(Tensors(x[None, kept], y[None, kept], x[None, out], y[None, out]))[0]
        real = slice(None) if batch.query_mask is None else batch.query_mask[k]
        torch.testing.assert_close(found[k][real], alone, rtol=1e-4, atol=1e-4)
        assert batch.query_y[k][real].tolist() == y[out].tolist()


def test_errors_are_those_of_a_hand_computation():
    task = random_tasks(MOLECULES, Episode(1, 8, 1), tasks=1, seed=2)
    x, y = task.support_x[0], task.support_y[0]
    for metric, loss in ((MAE, np.abs), (MOLECULES.metric, np.square)):
        info = replace(MOLECULES, metric=metric)
        strategy, baseline = (predicts(one, info) for one in (MEAN, RIDGE))
        found = choose(strategy, baseline, "ridge", x, y, info)
        numbers = y[:, 0].double().numpy()
        others = (numbers.sum() - numbers) / 7
        np.testing.assert_allclose(found.strategy, loss(numbers - others).mean(), rtol=1e-3)
        assert found.folds == 8


def test_a_strategy_that_cannot_learn_so_few_rows_loses_to_one_that_can():
    task = random_tasks(MOLECULES, Episode(1, 4, 1), tasks=1)

    def cannot(batch):
        raise RuntimeError("singular")

    def nothing(batch):
        return torch.full((len(batch), batch.query_x.shape[1], 1), torch.nan)

    mean = predicts(MEAN, MOLECULES)
    for other in (cannot, nothing):
        x, y = task.support_x[0], task.support_y[0]
        assert choose(other, mean, "mean", x, y, MOLECULES).used == "mean"
        assert choose(mean, other, "other", x, y, MOLECULES).used == "strategy"
        assert choose(other, other, "other", x, y, MOLECULES).used == "strategy"


# --- in an artifact -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """The support mean, which may fall back to a ridge for each task alone."""
    folder = tmp_path_factory.mktemp("fallback")
    return made(folder / "a", MEAN, MOLECULES, Episode(1, 16, 4), fallback=RIDGE)


def tasks():
    """One whose labels are linear in the inputs, and one whose are not."""
    x = np.random.default_rng(0).normal(size=(16, 14)).astype(np.float32)
    return x, {"other": 3 * x[:, 0], "strategy": np.random.default_rng(101).normal(size=16)}


@pytest.mark.filterwarnings("ignore::metatune.artifact.learner.UnlikeTask")
@pytest.mark.parametrize("used", ["other", "strategy"])
def test_whoever_does_better_on_the_support_set_learns_the_task(artifact, tmp_path, used):
    x, labels = tasks()
    learner = artifact.adapt(x, labels[used])
    assert learner.used == used
    assert learner.choice.fell_back == (used == "other")
    assert (learner.choice.baseline < learner.choice.strategy) == (used == "other")
    assert "in 16 folds of the support set" in str(learner.choice)
    alone = made(tmp_path / "one", {"other": RIDGE, "strategy": MEAN}[used], MOLECULES,
                 Episode(1, 16, 4)).adapt(x, labels[used])  # fmt: skip
    np.testing.assert_array_equal(learner.predict(x), alone.predict(x))
    again = metatune.load_adapted(learner.save(tmp_path / "saved"))
    assert again.choice == learner.choice
    np.testing.assert_array_equal(again.predict(x), learner.predict(x))


def test_where_rows_are_too_few_to_leave_any_out_the_strategy_learns(artifact):
    x, labels = tasks()
    with pytest.warns(UserWarning, match="unlike"):
        learner = artifact.adapt(x[:2], labels["other"][:2])
    assert (learner.used, learner.choice) == ("strategy", None)


@pytest.mark.parametrize(("change", "said"), [
    ({"name": "a\nb"}, r"fallback: name: found 'a\\nb'; allowed: up to 80 characters"),
    ({"name": ""}, r"fallback: name: found ''"),
    ({"strategy": {"head": {"kind": "no"}}}, r"fallback: strategy: head"),
    ({"strategy": {"head": {"kind": "own", "use": "os:system"}}}, r"parts of its maker's own"),
    ({"strategy": Strategy(backbone=MLP()).model_dump(mode="json")}, r"lacking: backbone.layer0"),
])  # fmt: skip
def test_a_hostile_fallback_is_refused_in_a_sentence(tmp_path, change, said):
    made_up = stored(MEAN, MOLECULES, Episode(1, 6, 4), fallback=RIDGE)
    plain = json.loads(json.dumps(made_up.plain))
    plain["fallback"] |= change
    files.write(replace(made_up, plain=plain), tmp_path / "a")
    with pytest.raises(ArtifactError, match=said) as caught:
        metatune.load(tmp_path / "a")
    assert "\n" not in str(caught.value)


# --- does it pay ----------------------------------------------------------------------------------


class Lines:
    """A family of tasks that are lines, or, every second one, nothing but noise."""

    info = replace(WAVES, groups={s: {} for s in WAVES.groups}, grouped=True)

    def usable_groups(self, split, episode):
        return tuple(f"g{number}" for number in range(8))

    def sample(self, split, episode, seeds, groups):
        x, y = [], []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            one = rng.normal(size=(episode.n_support + episode.n_query, 1))
            noisy = rng.random() < 0.5
            x.append(one)
            y.append(rng.normal(size=one.shape) * 3 if noisy else 2 * one + 1)
        xs, ys = (np.stack(each).astype(np.float32) for each in (x, y))
        shot = episode.n_support
        ids = tuple(map(str, seeds))
        return TaskBatch(xs[:, :shot], ys[:, :shot], xs[:, shot:], ys[:, shot:], ids, tuple(groups))


def line(batch: Tensors) -> torch.Tensor:
    """Least squares, which is right where labels are lines and wild where they are not."""
    ones = [torch.cat([x, torch.ones_like(x)], 2) for x in (batch.support_x, batch.query_x)]
    return ones[1] @ torch.linalg.lstsq(ones[0], batch.support_y).solution


def mean(batch: Tensors) -> torch.Tensor:
    """The support mean, which is right where labels are no lines."""
    return batch.support_y.mean(1, keepdim=True).expand(-1, batch.query_x.shape[1], -1)


def wrong(batch: Tensors) -> torch.Tensor:
    """Right on the rows that are left out, wrong on the query: what a leak would look like."""
    left_out = batch.query_x.shape[1] == 1
    return batch.query_y if left_out else mean(batch) + 9


def test_a_fallback_pays_where_it_spares_tasks_and_the_mean_does_not_fall(finished):
    _, plan = planned(finished)
    found = weigh(plan, Lines(), line, mean, "mean")
    assert found.tasks == 32
    assert found.alone > found.together >= 0
    np.testing.assert_allclose(found.lowered.mean, found.alone - found.together)
    assert found.claim == "new groups"
    assert found.gain > 0
    assert found.pays
    assert 0 < found.taken < 0.6


@pytest.mark.parametrize(("strategy", "baseline"), [(line, line), (mean, wrong), (line, wrong)])
def test_it_does_not_pay_where_nothing_is_spared_or_the_mean_falls(finished, strategy, baseline):
    _, plan = planned(finished)
    assert not weigh(plan, Lines(), strategy, baseline, "other").pays


def test_a_run_is_exported_with_the_fallback_that_was_found_to_pay(dull_artifact):
    artifact = metatune.load(dull_artifact)
    plain = artifact.stored.plain["fallback"]
    assert plain["share_worse_with_fallback"] < plain["share_worse_alone"]
    text = " ".join((dull_artifact / "card.md").read_text().split())
    assert f"`adapt` falls back to `{plain['name']}`, the best preset or baseline" in text
    assert f"{plain['share_worse_alone']:.1%} to {plain['share_worse_with_fallback']:.1%}" in text
    assert artifact.fallback.name == plain["name"]


def test_a_fallback_that_was_not_found_to_pay_is_told_of_and_left_out(finished):
    _, plan = planned(finished)
    found = weigh(plan, Lines(), mean, wrong, "wrong")
    assert "None. It was tried to fall back to `wrong`" in _told(found)


def _told(weighed):
    """What the card says of the fallback."""
    plain = stored(MEAN, WAVES, Episode(1, 5, 5)).plain
    origin = {"names": ["mean"], "run": "r", "data": "", "resource": [0], "trials": [],
              "rounds": [], "digests": [], "refitted_on_all_groups": False, "seed": 0,
              "space_sha256": "",
              "versions": {"metatune": "0"}, "commit_of_metatune": None,
              "commit_of_the_space_file": None}  # fmt: skip
    text = card({**plain, "provenance": origin}, WAVES, None, weighed, None, None)
    return " ".join(text.split())
