"""Three Ray nodes that see each other over a network: one is switched off, one is cut off."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from machines import Cluster, Loopback, Machine, Namespaces, Network, Process, until_true

from fault_cases import SPACE, Case, miscounted, rows_of
from metatune.records.rows import Asked, Concluded, Ended, Scored

SEARCH_SECONDS = 600.0
FULL = 1_200_000  # the resource of a trial: a run that is over before its fault shows nothing
AGREE = 1e-6
RATES = [0.001, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08]
"""Strategies that are named are the same ones whatever comes first from which node."""


def space_text(full: int) -> str:
    """A search of named strategies alone, whose trials take some seconds a rung."""
    rates = "".join(f", {{preset: fomaml, name: rate-{r}, inner: {{lr: {r}}}}}" for r in RATES)
    text = SPACE.replace("initial: [fomaml, maml]", f"initial: [fomaml, maml{rates}]")
    return re.sub(r"full: \d+", f"full: {full}", text)


def cases(seed: int, scale: float) -> Iterator[Case]:
    """One case a fault; ``scale`` is that of the trials' length."""
    with TemporaryDirectory(prefix="mt", dir="/tmp") as folder:  # sockets have short names only
        place = Path(folder)
        space, once = place / "space.yaml", place / "alone"
        space.write_text(space_text(int(FULL * scale)))
        alone(once, space, seed)
        apart = may_make_namespaces()
        kind: Callable[[Path], Network] = Namespaces if apart else Loopback
        made = [undisturbed, killed_and_cut, headless]
        if apart:
            made.append(replaced)  # only there a folder can be hidden
        for number, case in enumerate(made):
            own = place / str(number)
            network = kind(own / "ray")
            try:
                yield case(network, own, space, seed, once)
            finally:
                network.close()


def may_make_namespaces() -> bool:
    """Whether this user may, here."""
    tried = ["unshare", "-n", "-m", "-u", "-p", "-f", "true"]
    return subprocess.run(tried, capture_output=True).returncode == 0


def alone(path: Path, space: Path, seed: int) -> None:
    """The run of one worker on this machine, with which the others are compared."""
    command = [sys.executable, "-m", "metatune", "run", space, "--seed", seed, "--workers", 1,
               "--out", path]  # fmt: skip
    subprocess.run([*map(str, command)], check=True, capture_output=True)


def three(network: Network, place: Path) -> Cluster:
    """A cluster of three machines."""
    cluster = Cluster(network, place)
    for _ in range(3):
        cluster.add()
    return cluster


def search(cluster: Cluster, driver: Machine, space: Path, place: Path, seed: int) -> Process:
    """A search on all nodes, once they are there."""
    return cluster.metatune(
        driver, place / "driver.log", "run", space, "--seed", seed, "--address", cluster.address,
        "--workers", 3, "--wait", 2, "--out", place / "run",
    )  # fmt: skip


def undisturbed(network: Network, place: Path, space: Path, seed: int, once: Path) -> Case:
    cluster = three(network, place)
    driver = search(cluster, cluster.machines[0], space, place, seed)
    status = driver.wait(timeout=SEARCH_SECONDS)
    faults, told = looked_at(place, once, status)
    worked = {row.node for row in rows_of(place / "run") if isinstance(row, Scored)} - {""}
    if worked != {machine.address for machine in cluster.machines}:
        faults.append(f"only {', '.join(sorted(worked))} measured anything")
    return Case(
        "three nodes",
        "nothing",
        {"nodes": 3, "made of": network.kind, "seed": seed},
        "trials ran on all nodes; scores are those of one node",
        "; ".join([*faults, *told, f"measured on {', '.join(sorted(worked))}"]),
        not faults,
    )


def killed_and_cut(network: Network, place: Path, space: Path, seed: int, once: Path) -> Case:
    cluster = three(network, place)
    head, second, third = cluster.machines
    driver = search(cluster, head, space, place, seed)
    until_true(lambda: in_mid_trial(place / "run", second, driver), SEARCH_SECONDS)
    second.power_off()
    until_true(lambda: in_mid_trial(place / "run", third, driver), SEARCH_SECONDS)
    third.cut()
    before = rows_of(place / "run")
    status = driver.wait(timeout=SEARCH_SECONDS)
    faults, told = looked_at(place, once, status)
    if rows_of(place / "run")[: len(before)] != before:
        faults.append("what stood before does not stand")
    return Case(
        "one node killed, one cut off",
        "the 2nd node's processes got SIGKILL in mid-trial, the 3rd node's link was cut",
        {"nodes": 3, "made of": network.kind, "seed": seed},
        "the run ends; no measurement lost, none twice; scores are those of one node",
        "; ".join([*faults, *told]),
        not faults,
    )


def headless(network: Network, place: Path, space: Path, seed: int, once: Path) -> Case:
    cluster = three(network, place)
    head, second, third = cluster.machines
    driver = search(cluster, second, space, place, seed)
    until_true(lambda: in_mid_trial(place / "run", third, driver), SEARCH_SECONDS)
    head.power_off()
    status = driver.wait(timeout=SEARCH_SECONDS)
    told, before = (place / "driver.log").read_text(), rows_of(place / "run")
    second.power_off()
    third.power_off()
    another = Cluster(network, place, first=4)
    machine = another.add()
    again = another.metatune(machine, place / "driver.log", "resume", place / "run",
                             "--address", another.address, "--wait", 2)  # fmt: skip
    faults, more = looked_at(place, once, again.wait(timeout=SEARCH_SECONDS))
    if rows_of(place / "run")[: len(before)] != before:
        faults.append("what stood before does not stand")
    sentence = f"the head of the Ray cluster at {cluster.address} has not answered for 30 s"
    if status != 2 or sentence not in told or "Traceback" in told:
        faults.append(f"exit status {status}: {told[-300:]}")
    return Case(
        "the head killed, the driver elsewhere",
        "the head's processes got SIGKILL in mid-trial; then resume on another cluster",
        {"nodes": 3, "made of": network.kind, "seed": seed},
        "the driver ends with a sentence; resumed, the run ends; nothing lost, nothing twice",
        "; ".join([*faults, *more]),
        not faults,
    )


def replaced(network: Network, place: Path, space: Path, seed: int, once: Path) -> Case:
    cluster = three(network, place)
    head, second, _ = cluster.machines
    driver = search(cluster, head, space, place, seed)
    until_true(lambda: begun(place / "run", driver), SEARCH_SECONDS)
    fourth = cluster.add(hidden=place / "run")
    named = f"node {fourth.address} is not used: it does not see the run's folder"
    until_true(lambda: named in (place / "driver.log").read_text() or ended(driver), SEARCH_SECONDS)
    until_true(lambda: in_mid_trial(place / "run", second, driver), SEARCH_SECONDS)
    second.power_off()
    faults, more = looked_at(place, once, driver.wait(timeout=SEARCH_SECONDS))
    if named not in (place / "driver.log").read_text():
        faults.append(f"nothing was said of node {fourth.address}")
    if any(row.node == fourth.address for row in rows_of(place / "run") if isinstance(row, Scored)):
        faults.append(f"node {fourth.address} measured something")
    return Case(
        "a node replaced by an unfit one",
        "a 4th node joined that does not see the run's folder; the 2nd got SIGKILL in mid-trial",
        {"nodes": 4, "made of": network.kind, "seed": seed},
        "the 4th node is named and runs nothing, no trial fails by it, the run ends",
        "; ".join([*faults, *more]),
        not faults,
    )


def ended(driver: Process) -> bool:
    """Whether a driver has."""
    return driver.poll() is not None


def begun(path: Path, driver: Process) -> bool:
    """Whether a run has its first row, for which its nodes were looked at."""
    return ended(driver) or ((path / "run.json").exists() and rows_of(path) != [])


def in_mid_trial(path: Path, machine: Machine, driver: Process) -> bool:
    """Whether a trial that a machine is at has measured something there, and not ended."""
    if ended(driver):
        raise RuntimeError(f"the driver ended with status {driver.returncode}")
    rows = rows_of(path) if (path / "run.json").exists() else []
    over = {row.trial for row in rows if isinstance(row, Ended)}
    last = {row.trial: row.node for row in rows if isinstance(row, Scored)}
    return any(node == machine.address for trial, node in last.items() if trial not in over)


def looked_at(place: Path, once: Path, status: int) -> tuple[list[str], list[str]]:
    """What is wrong with a run that has ended, and what else there is to say of it."""
    rows, faults = rows_of(place / "run"), []
    if status != 0:
        faults.append(f"exit status {status}: {(place / 'driver.log').read_text()[-300:]}")
    if not any(isinstance(row, Concluded) for row in rows):
        faults.append("no verdict")
    faults += miscounted(rows)
    pairs, worst = compared(place / "run", once)
    if worst > AGREE or not pairs:
        faults.append("scores differ")
    asked = [row for row in rows if isinstance(row, Asked)]
    states = [row.state for row in rows if isinstance(row, Ended) and row.replica == 0]
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    return faults, [
        f"{len(asked)} trials: {counts}",
        f"{pairs} scores are as of one node, the largest difference {worst:.1g}",
    ]


def compared(path: Path, other: Path) -> tuple[int, float]:
    """How many task scores two runs have in common, and the largest difference among them."""
    ours, theirs = scores_of(path), scores_of(other)
    both = ours.keys() & theirs.keys()
    return len(both), max((abs(ours[key] - theirs[key]) for key in both), default=0.0)


def scores_of(path: Path) -> dict[tuple[object, ...], float]:
    """The score of each strategy on each task, at each rung and in each training."""
    rows = rows_of(path)
    digests = {row.trial: row.digest for row in rows if isinstance(row, Asked)}
    return {
        (row.trial, digests[row.trial], row.replica, row.split, row.rung, task): score
        for row in rows
        if isinstance(row, Scored) and not row.trial.rpartition("-")[2].startswith("e")
        for task, score in zip(row.tasks, row.scores, strict=True)
    }
