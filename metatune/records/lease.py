"""The driver's lease: at most one driver drives a run, and a dead one does not block it.

The lease is a small file, ``driver.json``, renewed every 10 s by a thread. It has expired when it
was not renewed for 30 s, or at once when its process ran in the same place and is gone: a run
that was killed goes on immediately. *The same place* is one host, one boot and one namespace of
process ids, since a process id says nothing elsewhere. Hosts that share a run need clocks that
agree to within some seconds. Those who want it at once take turns (``metatune.records.claims``).
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

from metatune.errors import RunError
from metatune.records.claims import alone
from metatune.records.folder import RunFolder

logger = logging.getLogger(__name__)

RENEW_SECONDS = 10.0
EXPIRE_SECONDS = 30.0

Clock = Callable[[], float]


class DrivenError(RunError):
    """The run has a live driver."""


@dataclass(frozen=True)
class Holder:
    """Who drives a run, as written in ``driver.json``.

    Attributes:
        driver: the driver's id, 8 hex digits.
        host: name of its host.
        place: boot and namespace of process ids; empty where the system does not tell.
        pid: its process id.
        started: start of its process in clock ticks since boot, which tells it from a later
            process of the same id; None where the system does not tell.
        renewed_at: when the lease was last renewed, in seconds since 1970.
        driven: seconds that the run had been driven for then, as last told.
        left: the driver's estimate of the seconds to go then; None while it has none.
    """

    driver: str
    host: str
    place: str
    pid: int
    started: int | None
    renewed_at: float
    driven: float = 0.0
    left: float | None = None


class Lease:
    """The right to drive one run; made by ``acquire`` and given back on leaving its context."""

    def __init__(
        self, folder: RunFolder, holder: Holder, clock: Clock, renew_seconds: float
    ) -> None:
        self._folder = folder
        self._holder = holder
        self._clock = clock
        self._renew_seconds = renew_seconds
        self._told: tuple[float, float | None] = (holder.driven, holder.left)
        self._lost: str | None = None
        self._closing = threading.Event()
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="metatune-lease", daemon=True)
        self._thread.start()

    @property
    def holder(self) -> Holder:
        """What ``driver.json`` says of this driver."""
        return self._holder

    @property
    def driver(self) -> str:
        """This driver's id, 8 hex digits."""
        return self._holder.driver

    def tell(self, driven: float, left: float | None) -> None:
        """What the next renewal writes for those who watch; as of ``Holder``."""
        self._told = (driven, left)  # one assignment: the thread reads both or neither

    def renew(self) -> None:
        """Writes that this driver lives, unless the lease was lost.

        Raises:
            OSError: ``driver.json`` could not be written.
        """
        with self._guard:
            if self._lost is not None or self._closing.is_set():
                return
            found = read_lease(self._folder)
            if found is None:
                # Where the whole run is away, its lease is nobody's: it may come back.
                self._folder.refuse_away()
            if found is None or found.driver != self.driver:
                # Another took over while this process was suspended; it is theirs now.
                self._lost = "is gone" if found is None else f"went to {who(found)}"
                return
            driven, left = self._told
            self._holder = replace(self._holder, renewed_at=self._clock(), driven=driven, left=left)
            _write(self._folder, self._holder)

    def keep(self) -> None:
        """Makes sure that the run is still this driver's, after storage was away.

        Raises:
            OSError: that cannot be seen yet.
            RunError: the lease was lost meanwhile.
        """
        self.renew()
        self.check()

    def check(self) -> None:
        """Refuses to go on for a driver that was taken for dead and replaced.

        Who slept beyond its lease, as a suspended laptop does, looks at it before anything else.

        Raises:
            RunError: the lease was lost.
            OSError: the driver slept, and cannot see its lease.
        """
        if self._clock() - self._holder.renewed_at >= EXPIRE_SECONDS:
            self.renew()
        if self._lost is not None:
            raise RunError(
                f"run {self._folder.name} is no longer this driver's: its lease {self._lost} "
                f"after it was not renewed for {EXPIRE_SECONDS:.0f} s"
            )

    def release(self) -> None:
        """Gives the run back: stops renewing and removes ``driver.json`` if it is still ours.

        Where that cannot be, it expires: at once, if its process is looked for from here.
        """
        with self._guard:
            if self._closing.is_set():
                return
            self._closing.set()
            try:
                found = read_lease(self._folder)
                if found is not None and found.driver == self.driver:
                    self._folder.place.remove(self._folder.driver.name)
            except OSError as error:
                logger.warning("the lease of %s was not given back: %s", self._folder.name, error)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _keep(self) -> None:
        failing = False
        while not self._closing.wait(self._renew_seconds):
            try:
                self.renew()
                failing = False
            except (OSError, RunError) as error:
                # The next beat tries again: a lease outlives two that failed.
                level = logging.DEBUG if failing else logging.WARNING  # once is enough
                logger.log(level, "the lease of %s was not renewed: %s", self._folder.name, error)
                failing = True
            if self._lost is not None:
                logger.error("the lease of %s %s", self._folder.name, self._lost)
                return


def acquire(
    folder: RunFolder, *, clock: Clock = time.time, renew_seconds: float = RENEW_SECONDS
) -> Lease:
    """Takes the run's lease and keeps it renewed until the lease's context is left.

    Args:
        folder: the run.
        clock: seconds since 1970.
        renew_seconds: seconds between renewals.

    Raises:
        DrivenError: a live driver holds it; the message names its process and host.
    """
    with alone(folder):
        found = read_lease(folder)
        now = clock()
        if found is not None and is_live(found, now):
            age = max(0.0, now - found.renewed_at)
            raise DrivenError(
                f"run {folder.name} is being driven by {who(found)} (renewed {age:.0f} s ago): "
                "wait for it or stop it, then resume"
            )
        holder = Holder(
            driver=secrets.token_hex(4),
            host=socket.gethostname(),
            place=_place(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            renewed_at=now,
        )
        _write(folder, holder)
    return Lease(folder, holder, clock, renew_seconds)


def read_lease(folder: RunFolder) -> Holder | None:
    """Who holds the run, alive or not; None when nobody does.

    Raises:
        RunError: ``driver.json`` is damaged.
        OSError: it cannot be read.
    """
    written = folder.place.find(folder.driver.name)
    if written is None:
        return None
    try:
        # What older versions do not write is missing, and no damage.
        data = {"driven": 0.0, "left": None, **json.loads(written)}
        return Holder(**{name: data[name] for name in Holder.__dataclass_fields__})
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder.shown(folder.driver)} is damaged ({error}): "
            "remove it if no driver of this run is alive"
        ) from error


def is_live(holder: Holder, now: float) -> bool:
    """Whether the holder is to be taken for alive.

    Args:
        holder: who.
        now: seconds since 1970.
    """
    if now - holder.renewed_at >= EXPIRE_SECONDS:
        return False
    here = (socket.gethostname(), _place()) == (holder.host, holder.place)
    return not here or _is_running(holder.pid, holder.started)


def who(holder: Holder) -> str:
    """The holder's process and host, in words."""
    return f"process {holder.pid} on {holder.host}"


def _write(folder: RunFolder, holder: Holder) -> None:
    folder.place.write(folder.driver.name, json.dumps(asdict(holder), indent=1) + "\n")


def _place() -> str:
    """Boot and namespace of process ids; empty where the system has no ``/proc``."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_running(pid: int, started: int | None) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # It exists and is somebody else's.
    status = _status(pid)
    if status is None:
        return True  # Not to be told here; the lease's age decides.
    # Z and X: killed, but not yet collected by its parent.
    return status[0] not in "ZX" and started in (None, int(status[19]))


def _started(pid: int) -> int | None:
    status = _status(pid)
    return None if status is None else int(status[19])


def _status(pid: int) -> list[str] | None:
    """Fields of ``/proc/<pid>/stat`` from the state (field 3 in proc(5)) on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the command in parentheses and may hold spaces and parentheses.
    return text.rpartition(")")[2].split()
