"""Presets: each is a strategy that makes sense, and the published one."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest
from families import IMAGES, MOLECULES, SEGMENTS, SERIES, TABLES, WAVES, family

from metatune import presets
from metatune.errors import SpaceError
from metatune.presets import PRESETS, preset, presets_for
from metatune.strategy import (
    MLP,
    Conv4,
    Forecast,
    Linear,
    Pooled,
    Steps,
    Strategy,
    SupportMean,
    problems,
)
from metatune.tasks.base import Episode, FamilyInfo

FAMILIES = [
    IMAGES, WAVES, TABLES, SEGMENTS, MOLECULES, SERIES, family("classification", (3, 5, 9)),
]  # fmt: skip
FILES = [
    presets.amortised, presets.closed_form, presets.gradient, presets.metric, presets.naive,
    presets.transfer,
]  # fmt: skip

NEED_CLASSES = {
    "proto_maml", "protonet", "cosine_protonet", "baseline_plus_plus", "good_embedding",
    "logistic",
}  # fmt: skip
NEED_NUMBERS_OR_SHARED_CLASSES = {
    "pooled_trees", "pooled_linear", "pooled_ridge", "boosted_trees",
}  # fmt: skip
NEED_FINGERPRINTS = {"tanimoto_gp", "tanimoto_neighbours"}
NEED_FORECASTS = {"seasonal_naive", "last_value", "seasonal_ridge"}


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("info", FAMILIES)
def test_presets_make_sense_wherever_they_are_offered(info: FamilyInfo) -> None:
    episode = Episode(1, 2, 5) if info.kind == "regression" else Episode(12, 1, 5)
    for name in presets_for(info):
        assert problems(preset(name, info), info, episode) == [], name


@pytest.mark.parametrize(("info", "refused"), [
    (IMAGES, NEED_NUMBERS_OR_SHARED_CLASSES | NEED_FINGERPRINTS | NEED_FORECASTS),
    (TABLES, NEED_NUMBERS_OR_SHARED_CLASSES | NEED_FINGERPRINTS | NEED_FORECASTS),
    (SEGMENTS, NEED_FINGERPRINTS | NEED_FORECASTS),
    (WAVES, NEED_CLASSES | NEED_FINGERPRINTS | NEED_FORECASTS),
    (MOLECULES, NEED_CLASSES | NEED_FORECASTS),
    (SERIES, NEED_CLASSES | NEED_FINGERPRINTS),
])  # fmt: skip
def test_families_are_offered_all_presets_but_those_that_need_what_they_have_not(
    info: FamilyInfo, refused: set[str]
) -> None:
    assert presets_for(info) == tuple(name for name in PRESETS if name not in refused)


@pytest.mark.parametrize("info", FAMILIES)
def test_presets_differ_from_one_another(info: FamilyInfo) -> None:
    names = {name: preset(name, info).digest() for name in presets_for(info)}
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_explained_in_more_than_a_line(name: str) -> None:
    told = inspect.getdoc(PRESETS[name]) or ""
    first, *more = told.splitlines()
    assert first.endswith((".", ":"))
    assert any(line.strip() for line in more)


@pytest.mark.parametrize("module", FILES)
def test_every_public_function_of_the_files_is_a_preset_by_its_name(module: ModuleType) -> None:
    here = {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert here
    assert all(PRESETS[name] is function for name, function in here.items())


def test_every_preset_stands_in_one_of_the_files() -> None:
    assert {build.__module__ for build in PRESETS.values()} == {file.__name__ for file in FILES}


def test_an_unknown_name_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(SpaceError, match=f"found mamml; allowed: {', '.join(presets_for(IMAGES))}"):
        preset("mamml", IMAGES)
    with pytest.raises(SpaceError, match=r"protonet \(senseless for some: a regression\)"):
        preset("protonet", WAVES)


# --- what they are --------------------------------------------------------------------------------


def test_backbones_follow_the_family() -> None:
    assert preset("maml", IMAGES).backbone == Conv4()
    assert preset("maml", family("classification", (3, 5, 9))).backbone == Conv4(depth=2)
    assert preset("maml", WAVES).backbone == MLP(width=40, depth=2)
    assert preset("protonet", TABLES).backbone == MLP(width=40, depth=2)


def test_maml_on_sinusoids_has_the_settings_of_the_paper() -> None:
    strategy = preset("maml", WAVES)
    assert strategy.inner == Steps(steps=1, lr=0.01, scope="all")
    assert (strategy.outer.kind, strategy.outer.lr) == ("adam", 1e-3)
    assert strategy.outer.tasks_per_batch == 25


def differs_in(one: Strategy, other: Strategy) -> set[str]:
    """The settings in which two strategies differ, as ``part.setting``."""
    plain, others = one.model_dump(), other.model_dump()
    return {
        f"{part}.{setting}"
        for part, settings in plain.items()
        if isinstance(settings, dict)
        for setting, value in settings.items()
        if value != others[part].get(setting)
    }


@pytest.mark.parametrize(("name", "settings"), [
    ("fomaml", {"meta.rule"}),
    ("anil", {"inner.scope"}),
    ("boil", {"inner.scope"}),
    ("meta_sgd", {"inner.rate", "inner.steps"}),
    ("maml_plus_plus", {"inner.rate", "meta.first_order_until", "meta.multi_step_until",
                        "outer.schedule"}),
    ("imaml", {"meta.rule", "inner.proximal", "inner.steps"}),
    ("cavia", {"inner.scope", "inner.steps", "inner.lr"}),
    ("proto_maml", {"meta.rule", "head.start"}),
])  # fmt: skip
def test_relatives_of_maml_are_maml_but_for_what_they_are_about(
    name: str, settings: set[str]
) -> None:
    assert differs_in(preset("maml", IMAGES), preset(name, IMAGES)) == settings


def test_the_two_neural_processes_differ_in_their_summary() -> None:
    assert differs_in(preset("cnp", WAVES), preset("anp", WAVES)) == {"head.summary", "head.heads"}


@pytest.mark.parametrize("name", ["ridge", "nearest_neighbour", "scratch", "support_mean"])
def test_baselines_learn_nothing_from_other_tasks(name: str) -> None:
    for info in FAMILIES:
        assert not preset(name, info).trains


def test_transfer_starts_new_classes_anew_and_goes_on_from_a_regression() -> None:
    assert preset("baseline", TABLES).head == Linear(start="zero")
    assert preset("baseline", WAVES).head == Linear(start="learned")


def test_the_level_of_a_regression_comes_first() -> None:
    assert preset("deep_kernel", WAVES).prior == SupportMean()
    assert isinstance(preset("pooled_trees", MOLECULES).prior, Pooled)
    assert preset("deep_kernel", TABLES).prior.kind == "zero"


def test_numbers_learned_beside_pooled_trees_are_cross_fitted_where_groups_mean_something() -> None:
    assert preset("pooled_trees", MOLECULES).folds(MOLECULES) == 2
    assert preset("pooled_trees", WAVES).folds(WAVES) == 0


def test_what_is_pooled_learns_from_other_tasks_with_and_without_a_correction() -> None:
    for name in ("pooled_linear", "boosted_trees"):
        strategy = preset(name, MOLECULES)
        assert strategy.trains
        assert strategy.meta.rule == "none"
        assert strategy.folds(MOLECULES) == 0  # nothing is learned beside it
    assert differs_in(preset("pooled_ridge", MOLECULES), preset("pooled_trees", MOLECULES)) == {
        "prior.model"
    }


def test_naive_forecasts_learn_nothing_and_ridge_corrects_one_in_each_task() -> None:
    assert preset("seasonal_naive", SERIES).prior == Forecast(name="seasonal_naive")
    assert preset("last_value", SERIES).prior == Forecast(name="last_value")
    assert differs_in(preset("seasonal_ridge", SERIES), preset("seasonal_naive", SERIES)) == {
        "head.penalty", "head.intercept"
    }  # fmt: skip
    for name in NEED_FORECASTS:
        assert not preset(name, SERIES).trains
