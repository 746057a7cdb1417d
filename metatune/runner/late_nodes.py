"""Nodes that join a cluster while a search is under way: those that cannot take part are named.

No worker runs a trial on such a node (see ``carrier.py``), but one may never be started there: Tune
gives a waiting trial to whichever worker is free first. So the driver looks for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import ray

from metatune.runner.cluster import look_at, unlike

EVERY = 5.0
"""Seconds between two looks at which nodes there are."""


class LateNodes:
    """Looks at each node that was not there at the start, once, until it is closed.

    Args:
        alike: as ``Joined.alike`` has it.
        tell: is called with the address of a node and what keeps it from taking part.
        every: seconds between two looks.
    """

    def __init__(
        self, alike: dict[str, Any], tell: Callable[[str, str], None], every: float = EVERY
    ) -> None:
        self._alike, self._tell, self._every = alike, tell, every
        self._known = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        self._asked: dict[Any, str] = {}  # answers to come, and whose they are
        self._closing = Event()
        self._thread = Thread(target=self._watch, name="metatune-late-nodes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()

    def _watch(self) -> None:
        while not self._closing.wait(self._every):
            # A head that is lost is noticed elsewhere; a node that is gone again needs no name.
            with suppress(Exception):
                self._look()

    def _look(self) -> None:
        new = [n for n in ray.nodes() if n["Alive"] and n["NodeID"] not in self._known]
        self._known |= {node["NodeID"] for node in new}
        self._asked |= dict(look_at(new, self._alike))
        if not self._asked:
            return
        answered, _ = ray.wait([*self._asked], num_returns=len(self._asked), timeout=0)
        for answer in answered:
            node = self._asked.pop(answer)
            if why := unlike(self._alike, *ray.get(answer)):
                self._tell(node, why)
