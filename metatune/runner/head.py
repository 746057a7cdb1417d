"""The head of a Ray cluster, watched: a driver that has lost it ends with a sentence.

Ray ends every process whose head has been silent for a minute, whatever that process is at: no
handler runs, and no more is told than a line of Ray's own. So the driver ends itself before.
"""

from __future__ import annotations

import socket
from threading import Event, Thread
from time import monotonic
from urllib.parse import urlsplit

from metatune.errors import RunError

SILENT_SECONDS = 30.0  # a head that is back by then was never gone; half of what Ray itself allows
LOOK_SECONDS = 2.0


class Head:
    """Looks from time to time whether the head answers, until it is closed.

    Args:
        address: ``host:port`` of the head's control service.
        silent: seconds for which it may be silent.
        look: seconds between two looks, and for one at most.
    """

    def __init__(
        self, address: str, silent: float = SILENT_SECONDS, look: float = LOOK_SECONDS
    ) -> None:
        self._address, self._silent, self._look = address, silent, look
        self._answered = False  # who never did is not to be reached from here, by looks of ours
        self._silent_since: float | None = None  # a look failed then, and all that came after it
        self._closing = Event()
        self._thread = Thread(target=self._watch, name="metatune-head", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """True once it has been silent for longer than it may."""
        since = self._silent_since
        return since is not None and monotonic() - since > self._silent

    def check(self) -> None:
        """Refuse to go on without it.

        Raises:
            RunError: it is lost.
        """
        if self.lost:
            raise RunError(
                f"the head of the Ray cluster at {self._address} has not answered for "
                f"{self._silent:g} s. What was recorded stands: resume once a cluster is there."
            )

    def close(self) -> None:
        """Look no more."""
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        where = urlsplit(f"//{self._address}")
        while not self._closing.wait(self._look):
            try:
                socket.create_connection((where.hostname, where.port), self._look).close()
                self._answered, self._silent_since = True, None
            except OSError:
                if self._answered and self._silent_since is None:
                    self._silent_since = monotonic()
