"""The log of a run that lies in an object store, which appends to nothing.

What a driver records is put as segments like those of ``metatune.records.log``: the newest, whole,
at each append, until it has ``FULL`` bytes and the next one begins. A segment so only ever grows at
its end, and whoever reads one while it is put finds its beginning.
"""

from __future__ import annotations

import threading
from types import TracebackType

from metatune.errors import RunError
from metatune.patience import Patience
from metatune.place import Place
from metatune.records.folder import RunFolder
from metatune.records.log import Log, parse_name, segment_name, segment_names, to_line
from metatune.records.rows import Row

FULL = 1 << 18
"""Bytes at which a segment is left as it is: few objects, and little that is put again."""


class PutLog:
    """One driver's segments; threads may share it. As ``Log``, but elsewhere."""

    def __init__(
        self, place: Place, number: int, driver: str, patience: Patience | None = None
    ) -> None:
        """
        Args:
            place: the run's.
            number: of the first segment, behind all that are there.
            driver: the driver's id, as from its lease.
            patience: with storage that does not answer while rows are appended.
        """
        self._place = place
        self._number = number
        self._driver = driver
        self._patience = patience or Patience()
        self._newest = b""
        self._guard = threading.Lock()
        self._closed = False

    def append(self, *rows: Row) -> None:
        """Appends rows with one put; the store has them when this returns.

        Raises:
            RunError: the store did not take them. It may have them all the same, where its answer
                was lost; appending may be tried again.
        """
        more = b"".join(map(to_line, rows))
        with self._guard:
            name = f"records/{segment_name(self._number, self._driver)}"
            if self._closed:
                raise RunError(f"{self._place.shown(name)} is closed: nothing can be appended")
            whole = self._newest + more
            what = f"{self._place.shown(name)} could not be written"
            self._patience.keep_trying(lambda: self._place.write(name, whole), what)
            self._newest = whole
            if len(whole) >= FULL:
                self._newest = b""
                self._number += 1

    def close(self) -> None:
        """Lets nothing more be appended."""
        with self._guard:
            self._closed = True

    def __enter__(self) -> PutLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_log(folder: RunFolder, driver: str, patience: Patience | None = None) -> Log | PutLog:
    """A driver's log, behind those of all drivers before it; arguments and errors as of ``Log``."""
    place = folder.place
    if place.is_local:
        return Log.open(folder, driver, patience)
    taken = [parse_name(name)[0] for name in segment_names(place.listed("records"))]
    return PutLog(place, 1 + max(taken, default=0), driver, patience)
