"""What a person sees while a run goes on: a live table on a terminal, plain lines in a pipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import isfinite
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from metatune.history import History, Trial, differences
from metatune.records.rows import STATES, Asked, Concluded, Ended, Looked, Row, Scored, Turned
from metatune.statistics import claim_for, estimate


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


class Progress:
    """Follows a run. A context manager.

    Args:
        console: where to print.
        metric: of the family.
        planned: trials that the budget allows.
    """

    def __init__(self, console: Console, metric: str, planned: int) -> None:
        self._console = console
        self._metric = metric
        self._planned = planned
        self._history: History | None = None
        self._phase = "trying strategies"
        self._left: Callable[[], float | None] = lambda: None
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
            self._live.stop()

    def follow(self, history: History, left: Callable[[], float | None]) -> None:
        """Show this history from now on; ``left`` gives the seconds to go, where known."""
        self._history, self._left = history, left

    def watch(self, row: Row, history: History) -> None:
        """A row was recorded."""
        match row:
            case Looked(split="confirm"):
                self._phase = "confirming the leaders"
            case Looked():
                self._phase = "verdict: training the entrants anew"
        if self._live is None and (line := self._line(row, history)):
            # Plain text: a failure's last line may hold brackets and colons of its own.
            self._console.print(Text(line), soft_wrap=True)

    def tick(self) -> None:
        """Some time has passed."""
        if self._live is not None and self._history is not None:
            self._live.update(self._picture(self._history))

    def _line(self, row: Row, history: History) -> str:
        match row:
            case Asked(origin="ensemble") if row.members:
                names = ", ".join(history.trials[member].asked.name for member in row.members)
                return f"  {row.name}: a blend of {names}"
            case Asked():
                return ""
            case Scored(split="select"):
                return ""
            case Scored():
                mean = sum(row.scores) / len(row.scores)
                name = history.find(row.trial).asked.name
                return f"  {row.split}: {name} {show_score(mean, self._metric)}"
            case Ended(replica=0):
                return self._ended(row, history)
            case Ended():
                return f"  {row.trial} training {row.replica}: {row.state}"
            case Looked():
                return f"{self._phase} ({len(row.trials)} on {row.split})"
            case Turned():
                self._phase = "trying strategies"
                borne_out = "" if row.borne_out else "; confirm does not bear out a gain"
                heading = f"round {row.round} ended after {show_seconds(row.seconds)}{borne_out}"
                names = ", ".join(history.trials[trial].asked.name for trial in row.front)
                front = [f"on the front, best first: {names}"] if names else []
                return "\n".join([heading, *(f"  {line}" for line in [*front, *row.moves])])
            case Concluded():
                return ""

    def _ended(self, row: Ended, history: History) -> str:
        trial = history.find(row.trial)
        latest = trial.latest()
        score = ""
        if latest is not None:
            mean = sum(latest.scores) / len(latest.scores)
            score = f" {show_score(mean, self._metric)} at rung {latest.rung}"
        ended = sum(t.ended is not None for t in history.trials.values())
        left = self._left()
        clock = "" if left is None else f", about {show_seconds(left)} left"
        reason = row.reason.strip().splitlines()[-1] if row.reason.strip() else ""
        detail = f" ({reason})" if reason else ""
        return f"[{ended}/{self._planned}] {trial.asked.name} {row.state}{score}{detail}{clock}"

    def _picture(self, history: History) -> Group:
        trials = history.trials.values()
        states = Counter(t.ended.state if t.ended else "running" for t in trials)
        table = Table(box=None, show_header=False, pad_edge=False)
        counts = "  ".join(f"{states[s]} {s}" for s in ("running", *STATES) if states[s])
        table.add_row("trials", f"{counts}  of {self._planned}")
        table.add_row("best so far", self._best(history))
        left = self._left()
        table.add_row("left", "" if left is None else f"about {show_seconds(left)}")
        return Group(Text(self._phase, style="bold"), table)

    def _best(self, history: History) -> str:
        full = [t for t in history.trials.values() if t.completed]
        if not full or history.default is None:
            return "none completed yet"

        def key(trial: Trial) -> float:
            latest = trial.latest()
            assert latest is not None
            return history.sign * sum(latest.scores) / len(latest.scores)

        best = max(full, key=key)
        own, default = best.latest(), history.default.latest()
        assert own is not None
        text = f"{best.asked.name} {show_score(sum(own.scores) / len(own.scores), self._metric)}"
        if default is None or best is history.default or history.default.ended is None:
            return text
        gains = differences(own, default, history.sign)
        found = estimate(gains, own.groups, claim_for(own.groups))
        gain = show_gain(found.mean, found.low, found.high, self._metric)
        return f"{text}, {gain} over the default"
