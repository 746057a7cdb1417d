"""Metrics of a search, by Ray's own API: a node's agent shows them to Prometheus.

They are a function of what is recorded. Ray puts ``ray_`` before each name; the agent is there
where ``ray[default]`` is installed, and where it is not, they go nowhere and cost nothing.
"""

from __future__ import annotations

from collections import Counter as Counts

from ray.util.metrics import Counter, Gauge, Histogram

from metatune.history import History, leader, mean_gain
from metatune.records.rows import STATES, Asked, Row, Scored
from metatune.tasks.base import Split

BOUNDARIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 10800.0)
"""Of the buckets of ``metatune_rung_seconds``, in seconds."""


class Metrics:
    """The metrics of one run; Ray is connected when the first row comes.

    Args:
        run: its name, a tag of each metric.
    """

    def __init__(self, run: str) -> None:
        self._trials = Gauge("metatune_trials", "Trials of the run, by state", ("run", "state"))
        self._best = Gauge(
            "metatune_best_score",
            "Mean score of the best completed trial of the newest round, by split",
            ("run", "split"),
        )
        self._gain = Gauge(
            "metatune_best_gain",
            "Mean paired difference of that trial to the default, positive is better, by split",
            ("run", "split"),
        )
        self._round = Gauge("metatune_round", "Round of the loop, from 1", ("run",))
        self._asks = Counter(
            "metatune_asks_total", "Trials that this driver asked for, by why", ("run", "origin")
        )
        self._rungs = Histogram(
            "metatune_rung_seconds",
            "Seconds of training to a rung and of scoring there, by rung",
            list(BOUNDARIES),
            ("run", "rung"),
        )
        for metric in self.all:
            metric.set_default_tags({"run": run})

    @property
    def all(self) -> tuple[Counter | Gauge | Histogram, ...]:
        """Each metric; its ``info`` has name, description and tags."""
        return self._trials, self._best, self._gain, self._round, self._asks, self._rungs

    def watch(self, row: Row, history: History) -> None:
        """A row was recorded; the history holds it."""
        match row:
            case Scored(split="select", replica=0):
                self._rungs.observe(rung_seconds(row, history), {"rung": str(row.rung)})
                return
            case Asked() if row.trial in history.trials:
                self._asks.inc(tags={"origin": row.origin})
        trials = history.trials.values()
        states = Counts("running" if t.ended is None else t.ended.state for t in trials)
        for state in ("running", *STATES):
            self._trials.set(states[state], {"state": state})
        self._round.set(history.round)
        for split, scores in standing(history).items():
            self._best.set(scores.mean, {"split": split})
            if (gain := gain_of(scores, history)) is not None:
                self._gain.set(gain, {"split": split})


def standing(history: History) -> dict[Split, Scored]:
    """The scores of who leads: on ``select``, and on ``confirm`` once a round has ended."""
    best, found = leader(history), dict[Split, Scored | None]()
    if best is not None:
        found["select"] = best.latest()
    if history.turns and history.turns[-1].incumbents:
        found["confirm"] = history.trials[history.turns[-1].incumbents[0]].on("confirm")
    return {split: scores for split, scores in found.items() if scores is not None}


def gain_of(scores: Scored, history: History) -> float | None:
    """By how much scores of a trial beat the default's on the same tasks; None where unknown."""
    trial = history.trials[scores.trial]
    if scores.split == "select":
        return history.gain(trial, scores.rung)
    default = history.default_of(trial.asked.round)
    reference = default and default.on(scores.split)
    return mean_gain(scores, reference, history.sign) if reference else None


def rung_seconds(row: Scored, history: History) -> float:
    """Seconds of training since the rung before, and of scoring."""
    rungs = history.trials[row.trial].rungs
    before = [rung for rung in rungs if rung < row.rung]
    trained = history.trials[row.trial].at(before[-1]).train_seconds if before else 0.0
    return row.train_seconds - trained + row.score_seconds
