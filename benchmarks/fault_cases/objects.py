"""Runs in an object store: a real S3 server on this machine, which goes away and comes back."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fault_cases import SPACE, Case, miscounted, rows_of
from fault_cases.kills import PATIENCE, end, lasting
from metatune import read_run
from metatune.errors import RunError
from metatune.records.rows import Concluded, Row

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from s3 import ENVIRONMENT, S3  # the server that tests start, too

KILLS, AWAY = 3, 30.0
TRIALS, WORKERS = 6, 1
SHORT = SPACE.replace("full: 30000", "full: 9000")


@dataclass
class Drivers:
    """Starts drivers of runs in the store.

    Attributes:
        store: the server.
        folder: where their space lies, and what they print.
    """

    store: S3
    folder: Path

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        """A driver, on a Ray of its own."""
        command = [sys.executable, "-m", "metatune", *map(str, arguments)]
        with (self.folder / "out.txt").open("ab") as out:
            return subprocess.Popen(
                [*command, "--workers", str(WORKERS)], stdout=out, stderr=out, cwd=self.folder
            )

    def run(self, uri: str) -> subprocess.Popen[bytes]:
        """A driver of a new run."""
        return self.start("run", "space.yaml", "--out", uri, "--trials", TRIALS)

    def printed(self) -> str:
        """The end of what was printed so far."""
        return (self.folder / "out.txt").read_text()[-1500:]


def rows(uri: str) -> list[Row]:
    """The rows of a run so far; none before it is a run."""
    try:
        return rows_of(uri)
    except RunError:
        return []


def wait_for(process: subprocess.Popen[bytes], uri: str, count: int) -> None:
    """Wait until a driver has put so many rows, or has ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and len(rows(uri)) < count and time.monotonic() < deadline:
        time.sleep(0.2)


def wrong(uri: str, before: list[Row], undisturbed: list[Row]) -> Iterator[str]:
    """What is not as it must be in a run that went on to its end."""
    found = rows(uri)
    if found[: len(before)] != before:
        yield "an earlier record does not stand"
    yield from miscounted(found)
    if not found or not isinstance(found[-1], Concluded):
        yield "no verdict"
    if lasting(found) != lasting(undisturbed):
        yield "other records than undisturbed"
    if len(read_run(uri).trials) != TRIALS:
        yield f"read_run has {len(read_run(uri).trials)} trials"


def killed(drivers: Drivers, seed: int, scale: float, undisturbed: list[Row]) -> Case:
    """A run whose driver is killed time and again; each resume begins with an empty desk."""
    kills, draw = max(1, round(KILLS * scale)), random.Random(seed)
    uri, instants = drivers.store.uri("bucket/killed"), list[str]()
    at = sorted(draw.sample(range(1, len(undisturbed) - 1), kills))
    driver = drivers.run(uri)
    for count in at:
        wait_for(driver, uri, count)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        before = rows(uri)
        instants.append(str(len(before)))
        driver = drivers.start("resume", uri)
    code = end(driver)
    found = [f"exit code {code}: {drivers.printed()}"] if code else []
    found += wrong(uri, before, undisturbed)
    return Case(
        "driver killed",
        f"kill -9 after {', '.join(instants)} rows; resume s3://...",
        {"kills": kills, "rows": len(undisturbed), "seed": seed},
        "every record before stands; the records of a run that nobody killed",
        "; ".join(found) or "so",
        not found,
    )


def away(drivers: Drivers, scale: float, undisturbed: list[Row]) -> Case:
    """The server is stopped in the midst of a run, and started again."""
    uri, seconds = drivers.store.uri("bucket/away"), AWAY * min(1.0, scale)
    driver = drivers.run(uri)
    wait_for(driver, uri, len(undisturbed) // 3)
    before = rows(uri)
    drivers.store.stop()
    time.sleep(seconds)
    went_on = driver.poll() is None
    drivers.store.start()
    code = end(driver)
    found = [] if went_on else ["it ended while the server was away"]
    found += [f"exit code {code}: {drivers.printed()}"] if code else []
    found += wrong(uri, before, undisturbed)
    return Case(
        "server away",
        f"stopped after {len(before)} rows for {seconds:g} s, started again",
        {"rows": len(undisturbed)},
        "the run goes on; the records of a run that nothing befell",
        "; ".join(found) or "so",
        not found,
    )


def cases(seed: int, scale: float) -> Iterator[Case]:
    os.environ.update(ENVIRONMENT)
    store = S3()
    with TemporaryDirectory(prefix="objects-") as name:
        drivers = Drivers(store, Path(name))
        (drivers.folder / "space.yaml").write_text(SHORT)
        uri = store.uri("bucket/undisturbed")
        assert end(drivers.run(uri)) == 0, drivers.printed()
        undisturbed = rows(uri)
        yield killed(drivers, seed, scale, undisturbed)
        yield away(drivers, scale, undisturbed)
    store.stop()
