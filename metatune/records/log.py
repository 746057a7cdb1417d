"""The log: every row of a run, synced before anything else learns of what it says.

Each driver writes a segment, ``records/log-<number>-<driver>.jsonl`` (in an object store several,
see ``metatune.records.put_log``); numbers grow, so segments in order of their numbers hold the
run's rows in order. A line is::

    <crc32 of the JSON, 8 hex digits> <the row as JSON>\\n

A crash can only spoil the end of a segment: what follows the last whole line whose checksum is
right was never acknowledged, and is ignored by readers and cut off before the next append. A bad
line *before* a good one is damage, and refused.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from metatune.durable import sync_folder
from metatune.errors import RunError, StorageError, one_line
from metatune.patience import Patience
from metatune.records.folder import RunFolder, opening
from metatune.records.rows import Row, from_plain, to_plain

_SEGMENT = re.compile(r"log-(\d+)-([0-9a-zA-Z]+)\.jsonl")


class Log:
    """One driver's segment, open for appending; threads may share it."""

    def __init__(self, path: Path, patience: Patience | None = None) -> None:
        """Opens a segment, made where it is missing; a torn end is cut off.

        Args:
            path: the segment's.
            patience: with storage that does not answer while rows are appended.

        Raises:
            RunError: a line before the last good one is damaged.
        """
        self.path = path
        self._patience = patience or Patience()
        new = not path.exists()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._handle: int | None = handle
        self._guard = threading.Lock()
        self._closed = False
        try:
            data = path.read_bytes()
            self._end = scan(data, path).end
            if self._end < len(data):
                os.ftruncate(handle, self._end)
                os.fsync(handle)
            if new:
                sync_folder(path.parent)
        except BaseException:
            os.close(handle)
            raise

    @classmethod
    def open(cls, folder: RunFolder, driver: str, patience: Patience | None = None) -> Log:
        """The segment of a driver, behind those of all drivers before it.

        Args:
            folder: the run.
            driver: the driver's id, as from its lease.
            patience: with storage that does not answer while rows are appended.

        Raises:
            RunError: the run is being opened by another process, or the segment is damaged.
        """
        with opening(folder):
            taken = segments(folder)
            number, last = parse_name(taken[-1]) if taken else (0, "")
            if last == driver:
                return cls(taken[-1], patience)
            return cls(folder.records / segment_name(number + 1, driver), patience)

    def append(self, *rows: Row) -> None:
        """Appends rows with one sync; they are on disk when this returns.

        Raises:
            RunError: the rows could not be written, as on a disk that stays full. None of them is
                then in the log as far as that can still be seen to, and appending may be tried
                again.
        """
        data = b"".join(to_line(row) for row in rows)
        with self._guard:
            if self._closed:
                raise RunError(f"{self.path} is closed: nothing can be appended to it")
            what = f"{self.path} could not be written"
            self._patience.keep_trying(lambda: self._write(data), what)
            self._end += len(data)

    def close(self) -> None:
        """Closes the segment; closing twice does nothing."""
        with self._guard:
            self._closed = True
            self._let_go()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        handle = self._handle = self._handle or self._open_again()
        try:
            written = os.write(handle, data)
            while written < len(data):  # A nearly full disk takes a part, and then refuses.
                written += os.write(handle, data[written:])
            os.fsync(handle)
            self._look(handle)
        except OSError:
            self._cut(handle)
            raise

    def _look(self, handle: int) -> None:
        """Whether what was written is what others read: a file that was removed takes rows, too."""
        if not os.path.samestat(os.stat(self.path), os.fstat(handle)):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self.path))

    def _cut(self, handle: int) -> None:
        """Back to the last acknowledged line; a segment that cannot be cut is opened again."""
        try:
            os.ftruncate(handle, self._end)
            os.fsync(handle)
            self._look(handle)
        except OSError:
            self._let_go()

    def _open_again(self) -> int:
        """The segment where it is back, at its last acknowledged line.

        Raises:
            OSError: it is not back.
            StorageError: it came back without rows that it had.
        """
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND)
        try:
            data = self.path.read_bytes()
            if scan(data[: self._end], self.path).end < self._end:
                raise StorageError(
                    f"{self.path} came back without its last rows: {len(data)} bytes of the "
                    f"{self._end} that were written. Restore it from a copy, or resume without them"
                )
            os.ftruncate(handle, self._end)
            os.fsync(handle)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def _let_go(self) -> None:
        if self._handle is not None:
            with suppress(OSError):  # What was acknowledged was synced.
                os.close(self._handle)
            self._handle = None


@dataclass(frozen=True)
class Scan:
    """What a segment holds.

    Attributes:
        rows: its rows, in order; one a line.
        end: bytes up to the end of the last good line.
    """

    rows: list[Row]
    end: int


def segments(folder: RunFolder) -> list[Path]:
    """The log's segments in order of their creation."""
    try:
        names = os.listdir(folder.records)
    except FileNotFoundError:
        return []
    return [folder.records / name for name in segment_names(names)]


def segment_names(names: Iterable[str]) -> list[str]:
    """Those of a folder's names that are segments, in order of their creation."""
    return sorted(filter(_SEGMENT.fullmatch, names), key=parse_name)


def segment_name(number: int, driver: str) -> str:
    """The name of a driver's segment.

    Raises:
        RunError: the driver's id would spoil it, and hide the segment.
    """
    name = f"log-{number:04d}-{driver}.jsonl"
    parse_name(name)
    return name


def parse_name(segment: Path | str) -> tuple[int, str]:
    """A segment's number and driver, from its name; sorting by them sorts by creation.

    Raises:
        RunError: it is not the name of a segment.
    """
    match = _SEGMENT.fullmatch(Path(segment).name)
    if match is None:
        raise RunError(f"{segment} is not a log segment: expected log-<number>-<driver>.jsonl")
    return int(match[1]), match[2]


def read_log(path: Path) -> list[Row]:
    """The rows of one segment up to its last good line; works while it is being written.

    Raises:
        RunError: a line before the last good one is damaged.
    """
    return scan(path.read_bytes(), path).rows


def scan(data: bytes, path: Path | str, start: int = 0, lines: int = 0) -> Scan:
    """The rows in a segment's bytes.

    Args:
        data: the segment's bytes, or those behind some of its lines.
        path: the segment, for error messages.
        start: bytes to skip; the beginning of a line.
        lines: that are not looked at, in what is skipped or before it.

    Raises:
        RunError: a line before the last good one is damaged.
    """
    rows: list[Row] = []
    end = position = start
    number = lines
    bad: int | None = None
    while (stop := data.find(b"\n", position)) >= 0:
        number += 1
        payload = _payload(data[position:stop])
        position = stop + 1
        if payload is None:
            bad = bad or number
            continue
        if bad is not None:
            raise RunError(
                f"{path}, line {bad}: damaged, and good lines follow; "
                "restore the file from a copy, or remove that line to go on without it"
            )
        rows.append(_row(payload, path, number))
        end = position
    return Scan(rows, end)


def to_line(row: Row) -> bytes:
    """A row as a line of the log, checksum and line feed included."""
    # allow_nan: losses and seconds may be NaN or infinite, and come back as they were.
    text = json.dumps(to_plain(row), separators=(",", ":"), allow_nan=True).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _payload(line: bytes) -> bytes | None:
    """A line's JSON, or None where its checksum does not fit."""
    payload = line[9:]
    return payload if line[:9] == b"%08x " % zlib.crc32(payload) and payload else None


def _row(payload: bytes, path: Path | str, number: int) -> Row:
    kind = None
    try:
        data = json.loads(payload)
        kind = data.get("kind") if isinstance(data, dict) else None
        return from_plain(data)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path}, line {number}: row of kind {kind!r} cannot be read by this "
            f"version of metatune ({one_line(str(error))})"
        ) from error
