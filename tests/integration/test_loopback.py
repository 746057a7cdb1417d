"""A default run on this machine: what listens, who may connect, and where its token is."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep

import pytest

from tests.integration.conftest import QUICK

Command = Callable[..., "subprocess.Popen[str]"]
OWN_ENVIRONMENT = {"RAY_AUTH_MODE": None, "RAY_AUTH_TOKEN": None}


def children(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = task.read_text().split()
        except OSError:
            continue  # it has just ended
        for child in below:
            yield from children(int(child))


def listening(pids: set[int]) -> set[tuple[str, str]]:
    """``(program, address)`` of the sockets on which processes listen, as ``ss`` sees them."""
    done = subprocess.run(["ss", "-Htlnp"], capture_output=True, text=True, check=True)
    found = set()
    for line in done.stdout.splitlines():
        for program, pid in re.findall(r'\("([^"]+)",pid=(\d+)', line):
            if int(pid) in pids:
                address, _, _ = line.split()[3].rpartition(":")
                found.add((program, address.strip("[]").partition("%")[0]))
    return found


def is_loopback(address: str) -> bool:
    parsed = None if address == "*" else ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return parsed is not None and parsed.is_loopback


def test_what_loopback_is() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.1.1")))
    assert not any(map(is_loopback, ("*", "0.0.0.0", "::", "10.0.0.7", "::ffff:10.0.0.7")))


@pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss (iproute2)")
@pytest.mark.long
def test_a_run_listens_on_loopback_alone_and_keeps_its_token_to_itself(
    space_file: Path, tmp_path: Path, command: Command
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    space_file.write_text(QUICK)
    run = command(
        "run", space_file, "--workers", 2, "--out", tmp_path / "run", "--trials", 4,
        env={"HOME": str(home), **OWN_ENVIRONMENT},
    )  # fmt: skip
    seen: set[tuple[str, str]] = set()
    tokens: set[str] = set()
    while run.poll() is None:
        pids = set(children(run.pid))
        seen |= listening(pids)
        tokens |= {token for pid in pids if (token := token_of(pid))}
        sleep(0.5)
    out, err = run.communicate()
    assert run.returncode == 0, err
    programs = {program for program, _ in seen}
    assert {"gcs_server", "raylet"} <= programs
    assert any("ray::" in program for program in programs), programs  # workers, agents
    assert [pair for pair in sorted(seen) if not is_loopback(pair[1])] == []

    [token] = tokens  # all of Ray's processes have the one, and nobody wrote it down
    written = [path for path in (home, tmp_path / "run") for path in path.rglob("*")]
    for path in written:
        assert not path.is_file() or token.encode() not in path.read_bytes()
    assert token not in out + err


def token_of(pid: int) -> str | None:
    """The token in a process's environment."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return None
    found = re.search(r"(?:^|\0)RAY_AUTH_TOKEN=([^\0]*)", text)
    return found[1] if found else None
