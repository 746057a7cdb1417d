"""Work that is watched: whether it goes on, or hangs, and where. Needs no Ray."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Hung:
    """There was no progress for too long.

    Attributes:
        where: the calls that the work stood in, as a traceback has them.
    """

    where: str


class Watched(Generic[T]):
    """Work that one thread does, call by call, while the caller looks on.

    A thread and no signal or subprocess, since it costs nothing to ask and leaves the work's own
    signals and memory alone. It ends with the process.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], T]] = SimpleQueue()
        self._answers: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self._busy = False
        self._thread = Thread(target=self._work, name="watched", daemon=True)
        self._thread.start()
        self.progressed()

    def progressed(self) -> None:
        """To be called by the work for every piece of it that is done; costs well below a
        microsecond."""
        self._at = monotonic()

    def call(self, work: Callable[[], T], wait: float, limit: float | None) -> T | Hung | None:
        """What ``work`` returns.

        Args:
            work: what to do; called once, and waited for by further calls until it is done.
            wait: seconds after which this returns in any case.
            limit: seconds without progress after which the work hangs; None: it never does.

        Returns:
            None if it is not done yet.

        Raises:
            Whatever the work raised.
        """
        if not self._busy:
            self._busy = True
            self.progressed()
            self._calls.put(work)
        until = monotonic() + wait
        if limit is not None:
            until = min(until, self._at + limit)
        try:
            answer, error = self._answers.get(timeout=max(0.0, until - monotonic()))
        except Empty:
            if limit is not None and monotonic() - self._at >= limit:
                return Hung(self._where())
            return None
        self._busy = False
        if error is not None:
            raise error
        return answer

    def _where(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or 0)
        # Without how this thread began.
        return "".join(traceback.format_stack(frame)[4:])

    def _work(self) -> None:
        while True:
            work = self._calls.get()
            try:
                self._answers.put((work(), None))
            except BaseException as error:
                self._answers.put((None, error))
