"""Following a run that others write: each look reads what its log has gained since the last."""

from __future__ import annotations

from metatune.errors import RunError
from metatune.records.folder import RunFolder
from metatune.records.log import scan, segment_names
from metatune.records.rows import Row
from metatune.records.snapshot import refuse_missing


class Follower:
    """The rows of a run as they come. Writes nothing, and takes no lock.

    Raises:
        RunError: a part of the log is missing.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._place = folder.place
        refuse_missing(self._place)
        self._seen: dict[str, tuple[int, int]] = {}  # bytes and rows of each segment

    def news(self) -> list[Row]:
        """Rows recorded since the look before, in order; at the first look all.

        Raises:
            RunError: the log is damaged before its end, or cannot be read.
        """
        try:
            sizes = self._place.listed("records")
        except OSError as error:
            raise self._place.refused("records", error) from error
        names = segment_names(sizes)
        return [row for name in names for row in self._beyond(f"records/{name}", sizes[name] or 0)]

    def _beyond(self, segment: str, size: int) -> list[Row]:
        start, known = self._seen.get(segment, (0, 0))
        if size == start:
            return []
        shown = self._place.shown(segment)
        if size < start:  # rows that a full disk did not take, and that were cut off again
            raise RunError(f"{shown} has become shorter: watch the run anew")
        found = scan(self._place.read(segment, start), shown, lines=known)
        self._seen[segment] = start + found.end, known + len(found.rows)
        return found.rows
