"""The cluster script and the command on it; and the command that starts a Ray of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pandas as pd
import pytest

import metatune
from metatune import read_run
from metatune.errors import RunError
from metatune.records.folder import RunFolder
from metatune.records.reading import read_rows
from metatune.records.rows import Ended, Scored
from metatune.runner.cluster import connected
from metatune.runner.late_nodes import LateNodes
from tests.integration.conftest import NODE, QUICK

ROOT = Path(__file__).parents[2]
Command = Callable[..., "subprocess.Popen[str]"]


NO_TOKEN = {"RAY_AUTH_MODE": None, "RAY_AUTH_TOKEN": None}


def refused(process: subprocess.Popen[str], *words: str) -> None:
    """A sentence with these words, and exit code 2."""
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    for word in words:
        assert word in err


# --- the script, and the token -------------------------------------------------------------------


@pytest.mark.long
def test_the_script_starts_nodes_behind_a_token_that_a_run_uses(
    space_file: Path, tmp_path: Path, command: Command
) -> None:
    space_file.write_text(QUICK)
    script = subprocess.Popen(
        [str(ROOT / "cluster" / "local" / "local-multi-node.sh"), "--nodes", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={
            **{name: value for name, value in os.environ.items() if name not in NO_TOKEN},
            "PYTHON": sys.executable,
        },
    )
    try:
        assert script.stdout is not None
        lines = [script.stdout.readline() for _ in range(3)]
        assert lines[0].startswith("2 nodes with 1 CPU(s) each")
        exported = dict(re.findall(r"(RAY_AUTH_\w+)=(\S+)", lines[1]))
        found = re.search(r"--address (127\.0\.0\.1:\d+)", lines[2])
        assert found
        token = Path(exported["RAY_AUTH_TOKEN_PATH"])
        assert token.stat().st_mode & 0o077 == 0
        assert token.parent.stat().st_mode & 0o077 == 0
        path = tmp_path / "run"
        arguments = ("run", space_file, "--address", found[1], "--out", path, "--trials", 2)
        run = command(*arguments, env={**NO_TOKEN, **exported})
        _, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        assert (read_run(path).trials["state"] != "running").all()
    finally:
        script.send_signal(signal.SIGINT)
        script.communicate(timeout=30)
    assert not token.exists()


@pytest.mark.long
def test_without_the_clusters_token_a_driver_is_refused(
    cluster: str, space_file: Path, tmp_path: Path, command: Command
) -> None:
    wrong = "wrong" * 8
    cases: list[tuple[dict[str, str | None], str]] = [
        (NO_TOKEN, "wants a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH"),
        ({"RAY_AUTH_TOKEN": wrong}, "does not take this token: set RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_TOKEN": None}, "does not take this token: set RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": "/nowhere"}, "found /nowhere: "),
    ]
    runs = [
        command(
            "run", space_file, "--address", cluster, "--out", tmp_path / f"run-{number}",
            env={"HOME": str(tmp_path), **environment},
        )
        for number, (environment, _) in enumerate(cases)
    ]  # fmt: skip
    for run, (_, words) in zip(runs, cases, strict=True):
        refused(run, words)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not any(wrong in path.read_text() for path in kept)


# --- refusals ------------------------------------------------------------------------------------


def test_no_cluster_at_the_address_is_a_sentence(
    space_file: Path, tmp_path: Path, command: Command
) -> None:
    run = command("run", space_file, "--address", "127.0.0.1:1", "--out", tmp_path / "run")
    refused(run, "no Ray cluster answers at 127.0.0.1:1")


def test_more_workers_than_cpus_are_refused(
    cluster: str, space_file: Path, tmp_path: Path, command: Command
) -> None:
    run = command(
        "run", space_file, "--address", cluster, "--workers", 64, "--out", tmp_path / "run"
    )
    refused(run, "64 workers were asked for")


@pytest.mark.long
def test_cpus_that_are_to_come_are_waited_for_but_no_longer_than_was_told(
    nodes: Any, cluster: str, tmp_path: Path
) -> None:
    late = "the Ray cluster has 2 CPUs within 0.02 min; 3 workers were asked for"
    with pytest.raises(RunError, match=late), connected(cluster, 3, tmp_path, wait=0.02):
        pass

    def workers() -> int:
        with connected(cluster, 3, tmp_path, wait=2) as joined:
            return joined.workers

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(workers)
        sleep(1.5)
        assert not waiting.done()
        node = nodes.add_node(**NODE)
        try:
            assert waiting.result(timeout=110) == 3
        finally:
            nodes.remove_node(node)


@pytest.fixture
def other_node(nodes: Any, tmp_path: Path) -> Iterator[None]:
    """A third node, on which another metatune and another torch are installed."""
    other = tmp_path / "other"
    shutil.copytree(Path(metatune.__file__).parent, other / "metatune")
    init = other / "metatune" / "__init__.py"
    init.write_text(init.read_text().replace(f'"{metatune.__version__}"', '"9.9.9"'))
    about = other / "torch-1.2.3+cpu.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.2.3+cpu\n")
    node = nodes.add_node(**NODE, env_vars={"PYTHONPATH": str(other)})
    nodes.wait_for_nodes()
    yield
    nodes.remove_node(node)


@pytest.mark.long
def test_a_node_of_other_versions_is_refused_before_any_trial(
    other_node: None, cluster: str, space_file: Path, tmp_path: Path, command: Command
) -> None:
    arguments = ("run", space_file, "--address", cluster, "--out", tmp_path / "run")
    run = command(*arguments, cwd=tmp_path)  # workers look into the driver's folder first
    there = "node 127.0.0.1 has torch 1.2.3, metatune 9.9.9; this driver has torch "
    refused(run, there, f", metatune {metatune.__version__}: they must be the same")
    assert read_run(tmp_path / "run").trials.empty
    assert list((tmp_path / "run").glob(".marker*")) == []


# --- nodes that go, and nodes that come -----------------------------------------------------------


@pytest.mark.long
def test_a_node_that_joins_later_and_cannot_take_part_is_named_once(
    cluster: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    told: list[tuple[str, str]] = []
    with connected(cluster, 1, tmp_path) as joined:
        assert joined.alike is not None
        late = LateNodes(joined.alike, lambda *node: told.append(node), every=0.2)
        request.getfixturevalue("other_node")
        comes_true(lambda: bool(told))
        sleep(1)
        late.close()
    ((node, why),) = told
    assert node == "127.0.0.1"
    assert why.startswith("has torch 1.2.3, metatune 9.9.9; this driver has torch ")


@pytest.mark.long
def test_a_node_is_killed_in_mid_trial_and_an_unlike_one_takes_its_place_but_no_trial(
    nodes: Any, cluster: str, space_file: Path, tmp_path: Path, request: pytest.FixtureRequest,
    command: Command,
) -> None:  # fmt: skip
    path = tmp_path / "run"
    # Trials longer than a worker takes to start: Tune gives the next one to whoever is free before.
    space_file.write_text(QUICK.replace("full: 3000", "full: 3000000"))
    own = nodes.add_node(**{**NODE, "node_ip_address": "127.0.0.2"})
    nodes.wait_for_nodes()
    driver = command(
        "run", space_file, "--address", cluster, "--workers", 3, "--trials", 500, "--out", path,
        cwd=tmp_path,
    )  # fmt: skip

    def at_work() -> bool:
        """Whether that node has measured something of a trial that goes on, not the default."""
        rows = read_rows(RunFolder.open(path)) if (path / "run.json").exists() else []
        done = {row.trial for row in rows if isinstance(row, Ended)}
        last = {row.trial: row.node for row in rows if isinstance(row, Scored)}
        left = {trial: node for trial, node in last.items() if trial not in {*done, "r1-0000"}}
        return "127.0.0.2" in left.values()

    comes_true(lambda: (path / "run.json").exists() and read_rows(RunFolder.open(path)) != [])
    request.getfixturevalue("other_node")
    comes_true(lambda: at_work() or ended(driver))
    before = read_rows(RunFolder.open(path))
    nodes.remove_node(own, allow_graceful=False)
    told = "node 127.0.0.1 is not used: it has torch 1.2.3, metatune 9.9.9; this driver has"
    logs = path / "logs"
    comes_true(lambda: any(told in file.read_text() for file in logs.iterdir()) or ended(driver))
    until = len(read_rows(RunFolder.open(path)))
    comes_true(lambda: len(read_rows(RunFolder.open(path))) > until or ended(driver))
    driver.send_signal(signal.SIGINT)  # when a new worker is there depends on the machine
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 130, err
    assert told in err
    rows = read_rows(RunFolder.open(path))
    assert rows[: len(before)] == before
    scored = [(r.trial, r.replica, r.split, r.rung) for r in rows if isinstance(r, Scored)]
    assert len(set(scored)) == len(scored)
    assert not any(row.state == "failed" for row in rows if isinstance(row, Ended))


def ended(process: subprocess.Popen[str]) -> bool:
    return process.poll() is not None


def comes_true(condition: Callable[[], bool]) -> None:
    until = monotonic() + 300
    while not condition():
        assert monotonic() < until
        sleep(0.02)


# --- code of one's own ---------------------------------------------------------------------------

NETWORK = """
import logging
import warnings
from pathlib import Path
from torch import nn

def wide(input_shape: tuple[int, ...], note: str) -> nn.Module:
    with Path(note).open("a") as file:
        file.write(__file__ + "\\n")
    warnings.warn("seven is odd", RuntimeWarning)
    logging.getLogger(__name__).error("so it is")
    return nn.Linear(input_shape[0], 7)
"""


@pytest.mark.long
def test_a_package_of_the_users_own_is_sent_to_every_worker(
    cluster: str, space_file: Path, tmp_path: Path, command: Command
) -> None:
    package, note = tmp_path / "elsewhere" / "my_networks", tmp_path / "note"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "linear.py").write_text(NETWORK)
    own = f"{{kind: own, use: 'my_networks.linear:wide', options: {{note: {note}}}}}"
    space_file.write_text(QUICK.replace("{kind: mlp, width: 16, depth: 1}", own))
    arguments = ("run", space_file, "--address", cluster, "--workers", 1, "--trials", 2)
    refused(command(*arguments, "--out", tmp_path / "without"), "No module named 'my_networks'")
    path = tmp_path / "run"
    run = command(*arguments, "--out", path, "--py-module", package)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert set(read_run(path).trials["state"]) <= {"completed", "stopped"}
    assert json.loads((path / "run.json").read_text())["py_modules"] == [str(package)]
    used = note.read_text().splitlines()
    assert used  # workers import what was sent, not what happens to lie on this machine
    assert all("py_modules_files" in file for file in used)
    # What their code says there is in the run's log, with its trial.
    (file,) = (path / "logs").iterdir()
    log = pd.read_json(file, lines=True)
    for words in ("seven is odd", "so it is"):
        told = log[log["message"].str.contains(words) & log["trial"].notna()]
        assert set(told["trial"]) >= set(read_run(path).trials.index)
        assert set(told["node"]) == {"127.0.0.1"}
        assert run.pid not in set(told["process"])
        assert err.count(words) <= 1  # the driver's own network, not the workers'
