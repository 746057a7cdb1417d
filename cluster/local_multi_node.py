#!/usr/bin/env python3
"""A real Ray cluster of several nodes on this machine, to try a cluster out before having one.

    python cluster/local_multi_node.py --nodes 3 --cpus 1

prints the address to give to ``metatune run --address`` and keeps the nodes until Ctrl-C. Each
node is a raylet with workers of its own, on loopback.
"""

from __future__ import annotations

import argparse
import signal
import threading

from metatune.runner import prepare_ray

prepare_ray(address=None)

from ray.cluster_utils import Cluster  # noqa: E402 - Ray reads its environment when imported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=2, help="nodes, the head among them")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs of each node")
    options = parser.parse_args()
    if options.nodes < 1 or options.cpus < 1:
        parser.error("--nodes and --cpus take 1 or more")
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    node = {
        "num_cpus": options.cpus,
        "object_store_memory": 100 * 2**20,
        "node_ip_address": "127.0.0.1",
    }
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    for _ in range(options.nodes - 1):
        cluster.add_node(**node)
    cluster.wait_for_nodes()
    print(f"{options.nodes} nodes with {options.cpus} CPU(s) each at {cluster.address}")
    print(f"  metatune run search_spaces/sinusoid.yaml --address {cluster.address}", flush=True)
    stop.wait()
    cluster.shutdown()


if __name__ == "__main__":
    main()
