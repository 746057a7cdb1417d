"""How workers are lost, in words for people; the last line of each says what happened."""

from __future__ import annotations

import re

_WORKER = re.compile(r"\bpid: (?P<pid>\d+)\b.*?\bip: (?P<ip>[\w.:]+)", re.DOTALL)
_MEMORY = re.compile(r"Memory on the node .*? was (?P<used>.*? used / .*? limit)", re.DOTALL)


def why_lost(said: str) -> str:
    """One line from what Ray says of an actor that is gone; empty where it says nothing.

    Ray does not tell with which code or signal a process ended, unless it killed it itself.
    """
    line = " ".join(said.split())
    worker = _WORKER.search(line)
    which = "" if worker is None else f" (process {worker['pid']} on {worker['ip']})"
    if "running low on memory" in line:
        memory = _MEMORY.search(line)
        room = "" if memory is None else f": {memory['used']} on its node"
        return f"the worker was killed: out of memory{room}{which}"
    if "its node has died" in line or "node was terminated" in line:
        return f"the worker's node is gone{which}"
    if "its worker process has died" in line:
        return (
            f"the worker's process ended{which}: killed, as the system does where memory runs out, "
            "crashed in native code, or ended by the strategy's own code"
        )
    return f"the worker was lost: {line or 'no reason is known'}"


def why_hung(seconds: float, where: str) -> str:
    """No progress for so many seconds; ``where`` is the calls that it stood in."""
    return f"It hung in (most recent call last):\n{where}no progress for {_time(seconds)}"


def why_silent(seconds: float) -> str:
    """Nothing was heard of the worker for so many seconds, though it is there."""
    return (
        f"nothing was heard of the worker for {_time(seconds)}: its process is stopped, or in "
        "native code that does not let Python go on"
    )


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
