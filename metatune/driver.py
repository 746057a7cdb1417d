"""The driver's side of a run: the one way in for rows, and all that phases need to know.

A row is synced to the log first, then folded into the history, then told to the ledger. Phases
(``search``, ``confirm``, ``verdict``) read the history and never write anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean as mean
from time import monotonic
from typing import Any

from metatune.budget import (
    MARGIN,
    Meter,
    core_seconds,
    entrants_seconds,
    trial_seconds,
    wall_clock,
)
from metatune.history import History, Trial
from metatune.jobs import TrialJob, rung_folder
from metatune.prior import Fitted
from metatune.proposer import Ledger
from metatune.records.folder import RunFolder, write_atomically
from metatune.records.log import Log
from metatune.records.parquet import Compactor
from metatune.records.rows import Asked, Ended, Row, Scored
from metatune.space import Method, ResolvedSpace, load_yaml, method_file
from metatune.strategy import Strategy
from metatune.tasks.base import FamilyInfo, Split

GRADIENT_TRIALS = 4  # one promoted, two probes, and the child
MOST_FOR_VERDICT = 0.5  # of a limited budget, for more than one training of each


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


class Driver:
    """Owns the records of a run while it goes on.

    Args:
        folder: the run's.
        plan: what is to be done.
        history: what was recorded so far.
        log: where rows go first.
        ledger: the stored study.
        compactor: turns the log into Parquet in the background.
        workers: trials at a time.
        watch: is shown every row once it is recorded.
    """

    def __init__(
        self,
        folder: RunFolder,
        plan: Plan,
        history: History,
        log: Log,
        ledger: Ledger,
        compactor: Compactor,
        workers: int,
        watch: Callable[[Row, History], None],
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.history = history
        self.workers = workers
        self._log = log
        self._ledger = ledger
        self._compactor = compactor
        self._watch = watch
        self._before = history.at
        self._start = monotonic()

    def elapsed(self) -> float:
        """Seconds that the run has been driven for, earlier sessions included."""
        return self._before + monotonic() - self._start

    def record(self, *rows: Row) -> None:
        """Write rows down, durably; then, and only then, act on them.

        Raises:
            RunError: the log cannot be written.
        """
        stamped = [replace(row, at=round(self.elapsed(), 3)) for row in rows]
        self._log.append(*stamped)
        for row in stamped:
            self.history.add(row)
        self._compactor.request(len(stamped))
        for trial in self._touched(stamped):
            costs = self.history.costs(trial, self.plan.space.space.costs)
            self._ledger.sync(trial, self.history.gains(trial), costs)
        for row in stamped:
            self._watch(row, self.history)

    def time_for_another(self, round_: int) -> bool:
        """True if one more trial fits into the round's share of the budget, whatever its kind."""
        rounds = self.plan.last_round - round_ + 1
        return all(meter.allows_another(rounds) for meter in self._meters(round_))

    def _meters(self, round_: int) -> Iterator[Meter]:
        history, budget = self.history, self.plan.space.space.budget
        each = trial_seconds(history)
        if self.plan.minutes is not None:
            start = history.turns[-1].at if history.turns else 0.0
            yield Meter(60 * self.plan.minutes, self.set_aside(), start, self.elapsed(), each)
        if budget.core_seconds is not None:
            under_way = sum(t.ended is None for t in history.of_round(round_))
            used = core_seconds(history) + under_way * each
            reserved, before = self.set_aside(workers=1), core_seconds(history, round_)
            yield Meter(budget.core_seconds, reserved, before, used, each)

    def seconds_left(self) -> float | None:
        """An estimate of the time to go; None while too little is known."""
        each = trial_seconds(self.history)
        if not each:
            return None
        ended = sum(t.ended is not None for t in self.history.trials.values())
        search = max(0, self.plan.trials - ended) * each / self.workers
        if self.plan.minutes is not None:
            within = 60 * self.plan.minutes - self.elapsed() - self.set_aside()
            search = min(search, max(0.0, within))
        return search + (0.0 if self.history.verdict else self.set_aside())

    def set_aside(self, workers: int | None = None) -> float:
        """Seconds that the confirmation and the verdict will need, by what trials have taken.

        Of a limited budget at most half, or what one training of each takes: the verdict then
        trains each as often as what is left allows, see ``room_for``.

        Args:
            workers: trainings at a time; 1 gives the seconds of all workers together.
        """
        wanted = self._with_margin(self._trainings_left(), workers)
        total = self._total(workers)
        if total is None or self.history.look_at("test") is not None:
            return wanted
        once = self._with_margin(self._trainings_left(seeds=1), workers)
        return min(wanted, max(once, MOST_FOR_VERDICT * total))

    @property
    def limited(self) -> bool:
        """Whether seconds are limited, be it the clock's or those of all workers together."""
        return self._total(1) is not None or self._total(None) is not None

    def room_for(self, trainings: Sequence[float], under_way: float = 0.0) -> bool:
        """True if a few more trainings fit into what is left of the budget.

        Args:
            trainings: seconds of each.
            under_way: seconds of those that were started and have not come to their end.
        """
        core, clock = self._total(1), self._total(None)
        used = core_seconds(self.history) + under_way + self._with_margin(trainings, workers=1)
        end = self.elapsed() + self._with_margin(trainings, self.workers)
        return (core is None or used <= core) and (clock is None or end <= clock)

    def _total(self, workers: int | None) -> float | None:
        """The budget in seconds of the clock, or of all workers together; None without a limit."""
        if workers == 1:
            return self.plan.space.space.budget.core_seconds
        return None if self.plan.minutes is None else 60 * self.plan.minutes

    def _with_margin(self, trainings: Sequence[float], workers: int | None) -> float:
        return MARGIN * wall_clock(trainings, workers or self.workers)

    def seconds_anew(self, trial: Trial) -> float:
        """What training a completed trial anew and scoring it on ``test`` takes.

        The most that it has taken; before it was trained anew, as the trial itself took.
        """
        known = [row.train_seconds + row.score_seconds for row in trial.trainings]
        return max(known) if known else self._estimated(trial, self.plan.tasks("test"))

    def _estimated(self, trial: Trial, tasks: int) -> float:
        latest = trial.latest()
        assert latest is not None
        growth = self.plan.growth(self.plan.last_round) / self.plan.growth(trial.asked.round)
        scoring = latest.score_seconds * tasks / len(latest.tasks)
        return growth * latest.train_seconds + scoring

    def _trainings_left(self, seeds: int | None = None) -> list[float]:
        """Seconds of each training that the verdict still needs; guessed until ``test`` is opened.

        Args:
            seeds: trainings of each; by default as the space has it.
        """
        verdict, history = self.plan.space.space.verdict, self.history
        look = history.look_at("test")
        if look is not None:
            owed = history.owed(look.trials, verdict.seeds)
            return [self.seconds_anew(t) for t, replica in owed if not t.was_trained(replica)]
        seeds = seeds or verdict.seeds
        tasks = self.plan.tasks("confirm") + self.plan.tasks("test")
        # About half of an ensemble's members take part in any case.
        others = verdict.finalists + verdict.ensemble // 2
        each = entrants_seconds(
            history, self.plan.space.protected, others, lambda trial: self._estimated(trial, tasks)
        )
        # The rival is trained as often as the ensemble has members.
        return each * seeds + [mean(each)] * max(0, verdict.ensemble - seeds) if each else []

    def write_method(self, method: Method) -> None:
        """Write ``method.yaml``, from which another run can go on."""
        space, _ = load_yaml(self.folder.space)
        if space.get("prior") is not None:
            space["prior"] = self.folder.prior.name  # the copy, which lies beside it
        write_atomically(self.folder.method, method_file(space, self.plan.seed, method))

    def _touched(self, rows: list[Row]) -> list[Trial]:
        """Trials whose entry in the ledger may have changed."""
        touched = {
            row.trial
            for row in rows
            if isinstance(row, Asked) or (isinstance(row, Scored | Ended) and row.replica == 0)
        }
        trials = self.history.trials
        touched &= trials.keys()  # the study knows no ensembles
        for name in sorted(touched):
            if trials[name].asked.origin == "default":
                return self.history.of_round(trials[name].asked.round)  # compared with it
        return [trials[name] for name in sorted(touched)]

    def job(
        self,
        trial: Trial,
        split: Split,
        *,
        replica: int = 0,
        recorded: int = 0,
        train: bool = True,
        seed_of: str | None = None,
    ) -> TrialJob:
        """The job of a trial, its training anew (``replica``) or its scoring elsewhere."""
        family = self.plan.space.space.family
        return TrialJob(
            trial=trial.id,
            round=trial.asked.round,
            replica=replica,
            strategy=trial.asked.strategy,
            family=family.name,
            data_dir=family.data_dir,
            options=dict(self.plan.options),
            episode=self.plan.space.space.episode,
            run_seed=self.plan.seed,
            rungs=self.plan.rungs(trial.asked.round),
            recorded=recorded,
            split=split,
            tasks=self.plan.tasks(split),
            train=train,
            folder=str(self._folder_of(trial.id, replica)),
            code=self.plan.code,
            seed_of=seed_of,
            looks=split == "select" and self.plan.space.space.tasks.race > 0,
        )

    def kept(self, row: Scored) -> str:
        """The folder in which a worker kept the predictions that were scored."""
        return str(rung_folder(self._folder_of(row.trial, row.replica), row.rung))

    def _folder_of(self, trial: str, replica: int) -> Path:
        folder = self.folder.trial(trial)
        return folder / f"replica-{replica}" if replica else folder

    def last_rung(self, trial: Trial) -> int:
        """The rung at which a trial is done."""
        strategy = Strategy.model_validate(trial.asked.strategy)
        return strategy.last_rung(self.plan.space.space.resource.rungs)
