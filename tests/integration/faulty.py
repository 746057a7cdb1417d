"""A user's own network, beside a space file, which goes wrong as its options say.

Nothing here can be pickled: neither the module's own things nor what it raises.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import torch

LOCK = threading.Lock()
SQUARE = lambda x: x * x  # noqa: E731
FILE = open(__file__)  # noqa: SIM115


class Unpicklable(Exception):  # noqa: N818
    def __init__(self, what: str, lock: threading.Lock) -> None:  # type: ignore[valid-type]
        super().__init__(what)
        self.lock = lock


class Network(torch.nn.Module):
    """A hidden layer.

    Args:
        input_shape: of an example.
        fault: what goes wrong at its first call; ``once``: killed, but not the second time.
        marker: file that says that ``once`` was.
    """

    def __init__(self, input_shape: tuple[int, ...], fault: str = "", marker: str = "") -> None:
        super().__init__()
        self.fault, self.marker, self.lock = fault, marker, LOCK
        self.linear = torch.nn.Linear(input_shape[0], 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if os.environ.get("RAY_JOB_ID"):  # in a worker: a driver looks at networks, too
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
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "once" if not os.path.exists(self.marker):
                open(self.marker, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                time.sleep(10**6)
