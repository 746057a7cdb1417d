"""A real Ray cluster of two nodes for the whole session, and small spaces that run in seconds."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from s3 import ENVIRONMENT

from metatune.records.folder import RunFolder
from metatune.records.reading import read_rows
from metatune.records.rows import Row, Scored
from metatune.runner import prepare_ray

# Before any test module imports Ray. The cluster asks for a token, as those of cluster/ do.
prepare_ray(None)
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
os.environ.update(ENVIRONMENT)  # each node has credentials of its own for the object store

SPACE = """
family: {name: sinusoid, shot: 5, query: 5}
seed: 3
resource: {full: 30000, rungs: 3, reduction: 3}
tasks: {select: 24, confirm: 24, test: 24}
rounds: {count: 2, growth: 2}
budget: {trials: 10}
common:
  backbone: {kind: mlp, width: 16, depth: 1}
default: fomaml
initial: [fomaml, maml]
strategy:
  choose:
    gradient:
      head: {kind: linear, start: learned}
      inner: {kind: sgd, scope: all, steps: {int: [1, 3]}, lr: {float: [0.001, 0.1], log: true}}
      meta: {rule: {choice: [first_order, second_order]}}
    ridge:
      head: {kind: ridge, penalty: {float: [0.001, 10.0], log: true}}
      inner: {kind: none}
      meta: {rule: first_order}
  outer: {lr: {float: [1e-4, 1e-2], log: true}, tasks_per_batch: 8}
verdict: {seeds: 1, best_seeds: 1, finalists: 2, presets: [maml], baselines: [scratch]}
"""


# Where any run will do.
QUICK = SPACE.replace("count: 2", "count: 1").replace("full: 30000", "full: 3000")

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "node_ip_address": "127.0.0.1"}


@pytest.fixture(scope="session")
def nodes() -> Iterator[Any]:
    """A Ray cluster of two nodes with one CPU each, behind a token; this process has joined it."""
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    nodes.add_node(**NODE)
    nodes.wait_for_nodes()
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="session")
def cluster(nodes: Any) -> str:
    """The address of that cluster."""
    address: str = nodes.address
    return address


UNDISTURBED_TRIALS = 8


@pytest.fixture(scope="session")
def undisturbed(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one worker as it is when nobody kills it. Not to be changed: copy it."""
    from metatune import session

    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.yaml").write_text(SPACE)
    return session.run(
        folder / "tiny.yaml", out=folder / "run", workers=1, trials=UNDISTURBED_TRIALS
    )


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    """A space file whose search takes some seconds."""
    path = tmp_path / "tiny.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture
def command() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``metatune`` as a user would, in a process of its own; none outlives its test.

    ``env`` changes the environment; None takes a name out of it.
    """
    started: list[subprocess.Popen[str]] = []

    def start(
        *arguments: object,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[str]:
        merged = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        process = subprocess.Popen(
            [sys.executable, "-m", "metatune", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={name: value for name, value in merged.items() if value is not None},
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


def study_of(path: Path) -> optuna.Study:
    """The stored study of a run."""
    backend = optuna.storages.journal.JournalFileBackend(str(path / "study.log"))
    return optuna.load_study(study_name=path.name, storage=optuna.storages.JournalStorage(backend))


def repeatable(path: str | Path) -> list[Row]:
    """A run's rows without their seconds and nodes, sorted."""
    rows: list[Row] = []
    for row in read_rows(RunFolder.open(path)):
        row = replace(row, at=0.0)
        if isinstance(row, Scored):
            row = replace(row, train_seconds=0.0, score_seconds=0.0, node="")
        elif hasattr(row, "seconds"):
            row = replace(row, seconds=0.0)
        rows.append(row)
    return sorted(rows, key=repr)
