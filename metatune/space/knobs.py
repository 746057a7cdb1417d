"""Knobs, and the tree that arranges them.

A tree is a partial strategy as plain data in which leaves may be knobs::

    outer:
      lr: {float: [1e-4, 1e-2], log: true}      # a number in a range
    choose:                                     # exactly one of these subtrees
      gradient:
        head: {kind: linear}
        inner: {kind: sgd, steps: {int: [1, 10]}, lr: {float: [0.01, 1], log: true}}
      ridge:
        head: {kind: ridge}

A knob is named by its path in the tree, branch labels included: ``outer.lr``, ``choose`` (which
branch), ``choose.gradient.inner.steps``. Everything here is frozen and pure: who picks values is
the caller's business (``walk``), and ``params_of`` is the way back from a strategy to its values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from metatune.errors import SpaceError
from metatune.space.source import Place, dotted, listed, show
from metatune.space.validation import build_strategy
from metatune.strategy import Strategy

Value = bool | int | float | str | None
Params = dict[str, Value]

MAX_CANDIDATES = 2000


# --- domains -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FloatKnob:
    """A number in ``[low, high]``.

    Attributes:
        name: path in the tree.
        low: smallest value to propose.
        high: largest value to propose.
        log: search its logarithm.
        limits: hard limits; the range may move inside them, never beyond.
    """

    name: str
    low: float
    high: float
    log: bool
    limits: tuple[float, float]

    def match(self, value: object) -> float | None:
        """The value as this knob's own, or None if it lies outside the hard limits."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if self.limits[0] <= value <= self.limits[1] else None

    def holds(self, value: object) -> bool:
        """Whether the value is in the range."""
        found = self.match(value)
        return found is not None and self.low <= found <= self.high

    def middle(self) -> float:
        """The middle of the range, of its logarithm where ``log``."""
        if self.log:
            middle = math.exp((math.log(self.low) + math.log(self.high)) / 2)
        else:
            middle = self.low / 2 + self.high / 2
        return min(max(middle, self.low), self.high)

    def allowed(self) -> str:
        """What it takes, in words."""
        return f"[{self.limits[0]:.15g}, {self.limits[1]:.15g}]"


@dataclass(frozen=True)
class IntKnob:
    """A whole number from ``low`` to ``high``, both included; attributes as in ``FloatKnob``."""

    name: str
    low: int
    high: int
    log: bool
    limits: tuple[int, int]

    def match(self, value: object) -> int | None:
        """The value as this knob's own, or None if it is outside the hard limits or not whole."""
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
            return None
        return int(value) if self.limits[0] <= value <= self.limits[1] else None

    def holds(self, value: object) -> bool:
        """Whether the value is in the range."""
        found = self.match(value)
        return found is not None and self.low <= found <= self.high

    def middle(self) -> int:
        """The middle of the range, of its logarithm where ``log``; rounded down."""
        if self.log:
            return math.isqrt(self.low * self.high)
        return (self.low + self.high) // 2

    def allowed(self) -> str:
        """What it takes, in words."""
        return f"[{self.limits[0]}, {self.limits[1]}]"


@dataclass(frozen=True)
class ChoiceKnob:
    """One of several values, or of several branches by their labels.

    Attributes:
        name: path in the tree.
        choices: what there is to choose from.
        branches: the choices are labels of subtrees.
    """

    name: str
    choices: tuple[Value, ...]
    branches: bool = False

    def index(self, value: object) -> int | None:
        """The number of the choice that equals ``value``; None if there is none."""
        return next((i for i, choice in enumerate(self.choices) if choice == value), None)

    def holds(self, value: object) -> bool:
        """Whether it is one of the choices."""
        return value in self.choices

    def allowed(self) -> str:
        """What it takes, in words."""
        return listed(show(choice) for choice in self.choices)


Knob = FloatKnob | IntKnob | ChoiceKnob
Suggest = Callable[[Knob], Value]


def in_domain(knob: Knob, value: object) -> bool:
    """Whether the value is within the knob's hard limits, or one of its choices."""
    if isinstance(knob, ChoiceKnob):
        return knob.index(value) is not None
    return knob.match(value) is not None


# --- the tree ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constant:
    """A leaf that is fixed."""

    value: Value


@dataclass(frozen=True)
class Leaf:
    """A leaf that is a knob."""

    knob: Knob


@dataclass(frozen=True)
class Choose:
    """Exactly one of the branches, merged into the mapping in which ``choose`` stands."""

    knob: ChoiceKnob
    branches: tuple[tuple[str, Group], ...]

    def branch(self, label: object) -> Group:
        """The subtree of a label."""
        return dict(self.branches)[str(label)]


@dataclass(frozen=True)
class Group:
    """A mapping, in the order of the file."""

    entries: tuple[tuple[str, Node], ...]


Node = Constant | Leaf | Choose | Group


@dataclass(frozen=True)
class KnobTree:
    """A space of strategies.

    Attributes:
        root: the tree.
        common: what every strategy is built on; the tree's values are merged on top.
    """

    root: Group
    common: Mapping[str, Any] = field(default_factory=dict)

    def knobs(self) -> tuple[Knob, ...]:
        """All knobs in the order of the file, a choice of branches before what it opens."""
        return tuple(_knobs(self.root))

    @cached_property
    def _by_name(self) -> dict[str, Knob]:
        return {knob.name: knob for knob in self.knobs()}

    @cached_property
    def _looked_at(self) -> dict[int, tuple[Params, bool]]:
        """By identity, which is kept by keeping them: each proposal asks for all that was seen."""
        return {}

    def holds(self, params: Params) -> bool:
        """Whether all these are values of its knobs, within their ranges."""
        known = self._looked_at.get(id(params))
        if known is None:
            knobs = self._by_name
            known = params, all(n in knobs and knobs[n].holds(v) for n, v in params.items())
            self._looked_at[id(params)] = known
        return known[1]

    def walk(self, suggest: Suggest) -> tuple[Params, dict[str, Any]]:
        """Ask for each active knob's value, in a fixed order; branches not picked are not asked.

        Args:
            suggest: gives the value of a knob.

        Returns:
            The values by knob name, and the partial strategy they make (without ``common``).

        Raises:
            SpaceError: a value is outside its knob's hard limits.
        """
        params: Params = {}
        return params, _walk(self.root, suggest, params)

    def strategy(self, partial: Mapping[str, Any]) -> Strategy:
        """The whole strategy of a partial one: ``common``, the partial one on top, defaults."""
        return build_strategy(deep_merge(self.common, partial))

    def params_of(self, strategy_plain: Mapping[str, Any]) -> Params | None:
        """The values that make this strategy (``Strategy.model_dump()``); None if none do.

        The inverse of ``walk``. Each candidate is walked again and compared as a whole, so what
        the tree leaves open must be what ``common`` and the defaults make of it.
        """
        for match in self._matches(strategy_plain):
            if not match.reasons and self._difference(match, strategy_plain) is None:
                return match.params
        return None

    def why_outside(self, strategy_plain: Mapping[str, Any]) -> str:
        """One sentence on why ``params_of`` gives None; empty where it does not.

        Of several branches, the one that comes closest is spoken of.
        """
        first = ""
        for match in self._matches(strategy_plain):
            reason = match.reasons[0] if match.reasons else None
            reason = reason or self._difference(match, strategy_plain)
            if reason is None:
                return ""
            first = first or reason
        return first

    def origins(self, params: Params) -> dict[Place, Place]:
        """Where each part of the walked strategy stands in the tree, by its path.

        ``("inner", "lr")`` may stand at ``("choose", "gradient", "inner", "lr")``.
        """
        return dict(_origins(self.root, (), (), params))

    def structures(self) -> Iterator[Params]:
        """Every combination of branches and choices, with numbers in mid-range."""
        pending: list[tuple[Value, ...]] = [()]
        while pending:
            prefix = pending.pop()
            picked: list[Value] = []

            def suggest(
                knob: Knob, prefix: tuple[Value, ...] = prefix, picked: list[Value] = picked
            ) -> Value:
                if not isinstance(knob, ChoiceKnob):
                    return knob.middle()
                position = len(picked)
                if position < len(prefix):
                    picked.append(prefix[position])
                else:
                    # Reversed, for the stack gives back what was pushed last.
                    others = reversed(knob.choices[1:])
                    pending.extend((*picked, other) for other in others)
                    picked.append(knob.choices[0])
                return picked[-1]

            yield self.walk(suggest)[0]

    def _matches(self, strategy_plain: Mapping[str, Any]) -> list[_Match]:
        return sorted(_match(self.root, strategy_plain, ()), key=lambda match: len(match.reasons))

    def _difference(self, match: _Match, strategy_plain: Mapping[str, Any]) -> str | None:
        """Where the strategy differs from what these values make; None where it does not."""
        try:
            wanted = build_strategy(strategy_plain)
        except ValueError as error:
            return f"it is no strategy: {error}"
        _, partial = self.walk(lambda knob: match.params[knob.name])
        made = self.strategy(partial)
        if made == wanted:
            return None
        return _first_difference(wanted.model_dump(), made.model_dump(), ())


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``, mapping by mapping.

    A mapping whose ``kind`` differs replaces the other as a whole: the settings of one kind mean
    nothing to another.

    >>> deep_merge({"head": {"kind": "ridge", "penalty": 1.0}}, {"head": {"penalty": 0.1}})
    {'head': {'kind': 'ridge', 'penalty': 0.1}}
    >>> deep_merge({"head": {"kind": "ridge", "penalty": 1.0}}, {"head": {"kind": "linear"}})
    {'head': {'kind': 'linear'}}
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            other_kind = {"kind"} <= value.keys() & below.keys() and value["kind"] != below["kind"]
            merged[key] = dict(value) if other_kind else deep_merge(below, value)
        else:
            merged[key] = value
    return merged


# --- walking -------------------------------------------------------------------------------------


def _knobs(group: Group) -> Iterator[Knob]:
    for _, node in group.entries:
        if isinstance(node, Leaf):
            yield node.knob
        elif isinstance(node, Group):
            yield from _knobs(node)
        elif isinstance(node, Choose):
            yield node.knob
            for _, branch in node.branches:
                yield from _knobs(branch)


def _ask(knob: Knob, suggest: Suggest, params: Params) -> Value:
    value = suggest(knob)
    if not in_domain(knob, value):
        raise SpaceError(f"{knob.name}: found {show(value)}; allowed: {knob.allowed()}")
    if not isinstance(knob, ChoiceKnob):
        value = knob.match(value)
    params[knob.name] = value
    return value


def _walk(group: Group, suggest: Suggest, params: Params) -> dict[str, Any]:
    partial: dict[str, Any] = {}
    for key, node in group.entries:
        made: dict[str, Any]
        if isinstance(node, Constant):
            made = {key: node.value}
        elif isinstance(node, Leaf):
            made = {key: _ask(node.knob, suggest, params)}
        elif isinstance(node, Group):
            made = {key: _walk(node, suggest, params)}
        else:
            label = _ask(node.knob, suggest, params)
            made = _walk(node.branch(label), suggest, params)
        # Clashes were refused when the tree was read, so the order of merging is of no matter.
        partial = deep_merge(partial, made)
    return partial


def _origins(
    group: Group, made: Place, written: Place, params: Params
) -> Iterator[tuple[Place, Place]]:
    for key, node in group.entries:
        if isinstance(node, Choose):
            label = str(params[node.knob.name])
            yield from _origins(node.branch(label), made, (*written, key, label), params)
        else:
            yield (*made, key), (*written, key)
            if isinstance(node, Group):
                yield from _origins(node, (*made, key), (*written, key), params)


# --- the way back --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Match:
    """Values that would make a strategy, and the reasons why they do not quite."""

    params: Params
    reasons: tuple[str, ...]


def _match(node: Node, plain: Any, place: Place) -> list[_Match]:
    """Candidates, each for one pick of branches; only the closest where none is perfect."""
    if isinstance(node, Group):
        if not isinstance(plain, Mapping):
            return [_Match({}, (f"{dotted(place)} {show(plain)} is no mapping",))]
        return _match_group(node, plain, place)
    if isinstance(node, Choose):
        found: list[_Match] = []
        for label, branch in node.branches:
            for match in _match(branch, plain, place):
                found.append(_Match({node.knob.name: label, **match.params}, match.reasons))
        closest = min(len(match.reasons) for match in found)
        return [match for match in found if len(match.reasons) == closest]
    if isinstance(node, Leaf):
        return [_match_leaf(node.knob, plain, place)]
    if node.value == plain:
        return [_Match({}, ())]
    return [_Match({}, (f"{dotted(place)} {show(plain)} is not {show(node.value)}",))]


def _match_group(group: Group, plain: Mapping[str, Any], place: Place) -> list[_Match]:
    parts: list[list[_Match]] = []
    for key, node in group.entries:
        if isinstance(node, Choose):
            parts.append(_match(node, plain, place))
        elif key in plain:
            parts.append(_match(node, plain[key], (*place, key)))
        else:
            parts.append([_Match({}, (f"{dotted((*place, key))} is missing",))])
    return [
        _Match(
            {name: value for match in picks for name, value in match.params.items()},
            tuple(reason for match in picks for reason in match.reasons),
        )
        for picks in itertools.islice(itertools.product(*parts), MAX_CANDIDATES)
    ]


def _match_leaf(knob: Knob, plain: Any, place: Place) -> _Match:
    where = f"{dotted(place)} {show(plain)}"
    if isinstance(knob, ChoiceKnob):
        index = knob.index(plain)
        if index is None:
            return _Match({}, (f"{where} is not one of {knob.allowed()}",))
        return _Match({knob.name: knob.choices[index]}, ())
    value = knob.match(plain)
    if value is None:
        return _Match({}, (f"{where} is outside {knob.allowed()}",))
    return _Match({knob.name: value}, ())


def _first_difference(found: Any, made: Any, place: Place) -> str:
    """The first path at which two strategies differ, with what this space has there."""
    if isinstance(found, Mapping) and isinstance(made, Mapping):
        for key in dict.fromkeys((*found, *made)):
            if found.get(key) != made.get(key) or key not in made:
                return _first_difference(found.get(key), made.get(key), (*place, key))
    return f"{dotted(place)} {show(found)} is {show(made)} in this space"
