"""Space files: the shipped ones, what a mistake is told as, and what a file resolves to."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.errors import SpaceError
from metatune.presets import PRESETS, presets_for
from metatune.space import ResolvedSpace, Space, load_space, resolve
from metatune.strategy import Ridge
from metatune.tasks.base import Episode, FamilyInfo

Read = Callable[[str], Space]
Resolve = Callable[[str], ResolvedSpace]

SMALL = """\
family: {name: glyphs, way: 5, shot: 1}
budget: {trials: 4}
common: {backbone: {kind: conv4, width: 8}}
initial: [protonet, {preset: r2d2, head: {penalty: 0.1}}]
strategy:
  head: {kind: ridge, penalty: {float: [0.1, 10], log: true}}
"""


# --- the shipped files ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quickstart", "omniglot", "image_folder", "sinusoid"])
def test_shipped_files_have_a_dozen_knobs_and_contain_what_they_name(
    name: str, shipped: dict[str, str], resolved: Resolve
) -> None:
    space = resolved(shipped[name])
    assert len(space.tree.knobs()) <= 12
    assert space.default.name in PRESETS
    for named in space.initial:
        inside = space.params_of(named.strategy) is not None
        assert inside == (named.name != "nearest_neighbour"), named.name


def test_a_file_is_loaded_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    space = load_space(path, ["glyphs"])
    assert space.episode == Episode(way=5, shot=1, query=5)
    assert space.source.line(("budget", "trials")) == 2
    with pytest.raises(SpaceError, match=r"small\.yaml:1: family\.name: found .*; allowed: a"):
        load_space(path, ["a"])


def test_rungs_are_whole_shares_of_the_full_resource(read: Read) -> None:
    space = read(SMALL + "resource: {full: 1000, rungs: 3, reduction: 3}\n")
    assert space.resource.rung_resources() == (111, 333, 1000)


def test_strategies_are_judged_by_score_and_where_asked_by_what_a_task_takes(read: Read) -> None:
    assert (read(SMALL).objectives, read(SMALL).costs) == (("score",), ())
    space = read(SMALL + "objectives: [score, adapt_seconds]\n")
    assert space.costs == ("adapt_seconds",)


# --- what a file resolves to ---------------------------------------------------------------------


def test_named_strategies_come_default_first_and_none_twice(resolved: Resolve) -> None:
    space = resolved(
        SMALL + "default: fomaml\nverdict: {presets: [protonet, maml], baselines: [baseline]}\n"
    )
    assert [(named.name, named.origin) for named in space.initial] == [
        ("fomaml", "default"),
        ("protonet", "preset"),
        ("r2d2*", "initial"),
        ("maml", "preset"),
        ("baseline", "baseline"),
        ("nearest_neighbour", "baseline"),
    ]
    assert space.rivals == {"protonet", "maml", "baseline", "nearest_neighbour"}
    assert space.protected == space.rivals | {"fomaml"}


def test_without_a_default_the_first_of_initial_is_it(resolved: Resolve) -> None:
    space = resolved(SMALL + "verdict: {presets: [protonet]}\n")
    assert (space.default.name, space.default.origin) == ("protonet", "default")
    assert "protonet" in space.rivals


def test_common_lies_under_an_entry_and_over_its_preset(resolved: Resolve) -> None:
    text = SMALL.replace("width: 8}}", "width: 8}, outer: {lr: 0.5}}")
    text = text.replace("head: {penalty: 0.1}", "head: {penalty: 0.1}, outer: {lr: 0.25}")
    space = resolved(text)
    protonet, r2d2, nearest = (named.strategy for named in space.initial)
    assert protonet.backbone == r2d2.backbone
    assert protonet.backbone.model_dump()["width"] == 8
    assert (protonet.outer.lr, r2d2.outer.lr) == (0.5, 0.25)
    assert r2d2.head == Ridge(penalty=0.1, intercept="penalised", learn=True)
    assert nearest.backbone.kind == "none"


def test_a_whole_strategy_has_its_name_and_may_be_the_default(resolved: Resolve) -> None:
    text = SMALL.replace("[protonet,", "[{name: mine, head: {kind: ridge, penalty: 3.0}},")
    space = resolved(text + "default: mine\n")
    assert space.default.name == "mine"
    assert space.params_of(space.default.strategy) == {"head.penalty": 3.0}
    assert space.strategy_from({"head": {"kind": "ridge", "penalty": 3}}) == space.default.strategy


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("budget:", "bugdet:", "s.yaml:2: bugdet: found the unknown key bugdet; allowed: family,"),
        ("trials: 4", "trials: x", 's.yaml:2: budget.trials: found "x"; allowed: a valid integer'),
        ("trials: 4", "trials: 0", "budget.trials: found 0; allowed: greater than or equal to 1"),
        ("trials: 4", "trials: 4.0", "budget.trials: found 4.0; allowed: a valid integer"),
        ("{trials: 4}", "{}", "s.yaml:2: budget.trials: found nothing; allowed: strategies to try"),
        ("{trials: 4}", "4", "s.yaml:2: budget: found 4; allowed: a mapping"),
        ("trials: 4", "trials: 4, trials: 5", "s.yaml:2: budget: found the key 'trials' again"),
        ("name: glyphs", "name: glyph", 'found "glyph"; allowed: glyphs, image_folder, omniglot'),
        ("way: 5, ", "", "s.yaml:1: family.way: found nothing; allowed: 2 or more classes"),
        ("[protonet,", "[protonett,", 's.yaml:4: initial[0]: found the unknown preset "protonett"'),
        ("[protonet,", "[5,", "s.yaml:4: initial[0]: found 5; allowed: a mapping"),
        ("[protonet,", "[{head: {}},", "initial[0]: found neither preset nor name"),
        ("[protonet,", "[r2d2, {preset: r2d2, name: r2d2, head: {}},", "the name r2d2 of a"),
        ("[protonet,", "[{name: maml, head: {kind: ridge}},", "the name maml of a preset for"),
        ("[protonet,", "[protonet, protonet,", 'found the name "protonet" again'),
        ("[protonet,", "[{name: a b, head: {kind: ridge}},", "allowed: up to 40 letters"),
        ("[protonet,", "[{name: proposed-1, head: {}},", "names that do not start with proposed-"),
        ("{penalty: 0.1}", "{penalty: -1}", "initial[1].head.penalty: found -1; allowed: greater"),
        ("{penalty: 0.1}", "{kind: rige}", 'initial[1].head.kind: found "rige"; allowed: linear,'),
        ("{penalty: 0.1}", "{steps: 1}", "initial[1].head.steps: found the unknown key steps; all"),
        ("{penalty: 0.1}", "{kind: linear}", "s.yaml:4: initial[1]: found r2d2* (head linear is"),
        ("width: 8", "widht: 8", "common.backbone.widht: found the unknown key widht; allowed: ki"),
        ("{backbone: {kind: conv4, width: 8}}", "{head: {kind: ridge}}", 'found kind "ridge", wh'),
        ("[0.1, 10]", "[10, 0.1]", "s.yaml:6: strategy.head.penalty.float: found 10 above 0.1"),
        ("[0.1, 10]", "[0, 10]", "strategy.head.penalty: found log: true from 0"),
        ("[0.1, 10], log: true", "[0, 10]", "s.yaml:6: strategy.head.penalty: found 0.0; allowed"),
        ("{float: [0.1, 10], log: true}", "{choice: []}", "found an empty list"),
        ("kind: ridge, penalty", "kind: ridge, penlty", "strategy.head.penlty: found the unknown"),
        ("kind: ridge, penalty", "kind: rig, penalty", 's.yaml:6: strategy.head.kind: found "rig"'),
        ("kind: ridge, penalty", "penalty", "s.yaml:6: strategy.head: found no kind; allowed: a"),
        ("  head: {kind: ridge,", "\thead: {kind: ridge,", "s.yaml:6: found a tab"),
    ],
)
def test_a_mistake_is_told_in_one_line(old: str, new: str, said: str, resolved: Resolve) -> None:
    assert old in SMALL
    with pytest.raises(SpaceError) as caught:
        resolved(SMALL.replace(old, new))
    assert said in str(caught.value)
    assert str(caught.value).count(said) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("default: nobody", 's.yaml:7: default: found "nobody"; allowed: cnp, anp'),
        ("verdict: {presets: [x]}", 's.yaml:7: verdict.presets[0]: found "x"; allowed: cnp, anp'),
        ("verdict: {finalists: 11}", "verdict.finalists: found 11; allowed: less than or equal"),
        ("verdict: {presets: x}", "verdict.presets: found"),
        (
            "verdict: {ensemble: 1}",
            "s.yaml:7: verdict.ensemble: found 1; allowed: 0 for none, or 2 to 5 members",
        ),
        ("verdict: {ensemble: 6}", "verdict.ensemble: found 6; allowed: less than or equal to 5"),
        ("verdict: {best_seeds: 0}", "verdict.best_seeds: found 0; allowed: greater than or"),
        ("tasks: {test: 1}", "tasks.test: found 1; allowed: greater than or equal to 2"),
        ("resource: {full: 8, rungs: 3}", "s.yaml:7: resource: found 3 rungs by 3, of which"),
        ("seed: -1", "seed: found -1; allowed: greater than or equal to 0"),
        ("objectives: [adapt_seconds]", "s.yaml:7: objectives: found adapt_seconds; allowed: sco"),
        ("objectives: [adapt_seconds, score]", "allowed: score, then any of adapt_seconds, none t"),
        ("objectives: [score, score]", "objectives: found score, score; allowed: score, then"),
        ("objectives: [score, adapt_seconds, adapt_seconds]", "adapt_seconds, none twice"),
        ("objectives: [score, hours]", "objectives: found score, hours; allowed: score, then"),
        ("objectives: []", "objectives: found nothing; allowed: score, then any of adapt_seconds"),
        ("objectives: score", 's.yaml:7: objectives: found "score"; allowed: a list'),
        ("objectives: [score, 3]", "s.yaml:7: objectives[1]: found 3; allowed: a valid string"),
    ],
)
def test_a_mistake_in_other_keys_is_told_in_one_line(
    more: str, said: str, resolved: Resolve
) -> None:
    with pytest.raises(SpaceError) as caught:
        resolved(f"{SMALL}{more}\n")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_senseless_choices_are_told_by_what_they_have_in_common(resolved: Resolve) -> None:
    text = (
        SMALL.split("strategy:")[0]
        + """\
strategy:
  choose:
    gradient: {head: {kind: linear}, inner: {kind: sgd}}
    means: {head: {kind: {choice: [prototypes, ridge]}}}
  outer: {schedule: {choice: [constant, cosine]}}
  meta: {rule: {choice: [second_order, first_order]}}
"""
    )
    with pytest.raises(SpaceError) as caught:
        resolved(text)
    assert str(caught.value) == (
        's.yaml:10: strategy.meta.rule: found choose "means" with meta.rule "second_order" '
        "(meta.rule second_order has no inner steps to differentiate through); "
        "allowed: combinations that make sense"
    )


def test_a_regression_refuses_classes_and_presets_that_need_them(
    resolved: Resolve, waves: FamilyInfo
) -> None:
    text = SMALL.replace("name: glyphs", "name: sinusoid")
    text = text.replace("kind: conv4", "kind: mlp")
    with pytest.raises(SpaceError) as caught:
        resolved(text)
    assert "s.yaml:1: family.way: found 5; allowed: none" in str(caught.value)
    assert re.search(
        r"s\.yaml:4: initial\[0\]: found protonet \(head prototypes needs classes.*\); "
        f"allowed: {', '.join(presets_for(waves))}$",
        str(caught.value),
        re.MULTILINE,
    )


def test_numbers_are_tried_at_their_limits(resolved: Resolve) -> None:
    depths = SMALL + "  backbone: {depth: {int: [1, 4], limits: [1, 5]}}\n"
    with pytest.raises(SpaceError, match=r"found every combination \(backbone.depth 5 halves"):
        resolved(depths)


def test_many_combinations_are_checked_in_bounded_time(resolved: Resolve) -> None:
    many = (
        SMALL
        + "  outer:\n"
        + "".join(
            f"    {key}: {{choice: {values}}}\n"
            for key, values in {
                "lr": [i / 100 for i in range(1, 30)],
                "clip": list(range(30)),
                "tasks_per_batch": list(range(1, 60)),
            }.items()
        )
    )
    assert len(resolved(many).tree.knobs()) == 4


# --- any mistake ---------------------------------------------------------------------------------

SCALARS = (None, True, -1, 0, 3, 2.5, 1e300, 10**40, "", "x", "maml", "a\nb")
COLLECTIONS: tuple[Any, ...] = ([], [1], [[], {}], ["maml"], {}, {"kind": "x"}, {"": 1})
KNOBS: tuple[Any, ...] = ({"float": [0, 1]}, {"choice": []}, {"choose": {"a": {}}})
JUNK = st.sampled_from([*SCALARS, *COLLECTIONS, *KNOBS])
KEYS = st.sampled_from(["kind", "choose", "lr", "limits", "x", "backbone", "preset"])


def _places(data: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    return [place, *(found for key in keys for found in _places(data[key], (*place, key)))]


def _mutated(data: Any, draw: Any) -> Any:
    data = copy.deepcopy(data)
    *above, last = draw(st.sampled_from(_places(data)[1:]))
    parent = data
    for key in above:
        parent = parent[key]
    action = draw(st.sampled_from(["replace", "delete", "add"]))
    if action == "replace":
        parent[last] = draw(JUNK)
    elif action == "delete":
        del parent[last]
    elif isinstance(parent, dict):
        parent[draw(st.sampled_from(["kind", "choose", "lr", "limits", "x", "backbone"]))] = draw(
            JUNK
        )
    else:
        parent.append(draw(JUNK))
    return data


def _told_or_resolved(text: str, resolved: Resolve) -> None:
    try:
        resolved(text)
    except SpaceError as error:
        told = str(error).splitlines()
        assert 1 <= len(told) <= 10
        for line in told:
            assert re.match(r"s\.yaml:\d+: .*found .+; allowed: .+", line), line


@settings(max_examples=50)
@given(random=st.data())
def test_any_change_of_a_shipped_file_is_told_or_valid(
    random: st.DataObject, shipped: dict[str, str], resolved: Resolve
) -> None:
    data = yaml.safe_load(random.draw(st.sampled_from(sorted(shipped.values()))))
    for _ in range(random.draw(st.integers(1, 3))):
        data = _mutated(data, random.draw)
        if len(_places(data)) < 2:
            break
    _told_or_resolved(yaml.safe_dump(data, sort_keys=False), resolved)


@settings(max_examples=50)
@given(random=st.data())
def test_any_slip_of_the_keyboard_is_told_or_valid(
    random: st.DataObject, shipped: dict[str, str], resolved: Resolve
) -> None:
    text = random.draw(st.sampled_from(sorted(shipped.values())))
    start = random.draw(st.integers(0, len(text)))
    length = random.draw(st.integers(0, 5))
    typed = random.draw(st.text("{}[]:,-#&*!|>'\"%@ \t\nax01.e", max_size=4))
    _told_or_resolved(text[:start] + typed + text[start + length :], resolved)


def test_a_family_may_demand_only_presets_that_exist(read: Read, images: FamilyInfo) -> None:
    with pytest.raises(SpaceError, match="found the preset nobody, which glyphs demands"):
        resolve(read(SMALL), replace(images, baselines=("nobody",)))
