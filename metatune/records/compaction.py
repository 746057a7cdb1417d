"""Compaction: the log so far as a new generation of Parquet, for ``snapshot`` to read.

The log stays: it is what a resume reads, and what reading falls back to.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from metatune.errors import RunError, StorageError
from metatune.patience import Patience
from metatune.place import Place
from metatune.records.folder import RunFolder, locked
from metatune.records.schema import SCHEMA
from metatune.records.snapshot import generation_name, generations, snapshot

logger = logging.getLogger(__name__)

ROW_GROUP = 1 << 20
"""Rows in a Parquet row group."""


def compact(folder: RunFolder) -> str | None:
    """Writes all rows so far as a new generation of Parquet, and removes older ones.

    Killed at any instant, it leaves the run reading as before. The log is not touched.

    Args:
        folder: the run.

    Returns:
        The newest generation's folder below the run's, or None for a run without rows.

    Raises:
        RunError: the log is damaged before its end, or another process is compacting.
        OSError: the disk is full or broken.
    """
    busy = f"run {folder.name} is being compacted by another process"
    with locked(folder.records / ".compact.lock", 60.0, busy):
        place = folder.place
        found = snapshot(place)
        tables = found.tables  # What of Parquet is damaged shows here, and comes from the log.
        if found.manifest is not None and not found.rows:
            return generation_name(found.manifest.generation)
        if not any(map(len, tables.values())):
            return None
        number = 1 + max(generations(place), default=0)
        path = generation_name(number)
        try:
            for name, table in tables.items():
                place.write(f"{path}/{name}.parquet", _to_parquet(table))
            contents = {
                "generation": number,
                "metatune_schema": SCHEMA,
                "segments": {name: asdict(each) for name, each in found.segments.items()},
            }
            place.write(f"{path}/manifest.json", json.dumps(contents, indent=1) + "\n")
        except OSError:
            _remove(place, number)  # A full disk needs the room.
            raise
        for older in generations(place):
            if older < number:
                _remove(place, older)
        return path


def _to_parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP,
        compression="zstd",
        write_page_checksum=True,
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _remove(place: Place, generation: int) -> None:
    path = generation_name(generation)
    # What cannot be removed now is tried again by the next compaction.
    with suppress(OSError):
        # The manifest first: without it, what a crash leaves is no generation.
        place.remove(f"{path}/manifest.json")
        place.remove_folder(path)


class Compactor:
    """Compacts a run in the background.

    A compaction that fails costs nothing, since the log holds every row: it is logged, kept in
    ``failure`` and tried again. ``close`` compacts a last time, and raises if that fails.
    """

    def __init__(
        self, folder: RunFolder, every: int = 500, patience: Patience | None = None
    ) -> None:
        """
        Args:
            folder: the run.
            every: rows between compactions.
            patience: of the last one with storage that does not answer. (The next compaction is
                soon enough for those before; and who closes for an error has waited already.)
        """
        if every < 1:
            raise ValueError(f"every must be at least 1 row, not {every}")
        self.failure: Exception | None = None
        self._folder = folder
        self._every = every
        self._patience = patience or Patience()
        self._waiting = 0
        self._closing = False
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> Compactor:
        """Starts the background thread; starting twice does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="metatune-compactor")
            self._thread.daemon = True
            self._thread.start()
        return self

    def request(self, rows: int = 1) -> None:
        """Says that rows were appended to the log; returns at once.

        Args:
            rows: how many.
        """
        with self._wake:
            self._waiting += rows
            self._wake.notify()

    def close(self, *, wait: bool = True) -> None:
        """Lets a compaction at work end, and compacts a last time; twice does nothing more.

        Args:
            wait: for storage that does not answer.

        Raises:
            RunError: the last compaction failed; the log holds every row.
        """
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        if wait:
            self._compact(lambda: self._patience.keep_trying(self._last, self._what))
        else:
            self._compact(self._last)
        if isinstance(self.failure, StorageError):
            raise self.failure
        if self.failure is not None:
            raise RunError(
                f"{self._what}: {self.failure}; nothing is lost, its log holds every row"
            ) from self.failure

    def __enter__(self) -> Compactor:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close(wait=error is None)
        except RunError:
            if error is None:  # Otherwise the first error is the one to show; this one is logged.
                raise

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or self._waiting >= self._every)
                if self._closing:
                    return
                self._waiting = 0
            self._compact(lambda: compact(self._folder))

    @property
    def _what(self) -> str:
        return f"run {self._folder.name} was not compacted"

    def _last(self) -> None:
        self._folder.refuse_away()  # Of a run that is away, compaction itself says less.
        compact(self._folder)

    def _compact(self, action: Callable[[], object]) -> None:
        try:
            action()
            self.failure = None
        except Exception as error:
            self.failure = error
            known = isinstance(error, StorageError)  # which says of itself what was not done
            logger.warning("%s", error if known else f"{self._what}: {error}")
