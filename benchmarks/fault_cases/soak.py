"""Two thousand short trials on two workers, of which one in ten has something go wrong.

Faults are of five kinds and befall a training by chance, whatever its strategy: so what is lost
comes good at the next try, as on machines that fail. Each is written down by the process that it
befalls before it happens. Memory is looked at all the time, from outside.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

import numpy as np
import optuna

from fault_cases import Case, miscounted, rows_of
from metatune import read_run
from metatune.records.rows import Ended, Retried

TRIALS = 2000
LOOK = 2.0  # seconds between two looks at memory
MOST = 60.0  # MB per 1,000 trials that a driver may grow: it knows every score of every trial

SPACE = """
family: {{name: sinusoid, shot: 5, query: 5}}
seed: {seed}
resource: {{full: 9000, rungs: 2, reduction: 3}}
tasks: {{select: 8, confirm: 8, test: 8}}
budget: {{trials: {trials}}}
faults: {{max_retries: 3, hang_minutes: 0.2}}
common:
  backbone: {{kind: own, use: "unlucky:Network", options: {{chance: 0.1}}}}
  head: {{kind: linear, start: learned}}
  inner: {{kind: sgd, scope: all, steps: 1, lr: 0.01}}
  meta: {{rule: first_order}}
  outer: {{tasks_per_batch: 4}}
default: sound
initial:
  - {{name: sound, backbone: {{options: {{chance: 0.0}}}}}}
strategy:
  inner: {{steps: {{int: [1, 3]}}, lr: {{float: [0.001, 0.1], log: true}}}}
  outer: {{lr: {{float: [1.0e-4, 1.0e-2], log: true}}}}
verdict: {{seeds: 1, best_seeds: 1, finalists: 1}}
"""

UNLUCKY = """
import os, random, signal, time
from pathlib import Path
import torch

KINDS = ["raises"] * 4 + ["nan"] * 2 + ["exits"] * 2 + ["killed"] + ["hangs"]
CHANCE = random.Random(os.urandom(8))
FAULTS = Path(__file__).with_name("faults.txt")

class Network(torch.nn.Module):
    def __init__(self, input_shape, chance):
        super().__init__()
        self.linear = torch.nn.Linear(input_shape[0], 8)
        self.left = CHANCE.randint(16, 28)  # calls up to its fault: more than only scoring makes
        self.kind = CHANCE.choice(KINDS) if CHANCE.random() < chance else "none"

    def forward(self, x):
        self.left -= 1
        if self.left < 0 and self.kind == "nan":
            return self.linear(x) * float("nan")
        if self.left == 0 and self.kind != "none":
            with open(FAULTS, "a") as file:
                file.write(self.kind + "\\n")
            if self.kind == "raises":
                raise ValueError("out of luck")
            if self.kind == "exits":
                os._exit(3)
            if self.kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "hangs":
                time.sleep(10**6)
            return self.linear(x) * float("nan")
        return torch.tanh(self.linear(x))
"""


def cases(seed: int, scale: float) -> Iterator[Case]:
    """One run; ``scale`` is of its trials."""
    trials = max(10, round(TRIALS * scale))
    with TemporaryDirectory(prefix="metatune-soak-") as name:
        folder = Path(name)
        (folder / "unlucky.py").write_text(UNLUCKY)
        (folder / "space.yaml").write_text(SPACE.format(seed=seed, trials=trials))
        status, driver, workers = _drive(folder, trials)
        done = f"{trials} trials on 2 workers"
        yield _accounted(folder, done, seed, status)
        yield _memory(done, driver, workers)
        yield _size(folder, done, trials)


def _drive(folder: Path, trials: int) -> tuple[int, list[tuple[int, float]], list[float]]:
    """Run it.

    Returns:
        The exit status; the driver's MB by ended trials; the largest worker's MB, look by look.
    """
    arguments = ["run", "space.yaml", "--out", "run", "--workers", "2"]
    driver, workers = list[tuple[int, float]](), list[float]()
    with (folder / "out.txt").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "metatune", *arguments],
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None:
            sleep(LOOK)
            ended = (folder / "out.txt").read_text().count(f"/{trials}] ")
            if ended and (size := _megabytes(process.pid)):
                driver.append((ended, size))
                ours = [pid for pid in _below(process.pid) if _command(pid).startswith("ray::")]
                if largest := max(map(_megabytes, ours), default=0.0):
                    workers.append(largest)
    return process.returncode, driver, workers


def _accounted(folder: Path, done: str, seed: int, status: int) -> Case:
    """Each fault that was made has its place in the records, and the study says the same."""
    rows, made = rows_of(folder / "run"), Counter((folder / "faults.txt").read_text().split())
    ends = [row for row in rows if isinstance(row, Ended)]
    retried = [row.reason for row in rows if isinstance(row, Retried)]
    given_up = [e.reason for e in ends if e.state == "failed" and "out of luck" not in e.reason]
    lost = retried + given_up
    hung = [reason for reason in lost if "no progress for" in reason]
    found = {
        "raises": sum("out of luck" in end.reason for end in ends),
        "nan": sum(end.state == "diverged" for end in ends),
        "ended": len(lost) - len(hung),
        "hangs": len(hung),
    }
    expected = {
        "raises": made["raises"],
        "nan": made["nan"],
        "ended": made["exits"] + made["killed"],
        "hangs": made["hangs"],
    }
    states = read_run(folder / "run").trials["state"]
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "run" / "study.log"))
    study = optuna.load_study(study_name="run", storage=optuna.storages.JournalStorage(backend))
    told = {trial.user_attrs["trial"]: trial.user_attrs["state"] for trial in study.trials}
    wrong = miscounted(rows) + ([] if told == states.to_dict() else ["study and records differ"])
    by_state = {state: int(count) for state, count in states.value_counts().items() if count}
    return Case(
        "all are accounted for",
        done,
        {"seed": seed, **made},
        f"status 0, one end each, {expected}",
        f"status {status}, {found}, {len(retried)} retries, {by_state}; "
        f"{'; '.join(wrong) or 'nothing amiss'}",
        status == 0 and not wrong and found == expected,
    )


def _memory(done: str, driver: list[tuple[int, float]], workers: list[float]) -> Case:
    """How the driver grows over the second half, and what the largest worker ever took."""
    ended, megabytes = np.array(driver[len(driver) // 2 :]).T
    slope = 1000 * np.polyfit(ended, megabytes, 1)[0] if len(set(ended)) > 1 else 0.0
    half = len(workers) // 2
    before, after = np.median(workers[:half]), np.median(workers[half:])
    return Case(
        "memory",
        done,
        {"looks": len(driver)},
        f"the driver grows by less than {MOST:g} MB per 1,000 trials; workers by less than a tenth",
        f"{slope:.1f} MB per 1,000 trials, to {megabytes[-1]:.0f} MB; workers {before:.0f} MB in "
        f"the first half, {after:.0f} MB in the second",
        bool(slope < MOST and after < 1.1 * before),
    )


def _size(folder: Path, done: str, trials: int) -> Case:
    files = [file for file in (folder / "run").rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 2**20
    return Case(
        "the run's folder",
        done,
        {"files": len(files)},
        "no more than 50 kB a trial",
        f"{size:.1f} MB, {1024 * size / trials:.1f} kB a trial",
        1024 * size / trials < 50,
    )


# --- processes, as /proc has them -----------------------------------------------------------------


def _megabytes(pid: int) -> float:
    """Resident memory of a process; 0 where it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _below(pid: int) -> set[int]:
    """All processes that a process started, and those that they started."""
    parents = dict[int, int]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}
