"""A search on a cluster whose head has no CPU: Ray's autoscaler brings the nodes. A minute.

    python benchmarks/cluster_autoscaling.py

prints a table. The autoscaler is Ray's own; its provider starts nodes on this machine, in place of
renting some.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from rich.console import Console
from rich.table import Table

from metatune import read_run

ROOT = Path(__file__).parents[1]
WORKERS = 2
HEAD = (
    "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # the provider knows it by this id
)


def config(workers: int, address: str) -> dict[str, object]:
    """What ``ray up`` would have put on the head, all defaults filled in."""
    node = {"node_config": {}, "min_workers": 0, "max_workers": workers}
    lists = ("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands",
             "setup_commands", "head_setup_commands", "worker_setup_commands",
             "head_start_ray_commands", "worker_start_ray_commands")  # fmt: skip
    return {
        "cluster_name": "local",
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {"ssh_user": "nobody"},
        "max_workers": workers,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in lists},
        "head_node_type": HEAD,
        "available_node_types": {
            HEAD: {**node, "resources": {"CPU": 0}, "max_workers": 0},
            "worker": {**node, "resources": {"CPU": 1, "object_store_memory": 100 * 2**20}},
        },
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def main() -> None:
    with TemporaryDirectory(prefix="mt", dir="/tmp") as folder:  # sockets have short names only
        place = Path(folder)
        text = (ROOT / "search_spaces" / "sinusoid.yaml").read_text()
        (place / "space.yaml").write_text(re.sub(r"full: [\d_]+", "full: 30000", text))
        address = f"127.0.0.1:{free_port()}"
        (place / "autoscaling.json").write_text(json.dumps(config(WORKERS, address)))
        environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # stay on loopback
            "RAY_TMPDIR": str(place / "ray"),
        }
        (place / "ray").mkdir()
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
             "--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}",
             "--num-cpus=0", f"--autoscaling-config={place / 'autoscaling.json'}"],
            env={**environment, "RAY_FAKE_CLUSTER": "1"},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        table = Table("what", "expected", "found")
        try:
            sleep(10)
            search = [sys.executable, "-m", "metatune", "run", place / "space.yaml",
                      "--trials", "4", "--address", address, "--workers", str(WORKERS)]  # fmt: skip
            done = subprocess.run(
                [*search, "--out", place / "at-once"],
                env=environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 2, done.stderr
            table.add_row("without --wait", "refused", done.stderr.strip().splitlines()[-1])
            began = monotonic()
            done = subprocess.run(
                [*search, "--out", place / "run", "--wait", "10"],
                env=environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            run = read_run(place / "run")
            assert not run.verdicts.empty
            ended = int(run.trials["state"].isin(["completed", "stopped"]).sum())
            found = f"{ended} trials and a verdict after {monotonic() - began:.0f} s"
            table.add_row(f"--workers {WORKERS} --wait 10", "a verdict", found)
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            head.wait(timeout=60)
    Console().print(table)


if __name__ == "__main__":
    main()
