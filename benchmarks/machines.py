"""A small network of machines, each with a Ray node: the power can be cut, and the cable.

``Namespaces`` makes machines of Linux namespaces, which root may: each has an address of its own on
a switch, its own processes, memory disk and host name; the disk is shared by all. ``Loopback``
makes do with processes, each node at a loopback address of its own; there a node whose processes
are all stopped stands in for one whose cable is cut.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Protocol

Process = subprocess.Popen[bytes]

TRIES, START_SECONDS = 3, 300.0
PORT = 6379  # Ray's own; every machine has its address
SIZE = ["--num-cpus=1", "--object-store-memory=80000000", "--memory=2000000000"]  # bytes; the least
SETTINGS = {
    # A node that is lost is noticed after some 10 s; with Ray's own settings after some 55.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONUNBUFFERED": "1",
}


class Machine(Protocol):
    """A machine that is on, and plugged in."""

    address: str

    def start(self, command: Sequence[object], log: Path, environment: dict[str, str]) -> Process:
        """Start a command on it; what that prints goes to a file."""
        ...

    def power_off(self) -> None:
        """End all that runs on it at once, by SIGKILL."""
        ...

    def cut(self) -> None:
        """From now on nothing reaches it, and nothing leaves it."""
        ...

    def mend(self) -> None:
        """The reverse of ``cut``."""
        ...


class Network(Protocol):
    """Where machines are plugged in."""

    kind: str

    def machine(self, number: int, hidden: Path | None = None) -> Machine:
        """Switch on machine number 1, 2, ..; a folder may be hidden from it."""
        ...

    def close(self) -> None:
        """Switch everything off."""
        ...


# --- namespaces -----------------------------------------------------------------------------------


class Namespaces:
    """Machines with addresses of their own on a switch.

    Args:
        folder: Ray's on each of them, a memory disk there; a short path, for sockets.
    """

    kind = "3 network namespaces"

    def __init__(self, folder: Path) -> None:
        self._folder, self._machines = folder, list[NamespaceMachine]()
        folder.mkdir(parents=True, exist_ok=True)
        self._switch = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        until_true(lambda: _net(self._switch.pid) != _net(os.getpid()))
        self.ip("link", "add", "switch", "type", "bridge")
        self.ip("link", "set", "switch", "up")

    def ip(self, *arguments: object, inside: int | None = None) -> None:
        """``ip`` in the switch's namespace, or in that of a process."""
        target = str(inside or self._switch.pid)
        command = ["nsenter", "-t", target, "-n", "ip", *map(str, arguments)]
        subprocess.run(command, check=True)

    def machine(self, number: int, hidden: Path | None = None) -> NamespaceMachine:
        memory = [Path("/dev/shm"), self._folder, *([hidden] if hidden else [])]
        self._machines.append(NamespaceMachine(self, number, memory))
        return self._machines[-1]

    def close(self) -> None:
        for machine in self._machines:
            machine.power_off()
        self._switch.kill()
        self._switch.wait()


class NamespaceMachine:
    """A machine of ``Namespaces``.

    Args:
        network: what it is plugged into.
        number: the last part of its address.
        memory: folders that are empty memory disks there.
    """

    def __init__(self, network: Namespaces, number: int, memory: Sequence[Path]) -> None:
        self.address, self._cable, self._network = f"10.77.0.{number}", f"cable{number}", network
        mounts = "".join(f"mount -t tmpfs tmpfs '{folder}'; " for folder in memory)
        # The shell is the machine's first process, and collects those that lost their parents.
        life = f"{mounts}hostname node-{number}; echo on; while :; do sleep 1000; done"
        unshare = ["unshare", "-n", "-m", "-u", "-p", "-f", "--mount-proc", "--kill-child"]
        self._unshare = subprocess.Popen(
            [*unshare, "bash", "-ec", life], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._unshare.stdout is not None
        assert self._unshare.stdout.readline() == b"on\n"
        _, self._init, *_ = below(self._unshare.pid)
        network.ip("link", "add", self._cable, "type", "veth",
                   "peer", "name", "eth0", "netns", self._init)  # fmt: skip
        network.ip("link", "set", self._cable, "master", "switch", "up")
        network.ip("link", "set", "lo", "up", inside=self._init)
        network.ip("addr", "add", f"{self.address}/24", "dev", "eth0", inside=self._init)
        network.ip("link", "set", "eth0", "up", inside=self._init)

    def start(self, command: Sequence[object], log: Path, environment: dict[str, str]) -> Process:
        enter = ["nsenter", "-t", str(self._init), "-n", "-m", "-u", "-p"]
        return _started([*enter, *command], log, environment)

    def power_off(self) -> None:
        if self._unshare.poll() is None:
            os.kill(self._init, signal.SIGKILL)  # the kernel ends all that it is the first of
            self._unshare.wait()

    def cut(self) -> None:
        self._network.ip("link", "set", self._cable, "down")

    def mend(self) -> None:
        self._network.ip("link", "set", self._cable, "up")


def _net(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


# --- loopback -------------------------------------------------------------------------------------


class Loopback:
    """Machines that are processes of this one, each at a loopback address of its own.

    Args:
        folder: for Ray's files.
    """

    kind = "3 nodes on loopback"

    def __init__(self, folder: Path) -> None:
        self._folder, self._machines = folder, list[LoopbackMachine]()
        self._net = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}"  # others run Ray too

    def machine(self, number: int, hidden: Path | None = None) -> LoopbackMachine:
        if hidden is not None:
            raise ValueError("processes of one machine see the same folders")
        folder = self._folder / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        self._machines.append(LoopbackMachine(f"{self._net}.{number}", folder))
        return self._machines[-1]

    def close(self) -> None:
        for machine in self._machines:
            machine.power_off()


class LoopbackMachine:
    """A machine of ``Loopback``.

    Args:
        address: its own.
        folder: for Ray's files.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self._folder, self._started = address, folder, list[Process]()

    def start(self, command: Sequence[object], log: Path, environment: dict[str, str]) -> Process:
        own = {**environment, "RAY_TMPDIR": str(self._folder)}
        self._started.append(_started(command, log, own))
        return self._started[-1]

    def power_off(self) -> None:
        self._signal(signal.SIGKILL)
        for process in self._started:
            process.wait()

    def cut(self) -> None:
        self._signal(signal.SIGSTOP)

    def mend(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._started:
            for pid in below(process.pid) if process.poll() is None else ():
                os.kill(pid, number)


# --- Ray on machines ------------------------------------------------------------------------------


class Cluster:
    """Ray on machines of a network, of which the first is the head.

    Args:
        network: what they are plugged into.
        folder: for what the commands print.
        first: number of the head.
    """

    def __init__(self, network: Network, folder: Path, first: int = 1) -> None:
        self._network, self._folder, self._next = network, folder, first
        self.machines = list[Machine]()
        self._environment = {
            **os.environ,
            **SETTINGS,
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_TMPDIR": str(folder / "ray"),
        }

    @property
    def address(self) -> str:
        """The head's, with its port."""
        return f"{self.machines[0].address}:{PORT}"

    def add(self, hidden: Path | None = None) -> Machine:
        """One more machine, with a Ray node of one CPU; a folder may be hidden from it."""
        machine = self._network.machine(self._next, hidden)
        self.machines.append(machine)
        head = machine is self.machines[0]
        role = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        role = role if head else [f"--address={self.address}"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *role, *SIZE, "--block",
                   f"--node-ip-address={machine.address}"]  # fmt: skip
        log = self._folder / f"node-{self._next}.log"
        # One after the other, and again where Ray's patience of 30 s with a busy machine ends.
        for _ in range(TRIES):
            if comes_up(machine.start(command, log, self._environment), log):
                break
        else:
            raise RuntimeError(f"no Ray on {machine.address}: {log.read_text()[-500:]}")
        self._next += 1
        return machine

    def metatune(self, machine: Machine, log: Path, *arguments: object) -> Process:
        """Start ``metatune`` on one of the machines."""
        command = [sys.executable, "-m", "metatune", *arguments]
        return machine.start(command, log, self._environment)


def comes_up(node: Process, log: Path) -> bool:
    """Whether ``ray start`` says that Ray runs; False where it ends before."""

    def is_up() -> bool:
        return b"Ray runtime started" in log.read_bytes()

    until_true(lambda: is_up() or node.poll() is not None, START_SECONDS)
    return is_up()


# --- processes ------------------------------------------------------------------------------------


def _started(command: Sequence[object], log: Path, environment: dict[str, str]) -> Process:
    with log.open("ab") as file:
        return subprocess.Popen(
            [*map(str, command)], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            env=environment,
        )  # fmt: skip


def below(pid: int) -> list[int]:
    """A process and all that descend from it, parents first."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue  # it has just ended
        for child in children:
            found += below(int(child))
    return found


def until_true(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not come true in time.
    """
    until = monotonic() + seconds
    while not condition():
        if monotonic() > until:
            raise TimeoutError(f"waited {seconds:g} s in vain")
        sleep(0.05)
