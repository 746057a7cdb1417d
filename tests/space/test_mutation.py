"""Mutations: neighbours of a strategy, inside the region."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.space import ChoiceKnob, FloatKnob, IntKnob, Knob, KnobTree, Params, parse_tree
from metatune.space.knobs import Value
from metatune.space.mutation import REDRAWN, STEP, draw_choice, mutate

TREE = parse_tree(
    {
        "outer": {"lr": {"float": [1e-3, 1e-1], "log": True, "limits": [1e-5, 10.0]}},
        "choose": {
            "gradient": {
                "inner": {"steps": {"int": [1, 9], "limits": [1, 20]}},
                "head": {"start": {"choice": ["zero", "learned"]}},
            },
            "ridge": {"head": {"penalty": {"float": [0.0, 10.0]}}},
            "none": {},
        },
    }
)
RATE, STEPS, PENALTY = "outer.lr", "choose.gradient.inner.steps", "choose.ridge.head.penalty"
START = "choose.gradient.head.start"
RIDGE: Params = {RATE: 0.01, "choose": "ridge", PENALTY: 5.0}
KNOBS = {knob.name: knob for knob in TREE.knobs()}


def neighbours(base: Params, count: int, tree: KnobTree = TREE, **more: Any) -> list[Params]:
    return [mutate(tree, base, Random(seed), **more) for seed in range(count)]


def inside(knob: Knob, value: Value) -> bool:
    if isinstance(knob, ChoiceKnob):
        return value in knob.choices
    kind = float if isinstance(knob, FloatKnob) else int
    return isinstance(value, kind) and knob.low <= value <= knob.high


@st.composite
def bases(draw: st.DrawFn) -> Params:
    """Any strategy of the space, inside the region or outside it."""

    def suggest(knob: Knob) -> Value:
        if isinstance(knob, ChoiceKnob):
            return draw(st.sampled_from(knob.choices))
        if isinstance(knob, IntKnob):
            return draw(st.integers(*knob.limits))
        return draw(st.floats(*knob.limits))

    return TREE.walk(suggest)[0]


@given(bases(), st.integers(0, 2**63 - 1))
def test_a_neighbour_is_another_strategy_of_the_region(base: Params, seed: int) -> None:
    before = dict(base)
    found = mutate(TREE, base, Random(seed))
    assert base == before
    assert found != base
    assert all(inside(KNOBS[name], value) for name, value in found.items())
    walked, _ = TREE.walk(lambda knob: found[knob.name])
    assert walked == found  # the knobs of the branch picked, and no others
    assert mutate(TREE, dict(base), Random(seed)) == found


def test_numbers_move_by_normal_steps_of_a_tenth_of_the_range() -> None:
    found: list[Any] = neighbours(RIDGE, 2000)
    for name, width, spots in (
        (RATE, 2.0, [math.log10(p[RATE] / 0.01) for p in found]),
        (PENALTY, 10.0, [p[PENALTY] - 5.0 for p in found if p["choose"] == "ridge"]),
    ):
        mean = sum(spots) / len(spots)
        deviation = math.sqrt(sum((spot - mean) ** 2 for spot in spots) / len(spots))
        assert abs(mean) < 0.01 * width, name
        assert deviation == pytest.approx(STEP * width, rel=0.1), name


def test_a_choice_is_redrawn_now_and_then_and_what_it_opens_is_drawn_at_random() -> None:
    found: list[Any] = neighbours(RIDGE, 3000)
    labels = [p["choose"] for p in found]
    # Besides those, one of the three knobs is picked to change in any case.
    expected = 1 / 3 + 2 / 3 * REDRAWN
    assert 1 - labels.count("ridge") / len(labels) == pytest.approx(expected, rel=0.1)
    assert labels.count("gradient") == pytest.approx(labels.count("none"), rel=0.15)
    opened = [p for p in found if p["choose"] == "gradient"]
    assert {p[STEPS] for p in opened} == set(range(1, 10))
    assert {p[START] for p in opened} == {"zero", "learned"}


def test_other_choices_come_up_by_their_weights() -> None:
    weights = {"choose": (0.09, 0.9, 0.01)}
    labels = [p["choose"] for p in neighbours(RIDGE, 2000, weights=weights)]
    assert labels.count("gradient") > 5 * labels.count("none") > 0


def test_values_outside_the_region_are_moved_to_its_bounds_first() -> None:
    far = {RATE: 10.0, "choose": "none"}
    rates = [p[RATE] for p in neighbours(far, 20)]
    assert set(rates) == {0.1}


def test_whole_numbers_of_a_narrow_range_change_too() -> None:
    tree = parse_tree({"inner": {"steps": {"int": [1, 2], "log": True}}})
    assert neighbours({"inner.steps": 1}, 20, tree) == [{"inner.steps": 2}] * 20
    assert neighbours({"inner.steps": 2}, 20, tree) == [{"inner.steps": 1}] * 20


def test_where_nothing_can_change_nothing_does() -> None:
    tree = parse_tree({"head": {"kind": {"choice": ["ridge"]}}})
    assert neighbours({"head.kind": "ridge"}, 3, tree) == [{"head.kind": "ridge"}] * 3
    assert neighbours({}, 1, parse_tree({"head": {"kind": "ridge"}})) == [{}]


def test_what_the_space_does_not_know_is_drawn_anew() -> None:
    strange: Params = {"choose": "kernel", "choose.kernel.width": 1.0, RATE: 99.0}
    labels = {p["choose"] for p in neighbours(strange, 30)}
    assert labels == {"gradient", "ridge", "none"}


def test_choices_are_drawn_by_weights_else_evenly() -> None:
    knob = ChoiceKnob("head.kind", ("ridge", "linear"))
    random = Random(0)
    for weights, expected in (({}, 500), ({"head.kind": (0.1, 0.9)}, 100)):
        drawn = [draw_choice(knob, weights, random) for _ in range(1000)]
        assert drawn.count("ridge") == pytest.approx(expected, rel=0.2)
