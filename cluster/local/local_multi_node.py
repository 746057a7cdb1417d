"""What ``local-multi-node.sh`` runs: Ray nodes on this machine, each with its own workers."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from metatune.runner import prepare_ray


@contextmanager
def token_file() -> Iterator[str]:
    """The file with the token: the user's, or a new one that only this user can read."""
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given:
        yield given
        return
    with TemporaryDirectory(prefix="metatune-cluster-") as folder:  # of mode 0700
        file = Path(folder) / "token"
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32))
        yield str(file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="local-multi-node.sh", description="A local Ray cluster.")
    parser.add_argument("--nodes", type=int, default=2, help="nodes, the head among them")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs of each node")
    options = parser.parse_args()
    if options.nodes < 1 or options.cpus < 1:
        parser.error("--nodes and --cpus take 1 or more")
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with token_file() as token:
        prepare_ray(address=None)
        os.environ.pop("RAY_AUTH_TOKEN", None)  # it would count before the file
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=token)
        from ray.cluster_utils import Cluster  # Ray reads its environment when imported

        node = {
            "num_cpus": options.cpus,
            "object_store_memory": 100 * 2**20,
            "node_ip_address": "127.0.0.1",
        }
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        for _ in range(options.nodes - 1):
            cluster.add_node(**node)
        cluster.wait_for_nodes()
        print(f"{options.nodes} nodes with {options.cpus} CPU(s) each. In another terminal:")
        print(f"  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token}")
        example = "metatune run search_spaces/sinusoid.yaml"
        print(f"  {example} --address {cluster.address}", flush=True)
        stop.wait()
        cluster.shutdown()


if __name__ == "__main__":
    main()
