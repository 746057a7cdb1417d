"""A run's folder: where each thing lies, and how it is locked.

::

    run.json                what the run is; written last on creation, so it makes the folder a run
    space.yaml              the space as it was given
    prior.parquet           what earlier runs learned, where the space names a prior
    method.yaml             the method after the newest round
    driver.json             the lease of the driver at work (``metatune.records.lease``)
    study.log               Optuna's journal
    records/.lock           held while a driver opens the run
    records/log-0001-<driver>.jsonl     the log, one segment a driver (``metatune.records.log``)
    records/parquet-<n>/    the log so far as Parquet (``metatune.records.compaction``)
    trials/<trial>/         a worker's rung checkpoints
    logs/driver-<driver>.jsonl          what happened, in words (``metatune.logs``)
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from metatune.durable import sync_folder
from metatune.errors import RunError
from metatune.place import below

OPENING_SECONDS = 60.0
"""How long a driver waits for another that is opening the same run, in seconds."""


@dataclass(frozen=True)
class RunFolder:
    """The layout of one run's folder.

    Attributes:
        path: absolute path of the folder.
    """

    path: Path

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """Makes an empty run folder.

        It becomes a run once its ``run.json`` is written, which the caller does last.

        Raises:
            RunError: the folder exists and is not empty, or cannot be made.
        """
        folder = cls(make_folder(path))
        with folder.begun():
            folder.records.mkdir()
            folder.trials.mkdir()
            sync_folder(folder.path)
        return folder

    @contextmanager
    def begun(self) -> Iterator[None]:
        """What is written in here makes a new folder a run; where it fails, the folder goes.

        Raises:
            RunError: it failed.
        """
        try:
            yield
        except OSError as error:
            rmtree(self.path, ignore_errors=True)  # half a run would be in the way of a whole one
            raise _not_made(self.path, error) from error

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The folder of a run that exists.

        Raises:
            RunError: there is no ``run.json``.
        """
        folder = cls(_absolute(path))
        if not folder.info.is_file():
            raise RunError(f"{folder.path} is not a run folder: run.json is missing")
        return folder

    @property
    def info(self) -> Path:
        """``run.json``: what the run is."""
        return self.path / "run.json"

    @property
    def space(self) -> Path:
        """``space.yaml``: the space as it was given."""
        return self.path / "space.yaml"

    @property
    def prior(self) -> Path:
        """``prior.parquet``: a copy of the prior that the space names; missing without one."""
        return self.path / "prior.parquet"

    @property
    def method(self) -> Path:
        """``method.yaml``: the method after the newest round."""
        return self.path / "method.yaml"

    @property
    def driver(self) -> Path:
        """``driver.json``: the lease of the driver at work; missing when there is none."""
        return self.path / "driver.json"

    @property
    def journal(self) -> Path:
        """``study.log``: Optuna's journal."""
        return self.path / "study.log"

    @property
    def records(self) -> Path:
        """Folder of the log's segments and the Parquet generations."""
        return self.path / "records"

    @property
    def lock(self) -> Path:
        """File that ``opening`` locks."""
        return self.records / ".lock"

    @property
    def trials(self) -> Path:
        """Folder of the trials' folders."""
        return self.path / "trials"

    def log_of(self, driver: str) -> Path:
        """The file of a driver's log, in words; see ``metatune.logs``."""
        return self.path / "logs" / f"driver-{driver}.jsonl"

    def trial(self, trial: str) -> str:
        """Folder of one trial's checkpoints, as workers are told it; not made here."""
        return below(self.path, "trials", trial)


def make_folder(path: str | Path) -> Path:
    """An empty folder, made where it is missing; its absolute path.

    Raises:
        RunError: it exists and is not empty, or cannot be made.
    """
    folder = _absolute(path)
    try:
        _refuse_missing_mount(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(
                f"{folder} exists and is not empty: "
                "name a new folder, or resume the run that is in it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise _not_made(folder, error) from error
    return folder


_MOUNTED = frozenset(map(Path, ("/", "/mnt", "/media", "/Volumes")))
"""Where disks and shares appear."""


def _refuse_missing_mount(folder: Path) -> None:
    """Make no folder where a disk should be: what is written there goes with the machine.

    Raises:
        RunError: the first folder that would be made is one of those by which disks are reached.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    if missing and missing[-1].parent in _MOUNTED:
        raise RunError(
            f"{folder} cannot be made a run folder: there is no {missing[-1]}: is its disk or "
            "share not mounted? Make that folder first if it is to be on this machine"
        )


def _not_made(path: Path, error: OSError) -> RunError:
    return RunError(f"{path} cannot be made a run folder: {error.strerror}")


@contextmanager
def opening(folder: RunFolder, wait: float = OPENING_SECONDS) -> Iterator[None]:
    """Holds the run's lock, so that one driver at a time opens, repairs or takes over the run.

    The kernel lets go of the lock when its process dies. A thread that holds it may enter again.

    Args:
        folder: the run.
        wait: seconds to wait for another that holds it.

    Raises:
        RunError: the lock was not free within ``wait``, or the file system has no locks.
    """
    with locked(folder.lock, wait, f"run {folder.path} is being opened by another process"):
        yield


_held = threading.local()


@contextmanager
def locked(path: Path, wait: float, refusal: str) -> Iterator[None]:
    """Holds an exclusive ``flock`` on a file; re-entrant within a thread.

    Args:
        path: the file; made where it is missing.
        wait: seconds to wait for another that holds it.
        refusal: the error's first words when it stays taken.

    Raises:
        RunError: the lock was not free within ``wait``, or the file system has no locks.
    """
    mine: set[Path] = _held.__dict__.setdefault("paths", set())
    if path in mine:
        yield
        return
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"{path} cannot be locked: {error.strerror}") from error
    try:
        _take(handle, wait, path, refusal)
        mine.add(path)
        try:
            yield
        finally:
            mine.discard(path)
    finally:
        # Closing the only descriptor of this open file gives the lock back.
        os.close(handle)


def _take(handle: int, wait: float, path: Path, refusal: str) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise RunError(f"{refusal}: {path} stayed locked for {wait:.0f} s") from None
        except OSError as error:
            raise RunError(f"{path} cannot be locked: {error.strerror}") from error
        time.sleep(0.02)


def _absolute(path: str | Path) -> Path:
    # Absolute, since workers and threads may run in another current folder.
    return Path(path).expanduser().resolve()
