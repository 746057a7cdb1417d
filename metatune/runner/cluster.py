"""Ray itself: started on this machine, or joined where a cluster runs already."""

from __future__ import annotations

import os
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import metatune
from metatune.errors import RunError

OBJECT_STORE = 128 * 2**20  # bytes; results are small, data are read by each worker itself


@contextmanager
def connected(address: str | None, workers: int | None, folder: Path) -> Iterator[int]:
    """Connect to Ray and yield the number of workers.

    Args:
        address: of a running cluster; None starts Ray on this machine, on loopback.
        workers: trials at a time; None takes every CPU.
        folder: the run's, which every node must see.

    Raises:
        RunError: no cluster there, versions differ, too few CPUs, or a node without the folder.
    """
    if ray.is_initialized():
        yield _ready(workers, folder)
        return
    on_term = signal.getsignal(signal.SIGTERM)
    _init(address, workers)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_term)  # Ray puts one of its own there
    try:
        yield _ready(workers, folder)
    finally:
        ray.shutdown()


def _init(address: str | None, workers: int | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        ray.init(
            address="local",
            num_cpus=workers or os.cpu_count(),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            **quiet,
        )
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RunError(f"no Ray cluster answers at {address}: {error}") from None


def _ready(workers: int | None, folder: Path) -> int:
    """The number of workers, after a look at every node."""
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if cpus < 1 or (workers is not None and workers > cpus):
        raise RunError(f"the Ray cluster has {cpus} CPUs; {workers or 1} workers were asked for")
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) > 1:
        _look_at_nodes(nodes, folder)
    return workers or cpus


def _look_at_nodes(nodes: list[dict[str, Any]], folder: Path) -> None:
    """Refuse nodes of another version, and those that do not see the run's folder."""
    marker = folder / f".marker-{uuid4().hex}"
    marker.write_text(marker.name)
    ours = (platform.python_version(), ray.__version__, metatune.__version__)
    try:
        for node in nodes:
            if not node.get("Resources", {}).get("CPU"):
                continue  # a head without work
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            look = ray.remote(_versions_and_marker).options(scheduling_strategy=there, num_cpus=0)
            versions, seen = ray.get(look.remote(str(marker)))
            name = node["NodeManagerAddress"]
            if tuple(versions) != ours:
                raise RunError(
                    f"node {name} runs Python, Ray, metatune {', '.join(versions)}; "
                    f"this driver runs {', '.join(ours)}: they must be the same"
                )
            if seen != marker.name:
                raise RunError(
                    f"node {name} does not see the run's folder {folder}: "
                    "choose one on storage that all nodes share (--out)"
                )
    finally:
        marker.unlink(missing_ok=True)


def _versions_and_marker(marker: str) -> tuple[tuple[str, str, str], str | None]:
    """What a node runs, and what it reads in the run's folder."""
    path = Path(marker)
    seen = path.read_text() if path.exists() else None
    return (platform.python_version(), ray.__version__, metatune.__version__), seen
