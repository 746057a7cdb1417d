"""Observations for the proposer from earlier runs, as far as the new run agrees with them.

An earlier run's gains are those of other tasks, over another default. Told to TPE as they are, they
mislead wherever the new tasks differ, and go on doing so, for a wrong gain that nothing measured
reaches leads for ever. So lessons have to prove themselves first, on the strategies that both know,
above all those of the portfolio (Feurer, Letham & Bakshy 2018 weight models of earlier tasks in the
same spirit, by how well they rank the new task's observations). They are few, they count less, and
every other proposal is made without them (``Search``), so nothing is excluded through them.

And they are what lost. What won is tried again as the portfolio, so its real gain is known: told at
a discount beside it, it would rank behind what it resembles, and TPE would shun the very region
that it speaks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from metatune.space import Params

Lesson = tuple[Params, float]
"""Values of the knobs, and the mean gain over the default with them."""

DISCOUNT = 0.5  # earlier gains count half, so that what is measured now outranks them
OBSERVATIONS = 8  # that the proposer hears of earlier runs, at most
DOUBT = 3  # pairs that agree neither way, added to those compared, for a few prove little


def lessons(frame: pd.DataFrame, params: Mapping[str, Params]) -> tuple[Lesson, ...]:
    """What was gained with values of the knobs, on the average over runs, best first.

    Args:
        frame: a prior's.
        params: the strategies that lie in the space, by digest.

    Returns:
        Gains in multiples of the ``spread`` of their run's, so that metrics do not matter.
    """
    units = {run: spread(gains.to_list()) for run, gains in frame.groupby("run")["gain"]}
    found: dict[frozenset[Any], list[float]] = {}
    values: dict[frozenset[Any], Params] = {}
    for run, digest, gain in zip(frame["run"], frame["digest"], frame["gain"], strict=True):
        if digest in params and units[run] > 0:
            key = _key(params[digest])
            values[key] = params[digest]
            found.setdefault(key, []).append(gain / units[run])
    means = [(values[key], float(np.mean(gains))) for key, gains in found.items()]
    return tuple(sorted(means, key=lambda lesson: -lesson[1]))


def discounted(lessons: Sequence[Lesson], own: Sequence[Lesson]) -> list[Lesson]:
    """The lessons that the proposer hears beside the run's own observations.

    - How many: at most half as many as own ones, so a third of all; at most ``OBSERVATIONS``, so
      that they fade as own ones come in; and of these the share by which the two agree.
    - Which: of the worse half, evenly spread over the ranking.
    - What: ``DISCOUNT`` of the gain, in the spread of the run's own gains.

    Args:
        lessons: best first.
        own: what the run itself has measured, in any order.
    """
    earlier = {_key(params): gain for params, gain in lessons}
    pairs = [(earlier[_key(params)], gain) for params, gain in own if _key(params) in earlier]
    lost = lessons[(len(lessons) + 1) // 2 :]
    count = int(agreement(pairs) * min(len(own) // 2, OBSERVATIONS, len(lost)))
    unit = DISCOUNT * spread([gain for _, gain in own])
    places = np.linspace(len(lost) - 1, 0, count).round().astype(int)  # one alone: the worst
    return [(lost[place][0], unit * lost[place][1]) for place in places]


def agreement(pairs: Sequence[tuple[float, float]]) -> float:
    """How far two measurements rank the same strategies alike, from 0 (not) to nearly 1.

    Kendall's rank correlation, drawn towards 0 by ``DOUBT``; 0 where they contradict each other.

    Args:
        pairs: both gains of each strategy that both know.
    """
    earlier, own = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    order = np.sign(np.subtract.outer(earlier, earlier)) * np.sign(np.subtract.outer(own, own))
    compared = len(pairs) * (len(pairs) - 1)  # each pair both ways, in the sum too
    return max(0.0, float(order.sum()) / (compared + 2 * DOUBT))


def spread(gains: Sequence[float]) -> float:
    """The size of a usual gain or loss: the median over those that are not 0; 0 without any."""
    sizes = [abs(gain) for gain in gains if gain != 0]
    return float(np.median(sizes)) if sizes else 0.0


def _key(params: Params) -> frozenset[Any]:
    return frozenset(params.items())
