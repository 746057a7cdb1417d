"""The cluster script and the command on it; and the command that starts a Ray of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from metatune import read_run

ROOT = Path(__file__).parents[2]
Command = Callable[..., "subprocess.Popen[str]"]


def test_the_script_starts_nodes_that_a_run_uses(
    space_file: Path, tmp_path: Path, command: Command
) -> None:
    script = subprocess.Popen(
        [sys.executable, str(ROOT / "cluster/local_multi_node.py"), "--nodes", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert script.stdout is not None
        found = re.search(r"2 nodes .* at (127\.0\.0\.1:\d+)", script.stdout.readline())
        assert found
        path = tmp_path / "run"
        run = command(
            "run", space_file, "--address", found[1], "--out", path, "--workers", 2, "--trials", 4
        )
        _, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        assert (read_run(path).trials["state"] != "running").all()
    finally:
        script.send_signal(signal.SIGINT)
        script.communicate(timeout=30)


def test_no_cluster_at_the_address_is_a_sentence(
    space_file: Path, tmp_path: Path, command: Command
) -> None:
    run = command("run", space_file, "--address", "127.0.0.1:1", "--out", tmp_path / "run")
    _, err = run.communicate(timeout=120)
    assert run.returncode == 2
    assert "no Ray cluster answers at 127.0.0.1:1" in err
    assert "Traceback" not in err


def test_more_workers_than_cpus_are_refused(
    cluster: str, space_file: Path, tmp_path: Path, command: Command
) -> None:
    run = command(
        "run", space_file, "--address", cluster, "--workers", 64, "--out", tmp_path / "run"
    )
    _, err = run.communicate(timeout=60)
    assert run.returncode == 2
    assert "64 workers were asked for" in err
