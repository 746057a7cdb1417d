"""Peers in an environment of their own, which the project never sees, and their measurements.

A peer is a script beside this one. It prepares what it is told to, prints ``ready``, and then, for
each line that it reads, measures for so many seconds and prints how often a second it did its
work: so ours and theirs are timed by turns, each in its own process and warm.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".venv"
PACKAGES = ("jax==0.10.2", "torchopt==0.7.3", "higher==0.2.1", "torch", "numpy")


def python() -> str | None:
    """The environment's interpreter, made at the first call; None where it cannot be had."""
    there, done = ENVIRONMENT / "bin" / "python", ENVIRONMENT / ".installed"
    if not done.exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        constraints = HERE.parents[1] / "constraints.txt"
        command = [str(there), "-m", "pip", "install", "--quiet", "-c", str(constraints), *PACKAGES]
        if subprocess.run(command).returncode:
            print("the peers cannot be installed: their rows are left out", file=sys.stderr)
            return None
        done.touch()
    return str(there)


class Peer:
    """A peer at work; a context.

    Args:
        script: its name, such as ``jax_maml``.
        options: what it is told.
    """

    def __init__(self, script: str, **options: float) -> None:
        self._script, self._options = script, options

    def __enter__(self) -> Self:
        command = [str(python()), str(HERE / f"{self._script}.py"), json.dumps(self._options)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read("ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def per_second(self, seconds: float = 2.0) -> float:
        """How often a second it does its work."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self, expected: str | None = None) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line or (expected and line != expected):
            raise RuntimeError(f"peer {self._script}: {line or 'it ended'}")
        return line
