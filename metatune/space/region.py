"""The region: where in the space the next strategies are looked for, and how it moves.

A space file says where a search may go at all (``limits``) and where it begins (the range). After
each round the region follows what ``confirm`` bore out: ranges shrink around the leaders and shift
with them, a range grows where the best leader sits on its bound, and choices that lost weigh less.
Nothing is ever ruled out: limits stay, and each choice keeps a share. A region is plain data and
``adjust`` a pure function of what was measured, so a resumed run moves as the killed one would.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from metatune.errors import SpaceError
from metatune.space.knobs import (
    ChoiceKnob,
    Choose,
    Group,
    IntKnob,
    Knob,
    KnobTree,
    Leaf,
    Node,
    Params,
    Value,
)
from metatune.space.scale import Number, ends, spread, unspread, width
from metatune.space.source import listed, show
from metatune.statistics import Claim, claim_for, sign_flip_p, unit_means

LEADERS = 3  # leaders that the region follows
MIN_EVIDENCE = 8  # trials inside a range before it moves, and with a choice before it can lose
ON_BOUND = 0.05  # of the width: a best leader so close to a bound sits on it
GROWTH = 0.5  # of the width, added on the side on which the best leader sits
MARGIN = 0.25  # of the width, kept on both sides of the leaders: a range at most halves at a time
NARROWEST = 1 / 8  # of the file's own width
FLOOR = 0.2  # of the even weight: what a choice that lost keeps
LEVEL = 0.05  # of the tests of one knob's choices, all together

Range = tuple[float, float]


class Region(BaseModel):
    """Where strategies are looked for; empty, it is the file's own space.

    Written to ``method.yaml``, so that the next run begins where this one ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ranges: dict[str, tuple[FiniteFloat, FiniteFloat]] = Field(
        default_factory=dict,
        description="lowest and highest value by the name of a knob; left out: as in the file",
    )
    weights: dict[str, tuple[FiniteFloat, ...]] = Field(
        default_factory=dict,
        description="weights of a knob's choices in the file's order, sum 1; left out: even",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for name, (low, high) in self.ranges.items():
            if not low < high:
                raise ValueError(f"found {name}: [{low}, {high}]; allowed: lowest first")
        for name, weights in self.weights.items():
            if not all(weight > 0 for weight in weights) or abs(sum(weights) - 1) > 1e-6:
                raise ValueError(
                    f"found {name}: {list(weights)}; allowed: weights above 0 that sum to 1"
                )
        return self


@dataclass(frozen=True)
class Tried:
    """What one trial of the space came to.

    Attributes:
        params: its knobs' values.
        completed: it reached its last rung.
        gains: paired difference to the default on each ``select`` task at its last rung, higher is
            better. Two trials are compared task by task, so completed trials of equal ``groups``
            have to be scored on the same tasks.
        groups: the group of each of these tasks.
    """

    params: Params
    completed: bool
    gains: tuple[float, ...]
    groups: tuple[str, ...]


# --- the tree of a region ------------------------------------------------------------------------


def within(tree: KnobTree, region: Region) -> KnobTree:
    """The tree with the region's ranges; hard limits and choices stay as they are.

    Raises:
        SpaceError: the region names a knob that is none of the tree's, or a range or weights that
            do not fit it.
    """
    knobs = {knob.name: knob for knob in tree.knobs()}
    numbers = {name: k for name, k in knobs.items() if not isinstance(k, ChoiceKnob)}
    choices = {name: k for name, k in knobs.items() if isinstance(k, ChoiceKnob)}
    _refuse_unknown("ranges", region.ranges, numbers)
    _refuse_unknown("weights", region.weights, choices)
    for name, weights in region.weights.items():
        if len(weights) != len(choices[name].choices):
            allowed = f"{len(choices[name].choices)}, one a choice"
            raise SpaceError(f"region.weights: {name}: found {len(weights)}; allowed: {allowed}")
    moved = {name: _with_range(numbers[name], ends) for name, ends in region.ranges.items()}
    return replace(tree, root=_replaced(tree.root, moved))


def _refuse_unknown(what: str, found: Mapping[str, object], known: Mapping[str, Knob]) -> None:
    for name in found:
        if name not in known:
            raise SpaceError(f"region.{what}: found {show(name)}; allowed: {listed(known)}")


def _with_range(knob: Number, range_: Range) -> Number:
    low, high = (knob.match(end) for end in range_)
    if low is None or high is None:
        found = ", ".join(f"{end:.15g}" for end in range_)
        whole = "whole numbers in " if isinstance(knob, IntKnob) else "a range in "
        raise SpaceError(
            f"region.ranges: {knob.name}: found [{found}]; allowed: {whole}{knob.allowed()}"
        )
    if isinstance(knob, IntKnob):
        return replace(knob, low=int(low), high=int(high))
    return replace(knob, low=low, high=high)


def _replaced(group: Group, knobs: Mapping[str, Number]) -> Group:
    def node(old: Node) -> Node:
        if isinstance(old, Group):
            return _replaced(old, knobs)
        if isinstance(old, Leaf):
            return Leaf(knobs.get(old.knob.name, old.knob))
        if isinstance(old, Choose):
            branches = tuple((label, _replaced(branch, knobs)) for label, branch in old.branches)
            return replace(old, branches=branches)
        return old

    return Group(tuple((key, node(old)) for key, old in group.entries))


# --- moving it -----------------------------------------------------------------------------------


def adjust(
    tree: KnobTree,
    region: Region,
    tried: Sequence[Tried],
    leaders: Sequence[Params],
    front: Sequence[Params] = (),
) -> tuple[Region, tuple[str, ...]]:
    """The region moved to where the evidence points, and each move as a sentence.

    Widths and distances are in a knob's own scale (the logarithm where it is logarithmic). Only
    leaders in which a knob is active count for it; without one it stays.

    *Ranges*. All leaders looked at lie inside the new range, which lies inside the hard limits.

    - Fewer than ``MIN_EVIDENCE`` trials inside the present range: it stays, but stretches to a
      leader outside it. Trials outside say nothing of how well this range was searched, so each
      step of shrinking needs trials of its own.
    - The best leader within ``ON_BOUND`` of the width of a bound that is no hard limit, or beyond
      it: the range grows on that side by ``GROWTH`` of its width, and stays on the other.
    - Else it becomes the hull of the leaders with ``MARGIN`` of the width on both sides: it may
      shift beyond its old bounds, at most halves, never becomes wider, and never narrower than
      ``NARROWEST`` of the file's own range.
    - Ranges of whole numbers are rounded outward.

    *Weights*. The best leader with the knob is the reference. Of each other choice with
    ``MIN_EVIDENCE`` trials, the champion (its best completed trial) is compared with the reference
    over the units that the groups can bear, by sign flips. A choice whose champion is worse at
    ``LEVEL`` divided by the number of champions compared *loses*: it keeps ``FLOOR`` of the even
    weight, for good or until it leads itself. The others share the rest evenly. The champion is
    picked on the scores that it is tested on, which makes it look better than it is: choices lose
    too seldom rather than too often.

    Args:
        tree: the file's own.
        region: the present one.
        tried: the trials so far, in the order in which they were asked.
        leaders: confirmed ones, no worse than the default, best first; three are looked at.
        front: with several objectives, those on the confirmed front, best by score first: all are
            looked at as leaders, and their choices, which may score less for being cheaper, do
            not lose.

    Returns:
        The new region, and one sentence a move, in the order of the file.
    """
    ranges, weights = dict(region.ranges), dict(region.weights)
    moves: list[str] = []
    present = within(tree, region).knobs()
    for own, knob in zip(tree.knobs(), present, strict=True):
        looked_at = [*leaders[:LEADERS], *(p for p in front if p not in leaders[:LEADERS])]
        followed = [params for params in looked_at if knob.name in params]
        if not followed:
            continue
        if isinstance(knob, ChoiceKnob):
            before = region.weights.get(knob.name) or _weights(knob, frozenset())
            kept = {knob.index(params[knob.name]) for params in front if knob.name in params}
            after, said = _reweighed(knob, before, tried, followed, kept)
            if said:
                weights[knob.name] = after
                moves.extend(said)
        elif not isinstance(own, ChoiceKnob):
            range_, why = _moved(knob, width(own), tried, followed)
            if range_ != (knob.low, knob.high):
                ranges[knob.name] = range_
                moves.append(f"{knob.name}: {_told(knob, range_)}, {why}")
    return Region(ranges=ranges, weights=weights), tuple(moves)


# --- ranges --------------------------------------------------------------------------------------


def _moved(
    knob: Number, own_width: float, tried: Sequence[Tried], leaders: Sequence[Params]
) -> tuple[Range, str]:
    """The new range, and why."""
    values = [_number(params[knob.name]) for params in leaders]
    evidence = sum(
        knob.low <= _number(trial.params[knob.name]) <= knob.high
        for trial in tried
        if knob.name in trial.params
    )
    spots = [spread(knob, value) for value in values]
    (low, high), why = _span(knob, own_width, spots, evidence)
    return _range(knob, low, high, values), f"{why}, {evidence} trials"


def _span(
    knob: Number, own_width: float, spots: Sequence[float], evidence: int
) -> tuple[Range, str]:
    """The new range in the knob's scale, before rounding, and why.

    Args:
        knob: with its present range.
        own_width: of the file's range.
        spots: of the leaders, best first.
        evidence: trials inside the present range.
    """
    low, high = ends(knob)
    old, best, first, last = high - low, spots[0], min(spots), max(spots)
    if evidence < MIN_EVIDENCE:
        return (min(low, first), max(high, last)), "stretched to a leader"

    bottom, top = (spread(knob, limit) for limit in knob.limits)
    on_low = best - low <= ON_BOUND * old and low > bottom
    on_high = high - best <= ON_BOUND * old and high < top
    if on_low or on_high:
        grown_low = low - GROWTH * old if on_low else low
        grown_high = high + GROWTH * old if on_high else high
        return (min(grown_low, first), max(grown_high, last)), "best leader on the bound"

    new = min(old, max(last - first + 2 * MARGIN * old, NARROWEST * own_width))
    start = (first + last) / 2 - new / 2
    start = max(bottom, min(start, top - new))
    count = len(spots)
    return (start, start + new), f"around {count} leader{'s' if count > 1 else ''}"


def _range(knob: Number, low: float, high: float, values: Sequence[float]) -> Range:
    """The range of these ends in the knob's scale: with all values inside, within the limits."""
    floor, ceiling = _end(knob, low, knob.low), _end(knob, high, knob.high)
    if isinstance(knob, IntKnob):
        floor, ceiling = math.floor(floor), math.ceil(ceiling)
    floor = float(max(knob.limits[0], min(floor, *values)))
    ceiling = float(min(knob.limits[1], max(ceiling, *values)))
    # Where floats are too coarse for a narrower range, it stays.
    return (floor, ceiling) if floor < ceiling else (knob.low, knob.high)


def _end(knob: Number, spot: float, old: float) -> float:
    """The value of an end; the old one where it has not moved but for rounding errors."""
    if abs(spot - spread(knob, old)) <= 1e-9 * width(knob):
        return old
    value = unspread(knob, spot)
    return round(value, 9) if isinstance(knob, IntKnob) else value


def _number(value: Value) -> float:
    assert isinstance(value, int | float), "the value of a numeric knob"
    return value


def _told(knob: Number, range_: Range) -> str:
    """``[0.001, 1] -> [0.02, 0.4]``."""
    form = "[{:.0f}, {:.0f}]" if isinstance(knob, IntKnob) else "[{:.3g}, {:.3g}]"
    return f"{form.format(knob.low, knob.high)} -> {form.format(*range_)}"


# --- weights -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Loss:
    """A choice whose champion is worse than the reference."""

    units: int
    claim: Claim
    p: float


def _reweighed(
    knob: ChoiceKnob,
    weights: Sequence[float],
    tried: Sequence[Tried],
    leaders: Sequence[Params],
    kept: Collection[int | None],
) -> tuple[tuple[float, ...], list[str]]:
    """The new weights, and what has changed."""
    reference = next(filter(None, (_trial_of(params, tried) for params in leaders)), None)
    if reference is None:
        return tuple(weights), []
    leading = knob.index(reference.params[knob.name])
    low = {i for i, weight in enumerate(weights) if weight <= FLOOR / len(weights)}
    champions = {
        i: champion
        for i, choice in enumerate(knob.choices)
        if i != leading and i not in low and i not in kept
        if (champion := _champion(knob.name, choice, reference, tried)) is not None
    }
    losses = {
        i: loss
        for i, champion in champions.items()
        if (loss := _loss(reference, champion, LEVEL / len(champions))) is not None
    }
    after = _weights(knob, frozenset(low | losses.keys()) - {leading, *kept})
    said = []
    for i, choice in enumerate(knob.choices):
        label = choice if isinstance(choice, str) else show(choice)
        move = f"{knob.name}={label} weight {weights[i]:.2g} -> {after[i]:.2g}"
        if i in losses:
            loss = losses[i]
            said.append(f"{move}, {loss.units} {loss.claim.split()[1]}, p={loss.p:.2g}")
        elif i == leading and i in low:
            said.append(f"{move}, it leads")
        elif i in kept and i in low:
            said.append(f"{move}, it is on the front")
    return (after if said else tuple(weights)), said


def _weights(knob: ChoiceKnob, low: frozenset[int | None]) -> tuple[float, ...]:
    """The floor for these choices; the others share the rest evenly."""
    count = len(knob.choices)
    floor = FLOOR / count
    rest = (1 - floor * len(low)) / max(1, count - len(low))
    return tuple(floor if i in low else rest for i in range(count))


def _trial_of(params: Params, tried: Sequence[Tried]) -> Tried | None:
    """The newest completed trial of these values."""
    return next((t for t in reversed(tried) if t.completed and t.params == params), None)


def _champion(name: str, choice: Value, reference: Tried, tried: Sequence[Tried]) -> Tried | None:
    """The best trial with a choice that can be paired with the reference.

    A few tries are no evidence against a choice, for its numbers may have been unlucky: on a
    synthetic surface of four numbers, choices lost wrongly in a third of runs where three trials
    sufficed, and in one of forty with eight.
    """
    of_choice = [t for t in tried if name in t.params and t.params[name] == choice]
    paired = [t for t in of_choice if t.completed and t.groups == reference.groups]
    return max(paired, key=_mean) if paired and len(of_choice) >= MIN_EVIDENCE else None


def _mean(trial: Tried) -> float:
    return float(unit_means(trial.gains, trial.groups, claim_for(trial.groups)).mean())


def _loss(reference: Tried, champion: Tried, level: float) -> _Loss | None:
    """The champion's loss; None if it is none at this level."""
    groups = reference.groups
    claim = claim_for(groups)
    lead = [a - b for a, b in zip(reference.gains, champion.gains, strict=True)]
    units = unit_means(lead, groups, claim)
    p = sign_flip_p(lead, groups, claim)
    return _Loss(len(units), claim, p) if units.mean() > 0 and p < level else None
