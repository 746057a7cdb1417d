"""File systems to break: small ones, or on a disk that fails. Making them needs root, on Linux."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS


@contextmanager
def tmpfs(path: Path, megabytes: int = 16) -> Iterator[Path]:
    """A file system in memory, mounted on a new folder."""
    path.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", path)
    try:
        yield path
    finally:
        unmount(path)


@contextmanager
def disk(path: Path, megabytes: int = 32) -> Iterator[Path]:
    """A disk that is a file, mounted on a new folder; it may be unmounted and mounted meanwhile."""
    image = path.with_suffix(".img")
    with image.open("xb") as file:
        file.truncate(megabytes * 2**20)
    _run("mkfs.ext4", "-q", "-F", image)
    path.mkdir()
    mount_disk(path)
    try:
        yield path
    finally:
        if path.is_mount():
            unmount(path)


def mount_disk(path: Path) -> None:
    """Mount a disk, once more."""
    _run("mount", "-o", "loop", path.with_suffix(".img"), path)


def break_disk(path: Path) -> None:
    """The kernel finds an error on the disk: from here on it may only be read."""
    _run("mount", "-o", "remount,abort", path)


def bind(there: Path, path: Path) -> None:
    """Show a folder at another's place."""
    _run("mount", "--bind", there, path)


def only_read(path: Path) -> None:
    """From here on nothing may be written to a file system."""
    _run("mount", "-o", "remount,ro", path)


def unmount(path: Path) -> None:
    """Take a file system away, whoever has files of it open."""
    _run("umount", "-l", path)


def fill(path: Path) -> Path:
    """A file that takes all the room that a file system has left."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    return filler


@cache
def why_not() -> str:
    """Why this process cannot make file systems here; empty where it can.

    What it mounts from here on is seen by it and its children alone, and gone when they end.
    """
    if os.geteuid() != 0:
        return "mounting needs root"
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS) != 0:
        return "this system lets nobody have mounts of his own"
    try:
        _run("mount", "--make-rprivate", "/")
    except OSError as error:
        return str(error)
    return ""


def _run(*command: object) -> None:
    """Runs a command that changes mounts, in mounts of this process' own.

    Raises:
        OSError: it failed, or there can be none.
    """
    if command[0] == "mount" and command[1] != "--make-rprivate" and why_not():
        raise OSError(why_not())
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{command[0]} failed: {done.stderr.strip()}")
