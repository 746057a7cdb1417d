"""Drivers killed at random instants, from their opening to their end, and gone on with.

Each is a process of its own with the real trial, log, study, lease and compaction, without Ray;
``benchmarks/faults.py kills`` does the same with it.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from inline_runner import SPACE, inline_resume, inline_run, lasting, rows_of, study_of

import metatune
from metatune.records.folder import RunFolder
from metatune.records.log import segments

HERE = Path(__file__).parent
TINY = SPACE.replace("seeds: 2", "seeds: 1").replace("full: 1800", "full: 900")


# Its log is compacted every few rows, to be hit in that, too.
DRIVE = """
import sys
from pathlib import Path
from inline_runner import inline_resume, inline_run
from metatune.records.compaction import Compactor
Compactor.__init__.__defaults__ = (3, *Compactor.__init__.__defaults__[1:])
path = Path(sys.argv[1])
inline_resume(path) if (path / "run.json").exists() else inline_run(sys.argv[2], path)
"""
Process = subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inline_run(TINY, tmp_path_factory.mktemp("undisturbed") / "run")


def lines(path: Path) -> int:
    """Lines of a run's log so far; -1 before it is a run."""
    if not (path / "run.json").exists():
        return -1
    return sum(segment.read_bytes().count(b"\n") for segment in segments(RunFolder(path)))


def killed(driver: Process, path: Path, row: int, delay: float) -> None:
    """Kill a driver so many seconds after a row was written."""
    deadline = time.monotonic() + 120
    while driver.poll() is None and lines(path) < row and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(delay)
    driver.kill()
    driver.wait()


def told(path: Path) -> list[tuple[object, ...]]:
    """What the study says of each trial, but for seconds."""
    return [
        (t.number, t.user_attrs["trial"], t.state, t.value, t.params, t.intermediate_values)
        for t in study_of(path).trials
    ]


def check_kills(undisturbed: Path, path: Path, instants: list[tuple[int, float]]) -> None:
    """Killed at these instants, one driver after another, a run ends as if nobody had."""
    print(instants)  # shown when the test fails
    for row, delay in instants:
        driver = subprocess.Popen([sys.executable, "-c", DRIVE, path, TINY], cwd=HERE)
        killed(driver, path, row, delay)
    before = rows_of(path)
    inline_resume(path)
    rows = rows_of(path)
    assert rows[: len(before)] == before
    assert lasting(rows) == lasting(rows_of(undisturbed))
    assert told(path) == told(undisturbed)
    here, there = metatune.read_run(path), metatune.read_run(undisturbed)
    assert here.scores[["trial", "score"]].equals(there.scores[["trial", "score"]])


def instants(draw: random.Random, rows: int, kills: int) -> list[tuple[int, float]]:
    """Kills of one run, each later than the one before: rows, and seconds behind them."""
    at = sorted(draw.randint(0, rows) for _ in range(kills))
    return [(row, draw.random() * draw.choice((0.001, 0.01, 0.1))) for row in at]


def test_a_driver_killed_at_two_random_instants_loses_nothing(
    undisturbed: Path, tmp_path: Path
) -> None:
    rows = len(rows_of(undisturbed))
    check_kills(undisturbed, tmp_path / "run", instants(random.Random(), rows, 2))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(25))
def test_drivers_killed_at_fifty_random_instants_lose_nothing(
    seed: int, undisturbed: Path, tmp_path: Path
) -> None:
    rows = len(rows_of(undisturbed))
    check_kills(undisturbed, tmp_path / "run", instants(random.Random(seed), rows, 2))
