"""Arrays that take seconds to make, kept in the user's cache folder under a content hash.

The key names everything that the arrays depend on, so a file is never stale; a file that cannot be
read is made again. Nothing depends on the cache: without a writable folder, arrays are made anew
in each process.
"""

from __future__ import annotations

import logging
import os
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
