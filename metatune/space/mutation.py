"""Draws outside any model: choices by their weights, and local mutations of what is known.

TPE needs many observations where knobs are many; a step from the best strategy known needs one.
Evolutionary searches live on such steps alone (Real et al., 2019, "Regularized Evolution for Image
Classifier Architecture Search").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from metatune.space.knobs import ChoiceKnob, IntKnob, Knob, KnobTree, Params, Value, in_domain
from metatune.space.scale import Number, ends, spread, unspread, width

STEP = 0.1  # of a range's width in the knob's scale: the standard deviation of a step
REDRAWN = 0.1  # probability that a choice becomes another

Weights = Mapping[str, Sequence[float]]
"""Weights of a knob's choices in the tree's order, by the knob's name; left out: even."""


def draw_choice(knob: ChoiceKnob, weights: Weights, draw: Random) -> Value:
    """One of the choices by their weights."""
    return draw.choices(knob.choices, weights.get(knob.name))[0]


def mutate(tree: KnobTree, base: Params, draw: Random, weights: Weights | None = None) -> Params:
    """A neighbour of a strategy: its values, changed a little.

    Each number moves by a normal step of ``STEP`` of its range, cut off at the range's bounds;
    each choice becomes another with probability ``REDRAWN``, and what the new one opens is drawn
    at random. One knob, drawn from the strategy's own, changes in any case where it can.

    Args:
        tree: the current region.
        base: the strategy's values; those outside the region are moved to its bounds.
        draw: where all randomness comes from.
        weights: by which other choices are drawn.
    """
    weights = weights or {}
    movable = [knob.name for knob in tree.knobs() if knob.name in base and not _has_one_value(knob)]
    changed = draw.choice(movable) if movable else None

    def suggest(knob: Knob) -> Value:
        if knob.name not in base or not in_domain(knob, base[knob.name]):
            return _anything(knob, weights, draw)
        old = base[knob.name]
        if not isinstance(knob, ChoiceKnob):
            assert isinstance(old, int | float)
            return _step(knob, old, draw, surely=knob.name == changed)
        if len(knob.choices) > 1 and (draw.random() < REDRAWN or knob.name == changed):
            return _other_choice(knob, old, weights, draw)
        return old

    return tree.walk(suggest)[0]


def _has_one_value(knob: Knob) -> bool:
    return len(knob.choices) == 1 if isinstance(knob, ChoiceKnob) else knob.low == knob.high


def _other_choice(knob: ChoiceKnob, old: Value, weights: Weights, draw: Random) -> Value:
    given = weights.get(knob.name) or [1.0] * len(knob.choices)
    others = [weight * (choice != old) for choice, weight in zip(knob.choices, given, strict=True)]
    return draw.choices(knob.choices, others)[0]


def _anything(knob: Knob, weights: Weights, draw: Random) -> Value:
    """Any value of the range, evenly in the knob's scale."""
    if isinstance(knob, ChoiceKnob):
        return draw_choice(knob, weights, draw)
    return _value(knob, draw.uniform(*ends(knob)))


def _step(knob: Number, old: float, draw: Random, surely: bool) -> float:
    """A value near the old one; where it must be another, a step that is none is turned round."""
    at, step = spread(knob, old), draw.gauss(0.0, STEP * width(knob))
    new = _value(knob, at + step)
    if new != old or not surely:
        return new
    # The step led out of the range, or is too short for whole numbers.
    if isinstance(knob, IntKnob):
        up = old < knob.high and (step > 0 or old <= knob.low)
        return old + 1 if up else old - 1
    return _value(knob, at - step)


def _value(knob: Number, spot: float) -> float:
    """The value of the range that is nearest to a spot of the knob's scale."""
    low, high = ends(knob)
    value = unspread(knob, min(max(spot, low), high))
    if isinstance(knob, IntKnob):
        value = round(value)
    return min(max(value, knob.low), knob.high)
