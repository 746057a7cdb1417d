"""The history of a run: a fold over its rows, and the one state that decisions are made from.

A resumed run folds the same rows in the same order and so stands where the killed one stood.
``History`` changes in place (``add``), since it grows with every row; whoever decides reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from metatune.objectives import log_ratio
from metatune.records.rows import (
    FINDING_OUT,
    Asked,
    Concluded,
    Ended,
    Looked,
    Retried,
    Row,
    Scored,
    Turned,
)
from metatune.statistics import claim_for, unit_means
from metatune.tasks.base import Split


@dataclass
class Trial:
    """What is known of one trial.

    Attributes:
        asked: what was decided on.
        scores: by split, replica and rung.
        ended: how it ended; None while it runs.
        replicas: how its trainings anew ended, by replica.
    """

    asked: Asked
    scores: dict[tuple[Split, int, int], Scored] = field(default_factory=dict)
    ended: Ended | None = None
    replicas: dict[int, Ended] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.asked.trial

    @property
    def completed(self) -> bool:
        """True where it came to its end and was neither stopped nor lost."""
        return self.ended is not None and self.ended.state == "completed"

    @property
    def rungs(self) -> list[int]:
        """Rungs scored on ``select``, ascending."""
        return sorted(rung for split, replica, rung in self.scores if (split, replica) == _OWN)

    def at(self, rung: int) -> Scored:
        """The scores on ``select`` at a rung."""
        return self.scores[(*_OWN, rung)]

    def latest(self) -> Scored | None:
        """The scores on ``select`` at the highest rung."""
        return self.at(self.rungs[-1]) if self.rungs else None

    def on(self, split: Split, replica: int = 0) -> Scored | None:
        """The scores on a split at the highest rung scored there."""
        rungs = [r for s, rep, r in self.scores if (s, rep) == (split, replica)]
        return self.scores[split, replica, max(rungs)] if rungs else None

    @property
    def trainings(self) -> list[Scored]:
        """What its trainings anew scored on ``test``, by replica; lost ones are not there."""
        return [
            row for (split, rep, _), row in sorted(self.scores.items()) if split == "test" if rep
        ]

    def was_trained(self, replica: int) -> bool:
        """True where a training anew was made, or lost."""
        return replica in self.replicas or self.on("test", replica) is not None


_OWN: tuple[Split, int] = ("select", 0)


def differences(a: Scored, b: Scored, sign: int) -> list[float]:
    """By how much ``a`` beats ``b`` on each task (positive: better).

    Where a race ended early for one of them, on the first tasks, which both were scored on.

    Raises:
        ValueError: they were not scored on the same tasks.
    """
    both = min(len(a.tasks), len(b.tasks))
    if a.tasks[:both] != b.tasks[:both]:
        raise ValueError(f"{a.trial} and {b.trial} were not scored on the same tasks")
    return [sign * (x - y) for x, y in zip(a.scores, b.scores, strict=False)]


def mean_gain(a: Scored, b: Scored, sign: int) -> float:
    """The mean of ``differences``, over the units that the tasks' groups can bear."""
    gains = differences(a, b, sign)
    groups = a.groups[: len(gains)]
    return float(unit_means(gains, groups, claim_for(groups)).mean())


def merits(a: Scored, b: Scored, sign: int, costs: Sequence[str]) -> tuple[float, ...]:
    """How ``a`` compares with ``b`` in every objective (positive: better): ``mean_gain`` in score,
    then for each cost by how much its logarithm is lower."""
    return (mean_gain(a, b, sign), *(-log_ratio(name, a, b) for name in costs))


class History:
    """All that a run knows.

    Args:
        sign: +1 where a higher score is better, -1 where a lower one is.
    """

    def __init__(self, sign: int, rows: Iterable[Row] = ()) -> None:
        self.sign = sign
        self.trials: dict[str, Trial] = {}
        self.ensembles: dict[str, Trial] = {}  # no trials: no round or budget counts them
        # By trial, split, replica and the rung that each went on from.
        self.retried: Counter[tuple[str, Split, int, int]] = Counter()
        self.looks: list[Looked] = []
        self.turns: list[Turned] = []
        self.verdict: Concluded | None = None
        self.at = 0.0  # seconds driven so far
        self._rounds: dict[int, list[Trial]] = {}
        self._defaults: dict[int, Trial] = {}
        # What was compared with which row; asked for at each decision, of all trials so far.
        self._gains: dict[tuple[str, int], tuple[Scored, float]] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Fold one more row in. Repeated rows change nothing."""
        match row:
            case Asked(origin="ensemble"):
                self.ensembles.setdefault(row.trial, Trial(row))
            case Asked() if row.trial not in self.trials:
                self.trials[row.trial] = trial = Trial(row)
                self._rounds.setdefault(row.round, []).append(trial)
                if row.origin == "default":
                    self._defaults.setdefault(row.round, trial)
            case Scored():
                key = (row.split, row.replica, row.rung)
                self.find(row.trial).scores.setdefault(key, row)
            case Ended(replica=0):
                self.find(row.trial).ended = row
            case Ended():
                self.find(row.trial).replicas[row.replica] = row
            case Retried():
                self.retried[row.trial, row.split, row.replica, row.rung] += 1
            case Looked():
                if row not in self.looks:
                    self.looks.append(row)
            case Turned():
                if row not in self.turns:
                    self.turns.append(row)
            case Concluded():
                self.verdict = row
        self.at = max(self.at, row.at)

    def find(self, name: str) -> Trial:
        """A trial or an ensemble by its id."""
        return self.ensembles[name] if name in self.ensembles else self.trials[name]

    def digests(self, ensemble: Trial) -> list[str]:
        """The hash of each member's strategy."""
        return [self.trials[name].asked.digest for name in ensemble.asked.members]

    def trained_for(self, entrants: Sequence[str]) -> list[Trial]:
        """Those of a verdict's entrants that are trained anew: all but ensembles."""
        return [self.trials[name] for name in entrants if name in self.trials]

    def owed(self, entrants: Sequence[str], seeds: int) -> list[tuple[Trial, int]]:
        """The trainings anew, with their numbers, that a verdict over these entrants owes.

        Each is trained ``seeds`` times; whose trainings are blended with one another, as often as
        the blend asks for.
        """
        trials = self.trained_for(entrants)
        blends = [self.digests(self.ensembles[name]) for name in entrants if name in self.ensembles]

        def times(trial: Trial) -> int:
            return max([seeds, *(blend.count(trial.asked.digest) for blend in blends)])

        most = max(map(times, trials), default=0)
        numbers = range(1, most + 1)
        return [(trial, number) for number in numbers for trial in trials if number <= times(trial)]

    def of_round(self, round_: int) -> list[Trial]:
        """The trials of a round, in the order of their asking."""
        return list(self._rounds.get(round_, ()))

    def default_of(self, round_: int) -> Trial | None:
        """What a round's trials are compared with; None until it was asked."""
        return self._defaults.get(round_)

    @property
    def round(self) -> int:
        """The newest round that has a trial; 0 before the first."""
        return max(self._rounds, default=0)

    def look_at(self, split: Split, round_: int | None = None) -> Looked | None:
        """The look that was taken at a reserved split, in a round or at all."""
        return next((x for x in self.looks if x.split == split and round_ in (None, x.round)), None)

    @property
    def default(self) -> Trial | None:
        """The default of the newest round."""
        return self.default_of(self.round)

    def gain(self, trial: Trial, rung: int) -> float | None:
        """Mean paired difference to its round's default at a rung; None until that was there.

        What has come to its end stands at its score from then on. So a completed trial is compared
        with the completed default, even where it needed fewer rungs; and a default that needs no
        training is the same at every rung.
        """
        reference = self.reference(trial, rung)
        if reference is None:
            return None
        against, gain = self._gains.get((trial.id, rung), (None, 0.0))
        if against is not reference:
            gain = mean_gain(trial.at(rung), reference, self.sign)
            self._gains[trial.id, rung] = reference, gain
        return gain

    def reference(self, trial: Trial, rung: int) -> Scored | None:
        """The scores of its round's default that a trial is compared with; see ``gain``."""
        default = self.default_of(trial.asked.round)
        if default is None or not default.rungs:
            return None
        last = default.rungs[-1]
        final = (trial.completed and rung == trial.rungs[-1]) or rung > last
        if final and default.ended is None:
            return None
        return default.at(last if final else rung)

    def gains(self, trial: Trial) -> dict[int, float]:
        """``gain`` at every rung where it is known."""
        known = {rung: self.gain(trial, rung) for rung in trial.rungs}
        return {rung: gain for rung, gain in known.items() if gain is not None}

    def costs(self, trial: Trial, names: Sequence[str]) -> dict[str, dict[int, float]]:
        """The log ratio of each cost to that of what ``gain`` compares with, by rung where known.

        Args:
            trial: whose.
            names: of the costs; those of a run are its ``Space.costs``.
        """
        return {
            name: {
                rung: log_ratio(name, trial.at(rung), reference)
                for rung in trial.rungs
                if (reference := self.reference(trial, rung)) is not None
            }
            for name in names
        }


def leader(history: History) -> Trial | None:
    """The best completed trial of the newest round that has one: rounds have other tasks."""
    full = [
        (trial, latest)
        for trial in history.trials.values()
        if trial.completed and trial.asked.origin not in FINDING_OUT
        if (latest := trial.latest()) is not None
    ]
    newest = max((trial.asked.round for trial, _ in full), default=0)
    own = [(trial, latest) for trial, latest in full if trial.asked.round == newest]
    best = max(own, key=lambda each: history.sign * each[1].mean, default=None)
    return None if best is None else best[0]
