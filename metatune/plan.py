"""The plan of a run: what is fixed at its start, as every phase reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metatune.jobs import TrialJob
from metatune.prior import Fitted
from metatune.records.rows import Asked
from metatune.space import ResolvedSpace
from metatune.tasks.base import FamilyInfo, Split

GRADIENT_TRIALS = 4  # one promoted, two probes, and the child


@dataclass(frozen=True)
class Plan:
    """What a run is to do: fixed at its start, read back at every resume.

    Attributes:
        space: the space file, resolved for the family.
        info: the task family.
        seed: the run's seed.
        trials: how many trials to ask for, in all rounds.
        minutes: wall clock of the whole run, verdict included; None: no limit.
        code: folder that parts of the user's own are imported from; None: where Python looks.
        prior: what earlier runs bring.
        options: what the task family has to be told, as plain data; its paths are absolute.
    """

    space: ResolvedSpace
    info: FamilyInfo
    seed: int
    trials: int
    minutes: float | None
    code: str | None = None
    prior: Fitted = field(default_factory=Fitted)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def first_round(self) -> int:
        """The run's first round: the one after those of the run that it goes on from."""
        return self.space.space.method.round + 1

    @property
    def last_round(self) -> int:
        """The run's last round, if every one before it brings something."""
        return self.space.space.method.round + self.space.space.rounds.count

    def rungs(self, round_: int) -> tuple[int, ...]:
        """Resource at each rung of a round, in forward-equivalents."""
        return self.space.space.resource.rung_resources(self.growth(round_))

    def growth(self, round_: int) -> float:
        """How many times more resource a round has than the first of all."""
        return float(self.space.space.rounds.growth ** (round_ - 1))

    def share(self, round_: int) -> int:
        """Trials of a round: an even share, the first rounds one more where it does not divide."""
        each, more = divmod(self.trials, self.space.space.rounds.count)
        return each + (round_ - self.first_round < more)

    def for_gradient(self, round_: int) -> int:
        """Trials of a round that are set aside for its gradient; 0 where the round is too short."""
        wanted = self.space.space.adjust.gradient
        room = self.share(round_) >= len(self.space.initial) + 2 * GRADIENT_TRIALS
        return GRADIENT_TRIALS if wanted and room else 0

    def tasks(self, split: Split) -> int:
        """Number of tasks that a split is judged on."""
        return int(getattr(self.space.space.tasks, split))

    def job(
        self,
        asked: Asked,
        split: Split,
        *,
        folder: str | None,
        replica: int = 0,
        recorded: int = 0,
        train: bool = True,
        seed_of: str | None = None,
    ) -> TrialJob:
        """The job of a trial, its training anew (``replica``) or its scoring elsewhere.

        Args:
            asked: the trial.
            folder: where its checkpoints lie; None keeps none.
            split, replica, recorded, train, seed_of: as of ``TrialJob``.
        """
        space = self.space.space
        return TrialJob(
            trial=asked.trial,
            round=asked.round,
            replica=replica,
            strategy=asked.strategy,
            family=space.family.name,
            data_dir=space.family.data_dir,
            options=dict(self.options),
            episode=space.episode,
            run_seed=self.seed,
            rungs=self.rungs(asked.round),
            recorded=recorded,
            split=split,
            tasks=self.tasks(split),
            train=train,
            folder=folder,
            code=self.code,
            hang_seconds=60 * space.faults.hang_minutes,
            seed_of=seed_of,
            looks=split == "select" and space.tasks.race > 0,
        )
