from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from metatune.durable import write_atomically
from metatune.errors import RunError
from metatune.records.folder import RunFolder
from metatune.records.lease import Holder, acquire, is_live, read_lease

from .conftest import ENVIRONMENT

DRIVE = """
import sys, time
from metatune.errors import RunError
from metatune.records.folder import RunFolder
from metatune.records.lease import acquire
try:
    with acquire(RunFolder.open(sys.argv[1])) as lease:
        print("driving", lease.driver, flush=True)
        sys.stdin.read()
except RunError as error:
    print("refused", error, flush=True)
"""


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def drive(folder: RunFolder) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVE, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def put(folder: RunFolder, holder: Holder) -> None:
    write_atomically(folder.driver, json.dumps(asdict(holder)))


def test_a_lease_says_who_drives_and_is_given_back(folder: RunFolder) -> None:
    clock = FakeClock()
    with acquire(folder, clock=clock) as lease:
        found = read_lease(folder)
        assert found == lease.holder
        assert (lease.holder.pid, lease.holder.renewed_at) == (os.getpid(), 1000.0)
        assert re.fullmatch("[0-9a-f]{8}", lease.driver)
        lease.check()
    assert read_lease(folder) is None
    assert not folder.driver.exists()
    lease.release()  # Twice does no harm.


def test_a_live_lease_is_refused_with_its_process(folder: RunFolder) -> None:
    clock = FakeClock()
    with acquire(folder, clock=clock):
        clock.now += 3
        with pytest.raises(
            RunError, match=rf"driven by process {os.getpid()} on .+ \(renewed 3 s ago\): wait"
        ):
            acquire(folder, clock=clock)


def test_the_lease_of_a_process_that_is_gone_is_taken_at_once(folder: RunFolder) -> None:
    with acquire(folder) as lease:
        holder = lease.holder
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], **PIPED)
    put(folder, replace(holder, pid=int(process.stdout), renewed_at=time.time()))
    with acquire(folder):
        pass


PIPED: dict[str, bool] = {"capture_output": True, "text": True, "check": True}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs process start times")
def test_a_process_id_used_again_is_not_taken_for_the_driver(folder: RunFolder) -> None:
    with acquire(folder) as lease:
        holder = lease.holder
    assert is_live(holder, holder.renewed_at)
    assert holder.started is not None
    assert not is_live(replace(holder, started=holder.started - 1), holder.renewed_at)


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"place": "another boot"}])
def test_a_lease_from_elsewhere_expires_after_30_s(
    folder: RunFolder, change: dict[str, str]
) -> None:
    clock = FakeClock()
    with acquire(folder, clock=clock) as lease:
        holder = lease.holder
    # Its process id means nothing here, so only its age counts.
    put(folder, replace(holder, pid=2**22 + 1, **change))  # type: ignore[arg-type]
    clock.now += 29.9
    with pytest.raises(RunError, match="renewed 30 s ago"):
        acquire(folder, clock=clock)
    clock.now += 0.1
    with acquire(folder, clock=clock) as taken:
        assert taken.driver != holder.driver


def test_renewal_keeps_a_lease_alive(folder: RunFolder) -> None:
    clock = FakeClock()
    with acquire(folder, clock=clock) as lease:
        clock.now += 29
        lease.renew()
        clock.now += 29
        with pytest.raises(RunError, match="renewed 29 s ago"):
            acquire(folder, clock=clock)


def test_a_thread_renews_the_lease(folder: RunFolder) -> None:
    clock = FakeClock()
    with acquire(folder, clock=clock, renew_seconds=0.01):
        clock.now = 2000.0
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            found = read_lease(folder)
            assert found is not None
            if found.renewed_at == 2000.0:
                return
            time.sleep(0.01)
    pytest.fail("the lease was not renewed")


def test_a_renewal_that_fails_is_tried_again(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    clock = FakeClock()
    with acquire(folder, clock=clock, renew_seconds=0.01) as lease:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fail)
            deadline = time.monotonic() + 5
            while "no space left" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.01)
        assert "was not renewed: no space left" in caplog.text
        clock.now += 5
        lease.renew()
        assert lease.holder.renewed_at == 1005.0


def test_a_driver_that_was_replaced_notices_and_leaves_the_new_lease_alone(
    folder: RunFolder,
) -> None:
    clock = FakeClock()
    with acquire(folder, clock=clock) as suspended:
        clock.now += 31
        with acquire(folder, clock=clock) as new:
            suspended.renew()
            with pytest.raises(RunError, match="is no longer this driver's: its lease went to"):
                suspended.check()
            suspended.release()
            assert read_lease(folder) == new.holder
            new.check()


def test_a_driver_that_slept_looks_at_its_lease_before_it_goes_on(folder: RunFolder) -> None:
    clock = FakeClock()
    with acquire(folder, clock=clock) as sleeper:
        clock.now += 31
        sleeper.check()  # nobody took it: it is renewed
        assert sleeper.holder.renewed_at == clock.now
        clock.now += 31
        with (
            acquire(folder, clock=clock),
            pytest.raises(RunError, match="is no longer this driver's: its lease went to"),
        ):
            sleeper.check()


def test_a_damaged_lease_is_refused_with_advice(folder: RunFolder) -> None:
    folder.driver.write_text('{"driver": ')
    with pytest.raises(RunError, match=r"driver.json is damaged .* remove it if no driver"):
        acquire(folder)


def test_of_two_processes_one_drives(folder: RunFolder) -> None:
    processes = [drive(folder), drive(folder)]
    lines = sorted(line_of(process) for process in processes)
    for process in processes:
        process.communicate()
    assert [line.split()[0] for line in lines] == ["driving", "refused"]
    assert read_lease(folder) is None


def test_after_kill_9_the_run_goes_on_at_once(folder: RunFolder) -> None:
    process = drive(folder)
    try:
        assert line_of(process).startswith("driving")
        with pytest.raises(RunError, match=f"driven by process {process.pid}"):
            acquire(folder)
    finally:
        process.send_signal(signal.SIGKILL)
        # Not yet collected by its parent: a process that is dead, but still listed.
        deadline = time.monotonic() + 5
        while is_live(read_lease(folder), time.time()) and time.monotonic() < deadline:  # type: ignore[arg-type]
            time.sleep(0.01)
        try:
            with acquire(folder) as lease:
                assert lease.holder.pid == os.getpid()
        finally:
            process.communicate()


def test_what_the_driver_tells_is_in_its_lease_from_the_next_renewal_on(folder: RunFolder) -> None:
    clock = FakeClock()
    with acquire(folder, clock=clock) as lease:
        lease.tell(12.5, 60.0)
        found = read_lease(folder)
        assert found is not None
        assert (found.driven, found.left) == (0.0, None)
        lease.renew()
        found = read_lease(folder)
        assert found is not None
        assert (found.driven, found.left) == (12.5, 60.0)


def test_a_lease_of_a_version_that_tells_nothing_is_read(folder: RunFolder) -> None:
    with acquire(folder) as lease:
        old = asdict(lease.holder)
        del old["driven"], old["left"]
        write_atomically(folder.driver, json.dumps(old))
        assert read_lease(folder) == replace(lease.holder, driven=0.0, left=None)


def test_the_lease_of_a_run_that_is_away_is_not_lost(folder: RunFolder) -> None:
    clock = FakeClock()
    elsewhere = folder.path.with_name("elsewhere")
    with acquire(folder, clock=clock) as lease:
        folder.path.rename(elsewhere)
        clock.now += 45
        with pytest.raises(FileNotFoundError):
            lease.keep()
        folder.path.mkdir()  # a mount point without its mount
        with pytest.raises(FileNotFoundError):
            lease.keep()
        folder.path.rmdir()
        elsewhere.rename(folder.path)
        lease.keep()
        assert lease.holder.renewed_at == 1045.0


def test_a_lease_that_another_took_while_the_run_was_away_is_lost(folder: RunFolder) -> None:
    clock = FakeClock()
    elsewhere = folder.path.with_name("elsewhere")
    with acquire(folder, clock=clock) as lease:
        folder.path.rename(elsewhere)
        there = RunFolder.open(elsewhere)
        clock.now += 45
        with acquire(there, clock=clock):
            elsewhere.rename(folder.path)
            with pytest.raises(RunError, match="no longer this driver's: its lease went to"):
                lease.keep()


def test_a_lease_that_cannot_be_given_back_is_left_to_expire(folder: RunFolder) -> None:
    with acquire(folder) as lease:
        folder.driver.unlink()
        folder.driver.mkdir()  # what cannot be read
        lease.release()
