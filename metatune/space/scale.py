"""Numbers in the scale in which a knob is searched: their logarithm where ``log``, else as is.

Steps, widths and middles of a range are taken there, so that a step from 0.01 to 0.02 is as long as
one from 0.1 to 0.2 where the knob is logarithmic.
"""

from __future__ import annotations

import math

from metatune.space.knobs import FloatKnob, IntKnob

Number = FloatKnob | IntKnob


def spread(knob: Number, value: float) -> float:
    """The value in the knob's scale."""
    return math.log(value) if knob.log else float(value)


def unspread(knob: Number, spot: float) -> float:
    """The value at a spot of the knob's scale; whole numbers are not yet rounded."""
    return math.exp(spot) if knob.log else spot


def ends(knob: Number) -> tuple[float, float]:
    """The knob's range in its scale."""
    return spread(knob, knob.low), spread(knob, knob.high)


def width(knob: Number) -> float:
    """The width of the knob's range in its scale."""
    low, high = ends(knob)
    return high - low
