"""Every published strategy goes through an artifact and predicts as before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import MOLECULES, SEGMENTS, SERIES, SMALL_IMAGES, TABLES, random_tasks
from made import stored

from metatune.artifact import files
from metatune.artifact import members as m
from metatune.artifact.loading import load
from metatune.errors import ArtifactError, SpaceError
from metatune.learners.interface import Tensors
from metatune.learners.learner import build_learner
from metatune.learners.pooled import fit_pooled
from metatune.presets import PRESETS, preset
from metatune.strategy import Pooled, problems
from metatune.tasks.base import Episode, TaskBatch

FAMILIES = {
    "images": (SMALL_IMAGES, Episode(3, 2, 2)),
    "tables": (TABLES, Episode(3, 2, 2)),
    "molecules": (MOLECULES, Episode(1, 6, 4)),
    "series": (SERIES, Episode(1, 6, 4)),
}


def found(name, family):
    """A preset for a family; None where it makes no sense there."""
    info, episode = FAMILIES[family]
    try:
        strategy = preset(name, info)
    except SpaceError:
        return None
    return None if problems(strategy, info, episode) else strategy


STRATEGIES = {
    (name, family): strategy
    for name in PRESETS
    for family in FAMILIES
    if (strategy := found(name, family)) is not None
}
POOLED = {name for (name, _), one in STRATEGIES.items() if isinstance(one.prior, Pooled)}
"""Fitted in a run: see test_export."""
CASES = list({name: (name, family) for name, family in STRATEGIES if name not in POOLED}.values())
"""Each in one family."""


def arrays(batch: Tensors) -> TaskBatch:
    """Tasks as a family draws them."""
    names = ("support_x", "support_y", "query_x", "query_y")
    numbers = {name: getattr(batch, name).numpy() for name in names}
    return TaskBatch(**numbers, ids=tuple(map(str, range(len(batch)))), groups=batch.groups)


def test_each_preset_is_among_these():
    assert {name for name, _ in STRATEGIES} == set(PRESETS)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_preset_predicts_what_it_did_before(name, family, tmp_path):
    info, episode = FAMILIES[family]
    strategy = STRATEGIES[name, family]
    artifact = load(files.write(stored(strategy, info, episode, seed=3), tmp_path / "a"))
    learner = build_learner(strategy, info, episode.way)
    batch = random_tasks(info, episode, tasks=1, seed=5)
    expected = learner.predict(m.used(learner.init(3)), batch)[0]
    task = artifact.learned(batch.support_x[0], batch.support_y[0], episode.way)
    torch.testing.assert_close(task(batch.query_x[0]), expected.detach(), rtol=1e-5, atol=1e-5)


def test_an_ensemble_predicts_the_mean_of_its_members(tmp_path):
    info, episode = FAMILIES["molecules"]
    strategy = preset("fomaml", info)
    one, two = (stored(strategy, info, episode, seed=seed) for seed in (1, 2))
    second = {n.replace("0/", "1/", 1): t for n, t in two.tensors.items() if n.startswith("0/")}
    plain = {**one.plain, "strategies": one.plain["strategies"] * 2}
    both = files.Stored(plain, {**one.tensors, **second}, "")
    batch = random_tasks(info, episode, tasks=1, seed=5)

    def predictions(made, name):
        artifact = load(files.write(made, tmp_path / name))
        return artifact.learned(batch.support_x[0], batch.support_y[0], 1)(batch.query_x[0])

    apart = torch.stack([predictions(one, "one"), predictions(two, "two")])
    torch.testing.assert_close(predictions(both, "both"), apart.mean(0))
    assert not torch.allclose(apart[0], apart[1])


@pytest.mark.parametrize("name", ["pooled_linear", "boosted_trees", "pooled_ridge", "pooled_trees"])
def test_a_pooled_classifier_predicts_what_it_did_before(name, tmp_path):
    """Its scikit-learn model goes through the artifact as arrays."""
    strategy, episode = preset(name, SEGMENTS), Episode(3, 4, 6)
    info = replace(SEGMENTS, train_classes=3)
    train = random_tasks(info, episode, tasks=40, seed=1)
    fitted = fit_pooled(strategy.prior, [arrays(train)], {}, seed=0, classes=3)
    made_up = stored(strategy, info, episode, seed=3, pooled=fitted)
    plain = {**made_up.plain, "target": {**made_up.plain["target"], "classes": list("abc")}}
    artifact = load(files.write(replace(made_up, plain=plain), tmp_path / "a"))
    batch = random_tasks(info, episode, tasks=1, seed=5)
    learner = build_learner(strategy, info, 3)
    tensors = fitted.attach(batch, training=False)
    expected = learner.predict(m.used(learner.init(3)), tensors)[0].detach()
    task = artifact.learned(batch.support_x[0], batch.support_y[0], 3)
    torch.testing.assert_close(task(batch.query_x[0]), expected, rtol=1e-6, atol=1e-6)
    given = [["c", "b", "a"][n] for n in batch.support_y[0].tolist()]  # by name, not by number
    found = artifact.adapt(batch.support_x[0].numpy(), given)
    assert found.classes.tolist() == ["a", "b", "c"]


def test_a_pooled_classifier_makes_no_sense_where_tasks_share_no_classes():
    strategy = preset("pooled_linear", SEGMENTS)
    with pytest.raises(ArtifactError, match="found pooled; allowed: zero, where tasks share none"):
        m.of_tensors(strategy, replace(SEGMENTS, shared_classes=False), 3, {})
