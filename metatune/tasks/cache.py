"""Arrays that take seconds to make, kept in the user's cache folder under a content hash.

The key names everything that the arrays depend on, so a file is never stale; a file that cannot be
read is made again. Nothing depends on the cache: without a writable folder, arrays are made anew
in each process.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
_LISTED = "arrays"  # beside mapped arrays: their names and sizes

_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """``$METATUNE_CACHE``, else ``$XDG_CACHE_HOME/metatune``, else ``~/.cache/metatune``."""
    own = os.environ.get("METATUNE_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "metatune"


def stamp(files: Iterable[Path]) -> str:
    """Hash of the files' paths, sizes and times of change, in hex digits: part of a key."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(os.fsencode(path))
        with suppress(OSError):  # a broken link: told when it is opened
            about = path.stat()
            digest.update(b"\0%d %d" % (about.st_size, about.st_mtime_ns))
        digest.update(b"\n")
    return digest.hexdigest()


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
    if found := _mapped(folder):
        return found
    with _alone(folder):
        if found := _mapped(folder):  # by whom this process has waited for
            return found
        shutil.rmtree(folder, ignore_errors=True)
        beside = _beside(folder)
        try:
            make(beside)
            (beside / _LISTED).write_text(_listed(beside), encoding="utf-8")
            made = _mapped(beside)  # stays readable wherever the files go
            if made is None:
                raise OSError(f"{beside} has no arrays, or cannot be read back")
            if beside.parent == folder.parent:
                _move(beside, folder)
            return made
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait while another process makes the same; where there are no locks, both make it."""
    path = folder.with_name(f".{folder.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file: Any = path.open("a")
    except OSError:  # a warning follows
        yield
        return
    with file:
        with suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _beside(folder: Path) -> Path:
    """A new folder beside another, or a temporary one where that cannot be."""
    try:
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        _log.warning("%s cannot be written (%s): made anew each time", folder, error)
        return Path(tempfile.mkdtemp(prefix="metatune-"))


def _listed(folder: Path) -> str:
    """Names and sizes of a folder's arrays, a line each."""
    paths = sorted(folder.glob("*.npy"))
    return "".join(f"{path.name} {path.stat().st_size}\n" for path in paths)


def _mapped(folder: Path) -> Arrays | None:
    """The arrays of a folder, mapped; None where it is not there or damaged."""
    if not folder.is_dir():
        return None
    try:
        if (folder / _LISTED).read_text(encoding="utf-8") != _listed(folder):
            raise OSError("its files are not those that were written")
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
