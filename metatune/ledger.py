"""The ledger: a run's study as Optuna stores it, for people and dashboards.

It holds every trial over the space's hard limits, and can be rebuilt from the records. Proposals
are made without it, see ``proposer.py``.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from copy import deepcopy
from math import isfinite
from pathlib import Path
from time import sleep
from types import MappingProxyType
from typing import Any
from warnings import catch_warnings, simplefilter

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

from metatune.database import check_storage, engine_options, others_make_it, reason
from metatune.errors import RunError
from metatune.history import History, Trial
from metatune.patience import Patience, refusing
from metatune.proposer import directions_of
from metatune.space.knobs import ChoiceKnob, FloatKnob, IntKnob, Knob, KnobTree

_STATES = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


class Journal(JournalFileBackend):
    """Optuna's journal file, which takes several entries at once.

    Each append of its own locks the file and waits for the disk, and a trial makes a dozen.
    """

    def __init__(self, file: str) -> None:
        self._file, self._turn = file, JournalFileSymlinkLock(file)
        super().__init__(file, self._turn)
        self._held: list[dict[str, Any]] | None = None
        self._in_file = 0  # entries there, as far as they were read
        self._looked = False  # for others' entries, since the file is locked

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Hold back what is appended, with the file locked, and write it in the end."""
        self._turn.acquire()
        self._held, self._looked = [], False
        try:
            yield
        finally:
            held, self._held = self._held, None
            try:
                self._write(held)
            finally:
                self._turn.release()

    def _write(self, entries: list[dict[str, Any]]) -> None:
        if entries:
            lines = [json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries]
            with open(self._file, "a", encoding="utf-8") as file:
                file.write("".join(lines))
                file.flush()
                os.fsync(file.fileno())

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries, or hold them back."""
        if self._held is None:
            super().append_logs(logs)
        else:
            self._held += logs

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Entries from a number on, with those that are held back."""
        if self._held is None or not self._looked:
            # From where the file was last read to: for entries that were held back Optuna's own
            # reader knows no place in it, and would begin anew.
            before = min(self._in_file, log_number_from)
            entries = list(super().read_logs(before))
            self._in_file = before + len(entries)
            self._looked = True
            yield from entries[log_number_from - before :]
        if self._held is not None:
            yield from self._held[max(0, log_number_from - self._in_file) :]


class Ledger:
    """The stored study of a run, as dashboards show it.

    A trial's value, and its intermediate value at each rung, is its gain over the default. As user
    attributes it carries our id, ``name``, ``origin``, ``round``, ``structure`` and ``strategy``;
    once it has ended ``state``, ``reason``, ``seconds`` and ``score``, its mean on ``select``.

    Args:
        study: the stored one.
        tree: the space.
        costs: names of the objectives behind the gain.
    """

    renewed: Callable[[], Ledger] | None = None
    """Gives the ledger anew, brought up to the records: for when the study could not be written,
    and may be torn."""

    def __init__(self, study: optuna.Study, tree: KnobTree, costs: Sequence[str] = ()) -> None:
        self._study = study
        self._costs = costs
        self._limits = {knob.name: _limits(knob) for knob in tree.knobs()}
        self._known = {
            trial.user_attrs["trial"]: trial
            for trial in study.get_trials(deepcopy=False)
            if "trial" in trial.user_attrs
        }

    @property
    def trials(self) -> int:
        """How many of metatune's trials it holds."""
        return len(self._known)

    def sync(
        self,
        trial: Trial,
        gains: Mapping[int, float],
        costs: Mapping[str, Mapping[int, float]] = MappingProxyType({}),
    ) -> None:
        """Bring one trial of the ledger up to what the records say.

        Args:
            trial: what is recorded.
            gains: its value at each rung. A trial that has ended, but whose gain is not known
                yet for want of the default's score, stays RUNNING until it is.
            costs: of each cost among the objectives, the log ratio to the default's at each rung.

        Raises:
            OSError: the study cannot be written, and there is no way to renew it.
            RunError: nor could it be renewed.
        """
        try:
            with self._at_once():
                self._write(trial, gains, costs)
        except (OSError, RuntimeError, StorageInternalError) as error:
            if not _is_of_storage(error):
                raise
            if self.renewed is None:
                raise _as_os_error(error) from None
            anew = self.renewed()
            self.close()
            self._study, self._known = anew._study, anew._known

    def _at_once(self) -> AbstractContextManager[None]:
        """What is written meanwhile goes into a journal in one piece; a database has its own."""
        backend = getattr(self._study._storage, "_backend", None)
        if isinstance(backend, Journal):
            return backend.at_once()
        return nullcontext()

    def close(self) -> None:
        """Let go of a database's connections; whatever is asked for later makes new ones."""
        storage = self._study._storage
        storage.remove_session()
        backend = getattr(storage, "_backend", storage)  # behind a cache
        if isinstance(backend, optuna.storages.RDBStorage):
            backend.engine.dispose()

    def _write(
        self,
        trial: Trial,
        gains: Mapping[int, float],
        costs: Mapping[str, Mapping[int, float]],
    ) -> None:
        if trial.id not in self._known:
            self._enter(trial)
        frozen = self._known[trial.id]
        if frozen.state.is_finished():
            return
        live = optuna.Trial(self._study, frozen._trial_id)
        for rung, gain in gains.items():
            if rung not in frozen.intermediate_values and not self._costs:
                live.report(gain, rung)  # which Optuna refuses where there are several objectives
                frozen.intermediate_values[rung] = gain
        if trial.ended is None or not set(trial.rungs) <= set(gains):
            return
        values = [gains, *(costs[name] for name in self._costs)]
        self._close(live, trial, [by_rung[max(gains)] for by_rung in values] if gains else [])

    def _enter(self, trial: Trial) -> None:
        asked = trial.asked
        params = asked.params or {}
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions={name: self._limits[name] for name in params},
                user_attrs={
                    "trial": asked.trial,
                    "name": asked.name,
                    "origin": asked.origin,
                    "round": asked.round,
                    "structure": asked.structure,
                    "strategy": asked.strategy,
                },
            )
        )
        newest = reversed(self._study.get_trials(deepcopy=False))
        entered = next(t for t in newest if t.user_attrs.get("trial") == asked.trial)
        # A copy of our own: what the storage hands out must not be changed.
        self._known[asked.trial] = deepcopy(entered)

    def _close(self, live: optuna.Trial, trial: Trial, values: Sequence[float]) -> None:
        assert trial.ended is not None
        live.set_user_attr("state", trial.ended.state)
        live.set_user_attr("reason", trial.ended.reason[-2000:])
        live.set_user_attr("seconds", trial.ended.seconds)
        latest = trial.latest()
        if latest is not None and isfinite(latest.mean):  # a browser's JSON knows no other numbers
            live.set_user_attr("score", latest.mean)
        state = _STATES[trial.ended.state]
        told = values if state == TrialState.COMPLETE else None
        self._known[trial.id] = self._study.tell(live.number, told, state=state)


def open_ledger(
    journal: Path,
    storage: str | None,
    name: str,
    history: History,
    tree: KnobTree,
    costs: Sequence[str] = (),
    patience: Patience | None = None,
    since: int = 1,
) -> Ledger:
    """Open the stored study of a run and bring it up to the records.

    A study that cannot be written later is opened anew, with patience, and brought up again.

    Call it with the run locked: a lock that a killed driver left on the journal is removed, and
    the journal is cut to its last whole line.

    Args:
        journal: the journal file in the run's folder, used where ``storage`` is None.
        storage: any Optuna storage URL.
        name: the study's name.
        history: what is recorded.
        tree: the space.
        costs: names of the objectives behind the gain; the study has a direction for each.
        patience: with storage that does not answer once the ledger is open.
        since: the first round that is in this study.

    Raises:
        RunError: the storage cannot be opened, or its study has other objectives.
    """

    def opened() -> Ledger:
        try:
            ledger = Ledger(_load(journal, storage, name, costs), tree, costs)
        except (KeyError, ValueError, AssertionError, AttributeError, TypeError) as damage:
            if storage is not None:
                raise RunError(f"the storage's study {name} cannot be read: {damage}") from None
            # The records know everything that the journal did.
            journal.replace(journal.with_suffix(".damaged"))
            ledger = Ledger(_load(journal, storage, name, costs), tree, costs)
        with ExitStack() as unless_open:
            unless_open.callback(ledger.close)
            known = [t for t in history.trials.values() if t.asked.round >= since]
            if storage is not None and ledger.trials and not known:
                other = "name another folder (--out)"
                raise RunError(f"the storage has trials of another run {name}: {other}")
            for trial in known:
                ledger.sync(trial, history.gains(trial), history.costs(trial, costs))
            unless_open.pop_all()
        return ledger

    def renewed() -> Ledger:
        what = f"the study {journal if storage is None else name} could not be written"
        try:
            return (patience or Patience()).keep_trying(opened, what)
        except RunError:
            if storage is None:
                with suppress(OSError):  # a dashboard cannot read a torn line
                    repair_journal(journal)
            raise

    with refusing("the storage of the study cannot be opened"):
        ledger = opened()
    ledger.renewed = renewed
    return ledger


def _load(journal: Path, storage: str | None, name: str, costs: Sequence[str]) -> optuna.Study:
    if storage is None:
        repair_journal(journal)
    # A URL's driver raises what it likes; of a journal, other errors than these mean damage.
    refused = (OSError, RuntimeError) if storage is None else Exception
    try:
        study = optuna.create_study(
            storage=_storage(journal, storage),
            study_name=name,
            directions=directions_of(costs),
            sampler=optuna.samplers.RandomSampler(seed=0),
            load_if_exists=True,
        )
    except refused as error:
        if storage is None and not _is_of_storage(error):
            raise
        raise _as_os_error(error) from None
    found = [direction.name.lower() for direction in study.directions]
    if found != directions_of(costs):
        raise RunError(
            f"the storage's study {name} has the directions {', '.join(found)}, but the objectives "
            f"of this run need {', '.join(directions_of(costs))}: name another folder (--out)"
        )
    if study.metric_names is None:
        with catch_warnings():
            simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["gain", *costs])
    return study


def _storage(journal: Path, url: str | None) -> optuna.storages.BaseStorage:
    """A journal, or a database whose tables are made if it is empty."""
    if url is None:
        return optuna.storages.JournalStorage(Journal(str(journal)))
    check_storage(url)
    options = engine_options(url)
    for pause in (0.5, 1.0, 2.0):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=options)
        except Exception as error:
            # Of runs that find it empty at once, each makes the tables, and all but one fail.
            if not others_make_it(error):
                raise
            sleep(pause)
    return optuna.storages.RDBStorage(url, engine_kwargs=options)


def _is_of_storage(error: Exception) -> bool:
    """Whether the storage fails. A journal's lock that cannot be let go is a RuntimeError."""
    return not isinstance(error, RuntimeError) or isinstance(error.__context__, OSError)


def _as_os_error(error: Exception) -> OSError:
    """What a storage's driver raised, in a line without secrets."""
    if isinstance(error, OSError):
        return error
    if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
        return error.__context__
    beneath = error.__cause__ if isinstance(error, StorageInternalError) else None
    return OSError(errno.EIO, reason(beneath if isinstance(beneath, Exception) else error))


def repair_journal(journal: Path) -> None:
    """Remove a stale lock and cut the journal after its last whole line.

    Optuna can never read a journal again once something was appended to a torn line.
    """
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    lines = whole.splitlines(keepends=True)
    while lines and not _is_json(lines[-1]):
        whole = whole[: -len(lines.pop())]
    if len(whole) < len(content):
        with journal.open("r+b") as file:
            file.truncate(len(whole))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _limits(knob: Knob) -> BaseDistribution:
    """Where values may lie at all: the ledger's distributions, which never change."""
    match knob:
        case FloatKnob():
            return FloatDistribution(*knob.limits, log=knob.log)
        case IntKnob():
            return IntDistribution(*knob.limits, log=knob.log)
        case ChoiceKnob():
            return CategoricalDistribution(knob.choices)
