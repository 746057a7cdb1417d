"""The grammar of knobs: what each mistake is told as."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from metatune.errors import SpaceError
from metatune.space import Knob, Params, load_yaml, parse_tree
from metatune.space.knobs import Value
from metatune.space.source import Source


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {float: [2, 1]}", "s.yaml:1: a.float: found 2 above 1; allowed: lowest first"),
        ("a: {float: [1, 1]}", "a.float: found 1 equal to 1; allowed: a range"),
        ("a: {float: [1]}", "a.float: found a list of 1; allowed: [lowest, highest]"),
        ("a: {float: 3}", "a.float: found 3; allowed: [lowest, highest] as two numbers"),
        ("a: {float: [x, 1]}", 'a.float[0]: found "x"'),
        ("a: {float: [true, 2]}", "a.float[0]: found true"),
        ("a: {float: [0, 1e300]}", "a.float[1]: found 1e+300"),
        ("a: {int: [1, 2.5]}", "a.int[1]: found 2.5; allowed: [lowest, highest] as two whole"),
        ("a: {float: [0, 1], log: true}", "a: found log: true from 0; allowed: more than 0"),
        ("a: {int: [0, 4], log: true}", "a: found log: true from 0; allowed: 1 or more"),
        ("a: {float: [1, 2], log: 5}", "a.log: found 5; allowed: true or false"),
        ("a: {float: [1, 2], log: yes}", 'a.log: found "yes"; allowed: true or false'),
        ("a: {float: [1, 2], limits: [1, 1.5]}", "allowed: limits that contain the range"),
        ("a: {float: [1, 2], limits: [0, 3], log: true}", "found log: true from 0"),
        ("a: {float: [1, 2], step: 1}", "a.step: found the unknown key step; allowed: float, log"),
        ("a: {choice: [1, 2], log: true}", "a.log: found the unknown key log; allowed: choice"),
        ("a: {choice: []}", "a.choice: found an empty list; allowed: a list of at least one"),
        ("a: {choice: x}", 'a.choice: found "x"; allowed: a list of at least one'),
        ("a: {choice: [1, 2, 1]}", "a.choice[2]: found 1 again; allowed: each value once"),
        ("a: {choice: [[1], 2]}", "a.choice[0]: found a list of 1"),
        ("a: {float: [1, 2], int: [1, 2]}", "a: found float and int; allowed: one of them"),
        ("a: [1, 2]", "a: found a list of 2; allowed: a value, or a knob such as"),
        ("choose: {}", "choose: found {}; allowed: a mapping of labels to subtrees"),
        ("choose: 5", "choose: found 5; allowed: a mapping of labels to subtrees"),
        ("choose: {a: 5}", "choose.a: found 5; allowed: a mapping"),
        ("choose: {a: {int: [1, 2]}}", "choose.a: found a knob; allowed: a mapping"),
        ("choose: {a.b: {}}", 'found the label "a.b"; allowed: letters, digits'),
        ("a.b: 1", 'found the key "a.b"; allowed: letters, digits'),
        ("float: [1, 2]", "found a knob; allowed: a mapping of a strategy's parts"),
        ("a: 1\nchoose:\n  x: {a: 2}", "s.yaml:3: choose.x.a: found a, which the mapping"),
        ("a: {b: 1}\nchoose:\n  x:\n    a: {b: 2}", "s.yaml:4: choose.x.a.b: found b, which"),
        ("choose: {x: {a: {b: 1}, choose: {y: {a: 1}}}}", "choose.x.choose.y.a: found a, which"),
    ],
)
def test_refuses_with_the_line_and_what_is_allowed(text: str, said: str) -> None:
    data, lines = load_yaml(text, "s.yaml")
    with pytest.raises(SpaceError) as caught:
        parse_tree(data, source=Source("s.yaml", lines), place=())
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_refuses_a_key_that_two_choices_beside_each_other_repeat() -> None:
    inside = {"a": {"choose": {"p": {"b": 1}}}}
    with pytest.raises(SpaceError, match=r"choose\.x\.a\.choose\.q\.b: found b, which"):
        parse_tree({**inside, "choose": {"x": {"a": {"choose": {"q": {"b": 2}}}}}})


@pytest.mark.parametrize(
    "data",
    [
        {"a": {"b": 1}, "choose": {"x": {"a": {"c": 2}}, "y": {}}},
        {"choose": {"x": {"a": 1}, "y": {"a": 2}}},
        {"a": {"choose": {"p": {"b": 1}}}, "choose": {"x": {"a": {"choose": {"q": {"c": 2}}}}}},
        {"a": {}, "b": {"choice": [None, "x", 1, 2.5, True][:4]}},
    ],
)
def test_takes_branches_that_share_mappings_but_no_leaf(data: dict[str, Any]) -> None:
    tree = parse_tree(data)
    for params in tree.structures():
        assert tree.walk(partial(_value_in, params))[0] == params


def _value_in(params: Params, knob: Knob) -> Value:
    return params[knob.name]


def test_tells_every_problem_at_once() -> None:
    with pytest.raises(SpaceError) as caught:
        parse_tree({"a": {"float": [2, 1]}, "b": {"choice": []}, "c": [1]})
    assert len(str(caught.value).splitlines()) == 3
