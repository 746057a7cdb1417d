"""A run's folder: where each thing lies, and how it is locked.

::

    run.json                what the run is; written last on creation, so it makes the folder a run
    space.yaml              the space as it was given
    prior.parquet           what earlier runs learned, where the space names a prior
    method.yaml             the method after the newest round
    driver.json             the lease of the driver at work (``metatune.records.lease``)
    claims/                 in an object store: who wants the lease (``metatune.records.claims``)
    study.log               Optuna's journal
    records/.lock           held while a driver opens the run
    records/log-0001-<driver>.jsonl     the log, in segments of a driver (``metatune.records.log``)
    records/parquet-<n>/    the log so far as Parquet (``metatune.records.compaction``)
    trials/<trial>/         a worker's rung checkpoints
    logs/driver-<driver>.jsonl          what happened, in words (``metatune.logs``)
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from weakref import finalize

from metatune.durable import sync_folder, write_atomically
from metatune.errors import RunError, hide_password
from metatune.patience import reason_of
from metatune.place import Place, below

OPENING_SECONDS = 60.0
"""How long a driver waits for another that is opening the same run, in seconds."""


@dataclass(frozen=True)
class RunFolder:
    """The layout of one run's folder.

    A run that lies elsewhere, as in an object store, has a desk on this machine: a folder that is
    removed with this object, for what is read by its path (``run.json``, ``space.yaml``,
    ``prior.parquet``, ``method.yaml``) and for what needs locks (the journal). What counts is in
    the store: records, lease and checkpoints are read and written there.

    Attributes:
        path: absolute path of the folder, or of the desk.
        store: the URI of a run that lies elsewhere; None for one in ``path``.
    """

    path: Path
    store: str | None = None

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """Makes an empty run folder.

        It becomes a run once its ``run.json`` is written, which the caller does last.

        Args:
            path: a path, or a URI as of ``Place``.

        Raises:
            RunError: it is not empty, or cannot be made.
        """
        where = make_folder(path)
        folder = cls._at_desk(where) if isinstance(where, str) else cls(where)
        with begun(folder.place):
            folder.place.make_folder("records")
            folder.place.make_folder("trials")
            if folder.place.is_local:
                sync_folder(folder.path)
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The folder of a run that exists.

        Raises:
            RunError: there is no ``run.json``, or it cannot be looked at.
        """
        place = Place.at(path)
        if not place.has("run.json"):
            raise RunError(f"{place.name} is not a run folder: run.json is missing")
        if isinstance(place.name, Path):
            return cls(place.name)
        folder = cls._at_desk(str(path))
        for file in (folder.info, folder.space, folder.prior, folder.method):
            if place.has(file.name):
                file.write_bytes(place.read(file.name))
        return folder

    @classmethod
    def _at_desk(cls, uri: str) -> RunFolder:
        _refuse_secrets(uri)
        folder = cls(Path(mkdtemp(prefix="metatune-")), uri)
        finalize(folder, rmtree, folder.path, ignore_errors=True)
        folder.records.mkdir()
        return folder

    @property
    def where(self) -> str | Path:
        """Where the run lies, as others are told to find it: a path, or a URI with its options."""
        return self.store or self.path

    @cached_property
    def place(self) -> Place:
        """Where the run lies, to read and write there; looked up once, for rows name it, too."""
        return Place.at(self.where)

    @property
    def name(self) -> Path | str:
        """Where it lies, as it may be shown."""
        return self.place.name

    def shown(self, file: Path) -> str:
        """One of its small files, as it may be shown."""
        return self.place.shown(file.name)

    def write(self, file: Path, data: bytes | str) -> None:
        """Replaces one of its small files, as of ``Place.write``."""
        self.place.write(file.name, data)
        if self.store is not None:
            write_atomically(file, data)

    def leave(self) -> None:
        """Leaves copies of the journal and the logs with a run that lies elsewhere, if that can be.

        For people and other tools: a resume makes the journal anew from the records.
        """
        if self.store is not None:
            for file in (self.journal, *self.path.glob("logs/*")):
                with suppress(OSError):
                    self.place.write(str(file.relative_to(self.path)), file.read_bytes())

    def refuse_away(self) -> None:
        """Raises an error of the kind that may pass where the run is not there at all.

        Raises:
            OSError: it is away, or that cannot be seen.
        """
        if self.place.find(self.info.name) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.name))

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
        return below(self.where, "trials", trial)


@contextmanager
def begun(place: Place) -> Iterator[None]:
    """What is written in here makes a new folder a run; where it fails, the folder goes.

    Raises:
        RunError: it failed.
    """
    try:
        yield
    except OSError as error:
        with suppress(OSError):  # half a run would be in the way of a whole one
            place.remove_folder("")
        raise _not_made(place.name, error) from error


def make_folder(path: str | Path) -> Path | str:
    """An empty folder, made where it is missing.

    Returns:
        Its absolute path; of one elsewhere its URI, as it was given.

    Raises:
        RunError: it is not empty, or cannot be made, or its URI holds a secret.
    """
    place = Place.at(path)
    if not place.is_local:
        _refuse_secrets(str(path))
    try:
        if isinstance(place.name, Path):
            _refuse_missing_mount(place.name)
        if not place.is_empty():
            raise RunError(
                f"{place.name} exists and is not empty: "
                "name a new folder, or resume the run that is in it"
            )
        if not isinstance(place.name, Path):
            _try(place)
            return str(path)
        place.name.mkdir(parents=True, exist_ok=True)
        sync_folder(place.name.parent)
    except OSError as error:
        raise _not_made(place.name, error) from error
    return place.name


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


def _try(place: Place) -> None:
    """Write, read and remove a file in a place that is to hold a run."""
    marker = f".marker-{secrets.token_hex(4)}"
    place.write(marker, marker)
    if place.find(marker) != marker.encode():
        raise RunError(f"{place.name} does not give back what is written to it")
    place.remove(marker)


def _refuse_secrets(uri: str) -> None:
    if hide_password(uri) != uri:
        raise RunError(
            f"{Place.at(uri).name}: found credentials in its URI, which every worker is told; "
            "allowed: credentials in the environment of each machine"
        )


def _not_made(path: Path | str, error: OSError) -> RunError:
    return RunError(f"{path} cannot be made a run folder: {reason_of(error)}")


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
    with locked(folder.lock, wait, f"run {folder.name} is being opened by another process"):
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
