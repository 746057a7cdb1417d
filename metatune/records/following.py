"""Following a run that others write: each look reads what its log has gained since the last."""

from __future__ import annotations

from pathlib import Path

from metatune.errors import RunError
from metatune.place import Place
from metatune.records.folder import RunFolder
from metatune.records.log import scan, segments
from metatune.records.rows import Row
from metatune.records.snapshot import refuse_missing


class Follower:
    """The rows of a run as they come. Writes nothing, and takes no lock.

    Raises:
        RunError: a part of the log is missing.
    """

    def __init__(self, folder: RunFolder) -> None:
        refuse_missing(Place.at(folder.path))
        self._folder = folder
        self._seen: dict[Path, tuple[int, int]] = {}  # bytes and rows of each segment

    def news(self) -> list[Row]:
        """Rows recorded since the look before, in order; at the first look all.

        Raises:
            RunError: the log is damaged before its end, or cannot be read.
        """
        try:
            return [row for segment in segments(self._folder) for row in self._beyond(segment)]
        except OSError as error:
            raise RunError(f"{self._folder.records} cannot be read: {error.strerror}") from error

    def _beyond(self, segment: Path) -> list[Row]:
        start, known = self._seen.get(segment, (0, 0))
        size = segment.stat().st_size
        if size == start:
            return []
        if size < start:  # rows that a full disk did not take, and that were cut off again
            raise RunError(f"{segment} has become shorter: watch the run anew")
        with segment.open("rb") as file:
            file.seek(start)
            found = scan(file.read(), segment, lines=known)
        self._seen[segment] = start + found.end, known + len(found.rows)
        return found.rows
