"""A search by ``ray job submit`` on a cluster behind a token, and what listens there. A minute.

    pip install -e '.[cluster]'
    python benchmarks/cluster_jobs.py

prints a table. The cluster is one of two nodes on this machine, with Ray's dashboard.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

from rich.console import Console
from rich.table import Table

from metatune import read_run
from metatune.runner import prepare_ray

ROOT = Path(__file__).parents[1]
NODE: dict[str, Any] = {
    "num_cpus": 2,
    "object_store_memory": 100 * 2**20,
    "node_ip_address": "127.0.0.1",
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def submit(port: int, *entrypoint: object, **environment: str) -> tuple[int, str]:
    """The exit status of ``ray job submit``, and what it printed."""
    plain = {name: value for name, value in os.environ.items() if "RAY_AUTH" not in name}
    command = [str(Path(sys.executable).with_name("ray")), "job", "submit",
               "--address", f"http://127.0.0.1:{port}", "--", *map(str, entrypoint)]  # fmt: skip
    until = monotonic() + 60
    while True:
        done = subprocess.run(
            command, env={**plain, **environment}, capture_output=True, text=True, timeout=500
        )
        if "No available agent" not in done.stderr or monotonic() > until:
            break
        sleep(2)  # the cluster has just started
    return done.returncode, done.stdout + done.stderr


def outside_loopback(pids: set[int]) -> list[str]:
    """Sockets of these processes that listen on more than loopback."""
    lines = subprocess.run(["ss", "-Htlnp"], capture_output=True, text=True).stdout.splitlines()
    ours = [line for line in lines if pids & set(map(int, re.findall(r"pid=(\d+)", line)))]
    assert ours
    return [line for line in ours if "127.0.0.1" not in line.split()[3]]


def below(pid: int) -> set[int]:
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found = found.union(*(below(int(child)) for child in task.read_text().split()))
    return found


def main() -> None:
    token, port = secrets.token_hex(32), free_port()
    prepare_ray(None)
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
    from ray.cluster_utils import Cluster

    head = {**NODE, "include_dashboard": True, "dashboard_port": port}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    nodes.add_node(**NODE)
    nodes.wait_for_nodes()
    table = Table("what", "expected", "found")
    try:
        with TemporaryDirectory() as folder:
            run, space = Path(folder) / "run", Path(folder) / "space.yaml"
            text = (ROOT / "search_spaces" / "sinusoid.yaml").read_text()
            space.write_text(re.sub(r"full: [\d_]+", "full: 30000", text))
            search = (Path(sys.executable).with_name("metatune"), "run", space, "--trials", 4,
                      "--out", run, "--address", "auto")  # fmt: skip
            for name, given in (("no token", {}), ("wrong token", {"RAY_AUTH_TOKEN": "0" * 64})):
                mode = {"RAY_AUTH_MODE": "token", "HOME": folder} if given else {"HOME": folder}
                code, told = submit(port, *search, **mode, **given)
                said = [line for line in told.splitlines() if "Error: " in line] or [told]
                table.add_row(name, "refused", f"exit {code}: {said[-1].strip()[:150]}")
                assert code != 0
                assert not run.exists()
            code, told = submit(port, *search, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
            assert code == 0, told
            assert token not in told
            states = read_run(run).trials["state"].value_counts().to_dict()
            assert not read_run(run).verdicts.empty
            counts = ", ".join(f"{count} {state}" for state, count in states.items() if count)
            table.add_row("the token", "a verdict", f"exit {code}: {counts}, a verdict")
            kept = [path for path in Path(folder).rglob("*")
                    if path.is_file() and token.encode() in path.read_bytes()]  # fmt: skip
            table.add_row("files of the run with the token", "0", str(len(kept)))
            open_ = outside_loopback(below(os.getpid()))
            table.add_row("sockets beyond loopback", "0", "\n".join(open_) or "0")
    finally:
        nodes.shutdown()
    Console().print(table)


if __name__ == "__main__":
    main()
