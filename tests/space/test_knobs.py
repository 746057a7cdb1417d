"""The tree of knobs: walking it, and the way back from a strategy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.errors import SpaceError
from metatune.space import (
    ChoiceKnob,
    FloatKnob,
    IntKnob,
    Knob,
    KnobTree,
    Params,
    deep_merge,
    parse_tree,
)
from metatune.space.knobs import Value

TREE: dict[str, Any] = {
    "backbone": {"width": {"choice": [16, 32]}},
    "choose": {
        "gradient": {
            "head": {"kind": "linear"},
            "inner": {
                "kind": "sgd",
                "lr": {"float": [0.001, 0.4], "log": True},
                "steps": {"int": [1, 5], "limits": [1, 10]},
            },
        },
        "closed": {
            "head": {
                "choose": {
                    "ridge": {"kind": "ridge", "penalty": {"float": [0.1, 10]}},
                    "prototypes": {"kind": "prototypes"},
                }
            },
            "inner": {"kind": "none"},
        },
    },
}
COMMON = {"backbone": {"kind": "conv4", "depth": 3}}


def picking(**picked: Value) -> Any:
    """Suggests these values (dots written as __), else the first choice or the lowest number."""
    values = {name.replace("__", "."): value for name, value in picked.items()}

    def suggest(knob: Knob) -> Value:
        if knob.name in values:
            return values[knob.name]
        return knob.choices[0] if isinstance(knob, ChoiceKnob) else knob.low

    return suggest


def test_knobs_are_named_by_their_path_with_branch_labels() -> None:
    tree = parse_tree(TREE, COMMON)
    assert tree.knobs() == (
        ChoiceKnob("backbone.width", (16, 32)),
        ChoiceKnob("choose", ("gradient", "closed"), branches=True),
        FloatKnob("choose.gradient.inner.lr", 0.001, 0.4, True, (0.001, 0.4)),
        IntKnob("choose.gradient.inner.steps", 1, 5, False, (1, 10)),
        ChoiceKnob("choose.closed.head.choose", ("ridge", "prototypes"), branches=True),
        FloatKnob("choose.closed.head.choose.ridge.penalty", 0.1, 10.0, False, (0.1, 10.0)),
    )


def test_walk_asks_only_the_knobs_of_the_picked_branches() -> None:
    tree = parse_tree(TREE, COMMON)
    params, partial = tree.walk(picking(choose="closed"))
    assert params == {
        "backbone.width": 16,
        "choose": "closed",
        "choose.closed.head.choose": "ridge",
        "choose.closed.head.choose.ridge.penalty": 0.1,
    }
    assert partial == {
        "backbone": {"width": 16},
        "head": {"kind": "ridge", "penalty": 0.1},
        "inner": {"kind": "none"},
    }
    assert tree.strategy(partial).structure() == "conv4/ridge/none/first_order"


def test_walk_refuses_values_outside_the_hard_limits_but_not_outside_the_range() -> None:
    tree = parse_tree(TREE, COMMON)
    tree.walk(picking(choose__gradient__inner__steps=10))
    for wrong in (11, 2.5, "3", True, None, float("nan")):
        with pytest.raises(SpaceError, match=r"choose.gradient.inner.steps: found"):
            tree.walk(picking(choose__gradient__inner__steps=wrong))
    with pytest.raises(SpaceError, match='choose: found "x"; allowed: "gradient", "closed"'):
        tree.walk(picking(choose="x"))


def test_params_of_a_strategy_built_otherwise_than_common_is_none() -> None:
    tree = parse_tree(TREE, COMMON)
    plain = tree.strategy(tree.walk(picking())[1]).model_dump()
    assert tree.params_of(plain) is not None
    assert tree.why_outside(plain) == ""
    plain["outer"]["clip"] = 10.0
    assert tree.params_of(plain) is None
    assert tree.why_outside(plain) == "outer.clip 10.0 is 0.0 in this space"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"inner": {"lr": 0.5}}, "inner.lr 0.5 is outside [0.001, 0.4]"),
        ({"inner": {"steps": 11}}, "inner.steps 11 is outside [1, 10]"),
        ({"backbone": {"width": 64}}, "backbone.width 64 is not one of 16, 32"),
        ({"backbone": {"depth": 4}}, "backbone.depth 4 is 3 in this space"),
        ({"inner": {"scope": "head"}}, 'inner.scope "head" is "all" in this space'),
        ({"head": {"kind": "nearest_neighbour"}}, 'head.kind "nearest_neighbour" is not "linear"'),
    ],
)
def test_why_outside_names_the_first_reason(change: dict[str, Any], reason: str) -> None:
    tree = parse_tree(TREE, COMMON)
    plain = tree.strategy(tree.walk(picking())[1]).model_dump(mode="json")
    changed = deep_merge(plain, change)
    assert tree.params_of(changed) is None
    assert tree.why_outside(changed) == reason


def test_structures_are_every_combination_once() -> None:
    combinations = [
        {name: value for name, value in params.items() if isinstance(value, str | int)}
        for params in parse_tree(TREE, COMMON).structures()
    ]
    assert len(combinations) == 2 * (1 + 2)
    assert all(combinations.count(one) == 1 for one in combinations)


def test_merging_another_kind_replaces_the_whole_mapping() -> None:
    base = {"head": {"kind": "ridge", "penalty": 1.0}, "outer": {"lr": 0.1}}
    over = {"head": {"kind": "linear"}, "outer": {"clip": 1.0}}
    assert deep_merge(base, over) == {"head": {"kind": "linear"}, "outer": {"lr": 0.1, "clip": 1.0}}
    assert base == {"head": {"kind": "ridge", "penalty": 1.0}, "outer": {"lr": 0.1}}


def walk_again(tree: KnobTree, params: Params) -> tuple[Params, dict[str, Any]]:
    return tree.walk(lambda knob: params[knob.name])


# --- any tree ------------------------------------------------------------------------------------


@st.composite
def floats(draw: st.DrawFn, low: float, high: float) -> Any:
    """A constant, or a knob, with hard limits or without."""
    number = st.floats(low, high, allow_subnormal=False)
    if draw(st.booleans()):
        return draw(number)
    ends = sorted(draw(st.lists(number, min_size=4, max_size=4, unique=True)))
    if draw(st.booleans()):
        return {"float": ends[1:3], "limits": [ends[0], ends[3]], "log": draw(st.booleans())}
    return {"float": ends[:2], "log": draw(st.booleans())}


@st.composite
def integers(draw: st.DrawFn, low: int, high: int) -> Any:
    """A constant, a knob or a choice."""
    number = st.integers(low, high)
    ends = sorted(draw(st.lists(number, min_size=2, max_size=2, unique=True)))
    return draw(st.sampled_from([ends[0], {"int": ends, "log": True}, {"choice": ends}]))


@st.composite
def heads(draw: st.DrawFn) -> dict[str, Any]:
    """Parts that belong together, told apart by the kind of head."""
    ridge = {"head": {"kind": "ridge", "penalty": draw(floats(0.01, 100))}}
    means = {"head": {"kind": "prototypes", "distance": {"choice": ["euclidean", "cosine"]}}}
    linear = {
        "head": {"kind": "linear"},
        "inner": {"kind": "sgd", "lr": draw(floats(1e-4, 1)), "steps": draw(integers(1, 20))},
    }
    both = {"head": {"choose": {"means": means["head"], "ridge": ridge["head"]}}}
    branches = {"ridge": ridge, "means": means, "linear": linear, "both": both}
    shapes = [{"linear"}, {"ridge", "means"}, {"both", "linear"}, {"ridge", "linear", "means"}]
    kept = draw(st.sampled_from(shapes))
    if draw(st.booleans()) and len(kept) == 1:
        return linear
    return {"choose": {label: branches[label] for label in branches if label in kept}}


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    outer = {
        "lr": draw(floats(1e-5, 1)),
        "clip": draw(floats(0.1, 10)),
        "tasks_per_batch": draw(integers(1, 64)),
    }
    names = draw(st.sets(st.sampled_from(sorted(outer))))
    backbone = {"kind": "mlp", "width": draw(integers(1, 512))}
    return {"backbone": backbone, **draw(heads()), "outer": {key: outer[key] for key in names}}


@given(trees(), st.data())
def test_params_of_is_the_inverse_of_walk(data: dict[str, Any], random: st.DataObject) -> None:
    tree = parse_tree(data)

    def suggest(knob: Knob) -> Value:
        if isinstance(knob, ChoiceKnob):
            return random.draw(st.sampled_from(knob.choices))
        if isinstance(knob, IntKnob):
            return random.draw(st.integers(*knob.limits))
        return random.draw(st.floats(*knob.limits))

    params, partial = tree.walk(suggest)
    strategy = tree.strategy(partial)
    assert tree.params_of(strategy.model_dump(mode="json")) == params
    assert tree.why_outside(strategy.model_dump(mode="json")) == ""
    assert walk_again(tree, params) == (params, partial)


@given(trees())
def test_every_structure_is_a_strategy_whose_numbers_are_in_range(data: dict[str, Any]) -> None:
    tree = parse_tree(data)
    knobs = {knob.name: knob for knob in tree.knobs()}
    for params in tree.structures():
        for name, value in params.items():
            knob = knobs[name]
            if not isinstance(knob, ChoiceKnob):
                assert isinstance(value, int | float)
                assert knob.low <= value <= knob.high
        tree.strategy(walk_again(tree, params)[1])
