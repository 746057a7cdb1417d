"""Follow the gradient of the learning process: a leader's numbers become what it learns.

Numbers of the inner learning have a gradient. Pure functions on strategies, around a training::

    promoted = promote(parent, info, episode)     its numbers as meta-parameters
    ...                                           promoted is trained
    learned = learned_knobs(promoted, params)     what they have come to, as numbers
    child = write_back(parent, learned)           the parent with these numbers, to be trained cold

Numbers of the meta-optimiser have one, too, through the whole training; cut to a few steps it
favours small rates, since noise is seen at once and progress late (Wu, Ren, Liao & Grosse 2018,
"Understanding short-horizon bias in stochastic meta-optimization", arXiv 1803.02021). They move by
differences of whole cold trials with common seeds::

    low, high = probes(parent, "outer.lr")                      both trained like the parent
    child = step(parent, "outer.lr", 1.5, s_low, s_parent, s_high)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import exp, inf, isfinite, isnan, log, nextafter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metatune.strategy import (
    GP,
    Logistic,
    Pooled,
    Prototypes,
    Ridge,
    Steps,
    Strategy,
    SupportMean,
    problems,
)
from metatune.strategy.parts import Part
from metatune.tasks.base import Episode, FamilyInfo

FOLLOWED = ("second_order", "first_order", "truncated")
"""Meta rules under which numbers of the inner learning have a gradient."""

LEARNABLE: Mapping[type[Part], Mapping[str, str]] = {
    Steps: {"lr": "log_rate"},
    Ridge: {"penalty": "log_penalty"},
    Logistic: {"penalty": "log_penalty"},
    Prototypes: {"scale": "log_scale"},
    GP: {"amplitude": "log_amplitude", "lengthscale": "log_lengthscale", "noise": "log_noise"},
    SupportMean: {"strength": "log_strength", "mean": "mean"},
    Pooled: {"blend": "blend"},
}
"""Numbers that can be meta-parameters, and how the names of these end; ``log_``: logarithms."""

PLACES = {"inner": "rate", "head": "head", "prior": "prior"}
"""Parts of a strategy with such numbers, and how the names of their meta-parameters begin."""

FIRST_STRENGTH = 1.0
"""Where a strength of 0 starts to be learned: it has no logarithm, and no gradient in it."""

REACH = 1.5
"""How far a step by differences goes at most, in factors of its probes."""


# --- numbers of the inner learning: by their gradient ---------------------------------------------


def promote(strategy: Strategy, info: FamilyInfo, episode: Episode) -> Strategy | None:
    """The strategy with its continuous inner knobs as meta-parameters, from where they stand.

    These are the rate of inner steps (one for all, where it is fixed) and the numbers of head and
    prior (``learn``). They are learned on episodes of groups that are held out from what else is
    fitted (``meta.cross_fit: group``) where the family has groups and the strategy allows it; with
    inner steps it does not, and only a pooled model is fitted without them (``auto``). All else is
    as it was.

    Numbers that the strategy learns already are not promoted: what they came to stands in the
    records of its own trial. ``inner.proximal`` is not learned.

    Args:
        strategy: the leader.
        info: the family.
        episode: the shape of the tasks that it is judged on.

    Returns:
        A strategy without ``problems``; None where nothing can be promoted, or where the strategy
        itself makes no sense.
    """
    if strategy.learner is not None or strategy.meta.rule not in FOLLOWED:
        return None
    parts = {place: _learning(getattr(strategy, place)) for place in PLACES}
    promoted = strategy.model_copy(update=parts)
    if promoted == strategy:
        return None
    for cross_fit in ("group", "auto"):
        meta = strategy.meta.model_copy(update={"cross_fit": cross_fit})
        found = promoted.model_copy(update={"meta": meta})
        if not problems(found, info, episode):
            return found
    return None


def _learning(part: Part) -> Part:
    """The part with its numbers as meta-parameters; itself where there is nothing to change."""
    match part:
        case Steps(rate="fixed"):
            return part.model_copy(update={"rate": "learned"})
        case SupportMean(learn=False, strength=0.0):
            return part.model_copy(update={"learn": True, "strength": FIRST_STRENGTH})
        case (
            Ridge(learn=False)
            | Logistic(learn=False)
            | Prototypes(learn=False)
            | GP(learn=False)
            | SupportMean(learn=False)
            | Pooled(learn=False)
        ):
            return part.model_copy(update={"learn": True})
    return part


def learned_knobs(strategy: Strategy, params: Mapping[str, Any]) -> dict[str, float]:
    """What meta-parameters say, as plain values of knobs by their paths, such as ``inner.lr``.

    A knob that stands for several numbers (a rate a layer, an amplitude a kernel, a penalty a
    member of an ensemble) gets their geometric mean; where they may be negative, the arithmetic.

    Args:
        strategy: whose learner it is.
        params: its meta-parameters by name: tensors, arrays or numbers.

    Returns:
        Six significant digits each; empty where nothing is learned. A number that is not finite
        says nothing and is left out.
    """
    if strategy.learner is not None or strategy.meta.rule not in FOLLOWED:
        return {}
    found: dict[str, float] = {}
    for place, begin in PLACES.items():
        for knob, end in LEARNABLE.get(type(getattr(strategy, place)), {}).items():
            pattern = re.compile(rf"(member\d+\.)?{begin}\.(.*\.)?{end}")
            values = [_numbers(params[name]) for name in params if pattern.fullmatch(name)]
            if not values:
                continue
            mean = float(np.concatenate(values).mean())
            value = exp(min(mean, 700.0)) if end.startswith("log_") else mean
            if isfinite(value):
                found[f"{place}.{knob}"] = _six_digits(value)
    return found


def _numbers(value: Any) -> NDArray[np.float64]:
    """All numbers of an array, a tensor or a number."""
    plain = value.detach() if hasattr(value, "detach") else value
    return np.asarray(plain, np.float64).ravel()


def _six_digits(value: float) -> float:
    """What float32 knows of a number; more would only be long to read."""
    return float(f"{value:.6g}")


def write_back(parent: Strategy, learned: Mapping[str, float]) -> Strategy:
    """The parent with learned values as plain knobs, within the knobs' own bounds.

    All else is the parent's: a rate that was fixed is fixed again, at the learned value.

    Args:
        parent: what was promoted.
        learned: as ``learned_knobs`` gives them.

    Raises:
        ValueError: the parent has no such knob, or a value is not a number.
    """
    child = parent
    for path, value in learned.items():
        if path not in (known := _learnable_paths(parent)):
            raise ValueError(f"learned: found {path}; allowed: {', '.join(known) or 'none'}")
        child = _with_number(child, path, value)
    return child


def _learnable_paths(strategy: Strategy) -> list[str]:
    return [
        f"{place}.{knob}"
        for place in PLACES
        for knob in LEARNABLE.get(type(getattr(strategy, place)), {})
    ]


# --- numbers of the meta-optimiser: by differences ------------------------------------------------


def outer_knobs(strategy: Strategy) -> tuple[str, ...]:
    """The knobs of the meta-optimiser that can be moved by differences."""
    if strategy.meta.rule == "none":
        return ()
    decays = strategy.outer.weight_decay > 0  # a decay of 0 has no logarithm to step in
    return ("outer.lr", "outer.weight_decay") if decays else ("outer.lr",)


def probes(parent: Strategy, knob: str, factor: float = 1.5) -> tuple[Strategy, Strategy]:
    """The parent with a knob divided and multiplied by ``factor``, within the knob's bounds.

    Args:
        parent: the leader.
        knob: one of ``outer_knobs(parent)``.
        factor: above 1.

    Raises:
        ValueError: the parent has no such knob to move, or the factor is not above 1.
    """
    if knob not in outer_knobs(parent):
        allowed = ", ".join(outer_knobs(parent)) or "none"
        raise ValueError(f"knob: found {knob}; allowed: {allowed}")
    if not 1 < factor < inf:
        raise ValueError(f"factor: found {factor}; allowed: above 1")
    value = _number(parent, knob)
    low, high = _six_digits(value / factor), _six_digits(value * factor)
    return _with_number(parent, knob, low), _with_number(parent, knob, high)


def step(
    parent: Strategy, knob: str, factor: float, down: float, middle: float, up: float
) -> Strategy | None:
    """The parent with a knob moved to where three whole trials with common seeds point.

    In the logarithm of the knob a parabola goes through the scores. Where it has a top, the step
    goes there, at most ``REACH`` factors far; where it has none, or a trial has no score, the step
    goes so far towards the better end.

    Args:
        parent: the leader.
        knob: as in ``probes``.
        factor: as in ``probes``.
        down, middle, up: scores of the lower probe, the parent and the upper probe; higher is
            better, and what is not finite is worse than all (the trial diverged).

    Returns:
        None where the parent scores best: the top is then less than half a factor away, within
        what the parabola can tell.
    """
    here = log(_number(parent, knob))
    low, high = (log(_number(each, knob)) - here for each in probes(parent, knob, factor))
    scores = tuple(s if isfinite(s) else -inf for s in (down, middle, up))
    move = _move(low, high, scores, REACH * log(factor))
    if move is None:
        return None
    moved = _with_number(parent, knob, _six_digits(exp(here + move)))
    return None if moved == parent else moved  # at a bound of the knob


def _move(low: float, high: float, scores: tuple[float, ...], reach: float) -> float | None:
    """How far to go in log space from 0, given the scores at ``low``, 0 and ``high``."""
    down, middle, up = scores
    if middle >= max(down, up):
        return None
    if low < 0 < high and all(map(isfinite, scores)):
        # middle + slope x + bend x^2 through all three
        to_low, to_high = (down - middle) / low, (up - middle) / high
        bend = (to_high - to_low) / (high - low)
        if bend < 0:
            top = (bend * high - to_high) / (2 * bend)
            return max(-reach, min(top, reach))
    return reach if up > down else -reach


# --- numbers of a strategy by their paths ---------------------------------------------------------


def _number(strategy: Strategy, path: str) -> float:
    place, _, knob = path.partition(".")
    return float(getattr(getattr(strategy, place), knob))


def _with_number(strategy: Strategy, path: str, value: float) -> Strategy:
    """The strategy with one number changed, within the bounds of its field."""
    if isnan(value):
        raise ValueError(f"{path}: found nan; allowed: numbers")
    place, _, knob = path.partition(".")
    low, high = _bounds(type(getattr(strategy, place)), knob)
    plain = strategy.model_dump()
    plain[place][knob] = max(low, min(value, high))
    return Strategy.model_validate(plain)


def _bounds(part: type[Part], knob: str) -> tuple[float, float]:
    """The smallest and largest value that a field allows."""
    low, high = -inf, inf
    for rule in part.model_fields[knob].metadata:
        # An open bound allows the next number inside it.
        low = max(low, getattr(rule, "ge", -inf), nextafter(getattr(rule, "gt", -inf), inf))
        high = min(high, getattr(rule, "le", inf), nextafter(getattr(rule, "lt", inf), -inf))
    return low, high
