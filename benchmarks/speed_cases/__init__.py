"""Cases of speed, section by section, for ``benchmarks/speed.py``.

A section is a module of this package with ``def cases(scale: float) -> Iterator[Case]``: it times
ours and a reference by turns in one run, and yields what it found, a case at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

REPEATS = 5
SECONDS = 2.0  # that a form is timed for, each time


@dataclass(frozen=True)
class Case:
    """What one comparison gave.

    Attributes:
        what: is measured.
        reference: what it is compared with; empty where it stands alone.
        unit: of the figures.
        ours: measured, a figure a repeat.
        theirs: of the reference, measured beside each of ours; empty where it stands alone.
        goal: of the ratio ours / theirs, or of our figure where there is no reference: at least
            this; a negative one: at most its absolute value. None: none was set.
        note: what else there is to know.
    """

    what: str
    reference: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    goal: float | None = None
    note: str = ""
    ratios: Sequence[float] = field(init=False)

    def __post_init__(self) -> None:
        pairs = zip(self.ours, self.theirs, strict=True) if self.theirs else ()
        object.__setattr__(self, "ratios", [a / b for a, b in pairs])

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; None without one."""
        if self.goal is None:
            return None
        found = median(self.ratios or self.ours)
        return found >= self.goal if self.goal > 0 else found <= -self.goal


def per_second(work: Callable[[], object], seconds: float = SECONDS) -> float:
    """How often a second a piece of work is done."""
    start, count = perf_counter(), 0
    while True:
        work()
        count += 1
        if (took := perf_counter() - start) >= seconds:
            return count / took


def by_turns(
    forms: Mapping[str, Callable[[], float]], repeats: int = REPEATS
) -> dict[str, list[float]]:
    """What each form measures, one after the other, so many times over."""
    found: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, measure in forms.items():
            found[name].append(measure())
    return found
