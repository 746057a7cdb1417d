"""What a person sees of a run: a live picture on a terminal, plain lines in a pipe.

Both are functions of what is recorded, so that ``metatune run`` shows of its own run what
``metatune watch`` shows of another's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from heapq import nlargest
from itertools import chain, repeat
from math import isfinite
from time import monotonic
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from metatune.budget import core_seconds
from metatune.history import History, Trial, differences, leader
from metatune.records.rows import (
    STATES,
    Asked,
    Concluded,
    Ended,
    Looked,
    Retried,
    Row,
    Scored,
    Turned,
    last_line,
)
from metatune.statistics import claim_for, estimate

SHOWN = 8
"""Trials under way that are listed."""
LAST = 5
"""Trials that ended last that are listed."""
DRAW_SECONDS = 1.0
"""Between two pictures of one's own run, at least: each looks at every trial."""


def time_limit(minutes: float | None, core_seconds: float | None) -> str:
    """What a run may take, in words; None: no such limit."""
    limits = [
        *([] if minutes is None else [f"within {minutes:g} min"]),
        *([] if core_seconds is None else [f"within {core_seconds:g} core seconds"]),
    ]
    return " and ".join(limits) or "no limit of time"


def show_score(value: float, metric: str) -> str:
    """A score in the metric's usual form."""
    return f"{100 * value:.1f} %" if metric == "accuracy" else f"{value:.4g}"


def show_gain(mean: float, low: float, high: float, metric: str) -> str:
    """A difference with its interval."""
    scale = 100 if metric == "accuracy" else 1
    if not isfinite(mean):
        return ""
    text = f"{scale * mean:+.3g}"
    return f"{text} [{scale * low:+.3g}, {scale * high:+.3g}]" if isfinite(low) else text


def show_seconds(seconds: float) -> str:
    """A time to go, in words."""
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"


@dataclass(frozen=True)
class Terms:
    """What a run set out to do.

    Attributes:
        metric: of the family.
        trials: that the budget allows.
        last_round: if every round before it brings something.
        rungs: of a trial at full resource.
        minutes: of the clock; None: no limit.
        core_seconds: of all workers together; None: no limit.
    """

    metric: str
    trials: int
    last_round: int
    rungs: int
    minutes: float | None = None
    core_seconds: float | None = None

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Terms:
        """Those that a ``run.json`` has."""
        return cls(
            metric=info["family"]["metric"],
            trials=info["trials"],
            last_round=info["rounds"]["last"],
            rungs=len(info["rungs"]),
            minutes=info["minutes"],
            core_seconds=info.get("core_seconds"),
        )


@dataclass(frozen=True)
class Clock:
    """What only the driver knows.

    Attributes:
        driven: seconds that the run has been driven for.
        left: its estimate of the seconds to go; None while it has none.
    """

    driven: float
    left: float | None = None


# --- words ----------------------------------------------------------------------------------------

_LOOKING = {
    "confirm": "confirming the leaders",
    "test": "verdict: training the entrants anew",
}


def phase(history: History) -> str:
    """What the run is at."""
    if history.verdict is not None:
        return "the verdict is given"
    if history.look_at("test") is not None:
        return _LOOKING["test"]
    if any(turn.round == history.round for turn in history.turns):
        return "ended"
    if history.look_at("confirm", history.round) is not None:
        return _LOOKING["confirm"]
    return "trying strategies" if history.trials else "starting"


def _best(history: History, metric: str) -> str:
    best = leader(history)
    if best is None:
        return "none completed yet"
    own = best.latest()
    assert own is not None, "a completed trial has been scored"
    text = f"{best.asked.name} {show_score(own.mean, metric)}"
    default = history.reference(best, own.rung)
    if default is None or default is own:
        return text
    gains = differences(own, default, history.sign)
    found = estimate(gains, own.groups, claim_for(own.groups))
    gain = show_gain(found.mean, found.low, found.high, metric)
    return f"{text}, {gain} over the default"


def line_of(row: Row, history: History, terms: Terms, left: float | None) -> str:
    """What a row says, once the history holds it; empty where it is not worth a line.

    Args:
        row: which.
        history: that it is in.
        terms: of the run.
        left: seconds to go, where known.
    """
    match row:
        case Asked(origin="ensemble") if row.members:
            names = ", ".join(history.trials[member].asked.name for member in row.members)
            return f"  {row.name}: a blend of {names}"
        case Asked() | Concluded():
            return ""
        case Scored(split="select"):
            return ""
        case Scored():
            name = history.find(row.trial).asked.name
            return f"  {row.split}: {name} {show_score(row.mean, terms.metric)}"
        case Ended(replica=0):
            ended = sum(trial.ended is not None for trial in history.trials.values())
            clock = "" if left is None else f", about {show_seconds(left)} left"
            return f"[{ended}/{terms.trials}] {_end(row, history, terms)}{clock}"
        case Ended():
            return f"  {row.trial} training {row.replica}: {row.state}"
        case Retried():
            return f"  {row.trial} is tried again from rung {row.rung}: {last_line(row.reason)}"
        case Looked():
            return f"{_LOOKING[row.split]} ({len(row.trials)} on {row.split})"
        case Turned():
            borne_out = "" if row.borne_out else "; confirm does not bear out a gain"
            heading = f"round {row.round} ended after {show_seconds(row.seconds)}{borne_out}"
            names = ", ".join(history.trials[trial].asked.name for trial in row.front)
            front = [f"on the front, best first: {names}"] if names else []
            return "\n".join([heading, *(f"  {line}" for line in [*front, *row.moves])])


def _end(row: Ended, history: History, terms: Terms) -> str:
    """How a trial ended."""
    trial = history.find(row.trial)
    latest = trial.latest()
    score = "" if latest is None else f" {show_score(latest.mean, terms.metric)}"
    rung = "" if latest is None else f" at rung {latest.rung}"
    reason = last_line(row.reason)
    detail = f" ({reason})" if reason else ""
    return f"{trial.asked.name} {row.state}{score}{rung}{detail}"


# --- the picture ----------------------------------------------------------------------------------


def picture(history: History, terms: Terms, clock: Clock) -> Group:
    """Where a run stands: at most some twenty lines, of any number of trials."""
    trials = list(history.trials.values())
    ended = [trial.ended for trial in trials if trial.ended is not None]
    lost = [end for end in ended if end.state in ("diverged", "failed")]
    table = _table()
    table.add_row("trials", _counts(trials, ended, terms))
    table.add_row("best so far", _best(history, terms.metric))
    table.add_row("time", _time(history, terms, clock))
    if terms.core_seconds is not None:
        used = core_seconds(history)
        table.add_row("core seconds", f"{used:,.0f} of {terms.core_seconds:,.0f}")
    newest = nlargest(LAST, ended, key=lambda end: end.at)
    for label, end in zip(_labels("ended last"), newest, strict=False):
        table.add_row(label, Text(_end(end, history, terms), no_wrap=True))
    for end in nlargest(1, lost, key=lambda end: end.at):
        table.add_row("last failure", Text(_end(end, history, terms)))
    return Group(
        Text(_heading(history, terms), style="bold"), table, _under_way(trials, terms, clock)
    )


def _heading(history: History, terms: Terms) -> str:
    now, look = phase(history), history.look_at("test")
    if look is None or history.verdict is not None:
        return f"round {history.round} of {terms.last_round}: {now}"
    owed = history.owed(look.trials, look.seeds)
    done = sum(trial.was_trained(replica) for trial, replica in owed)
    return f"{now}, {done} of {len(owed)} done"


def _counts(trials: list[Trial], ended: list[Ended], terms: Terms) -> str:
    counts = Counter("running" if trial.ended is None else trial.ended.state for trial in trials)
    text = "  ".join(f"{counts[state]} {state}" for state in ("running", *STATES) if counts[state])
    until = max((end.at for end in ended), default=0.0)
    rate = f", {3600 * len(ended) / until:,.0f} an hour" if until else ""
    return f"{text}  of {terms.trials}{rate}"


def _time(history: History, terms: Terms, clock: Clock) -> str:
    limit = "" if terms.minutes is None else f" of {show_seconds(60 * terms.minutes)}"
    known = clock.left is not None and history.verdict is None
    left = f", about {show_seconds(clock.left or 0.0)} left" if known else ""
    return f"{show_seconds(clock.driven)}{limit}{left}"


def _table() -> Table:
    """Without lines; its first column, of labels, is as wide as the longest of all."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(min_width=len("core seconds"))
    return table


def _labels(first: str) -> Iterator[str]:
    """Of the rows of a list: its first alone has one."""
    return chain([first], repeat(""))


def _under_way(trials: list[Trial], terms: Terms, clock: Clock) -> Table:
    running = [trial for trial in trials if trial.ended is None]
    table = _table()
    for label, trial in zip(_labels("under way"), running[:SHOWN], strict=False):
        latest = trial.latest()
        rung = f"rung {latest.rung} of {terms.rungs}" if latest else "before its first rung"
        score = show_score(latest.mean, terms.metric) if latest else ""
        since = show_seconds(max(0.0, clock.driven - trial.asked.at))
        table.add_row(label, trial.id, trial.asked.name, rung, score, f"for {since}")
    if len(running) > SHOWN:
        table.add_row("", f"and {len(running) - SHOWN} more")
    return table


class Progress:
    """Follows a run. A context manager.

    Args:
        console: where to print.
        terms: of the run.
    """

    def __init__(self, console: Console, terms: Terms) -> None:
        self._console = console
        self._terms = terms
        self._history: History | None = None
        self._clock: Callable[[], Clock] = lambda: Clock(0.0)
        self._drawn = -DRAW_SECONDS
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._draw()
            self._live.stop()

    def follow(self, history: History, clock: Callable[[], Clock]) -> None:
        """Show this history from now on, by this clock."""
        self._history, self._clock = history, clock

    def watch(self, row: Row, history: History) -> None:
        """A row was recorded."""
        if self._live is None:
            line = line_of(row, history, self._terms, self._clock().left)
            if line:
                # Plain text: a failure's last line may hold brackets and colons of its own.
                self._console.print(Text(line), soft_wrap=True)

    def say(self, sentence: str) -> None:
        """Something has happened that no row tells of."""
        self._console.print(Text(sentence), soft_wrap=True)

    def tick(self) -> None:
        """Some time has passed."""
        if self._live is not None and monotonic() - self._drawn >= DRAW_SECONDS:
            self._draw()

    def _draw(self) -> None:
        if self._live is not None and self._history is not None:
            self._live.update(picture(self._history, self._terms, self._clock()))
            self._drawn = monotonic()
