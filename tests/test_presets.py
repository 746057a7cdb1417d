"""Presets: each is a strategy that makes sense, and the published one."""

from __future__ import annotations

import pytest

from metatune.errors import SpaceError
from metatune.presets import PRESETS, preset, presets_for
from metatune.strategy import MLP, SGD, Conv4
from metatune.tasks.base import ACCURACY, MSE, SPLITS, Episode, FamilyInfo


def family(kind: str, shape: tuple[int, ...]) -> FamilyInfo:
    classes = kind == "classification"
    return FamilyInfo(
        name="some",
        kind="classification" if classes else "regression",
        input_shape=shape,
        outputs=0 if classes else 1,
        metric=ACCURACY if classes else MSE,
        train_classes=50 if classes else 0,
        groups={split: {"all": 50} for split in SPLITS},
        grouped=False,
        baselines=(),
        about="some tasks",
    )


IMAGES = family("classification", (1, 28, 28))
WAVES = family("regression", (1,))
TABLES = family("classification", (12,))


@pytest.mark.parametrize("info", [IMAGES, WAVES, TABLES, family("classification", (3, 5, 9))])
def test_presets_make_sense_wherever_they_are_offered(info: FamilyInfo) -> None:
    episode = Episode(1 if info.kind == "regression" else 20, 1, 5)
    for name in presets_for(info):
        strategy = preset(name, info)
        assert strategy.problems(info, episode) == []
        assert PRESETS[name].__doc__


def test_presets_that_need_classes_are_not_offered_for_regression() -> None:
    assert presets_for(IMAGES) == tuple(PRESETS)
    assert presets_for(TABLES) == tuple(PRESETS)
    assert presets_for(WAVES) == ("maml", "fomaml", "r2d2", "baseline", "scratch")


def test_presets_differ_from_one_another() -> None:
    for info in (IMAGES, WAVES, TABLES):
        digests = {preset(name, info).digest() for name in presets_for(info)}
        assert len(digests) == len(presets_for(info))


def test_backbones_follow_the_family() -> None:
    assert preset("maml", IMAGES).backbone == Conv4()
    assert preset("maml", WAVES).backbone == MLP(width=40, depth=2)
    assert preset("protonet", TABLES).backbone == MLP(width=40, depth=2)


def test_maml_on_sinusoids_has_the_settings_of_the_paper() -> None:
    strategy = preset("maml", WAVES)
    assert strategy.inner == SGD(steps=1, lr=0.01, scope="all")
    assert (strategy.outer.kind, strategy.outer.lr) == ("adam", 1e-3)
    assert strategy.outer.tasks_per_batch == 25


def test_fomaml_is_maml_with_another_rule() -> None:
    first, second = preset("fomaml", IMAGES), preset("maml", IMAGES)
    assert first.model_copy(update={"meta": second.meta}) == second


def test_an_unknown_name_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(SpaceError, match="found mamml; allowed: maml, fomaml, protonet"):
        preset("mamml", IMAGES)
    with pytest.raises(SpaceError, match=r"protonet \(senseless for some: a regression\)"):
        preset("protonet", WAVES)
