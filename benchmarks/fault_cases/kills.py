"""Drivers killed at random instants of short runs, and gone on with: 50 of them at scale 1.

An instant is drawn over the whole life of a run, from ``run.json`` on: while it is opened, after a
row of its log, and while it ends. Every third run is killed once more in its resume. Drivers are
processes of their own on a real Ray; they compact their log all the time, to be killed in that,
too. With one worker the records must come out as those of a run that nobody killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna

from fault_cases import SPACE, Case, miscounted, rows_of
from metatune.records.folder import RunFolder
from metatune.records.log import segments
from metatune.records.rows import Asked, Concluded, Retried, Row, Scored
from metatune.runner import prepare_ray

KILLS, TRIALS, AT_A_TIME = 50, 6, 2
PATIENCE = 300.0  # seconds in which a driver on a busy machine gets to its next row
SHORT = SPACE.replace("full: 30000", "full: 9000")
LONG = SPACE.replace("full: 30000", "full: 600000")  # to be hit in the midst of a trial
FIRM = "faults: {hang_minutes: 0.1}\n"
COMPACT_EVERY = 3  # rows; usually 500
DRIVE = f"""
import sys
from metatune import cli
from metatune.records.compaction import Compactor
Compactor.__init__.__defaults__ = ({COMPACT_EVERY}, *Compactor.__init__.__defaults__[1:])
cli.main()
"""

Process = subprocess.Popen[bytes]


@dataclass
class Drivers:
    """Starts drivers on a Ray cluster.

    Attributes:
        address: of the cluster.
        folder: where runs lie.
    """

    address: str
    folder: Path

    def start(
        self, verb: str, *arguments: object, name: str, workers: int, alone: bool = False
    ) -> Process:
        """A driver at work on the run of a name; what it prints is in ``<name>.out``.

        ``alone`` it starts a Ray of its own.
        """
        options = ["--workers", str(workers)]
        options += [] if alone else ["--address", self.address]
        command = [sys.executable, "-c", DRIVE, verb, *map(str, arguments), *options]
        with (self.folder / f"{name}.out").open("ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out)

    def run(self, name: str, workers: int, space: str = SHORT, alone: bool = False) -> Process:
        """A driver of a new run."""
        file = self.folder / f"{name}.yaml"
        file.write_text(space)
        arguments = (file, "--out", self.folder / name, "--trials", TRIALS)
        return self.start("run", *arguments, name=name, workers=workers, alone=alone)

    def resume(self, name: str, workers: int) -> Process:
        """A driver that goes on with a run."""
        return self.start("resume", self.folder / name, name=name, workers=workers)


@contextmanager
def cluster() -> Iterator[str]:
    """A Ray node on loopback; its address."""
    prepare_ray(None)
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="a-token-of-a-benchmark" * 2)
    from ray.cluster_utils import Cluster

    node = {
        "num_cpus": 2 * AT_A_TIME,
        "object_store_memory": 100 * 2**20,
        "node_ip_address": "127.0.0.1",
    }
    ray_node = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        yield ray_node.address
    finally:
        ray_node.shutdown()


def lines(path: Path) -> int:
    """Lines of a run's log so far; -1 before it is a run."""
    folder = RunFolder(path)
    if not folder.info.exists():
        return -1
    return sum(segment.read_bytes().count(b"\n") for segment in segments(folder))


def wait_for_row(process: Process, path: Path, row: int) -> None:
    """Wait until a driver has written so many rows, or has ended."""
    deadline = time.monotonic() + PATIENCE
    while (process.poll() is None) and lines(path) < row and time.monotonic() < deadline:
        time.sleep(0.002)


def kill_at(process: Process, path: Path, row: int, delay: float) -> bool:
    """Kill a driver so many seconds after a row was written; False where it was done by then."""
    wait_for_row(process, path, row)
    time.sleep(delay)
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


def end(process: Process) -> int:
    """The exit code of a driver that is left to itself; killed where it hangs."""
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def lasting(rows: list[Row]) -> list[Row]:
    """Rows without what the clock says, in an order of their own."""
    plain = []
    for row in rows:
        clock = {"at": 0.0, "node": ""} if hasattr(row, "node") else {"at": 0.0}
        clock |= {
            name: 0.0
            for name in ("seconds", "train_seconds", "score_seconds")
            if hasattr(row, name)
        }
        plain.append(replace(row, **clock))
    return sorted(plain, key=repr)


def best(rows: list[Row]) -> float:
    """The best mean on ``select`` at any rung, by a metric of which less is better."""
    means = [row.mean for row in rows if isinstance(row, Scored) and row.split == "select"]
    return min(means, default=float("inf"))


def told(path: Path) -> Mapping[str, Any]:
    """What the study says of each trial."""
    backend = optuna.storages.journal.JournalFileBackend(str(path / "study.log"))
    study = optuna.load_study(study_name=path.name, storage=optuna.storages.JournalStorage(backend))
    numbers = [trial.user_attrs["trial"] for trial in study.trials]
    assert len(set(numbers)) == len(numbers), f"twice in the study: {numbers}"
    return {
        t.user_attrs["trial"]: (
            t.state.name,
            t.value,
            t.user_attrs.get("state"),
            t.intermediate_values,
        )
        for t in study.trials
    }


def wrong(path: Path, before: list[Row], undisturbed: Path, workers: int) -> Iterator[str]:
    """What is not as it must be in a run that was killed and went on to its end."""
    rows = rows_of(path)
    if rows[: len(before)] != before:
        yield "an earlier record does not stand"
    yield from miscounted(rows)
    if not isinstance(rows[-1], Concluded):
        yield "no verdict"
    asked = {row.trial for row in rows if isinstance(row, Asked)}
    if set(told(path)) != asked:
        yield f"study {sorted(told(path))}, records {sorted(asked)}"
    if best(rows) > best(before):
        yield "the best score is worse"
    if workers == 1 and lasting(rows) != lasting(rows_of(undisturbed)):
        yield "other records than undisturbed"
    if workers == 1 and told(path) != told(undisturbed):
        yield "another study than undisturbed"


@dataclass(frozen=True)
class Outcome:
    """What became of a run that was killed.

    Attributes:
        killed: how often it was, while it was alive.
        when: the instants.
        wrong: what is not as it must be.
    """

    killed: int
    when: str
    wrong: list[str]


def once(drivers: Drivers, number: int, seed: int, length: int) -> Outcome:
    """Kill a run, go on with it, and look: every third twice, every fifth with two workers.

    Args:
        drivers: start it.
        number: of the run, from 1.
        seed: of the instants.
        length: rows of the undisturbed run.
    """
    name, workers = f"run-{number}", 2 if number % 5 == 0 else 1
    path, draw = drivers.folder / name, random.Random(f"{seed} {number}")
    killed, when, row = 0, list[str](), 0
    for starting in (drivers.run, drivers.resume)[: 1 + (number % 3 == 0)]:
        row, delay = draw.randint(row, length), draw.random() * draw.choice((0.02, 0.3, 1.5))
        killed += kill_at(starting(name, workers), path, row, delay)
        when.append(f"{delay:.3f} s after row {row}")
    before = rows_of(path)
    code = end(drivers.resume(name, workers))
    if code != 0:
        text = (drivers.folder / f"{name}.out").read_text()
        found = [f"exit code {code}: {text[-2000:]}"]
    else:
        found = list(wrong(path, before, drivers.folder / "undisturbed", workers))
    outcome = Outcome(killed, f"{name}: {', '.join(when)}", found)
    print(f"kills: {outcome}", file=sys.stderr, flush=True)
    if not found:
        shutil.rmtree(path)
    return outcome


def driver_kills(drivers: Drivers, seed: int, scale: float) -> Case:
    """So many kills, of several runs at a time."""
    wanted, numbers = max(1, round(KILLS * scale)), count(1)
    length = len(rows_of(drivers.folder / "undisturbed"))
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        while (killed := sum(outcome.killed for outcome in outcomes)) < wanted:
            # Some come too late, and more are drawn then.
            some = list(islice(numbers, min(AT_A_TIME * 4, wanted - killed)))
            outcomes += pool.map(lambda number: once(drivers, number, seed, length), some)
    failures = [f"{o.when}: {'; '.join(o.wrong)}" for o in outcomes if o.wrong]
    return Case(
        "drivers killed",
        "kill -9 of the driver at random instants, from run.json to the end; metatune resume",
        {"kills": killed, "runs": len(outcomes), "rows": length, "seed": seed},
        "every record before stands, study and records agree, nothing twice; with one worker the "
        "records and the study of a run that nobody killed",
        "\n".join([f"{len(failures)} of {len(outcomes)} runs not so", *failures]),
        not failures,
    )


def below(pid: int) -> dict[int, str]:
    """The processes that descend from one, and what they were started as."""
    parents, names = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            number = int(status.parent.name)
            parents[number] = int(status.read_text().rpartition(")")[2].split()[1])
            names[number] = (status.parent / "cmdline").read_bytes().decode(errors="replace")

    def descends(number: int) -> bool:
        return number == pid or (number in parents and descends(parents[number]))

    return {number: name for number, name in names.items() if number != pid and descends(number)}


def raylet_killed(drivers: Drivers) -> Case:
    """A run on a Ray of its own, whose raylet is killed: Ray itself, on the only machine."""
    path = drivers.folder / "bereft"
    driver = drivers.run("bereft", 1, LONG, alone=True)
    wait_for_row(driver, path, 2)
    raylets = [pid for pid, name in below(driver.pid).items() if "raylet/raylet" in name]
    for pid in raylets:
        os.kill(pid, signal.SIGKILL)
    code, before = end(driver), rows_of(path)
    told_of = (drivers.folder / "bereft.out").read_text()
    found = [] if len(raylets) == 1 else [f"{len(raylets)} raylets"]
    if code != 2 or "then resume" not in told_of or "Traceback" in told_of:
        found.append(f"exit code {code}: {told_of[-1000:]}")
    if end(drivers.resume("bereft", 1)) != 0:
        found.append((drivers.folder / "bereft.out").read_text()[-1000:])
    else:
        found += wrong(path, before, drivers.folder / "undisturbed", 2)
    return Case(
        "raylet killed",
        "kill -9 of the raylet of a run on one machine; metatune resume",
        {"kills": len(raylets), "rows before": len(before)},
        "ends with a sentence; gone on with, every record before stands, every trial ends once",
        "; ".join(found) or "so",
        not found,
    )


def workers_struck(drivers: Drivers, name: str, sent: signal.Signals, space: str) -> Case:
    """Every worker gets a signal, in the midst of a trial."""
    path = drivers.folder / name
    driver = drivers.run(name, 2, space)
    wait_for_row(driver, path, 14)  # the default has ended, with which all is compared
    struck = [pid for pid, title in below(os.getpid()).items() if "ray::ResourceTrainable" in title]
    for pid in struck:
        with suppress(ProcessLookupError):
            os.kill(pid, sent)
    before, code = rows_of(path), end(driver)
    found = [] if struck else ["no worker was found"]
    if code != 0:
        found.append(f"exit code {code}: {(drivers.folder / f'{name}.out').read_text()[-1000:]}")
    else:
        found += wrong(path, before, drivers.folder / "undisturbed", 2)
        if not any(isinstance(row, Retried) for row in rows_of(path)):
            found.append("no trial was tried again")
    for pid in struck:
        with suppress(ProcessLookupError):  # as it should
            os.kill(pid, 0)
            found.append(f"process {pid} is still there")
    return Case(
        name,
        f"{sent.name} to all workers under a run",
        {"workers": len(struck), "rows before": len(before)},
        "their trials are tried again; the run ends with its verdict; every trial has one end",
        "; ".join(found) or "so",
        not found,
    )


def cases(seed: int, scale: float) -> Iterator[Case]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="kills-")))
        drivers = Drivers(stack.enter_context(cluster()), folder)
        undisturbed = end(drivers.run("undisturbed", 1))
        assert undisturbed == 0, (folder / "undisturbed.out").read_text()
        yield raylet_killed(drivers)
        yield workers_struck(drivers, "workers killed", signal.SIGKILL, LONG)
        yield workers_struck(drivers, "workers stopped", signal.SIGSTOP, LONG + FIRM)
        yield driver_kills(drivers, seed, scale)
