"""Processes killed at each call of the system that writes a file, takes a lease or repairs."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from metatune.durable import write_atomically
from metatune.ledger import repair_journal
from metatune.records.folder import RunFolder
from metatune.records.lease import acquire, read_lease
from metatune.records.log import Log
from metatune.records.reading import read_rows

from . import strategies_of_rows as some
from .conftest import append, make_run


def calls_the_system(function: Any) -> bool:
    """Whether it is a function of ``os`` or ``fcntl``, or a method of an open file."""
    mine = getattr(function, "__self__", None)
    return getattr(function, "__module__", None) in ("posix", "fcntl") or isinstance(
        mine, io.IOBase
    )


def killed_at(point: int, action: Callable[[], object]) -> bool:
    """Do something in a fork that is killed before its so-many-th call of the system.

    Returns:
        False where it came to its end before.
    """
    pid = os.fork()
    if pid == 0:
        calls = count()

        def look(frame: Any, event: str, function: Any) -> None:
            if event == "c_call" and calls_the_system(function) and next(calls) == point:
                os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            sys.setprofile(look)
            action()
            sys.setprofile(None)
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def crash_points(tmp_path: Path, action: Callable[[Path], object], least: int) -> Iterator[Path]:
    """A folder for each point at which an action can be killed in it, and the one where it was not.

    Args:
        tmp_path: where the folders are.
        action: is given its folder, which it makes.
        least: points that there are.
    """
    for point in count():
        path = tmp_path / f"point-{point}"
        killed = killed_at(point, lambda: action(path))  # noqa: B023 - called at once
        yield path
        if not killed:
            assert point >= least
            return


def test_a_file_that_is_replaced_is_the_old_or_the_new_one_wherever_its_writer_is_killed(
    tmp_path: Path,
) -> None:
    def replace(path: Path) -> None:
        path.mkdir()
        write_atomically(path / "file", "old" * 1000)
        write_atomically(path / "file", "new" * 1000)

    found = []
    for path in crash_points(tmp_path, replace, least=10):
        file = path / "file"
        found.append(file.read_text() if file.exists() else "")
        if path.exists():
            write_atomically(file, "newer")
            assert file.read_text() == "newer"
    assert set(found) == {"", "old" * 1000, "new" * 1000}
    assert found == sorted(found, key=["", "old" * 1000, "new" * 1000].index)


def test_acknowledged_rows_stand_wherever_their_writer_is_killed(tmp_path: Path) -> None:
    rows = [some.an_ended(number) for number in range(5)]

    def write(path: Path) -> None:
        folder = make_run(path)
        with Log.open(folder, "0000000a") as log:
            for row in rows[:2]:
                log.append(row)
                (path / "acknowledged").open("a").write("x")
            log.append(*rows[2:4])
            (path / "acknowledged").open("a").write("xx")

    for path in crash_points(tmp_path, write, least=20):
        if not (path / "run.json").exists():
            continue  # no run yet
        folder, told = RunFolder.open(path), path / "acknowledged"
        acknowledged = len(told.read_text()) if told.exists() else 0
        found = read_rows(folder)
        assert len(found) >= acknowledged
        assert found == rows[: len(found)]
        append(folder, rows[4], driver="0000000b")
        assert read_rows(folder) == [*found, rows[4]]


@pytest.mark.long
def test_a_run_is_free_wherever_its_driver_is_killed(tmp_path: Path) -> None:
    def lead(path: Path) -> None:
        with acquire(make_run(path), renew_seconds=1000) as lease:
            lease.renew()
            lease.check()

    for path in crash_points(tmp_path, lead, least=20):
        if not (path / "run.json").exists():
            continue
        folder = RunFolder.open(path)
        with acquire(folder) as lease:  # at once: nobody that was killed is waited for
            assert read_lease(folder) == lease.holder
        assert read_lease(folder) is None


def test_a_journal_is_repaired_wherever_its_repair_is_killed(tmp_path: Path) -> None:
    whole = b"".join(json.dumps({"op": number}).encode() + b"\n" for number in range(3))

    def repair(path: Path) -> None:
        path.mkdir()
        (path / "study.log").write_bytes(whole + b'{"op": 3\n{"op')
        (path / "study.log.lock").touch()
        (path / "torn").touch()
        repair_journal(path / "study.log")

    for path in crash_points(tmp_path, repair, least=5):
        if not (path / "torn").exists():
            continue
        repair_journal(path / "study.log")
        assert (path / "study.log").read_bytes() == whole
        assert not (path / "study.log.lock").exists()
