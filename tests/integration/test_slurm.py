"""The batch script on a stand-in for Slurm's commands: it really starts Ray, and runs a search.

It ends with ``ray stop``, which ends every Ray process that it sees. So it runs where it sees none
but its own: in namespaces of processes and of the network, with loopback alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from metatune import read_run
from tests.integration.conftest import QUICK

ROOT = Path(__file__).parents[2]
APART = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]

SRUN = """#!/bin/sh
# One node: what srun would start on each is started once.
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/sh
[ "$1 $2" = "show hostnames" ] && echo "$3"
"""


def can_be_apart() -> bool:
    tried = [*APART, "ip", "link", "set", "lo", "up"]
    try:
        return subprocess.run(tried, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a job of one node."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    for name in ("ray", "metatune"):  # as an activated environment has them
        found = shutil.which(name, path=str(Path(sys.executable).parent))
        assert found
        (commands / name).symlink_to(found)
    home = tmp_path / "home"
    home.mkdir()
    with TemporaryDirectory(prefix="mt", dir="/tmp") as short:  # sockets have short names only
        yield {
            **{name: value for name, value in os.environ.items() if "RAY_AUTH" not in name},
            "PATH": f"{commands}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(home),
            "RAY_TMPDIR": short,
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "localhost",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_PER_TASK": "2",
            "METATUNE_HEAD": "127.0.0.1",
        }


@pytest.mark.skipif(not can_be_apart(), reason="needs namespaces (util-linux and iproute2)")
@pytest.mark.long
def test_the_batch_script_runs_a_search_and_leaves_no_token(
    slurm: dict[str, str], space_file: Path, tmp_path: Path
) -> None:
    space_file.write_text(QUICK.replace("trials: 10", "trials: 2"))
    script = ROOT / "cluster" / "slurm" / "metatune.sbatch"
    shell = 'ip link set lo up && exec bash "$@"'
    run = tmp_path / "run"
    command = [*APART, "sh", "-c", shell, "sh", str(script), str(space_file), str(run)]
    done = subprocess.run(command, env=slurm, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Head node started" in done.stdout
    assert not (read_run(run).verdicts).empty
    assert [path.name for path in Path(slurm["HOME"]).rglob("*token*")] == []


def test_the_batch_script_says_what_it_takes(tmp_path: Path) -> None:
    script = ROOT / "cluster" / "slurm" / "metatune.sbatch"
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "takes SPACE.yaml and the run's folder" in done.stderr
