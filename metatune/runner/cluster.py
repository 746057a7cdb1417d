"""Ray itself: started on this machine, or joined where a cluster runs already."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import AuthenticationError, GetTimeoutError, RaySystemError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from metatune.errors import RunError, hide_password, one_line
from metatune.place import Place, below
from metatune.runner import token

OBJECT_STORE = 128 * 2**20  # bytes; results are small, data are read by each worker itself
LOOK_SECONDS = 120.0  # in which each node must have started a worker and answered


@dataclass(frozen=True)
class Joined:
    """A Ray that this driver is connected to.

    Attributes:
        workers: trials at a time.
        alike: what a node that comes later is compared with, for ``why_unlike``; None where there
            is this machine alone.
    """

    workers: int
    alike: dict[str, Any] | None = None


@contextmanager
def connected(
    address: str | None,
    workers: int | None,
    folder: str | Path,
    *,
    wait: float = 0.0,
    py_modules: Sequence[str] = (),
) -> Iterator[Joined]:
    """Connect to Ray, and look at its nodes.

    Args:
        address: of a running cluster; None starts Ray on this machine, on loopback, with a token
            that nobody else knows.
        workers: trials at a time; None takes every CPU.
        folder: the run's, a path or URI, which every node must see.
        wait: minutes in which an autoscaler may bring the CPUs.
        py_modules: folders and files of the user's own code, which every worker gets.

    Raises:
        RunError: no cluster there, no valid token, versions differ, too few CPUs, or a node
            without the folder.
    """
    if ray.is_initialized():
        if py_modules:
            raise RunError("modules of your own are sent on connecting, but Ray is connected")
        with _on_cluster(workers, folder, wait) as joined:
            yield joined
        return
    on_term = signal.getsignal(signal.SIGTERM)
    with nullcontext() if address else token.of_our_own():
        _init(address, workers, list(py_modules))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)  # Ray puts one of its own there
        try:
            with (
                _on_cluster(workers, folder, wait)
                if address
                else nullcontext(Joined(workers or _cpus()))
            ) as joined:
                yield joined
        finally:
            ray.shutdown()


def _hide_secrets() -> None:
    """Take passwords out of this process's command line, which Ray writes down and shows."""
    shown = [hide_password(argument) for argument in sys.orig_argv]
    if shown != sys.orig_argv:
        ray._raylet.setproctitle(" ".join(shown))


def _init(address: str | None, workers: int | None, py_modules: list[str]) -> None:
    _hide_secrets()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if py_modules:
        options["runtime_env"] = {"py_modules": py_modules}
    if address is None:
        try:
            ray.init(
                address="local",
                num_cpus=workers or os.cpu_count(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE,
                **options,
            )
        except (OSError, RuntimeError, TimeoutError, RaySystemError) as error:
            told = one_line(str(error))
            raise RunError(f"Ray did not start on this machine: {told}. Try again.") from None
        return
    token.check(address)
    try:
        ray.init(address=address, **options)
    except AuthenticationError:
        raise token.refused(address) from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        told = one_line(str(error))
        if "ersion mismatch" in told:
            raise RunError(f"the Ray cluster at {address} is of other versions: {told}") from None
        raise RunError(f"no Ray cluster answers at {address}: {told}") from None


def _cpus() -> int:
    return int(ray.cluster_resources().get("CPU", 0))


@contextmanager
def _on_cluster(workers: int | None, folder: str | Path, wait: float) -> Iterator[Joined]:
    """What was joined, once workers have their CPUs and every node was looked at.

    While this lasts a marker lies in the run's folder, which nodes that come later must see.
    """
    if wait:
        _bring(workers or 1, wait)
    cpus = _cpus()
    if cpus < (workers or 1):
        within = f" within {wait:g} min" if wait else ""
        raise RunError(
            f"the Ray cluster has {cpus} CPUs{within}; {workers or 1} workers were asked for"
        )
    place, name = Place.at(folder), f".marker-{uuid4().hex}"
    place.write(name, name)
    try:
        marker = below(folder, name)
        versions, _ = _look()(marker)
        alike = {"versions": versions, "marker": marker}
        _look_at_nodes([node for node in ray.nodes() if node["Alive"]], alike)
        yield Joined(workers or cpus, alike)
    finally:
        with suppress(OSError):
            place.remove(name)


def _bring(cpus: int, minutes: float) -> None:
    """Ask the autoscaler for CPUs, and wait for them no longer than so many minutes."""
    until = monotonic() + 60 * minutes
    request_resources(num_cpus=cpus)
    try:
        while _cpus() < cpus and monotonic() < until:
            sleep(1)
    finally:
        request_resources(num_cpus=0)  # from here on what trials ask for is enough


def _look_at_nodes(nodes: list[dict[str, Any]], alike: dict[str, Any]) -> None:
    """Refuse nodes of another version, and those that do not see the run's folder."""
    for answer, name in look_at(nodes, alike):
        try:
            found = ray.get(answer, timeout=LOOK_SECONDS)
        except GetTimeoutError:
            late = f"node {name} has started no worker within {LOOK_SECONDS:g} s"
            raise RunError(late) from None
        except (RaySystemError, ray.exceptions.RayTaskError) as error:
            told = one_line(str(error).strip().rpartition("\n")[2])
            raise RunError(f"node {name} cannot run a task: {told}") from None
        if why := unlike(alike, *found):
            raise RunError(f"node {name} {why}")


def look_at(nodes: list[dict[str, Any]], alike: dict[str, Any]) -> list[tuple[Any, str]]:
    """Ask each node with CPUs what it runs and sees: references to the answers, for ``unlike``, and
    the nodes' addresses."""
    look = ray.remote(_look())
    return [
        (
            look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
                num_cpus=0,
            ).remote(alike["marker"]),
            node["NodeManagerAddress"],
        )
        for node in nodes
        if node.get("Resources", {}).get("CPU")  # no idle head
    ]


def why_unlike(alike: dict[str, Any]) -> str:
    """What keeps this process's node from taking part, as ``Joined.alike`` has it; empty: nothing.

    For a worker on a node that may have come after the others were looked at.
    """
    return unlike(alike, *_look()(alike["marker"]))


def unlike(alike: dict[str, Any], theirs: dict[str, str], text: str) -> str:
    """What keeps a node from taking part, by what it runs and reads; empty: nothing."""
    ours = alike["versions"]
    folder, _, name = str(Place.at(alike["marker"]).name).rpartition("/")
    if differ := [what for what in ours if ours[what] != theirs[what]]:
        return (
            f"has {_listed(theirs, differ)}; this driver has {_listed(ours, differ)}: "
            "they must be the same"
        )
    if text != name:
        why = f" ({text})" if text else ""
        return (
            f"does not see the run's folder {folder}{why}: "
            "choose one on storage that all nodes share (--out)"
        )
    return ""


def _listed(versions: dict[str, str], names: list[str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in names)


def _look() -> Callable[[str], tuple[dict[str, str], str]]:
    """What a node runs, and what it reads in the run's folder, or why it cannot.

    A function in a function travels to the node as code: one without metatune can say so.
    """

    def look(marker: str) -> tuple[dict[str, str], str]:
        import platform
        from importlib.metadata import PackageNotFoundError, version

        found = {"Python": platform.python_version()}
        for name in ("ray", "torch"):
            try:
                found[name] = version(name).partition("+")[0]  # the build for a GPU is the same
            except PackageNotFoundError:
                found[name] = "(none)"
        try:
            import metatune
        except ImportError:
            return {**found, "metatune": "(none)"}, ""
        found["metatune"] = metatune.__version__
        try:
            from metatune.place import Place

            return found, (Place.at(marker).find("") or b"").decode()
        except (ImportError, OSError, RuntimeError) as error:  # another version's, or no access
            return found, str(error)

    return look
