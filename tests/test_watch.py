"""Watching a run from outside: another process, and a folder of which nothing is changed."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from threading import Timer

import pytest
from handmade import Story
from inline_runner import rows_of
from rich.console import Console

import metatune
from metatune.durable import write_atomically
from metatune.errors import RunError
from metatune.records.folder import RunFolder
from metatune.records.lease import EXPIRE_SECONDS, acquire, read_lease
from metatune.records.log import Log
from metatune.records.rows import Concluded, Ended, Looked, Row
from metatune.records.several import ABOUT
from metatune.watch import watch

HERE = Path(__file__).parent
Start = Callable[..., "subprocess.Popen[str]"]

DRIVE = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from inline_runner import SPACE, InlineRunner, inline_resume, inline_run

path, go = Path(sys.argv[1]), Path(sys.argv[2])

def hang(job):
    while job.trial == "r1-0005" and not go.exists():
        time.sleep(0.05)
    return False

runner = InlineRunner(lost=hang)
inline_resume(path, runner=runner) if path.exists() else inline_run(SPACE, path, runner=runner)
"""
"""A real run, new or resumed, whose trial number 5 waits for a file."""

INFO = {
    "run": "run",
    "created": "2026-01-02T03:04:05+00:00",
    "trials": 9,
    "minutes": 30,
    "core_seconds": None,
    "rungs": [100, 300, 900],
    "rounds": {"first": 1, "last": 2, "growth": 3},
    "family": {"metric": "accuracy", "sign": 1},
}


def made(path: Path, rows: list[Row]) -> RunFolder:
    """A run's folder with these rows, which nobody drives."""
    folder = RunFolder.create(path)
    write_atomically(folder.info, json.dumps(INFO))
    record(folder, rows)
    return folder


def record(folder: RunFolder, rows: list[Row]) -> None:
    if rows:
        with Log.open(folder, "driver") as log:
            log.append(*rows)


def seen(path: Path, *, terminal: bool = False, **options: object) -> tuple[bool, str]:
    """What a watcher returns and shows."""
    out = io.StringIO()
    console = Console(
        file=out, width=200, height=60, force_terminal=terminal, color_system=None, markup=False
    )
    finished = watch(path, every=0.02, console=console, **options)  # type: ignore[arg-type]
    return finished, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def contents(path: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, with the time of its last change."""
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


# --- from another process -------------------------------------------------------------------------


@pytest.fixture
def command() -> Iterator[Start]:
    """Start Python as a user would, in a process of its own; none outlives its test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONUNBUFFERED": "1"},
            # A suite that was started in the background ignores Ctrl-C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not what():
        assert time.monotonic() < deadline, "the run does not get there"
        time.sleep(0.05)


def ended(path: Path) -> int:
    """Trials of a run that have come to their end."""
    if not (path / "run.json").exists():
        return 0
    return sum(isinstance(row, Ended) for row in rows_of(path))


def test_a_run_is_watched_until_its_driver_is_killed_and_after_a_resume_to_its_verdict(
    command: Start, tmp_path: Path
) -> None:
    path, go = tmp_path / "run", tmp_path / "go"
    driver = command("-c", DRIVE, path, go, HERE)
    until(lambda: ended(path) == 5)
    watcher = command("-m", "metatune", "watch", path, "--every", 0.2)
    assert watcher.stdout is not None
    assert watcher.stdout.readline().strip() == "round 1 of 1: trying strategies"
    assert re.match(r"trials +1 running .* of 9, [\d,]+ an hour", watcher.stdout.readline())
    driver.kill()
    driver.wait()
    out, err = watcher.communicate(timeout=300)
    assert (watcher.returncode, err) == (1, "")
    last = out.splitlines()[-1]
    killed = f"process {driver.pid} on {socket.gethostname()} was killed or lost"
    assert last.startswith(f"Nobody drives this run: {killed}; its lease was renewed ")
    assert last.endswith(f"Go on with: metatune resume {path}")

    command("-c", DRIVE, path, go, HERE)
    until(lambda: holder_of(path) not in (None, driver.pid))
    watcher = command("-m", "metatune", "watch", path, "--every", 0.2)
    interrupted = command("-m", "metatune", "watch", path)
    for process in (watcher, interrupted):
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "round 1 of 1: trying strategies"
    interrupted.send_signal(signal.SIGINT)
    _, err = interrupted.communicate(timeout=300)
    assert (interrupted.returncode, err) == (130, "")
    go.touch()
    out, err = watcher.communicate(timeout=300)
    assert (watcher.returncode, err) == (0, "")
    sentence = metatune.read_run(path).verdicts.iloc[-1]["sentence"]
    assert sentence in out.splitlines()
    lines = [line for line in out.splitlines() if line.startswith("[")]
    assert [line.split("/9] ")[0] for line in lines] == ["[6", "[7", "[8", "[9"]


def holder_of(path: Path) -> int | None:
    """The process that drives a run."""
    holder = read_lease(RunFolder.open(path))
    return None if holder is None else holder.pid


# --- what is shown --------------------------------------------------------------------------------


def test_watching_changes_nothing_in_the_folder(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    before = contents(copy)
    assert seen(copy)[0]
    assert seen(copy, terminal=True)[0]
    assert contents(copy) == before


def test_a_finished_run_tells_its_verdict(finished: Path) -> None:
    sentence = metatune.read_run(finished).verdicts.iloc[-1]["sentence"]
    for terminal in (False, True):
        assert seen(finished, terminal=terminal) == (True, f"{sentence}\n")


def test_a_run_that_measured_nothing_is_shown(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", [])
    with acquire(folder):
        finished, text = seen(folder.path, once=True)
    assert not finished
    assert text.splitlines()[0].strip() == "round 0 of 2: starting"
    assert "none completed yet" in text
    assert "Nobody" not in text


def test_once_looks_once(tmp_path: Path) -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    folder = made(tmp_path / "run", story.rows)
    finished, text = seen(folder.path, once=True)
    assert not finished
    assert "protonet 50.0 %" in text
    assert text.splitlines()[-1] == (
        "Nobody drives this run: it was interrupted, or has not been started. "
        f"Go on with: metatune resume {folder.path}"
    )


def test_the_times_are_those_that_the_driver_told_and_what_has_passed_since(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", [])
    with acquire(folder, clock=lambda: time.time() - 10) as lease:
        lease.tell(600, 310)
        lease.renew()
        assert "10.2 min of 30.0 min, about 5.0 min left" in seen(folder.path, once=True)[1]


def test_a_lease_that_has_expired_elsewhere_ends_it(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", [])
    with acquire(folder) as lease:
        holder = lease.holder
    gone = replace(holder, host="elsewhere", renewed_at=time.time() - EXPIRE_SECONDS - 12)
    write_atomically(folder.driver, json.dumps(asdict(gone)))
    for terminal in (False, True):
        finished, text = seen(folder.path, terminal=terminal)
        assert not finished
        assert f"process {holder.pid} on elsewhere was killed or lost" in text
        assert re.search(r"its lease was renewed 4\d s ago for the last time", text)


def test_a_run_without_a_driver_is_waited_for_a_while(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", [])
    start = time.monotonic()
    finished, text = seen(folder.path, patience=0.3)
    assert time.monotonic() - start >= 0.3
    assert not finished
    assert "it was interrupted, or has not been started" in text


def test_what_is_recorded_while_it_is_watched_is_told_line_by_line_or_drawn(tmp_path: Path) -> None:
    story = Story()
    trial = story.trial("protonet", 0.5, 0.5, 0.5)
    before = len(story.rows)
    story.trial("new", 0.75, 0.75, 0.75)
    story.rows += [Looked("confirm", 1, [trial]), Concluded(trial, trial, "new tasks", "No gain.")]
    for terminal in (False, True):
        folder = made(tmp_path / f"run {terminal}", story.rows[:before])
        with acquire(folder):
            later = Timer(0.3, record, (folder, story.rows[before:]))
            later.start()
            finished, text = seen(folder.path, terminal=terminal)
            later.join()
        assert finished
        assert text.endswith("No gain.\n")
        if terminal:
            assert "new 75.0 %, +25 [+25, +25] over the default" in text
            assert "round 1 of 2: the verdict is given" in text
        else:
            assert text.splitlines()[-3:-1] == [
                "[2/9] new completed 75.0 % at rung 3",
                "confirming the leaders (1 on confirm)",
            ]


# --- folders of other kinds -----------------------------------------------------------------------


def test_a_rotation_is_watched_fold_by_fold(tmp_path: Path) -> None:
    story = Story()
    trial = story.trial("protonet", 0.5, 0.5, 0.5)
    verdict = Concluded(trial, trial, "new tasks", "No gain on fold 0.")
    made(tmp_path / "fold-0", [*story.rows, verdict])
    made(tmp_path / "fold-1", story.rows)
    (tmp_path / ABOUT).write_text(json.dumps({"folds": 2}))
    finished, text = seen(tmp_path, once=True)
    assert not finished
    lines = text.splitlines()
    assert lines[:3] == [
        f"Fold 0 of 0 to 1: {tmp_path / 'fold-0'}",
        "No gain on fold 0.",
        f"Fold 1 of 0 to 1: {tmp_path / 'fold-1'}",
    ]
    assert "1 completed  of 9" in text
    assert lines[-1].endswith(f"metatune resume {tmp_path}")  # the rotation's, not the fold's


@pytest.mark.parametrize("info", ["", "{}", '{"family": {}}'])
def test_what_is_no_run_is_refused_in_a_sentence(tmp_path: Path, info: str) -> None:
    with pytest.raises(RunError, match=r"run\.json is missing"):
        seen(tmp_path / "nothing")
    folder = made(tmp_path / "run", [])
    folder.info.write_text(info)
    with pytest.raises(RunError, match=r"run\.json (cannot be read|is incomplete: it lacks ')"):
        seen(folder.path)
