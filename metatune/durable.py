"""Files that outlive a crash: after one at any instant, a name holds its old or its new content."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_synced(path: Path, data: bytes) -> None:
    """Writes a new file whose bytes are on disk when this returns; its name need not be.

    Raises:
        OSError: as from writing; a part of the file may be there.
    """
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replaces a file: after a crash at any instant it is the old or the new one, whole.

    Args:
        path: the file; its folder exists.
        data: its new content; text is written as UTF-8.

    Raises:
        OSError: as from writing; the old file is then as it was.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        write_synced(beside, data.encode() if isinstance(data, str) else data)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folders(path: Path) -> None:
    """Makes a folder, and those on the way, whose names outlive a power failure.

    Raises:
        OSError: it cannot be made.
    """
    missing = [each for each in (path, *path.parents) if not each.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def sync_folder(path: Path) -> None:
    """Makes names that were added to or removed from a folder outlive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
