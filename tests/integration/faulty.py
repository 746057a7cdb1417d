"""A user's own network, beside a space file, which goes wrong as its options say.

Nothing here can be pickled: neither the module's own things nor what it raises.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch

LOCK = threading.Lock()
SQUARE = lambda x: x * x  # noqa: E731
KILLED = Path(__file__).with_name("killed")
NUMBERS = (number for number in range(3))


class Unpicklable(Exception):  # noqa: N818
    def __init__(self, what: str, lock: threading.Lock) -> None:  # type: ignore[valid-type]
        super().__init__(what)
        self.lock = lock


class Network(torch.nn.Module):
    """A hidden layer.

    Args:
        input_shape: of an example.
        fault: what goes wrong at its first call; ``once``: it is killed, but no second time.
        after: file from which on ``once`` is killed.
    """

    def __init__(self, input_shape: tuple[int, ...], fault: str = "", after: str = "") -> None:
        super().__init__()
        self.fault, self.after, self.lock = fault, Path(after), LOCK
        self.linear = torch.nn.Linear(input_shape[0], 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.go_wrong()
        return torch.tanh(self.linear(x)) * (float("nan") if self.fault == "nan" else 1.0)

    def go_wrong(self) -> None:
        match self.fault:
            case "raises":
                raise Unpicklable("out of luck", LOCK)
            case "leaves":
                sys.exit(3)
            case "exits":
                os._exit(3)
            case "once" if self.after.exists() and not KILLED.exists():
                KILLED.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                time.sleep(10**6)
