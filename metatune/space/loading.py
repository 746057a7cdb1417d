"""From a space file to strategies: ``load_space`` reads it, ``resolve`` fits it to a family.

Both collect everything that is wrong into one SpaceError, a line each, before anything starts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from metatune.presets import PRESETS, presets_for
from metatune.seeds import derive_seed
from metatune.space.grammar import read_tree
from metatune.space.knobs import (
    ChoiceKnob,
    FloatKnob,
    IntKnob,
    Knob,
    KnobTree,
    Params,
    Value,
    deep_merge,
)
from metatune.space.schema import Entry, Space
from metatune.space.source import Place, Problem, Source, listed, load_yaml, refuse, show
from metatune.space.validation import check
from metatune.strategy import Strategy
from metatune.strategy import problems as problems_of
from metatune.tasks.base import FamilyInfo

Role = Literal["default", "preset", "baseline", "initial", "portfolio", "incumbent"]
"""Why a strategy is named: the origins in the records of all but proposals."""

MAX_STRUCTURES = 2000


@dataclass(frozen=True)
class Named:
    """A strategy that the space file (or the family) names.

    Attributes:
        name: preset's name or the entry's label.
        origin: the most telling of its roles: default, then preset or baseline of the verdict.
        strategy: the whole strategy.
    """

    name: str
    origin: Role
    strategy: Strategy


@dataclass(frozen=True)
class ResolvedSpace:
    """A space fitted to a family: every strategy that it names, and the tree of knobs.

    Attributes:
        space: the space file.
        initial: every named strategy, the default first, then the entries of ``initial``, the
            verdict's presets and the baselines; none twice.
        rivals: names of those that the winner has to beat: the verdict's presets and baselines.
        tree: what may be proposed.
    """

    space: Space
    initial: tuple[Named, ...]
    rivals: frozenset[str]
    tree: KnobTree

    @property
    def default(self) -> Named:
        """What everything is compared with."""
        return self.initial[0]

    @property
    def protected(self) -> frozenset[str]:
        """Names of those that take part in the verdict whatever the search finds."""
        return self.rivals | {self.default.name}

    def strategy_from(self, partial: Mapping[str, Any]) -> Strategy:
        """The strategy of a walked tree: ``common``, the partial one on top, defaults."""
        return self.tree.strategy(partial)

    def params_of(self, strategy: Strategy) -> Params | None:
        """The values of the knobs that make a strategy; None where it lies outside the space."""
        return self.tree.params_of(strategy.model_dump(mode="json"))


# --- load ----------------------------------------------------------------------------------------


def load_space(path: str | Path, families: Sequence[str] | None = None) -> Space:
    """Read a space file.

    Args:
        path: the YAML file.
        families: the known task families; None takes those of ``metatune families``.

    Raises:
        SpaceError: one line for each problem, as ``FILE:LINE: PATH: found X; allowed: Y``.
    """
    data, lines = load_yaml(Path(path))
    return parse_space(data, Source(str(path), lines), families)


def parse_space(
    data: Mapping[str, Any], source: Source | None = None, families: Sequence[str] | None = None
) -> Space:
    """As ``load_space``, from data that were read already."""
    source = source or Source()
    space, problems = check(Space, data)
    if isinstance(data.get("strategy"), Mapping):
        problems += read_tree(data["strategy"])[1]
    if space is not None:
        problems += _name_problems(space, _family_names() if families is None else families)
    refuse(problems, source)
    assert space is not None
    return space.read_from(source)


def _family_names() -> Sequence[str]:
    from metatune.tasks.registry import family_names

    return family_names()


def _name_problems(space: Space, families: Sequence[str]) -> Iterator[Problem]:
    """Names that stand for nothing, or for two things."""
    if space.family.name not in families:
        yield Problem(("family", "name"), show(space.family.name), listed(families))
    seen: set[str] = set()
    for number, entry in enumerate(space.initial):
        place: Place = ("initial", number)
        if entry.preset is not None and entry.preset not in PRESETS:
            yield Problem(place, f"the unknown preset {show(entry.preset)}", listed(PRESETS))
        if entry.name in PRESETS and (entry.plain() or entry.preset != entry.name):
            found = f"the name {entry.name} of a preset for another strategy"
            yield Problem((*place, "name"), found, "a name that no preset has")
        if entry.label in seen:
            yield Problem(place, f"the name {show(entry.label)} again", "unique names: set `name`")
        seen.add(entry.label)
    known = (*PRESETS, *(label for label in space.labels if label not in PRESETS))
    references: list[tuple[Place, str]] = [
        *((("verdict", "presets", i), name) for i, name in enumerate(space.verdict.presets)),
        *((("verdict", "baselines", i), name) for i, name in enumerate(space.verdict.baselines)),
    ]
    if space.default is not None:
        references.append((("default",), space.default))
    elif not space.initial:
        yield Problem((), "neither default nor initial", "one of them, to compare with")
    for where, name in references:
        if name not in known:
            yield Problem(where, show(name), listed(known))


# --- resolve -------------------------------------------------------------------------------------


def resolve(space: Space, info: FamilyInfo) -> ResolvedSpace:
    """Fit a space to its family: build every strategy that it names, and check every structure.

    A strategy is built as: the preset, ``common`` merged on top, the entry's own parts on top.
    ``common.backbone`` leaves presets without a backbone (``nearest_neighbour``) as they are.

    Raises:
        SpaceError: one line for each strategy or combination of choices that makes no sense.
    """
    space = space.fitted(info)
    problems = list(_way_problems(space, info))
    tree, in_tree = read_tree(space.strategy, space.common.plain())
    problems += in_tree
    builder = _Builder(space, info)
    requests = list(_requests(space, info))
    built = [(request, builder.build(request)) for request in requests]
    problems += builder.problems
    if tree is not None and not problems:
        problems += _tree_problems(tree, space, info)
    refuse(problems, space.source)
    assert tree is not None
    named: dict[str, Named] = {}
    rivals: set[str] = set()
    for request, strategy in built:
        assert strategy is not None
        first = named.setdefault(strategy.digest(), Named(request.name, request.role, strategy))
        if request.role in ("preset", "baseline"):
            rivals.add(first.name)
            if first.origin == "initial":
                named[strategy.digest()] = Named(first.name, request.role, strategy)
    return ResolvedSpace(space, tuple(named.values()), frozenset(rivals), tree)


def _way_problems(space: Space, info: FamilyInfo) -> Iterator[Problem]:
    way = space.family.way
    if info.kind == "regression" and way not in (None, 1):
        yield Problem(("family", "way"), str(way), f"none, for {info.name} is a regression")
    if info.kind == "classification" and (way is None or way < 2):
        found = "nothing" if way is None else str(way)
        yield Problem(("family", "way"), found, "2 or more classes a task")
    elif info.shared_classes and way != info.train_classes:
        allowed = f"at most {info.train_classes}, the number of classes in {info.name}"
        yield Problem(("family", "way"), str(way), allowed)


@dataclass(frozen=True)
class _Request:
    """A name that has to become a strategy, and where it stands in the file."""

    name: str
    role: Role
    place: Place
    entry: Entry


def _requests(space: Space, info: FamilyInfo) -> Iterator[_Request]:
    """Every named strategy: default, initial, the verdict's presets, baselines."""

    def request(name: str, role: Role, place: Place) -> _Request:
        number = space.labels.get(name)
        if number is None:
            return _Request(name, role, place, Entry(preset=name))
        return _Request(name, role, ("initial", number), space.initial[number])

    if space.default is not None:
        yield request(space.default, "default", ("default",))
    for number, label in enumerate(space.labels):
        first = number == 0 and space.default is None
        yield request(label, "default" if first else "initial", ("initial", number))
    for number, name in enumerate(space.verdict.presets):
        yield request(name, "preset", ("verdict", "presets", number))
    for number, name in enumerate(space.verdict.baselines):
        yield request(name, "baseline", ("verdict", "baselines", number))
    for name in info.baselines:
        yield request(name, "baseline", ("family", "name"))


class _Builder:
    """Builds named strategies and collects what is wrong with them."""

    def __init__(self, space: Space, info: FamilyInfo) -> None:
        self.space, self.info, self.sensible = space, info, presets_for(info)
        self.problems: list[Problem] = []

    def build(self, request: _Request) -> Strategy | None:
        """The strategy of a request; None, with the problems kept, where there is none."""
        plain, own = self.space.common.plain(), request.entry.plain()
        if request.entry.preset is not None:
            preset = self.preset(request.entry.preset, request.place)
            if preset is None:
                return None
            plain = self.on_common(preset, plain)
        strategy, problems = check(Strategy, deep_merge(plain, own))
        for problem in problems:
            place = self.written(problem.place, own, request.place)
            self.problems.append(Problem(place, problem.found, problem.allowed))
        if strategy is None:
            return None
        for sentence in problems_of(strategy, self.info, self.space.episode):
            found = f"{request.name} ({sentence})"
            self.problems.append(Problem(request.place, found, "a strategy that makes sense"))
        return strategy

    def preset(self, name: str, place: Place) -> Strategy | None:
        """The preset itself; None, with the problem kept, where it makes no sense here."""
        if name not in PRESETS:
            found = f"the preset {name}, which {self.info.name} demands"
            self.problems.append(Problem(place, found, listed(PRESETS)))
            return None
        strategy = PRESETS[name](self.info)
        if name in self.sensible:
            return strategy
        reasons = problems_of(strategy, self.info, self.space.episode)
        found = f"{name} ({'; '.join(reasons)})" if reasons else name
        self.problems.append(Problem(place, found, listed(self.sensible)))
        return None

    def on_common(self, preset: Strategy, common: dict[str, Any]) -> dict[str, Any]:
        """The preset with ``common`` on top, which must leave it the method that its name says."""
        plain = preset.model_dump(mode="json")
        if preset.backbone.kind == "none":
            common = {key: value for key, value in common.items() if key != "backbone"}
        merged = deep_merge(plain, common)
        for part, key in (("head", "kind"), ("inner", "kind"), ("meta", "rule")):
            if merged[part].get(key) != plain[part][key]:
                value = show(merged[part].get(key))
                found = f"{key} {value}, which makes another method of presets"
                allowed = "what leaves presets their method (others belong in `strategy`)"
                self.problems.append(Problem(("common", part), found, allowed))
                break
        return merged

    def written(self, place: Place, own: Mapping[str, Any], entry: Place) -> Place:
        """Where a place of the whole strategy was written: by the entry, else in ``common``."""
        if _reaches(own, place) or not _reaches(self.space.common.plain(), place):
            return (*entry, *place)
        return ("common", *place)


def _reaches(data: Any, place: Place) -> bool:
    for part in place:
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True


# --- every structure of the tree -----------------------------------------------------------------


def _tree_problems(tree: KnobTree, space: Space, info: FamilyInfo) -> list[Problem]:
    """What is wrong with any combination of choices, numbers at the middle and at their limits.

    Above 2000 combinations, as many are drawn at random.
    """
    malformed: dict[Problem, None] = {}
    senseless: dict[str, list[Params]] = {}
    for picks, numbers in itertools.product(_structures(tree), (_middle, _lowest, _highest)):
        params, partial = _walked(tree, picks, numbers)
        strategy, problems = check(Strategy, deep_merge(tree.common, partial))
        origins = tree.origins(params)
        for problem in problems:
            place = _written_in_tree(problem.place, origins, tree.common)
            malformed[Problem(place, problem.found, problem.allowed)] = None
        for sentence in problems_of(strategy, info, space.episode) if strategy else ():
            senseless.setdefault(sentence, []).append(params)
    choices = {knob.name for knob in tree.knobs() if isinstance(knob, ChoiceKnob)}
    combinations = (_combination(said, found, choices) for said, found in senseless.items())
    return [*malformed, *combinations]


def _structures(tree: KnobTree) -> list[Params]:
    found = list(itertools.islice(tree.structures(), MAX_STRUCTURES + 1))
    if len(found) <= MAX_STRUCTURES:
        return found
    draw = Random(derive_seed(0, "structures"))

    def pick(knob: Knob) -> Value:
        return draw.choice(knob.choices) if isinstance(knob, ChoiceKnob) else knob.middle()

    return [tree.walk(pick)[0] for _ in range(MAX_STRUCTURES)]


Number = FloatKnob | IntKnob


def _middle(knob: Number) -> Value:
    return knob.middle()


def _lowest(knob: Number) -> Value:
    return knob.limits[0]


def _highest(knob: Number) -> Value:
    return knob.limits[1]


def _walked(
    tree: KnobTree, picks: Params, number: Callable[[Number], Value]
) -> tuple[Params, dict[str, Any]]:
    """The tree walked with these choices, and each number where ``number`` puts it."""

    def suggest(knob: Knob) -> Value:
        return picks[knob.name] if isinstance(knob, ChoiceKnob) else number(knob)

    return tree.walk(suggest)


def _written_in_tree(
    place: Place, origins: Mapping[Place, Place], common: Mapping[str, Any]
) -> Place:
    """Where a place of a whole strategy was written: in the tree, else in ``common``."""
    if place not in origins and _reaches(common, place):
        return ("common", *place)
    for length in range(len(place), 0, -1):
        if place[:length] in origins:
            return ("strategy", *origins[place[:length]], *place[length:])
    return ("strategy", *place)


def _combination(sentence: str, found: list[Params], choices: set[str]) -> Problem:
    """A senseless combination, told by the choices that all of its occurrences share."""
    shared = {
        name: value
        for name, value in found[0].items()
        if name in choices and all(name in one and one[name] == value for one in found)
    }
    place: Place = ("strategy",)
    told = "every combination"
    if shared:
        place = ("strategy", *list(shared)[-1].split("."))
        told = " with ".join(f"{name} {show(value)}" for name, value in shared.items())
    return Problem(place, f"{told} ({sentence})", "combinations that make sense")
