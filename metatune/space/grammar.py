"""Reading a tree of knobs from plain data.

=================================  ==========================================================
``{float: [lo, hi]}``              a number; optional ``log: true``, ``limits: [lo, hi]``
``{int: [lo, hi]}``                a whole number; likewise
``{choice: [a, b, c]}``            one of these values
``choose: {label: {...}, ...}``    exactly one subtree, merged into the mapping around it
anything else                      a fixed value, or a mapping of the same
=================================  ==========================================================

``limits`` are hard: the search may move a range inside them. They default to the range.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from metatune.errors import SpaceError
from metatune.space.knobs import (
    ChoiceKnob,
    Choose,
    Constant,
    FloatKnob,
    Group,
    IntKnob,
    Knob,
    KnobTree,
    Leaf,
    Node,
)
from metatune.space.source import Place, Problem, Source, dotted, refuse, show

KNOB_KEYS = ("float", "int", "choice")
_OPTIONS = {"float": ("log", "limits"), "int": ("log", "limits"), "choice": ()}
_LABEL = re.compile(r"[A-Za-z0-9_-]+")


def parse_tree(
    data: Any,
    common: Mapping[str, Any] | None = None,
    source: Source | None = None,
    place: Place = ("strategy",),
) -> KnobTree:
    """The tree of some plain data.

    Args:
        data: the tree, as under ``strategy:`` in a space file.
        common: the partial strategy that the tree's values are merged on top of.
        source: names the file and its lines in messages.
        place: where the tree stands in the file.

    Raises:
        SpaceError: one line for each thing that is wrong with the grammar.
    """
    tree, problems = read_tree(data, common, place)
    refuse(problems, source or Source())
    if tree is None:
        raise SpaceError(f"{dotted(place)}: found nothing; allowed: a mapping")
    return tree


def read_tree(
    data: Any, common: Mapping[str, Any] | None = None, place: Place = ("strategy",)
) -> tuple[KnobTree | None, list[Problem]]:
    """As ``parse_tree``, with the problems handed back."""
    reader = _Reader(len(place))
    if not isinstance(data, Mapping) or _is_knob(data):
        allowed = "a mapping of a strategy's parts"
        return None, [
            Problem(place, "a knob" if isinstance(data, Mapping) else show(data), allowed)
        ]
    root = reader.group(data, place)
    reader.problems.extend(clashes(root, place))
    return (None if reader.problems else KnobTree(root, common or {})), reader.problems


def _is_knob(data: Mapping[str, Any]) -> bool:
    return any(key in data for key in KNOB_KEYS)


class _Reader:
    """Turns data into nodes and collects what is wrong; ``depth`` keys precede a knob's name."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.problems: list[Problem] = []

    def refuse(self, place: Place, found: str, allowed: str) -> None:
        self.problems.append(Problem(place, found, allowed))

    def group(self, data: Mapping[str, Any], place: Place) -> Group:
        entries: list[tuple[str, Node]] = []
        for key, value in data.items():
            here = (*place, key)
            if not _LABEL.fullmatch(key):
                self.refuse(here, f"the key {show(key)}", "letters, digits, _ and -")
            elif key == "choose":
                node = self.choose(value, here)
                entries.extend([(key, node)] if node else [])
            else:
                entries.append((key, self.node(value, here)))
        return Group(tuple(entries))

    def node(self, value: Any, place: Place) -> Node:
        if isinstance(value, Mapping):
            if not _is_knob(value):
                return self.group(value, place)
            knob = self.knob(value, place)
            return Leaf(knob) if knob else Constant(None)
        if isinstance(value, list):
            allowed = "a value, or a knob such as {float: [lo, hi]} or {choice: [a, b]}"
            self.refuse(place, show(value), allowed)
            return Constant(None)
        return Constant(value)

    def choose(self, value: Any, place: Place) -> Choose | None:
        if not isinstance(value, Mapping) or not value:
            self.refuse(place, show(value), "a mapping of labels to subtrees")
            return None
        branches: list[tuple[str, Group]] = []
        for label, subtree in value.items():
            here = (*place, label)
            if not _LABEL.fullmatch(label):
                self.refuse(here, f"the label {show(label)}", "letters, digits, _ and -")
            elif not isinstance(subtree, Mapping) or _is_knob(subtree):
                found = "a knob" if isinstance(subtree, Mapping) else show(subtree)
                self.refuse(here, found, "a mapping ({} where the branch changes nothing)")
            else:
                branches.append((label, self.group(subtree, here)))
        labels = tuple(label for label, _ in branches)
        return Choose(ChoiceKnob(self.name(place), labels, True), tuple(branches))

    def name(self, place: Place) -> str:
        return dotted(place[self.depth :])

    def knob(self, data: Mapping[str, Any], place: Place) -> Knob | None:
        kinds = [key for key in KNOB_KEYS if key in data]
        if len(kinds) > 1:
            self.refuse(place, " and ".join(kinds), "one of them")
            return None
        kind = kinds[0]
        unknown = [key for key in data if key != kind and key not in _OPTIONS[kind]]
        for key in unknown:
            allowed = ", ".join((kind, *_OPTIONS[kind]))
            self.refuse((*place, key), f"the unknown key {key}", allowed)
        if unknown:
            return None
        if kind == "choice":
            return self.choice(data["choice"], place)
        return self.number(kind, data, place)

    def choice(self, values: Any, place: Place) -> ChoiceKnob | None:
        allowed = "a list of at least one value, such as {choice: [a, b]}"
        here = (*place, "choice")
        if not isinstance(values, list) or not values:
            self.refuse(here, show(values), allowed)
            return None
        for number, value in enumerate(values):
            if isinstance(value, list | Mapping):
                self.refuse((*here, number), show(value), "a number, a word, true, false or null")
                return None
            if value in values[:number]:
                self.refuse((*here, number), f"{show(value)} again", "each value once")
                return None
        return ChoiceKnob(self.name(place), tuple(values))

    def number(self, kind: str, data: Mapping[str, Any], place: Place) -> Knob | None:
        pair = self.pair(kind, data[kind], (*place, kind))
        limits = pair
        if "limits" in data:
            limits = self.pair(kind, data["limits"], (*place, "limits"))
        log = data.get("log", False)
        if not isinstance(log, bool):
            self.refuse((*place, "log"), show(log), "true or false")
            return None
        if pair is None or limits is None:
            return None
        if not limits[0] <= pair[0] <= pair[1] <= limits[1]:
            found = f"limits [{limits[0]}, {limits[1]}] around [{pair[0]}, {pair[1]}]"
            self.refuse((*place, "limits"), found, "limits that contain the range")
            return None
        lowest = min(pair[0], limits[0])
        if log and (lowest <= 0 or (kind == "int" and lowest < 1)):
            allowed = "1 or more" if kind == "int" else "more than 0"
            self.refuse(place, f"log: true from {lowest}", f"{allowed} on a log scale")
            return None
        name = self.name(place)
        if kind == "int":
            ends = int(limits[0]), int(limits[1])
            return IntKnob(name, int(pair[0]), int(pair[1]), log, ends)
        bounds = float(limits[0]), float(limits[1])
        return FloatKnob(name, float(pair[0]), float(pair[1]), log, bounds)

    def pair(self, kind: str, value: Any, place: Place) -> tuple[float, float] | None:
        allowed = f"[lowest, highest] as two {'whole ' if kind == 'int' else ''}numbers"
        if not isinstance(value, list) or len(value) != 2:
            self.refuse(place, show(value), allowed)
            return None
        for number, end in enumerate(value):
            if not _is_number(kind, end):
                self.refuse((*place, number), show(end), allowed)
                return None
        low, high = value
        if low >= high:
            relation = "equal to" if low == high else "above"
            advice = "a range (write a fixed value as itself)" if low == high else "lowest first"
            self.refuse(place, f"{show(low)} {relation} {show(high)}", advice)
            return None
        return low, high


def _is_number(kind: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else int | float):
        return False
    # Beyond 1e15 whole numbers and floats part ways, and no knob of learning goes there.
    return math.isfinite(value) and abs(value) <= 1e15 if abs(value) < 10**30 else False


# --- clashes -------------------------------------------------------------------------------------


def clashes(group: Group, place: Place) -> Iterator[Problem]:
    """Keys that a branch repeats of the mapping it merges into (or of a choice beside it)."""
    own = [(key, node) for key, node in group.entries if not isinstance(node, Choose)]
    merged: list[list[tuple[Place, Group]]] = [[(place, Group(tuple(own)))]]
    for key, node in group.entries:
        if isinstance(node, Choose):
            branches = [((*place, key, label), branch) for label, branch in node.branches]
            merged.append(branches)
            for here, branch in branches:
                yield from clashes(branch, here)
        elif isinstance(node, Group):
            yield from clashes(node, (*place, key))
    for some, others in itertools.combinations(merged, 2):
        for (_, one), (here, other) in itertools.product(some, others):
            yield from _between(one, other, here)


def _between(one: Group, other: Group, place: Place) -> Iterator[Problem]:
    """Keys of ``other`` (at ``place``) that ``one``, merged into the same mapping, has too."""
    present = list(_flat(one, ()))
    for here, key, node in _flat(other, place):
        for _, key_there, node_there in present:
            if key != key_there:
                continue
            if isinstance(node, Group) and isinstance(node_there, Group):
                yield from _between(node_there, node, (*here, key))
            else:
                found = f"{key}, which the mapping that this branch merges into has too"
                yield Problem((*here, key), found, "each key once")


def _flat(group: Group, place: Place) -> Iterator[tuple[Place, str, Node]]:
    """The keys that a mapping may have, those of its branches included."""
    for key, node in group.entries:
        if isinstance(node, Choose):
            for label, branch in node.branches:
                yield from _flat(branch, (*place, key, label))
        else:
            yield place, key, node
