"""The driver's side of a run: the one way in for rows, and all that phases need to know.

A row is synced to the log first, then folded into the history, then told to the ledger. Phases
(``search``, ``confirm``, ``verdict``) read the history and never write anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from metatune.budget import Budget
from metatune.history import History, Trial
from metatune.jobs import TrialJob, rung_folder
from metatune.ledger import Ledger
from metatune.patience import Patience
from metatune.place import below
from metatune.plan import Plan
from metatune.records.compaction import Compactor
from metatune.records.folder import RunFolder
from metatune.records.log import Log
from metatune.records.put_log import PutLog
from metatune.records.rows import Asked, Ended, Row, Scored
from metatune.space import Method, load_yaml, method_file
from metatune.strategy import Strategy
from metatune.tasks.base import Split


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
        patience: with storage that does not answer.
        check: is called before rows are written; raises where the run went to another driver.
    """

    def __init__(
        self,
        folder: RunFolder,
        plan: Plan,
        history: History,
        log: Log | PutLog,
        ledger: Ledger,
        compactor: Compactor,
        workers: int,
        watch: Callable[[Row, History], None],
        patience: Patience | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.history = history
        self.workers = workers
        self.budget = Budget(plan, history, workers, self.elapsed)
        self._log = log
        self._ledger = ledger
        self._compactor = compactor
        self._watch = watch
        self._patience = patience or Patience()
        self._check = check
        self._last_rungs: dict[str, int] = {}  # asked for at each look: strategies are not cheap
        self._before = history.at
        self._start = monotonic()

    def elapsed(self) -> float:
        """Seconds that the run has been driven for, earlier sessions included."""
        return self._before + monotonic() - self._start

    def record(self, *rows: Row) -> None:
        """Write rows down, durably; then, and only then, act on them.

        Raises:
            RunError: the log cannot be written, or the run is another driver's by now.
        """
        self._check()
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

    def write_method(self, method: Method) -> None:
        """Write ``method.yaml``, from which another run can go on.

        Raises:
            RunError: it cannot be written.
        """

        def write() -> None:
            space, _ = load_yaml(self.folder.space.read_text(encoding="utf-8"))
            if space.get("prior") is not None:
                space["prior"] = self.folder.prior.name  # the copy, which lies beside it
            self.folder.write(self.folder.method, method_file(space, self.plan.seed, method))

        self._patience.keep_trying(
            write, f"{self.folder.shown(self.folder.method)} could not be written"
        )

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
        return self.plan.job(
            trial.asked,
            split,
            folder=self._folder_of(trial.id, replica),
            replica=replica,
            recorded=recorded,
            train=train,
            seed_of=seed_of,
        )

    def kept(self, row: Scored) -> str:
        """The folder in which a worker kept the predictions that were scored."""
        return rung_folder(self._folder_of(row.trial, row.replica), row.rung)

    def _folder_of(self, trial: str, replica: int) -> str:
        folder = self.folder.trial(trial)
        return below(folder, f"replica-{replica}") if replica else folder

    def last_rung(self, trial: Trial) -> int:
        """The rung at which a trial is done."""
        if trial.id not in self._last_rungs:
            strategy = Strategy.model_validate(trial.asked.strategy)
            rungs = self.plan.space.space.resource.rungs
            self._last_rungs[trial.id] = strategy.last_rung(rungs)
        return self._last_rungs[trial.id]
