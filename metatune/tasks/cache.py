"""Arrays that take seconds to make, kept in the user's cache folder under a content hash.

The key names everything that the arrays depend on, so a file is never stale; a file that cannot be
read is made again. Nothing depends on the cache: without a writable folder, arrays are made anew
in each process.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """``$METATUNE_CACHE``, else ``$XDG_CACHE_HOME/metatune``, else ``~/.cache/metatune``."""
    own = os.environ.get("METATUNE_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "metatune"


def cached_arrays(name: str, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Arrays from the cache, or from ``make`` where they are not there or damaged.

    Args:
        name: what the arrays are; begins the file's name.
        key: hash, in hex digits, of all that the arrays depend on.
        make: called without arguments to make the arrays; none may hold Python objects.
    """
    path = cache_dir() / f"{name}-{key[:20]}.npz"
    arrays = _read(path)
    if arrays is None:
        arrays = make()
        _write(path, arrays)
    return arrays


def mapped_arrays(name: str, key: str, make: Callable[[Path], None]) -> Arrays:
    """Arrays too large for each process to hold: mapped into memory from a folder of the cache.

    All processes of a machine share one copy, of which only what is used is ever read.

    Args:
        name: what the arrays are; begins the folder's name.
        key: hash, in hex digits, of all that the arrays depend on.
        make: writes each array as ``<its name>.npy`` into the folder that it is given.
    """
    folder = cache_dir() / f"{name}-{key[:20]}"
    if folder.is_dir():
        if found := _mapped(folder):
            return found
        shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        _log.warning("%s cannot be written (%s): made anew each time", folder, error)
        beside = Path(tempfile.mkdtemp(prefix="metatune-"))
    try:
        make(beside)
        made = _mapped(beside)  # stays readable wherever the files go
        if made is None:
            raise OSError(f"{beside} has no arrays, or cannot be read back")
        if beside.parent == folder.parent:
            _move(beside, folder)
        return made
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _mapped(folder: Path) -> Arrays | None:
    """The arrays of a folder, mapped; None where there are none or one is damaged."""
    try:
        return {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")} or None
    except (OSError, ValueError, EOFError) as error:
        _log.warning("%s cannot be read (%s) and is made again", folder, error)
        return None


def _move(beside: Path, folder: Path) -> None:
    """Rename, once all is on the disk; another process may have been first with the same."""
    for path in beside.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    try:
        beside.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            _log.warning("%s cannot be written (%s): made anew each time", folder, error)


def _read(path: Path) -> Arrays | None:
    """All arrays of a file, or None. Reading checks the sum that the zip format keeps of each."""
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        _log.warning("%s cannot be read (%s) and is made again", path, error)
        return None


def _write(path: Path, arrays: Arrays) -> None:
    """Write beside and rename, since several workers may make the same file at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
    except OSError as error:
        _log.warning("%s cannot be written (%s): made anew each time", path, error)
        return
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        _log.warning("%s cannot be written (%s): made anew each time", path, error)
    finally:
        Path(beside).unlink(missing_ok=True)
