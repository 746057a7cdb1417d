"""Where a run lies: a folder on this machine, or on any file system that pyarrow opens.

A place is named by a path, or by a URI such as ``s3://bucket/runs/one?region=eu-west-1``,
``s3://bucket/run?scheme=http&endpoint_override=127.0.0.1:9000``, ``gs://`` or ``file://``.
Credentials come from the environment; those in a URI work, and stand in no message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Event, Thread
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from metatune.durable import make_folders, write_atomically
from metatune.errors import RunError, one_line
from metatune.patience import reason_of

_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


@dataclass(frozen=True)
class Place:
    """A folder on a file system.

    Attributes:
        files: the file system.
        root: the folder's path in it.
        name: as it may be shown: an absolute path on this machine, or a URI without secrets.
    """

    files: fs.FileSystem
    root: str
    name: Path | str

    @classmethod
    def at(cls, where: str | Path) -> Place:
        """The folder of that path or URI; whether it is there is not looked at.

        Raises:
            RunError: the URI is of no known kind, or has options that its kind does not know.
        """
        if not is_uri(where):
            path = Path(where).expanduser().resolve()
            return cls(fs.LocalFileSystem(), str(path), path)
        where = str(where)
        try:
            files, root = _opened(where)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise RunError(f"{_bare(where)} cannot be opened: {_reason(error, where)}") from None
        if isinstance(files, fs.LocalFileSystem):
            return cls(files, root, Path(root))
        return cls(files, root, f"{where.partition('://')[0]}://{root}")

    @property
    def is_local(self) -> bool:
        """Whether it is reached by a path on this machine; its name is that path."""
        return isinstance(self.name, Path)

    def shown(self, name: str) -> str:
        """A file below it, as it may be shown."""
        return f"{self.name}/{name}"

    def has(self, name: str) -> bool:
        """Whether there is a file or folder of this name below it.

        Raises:
            RunError: that cannot be found out, as without credentials.
        """
        try:
            found = self.files.get_file_info(self._path(name))
        except (pa.ArrowException, OSError) as error:
            raise self.refused(name, error) from None
        return bool(found.type != fs.FileType.NotFound)

    def listed(self, name: str) -> dict[str, int | None]:
        """What is in a folder below it: names with their sizes in bytes, None for folders.

        Raises:
            OSError: it cannot be looked at.
        """
        return {each.base_name: each.size for each in self.contents(name)}

    def contents(self, name: str) -> list[fs.FileInfo]:
        """The same, as pyarrow tells it: also with times."""
        selector = fs.FileSelector(self._path(name), allow_not_found=True)
        found: list[fs.FileInfo] = self.files.get_file_info(selector)
        return found

    def is_empty(self) -> bool:
        """Whether nothing lies in it; true of one that is not there, not of a file.

        Raises:
            OSError: it cannot be looked at.
        """
        found = self.files.get_file_info(self.root)
        if found.type == fs.FileType.File:
            return False
        return not any(each.path.rstrip("/") != self.root for each in self.contents(""))

    def open(self, name: str) -> pa.NativeFile:
        """A file below it; what it holds stays readable on this machine when it is removed."""
        return self.files.open_input_file(self._path(name))

    def read(self, name: str, start: int = 0) -> bytes:
        """The bytes of a file below it from some position on.

        Raises:
            RunError: it cannot be read.
        """
        try:
            return self._bytes(name, start)
        except (pa.ArrowException, OSError) as error:
            raise self.refused(name, error) from error

    def find(self, name: str) -> bytes | None:
        """The bytes of a file below it; None where there is none.

        Raises:
            OSError: it cannot be read.
        """
        try:
            return self._bytes(name, 0)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes | str) -> None:
        """Replace a file below it; whoever reads finds the old or the new one, whole.

        Args:
            name: of the file; folders on the way are made.
            data: its new content; text is written as UTF-8.

        Raises:
            OSError: it may not be written. In an object store it may have been all the same, where
                the answer was lost.
        """
        content = data.encode() if isinstance(data, str) else data
        if self.is_local:
            path = Path(self._path(name))
            make_folders(path.parent)
            write_atomically(path, content)
        else:
            _undisturbed(lambda: self._put(name, content))

    def make_folder(self, name: str) -> None:
        """Make a folder below it, where it is missing.

        Raises:
            OSError: it cannot be made.
        """
        self.files.create_dir(self._path(name))

    def remove(self, name: str) -> None:
        """Remove a file below it, where there is one.

        Raises:
            OSError: it cannot be removed.
        """
        with suppress(FileNotFoundError):
            self.files.delete_file(self._path(name))

    def remove_folder(self, name: str) -> None:
        """Remove a folder below it with all that it holds, where there is one.

        Raises:
            OSError: it cannot be removed.
        """
        with suppress(FileNotFoundError):
            self.files.delete_dir(self._path(name))

    def refused(self, name: str, error: Exception) -> RunError:
        """The error of a file that cannot be read."""
        return RunError(f"{self.shown(name)} cannot be read: {_reason(error, str(self.name))}")

    def _path(self, name: str) -> str:
        return str(PurePosixPath(self.root) / name)

    def _bytes(self, name: str, start: int) -> bytes:
        if self.is_local:  # Errors are then those of the system, with their numbers.
            with Path(self._path(name)).open("rb") as here:
                here.seek(start)
                return here.read()
        with self.open(name) as file:
            file.seek(min(start, file.size()))
            data: bytes = file.read()
        return data

    def _put(self, name: str, data: bytes) -> None:
        stream = self.files.open_output_stream(self._path(name))
        stream.write(data)
        stream.close()


def is_uri(where: str | Path) -> bool:
    """Whether a place is named by a URI; a ``Path`` never is."""
    return isinstance(where, str) and _URI.match(where) is not None


def below(where: str | Path, *names: str) -> str:
    """The path or URI of what lies below a folder; a URI keeps its options."""
    folder, mark, options = str(where).partition("?") if is_uri(where) else (str(where), "", "")
    return "/".join([folder.rstrip("/"), *names]) + mark + options


@lru_cache(maxsize=64)
def _opened(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI, and the path in it; kept, as connections are."""
    if uri.startswith("s3://") and "allow_delayed_open" not in uri:
        # What is small then takes one request, in place of three.
        uri += f"{'&' if '?' in uri else '?'}allow_delayed_open=true"
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(uri)
    return found


def _undisturbed(action: Callable[[], None]) -> None:
    """Run this to its end before an interruption ends what waits for it.

    A stream that Ctrl-C leaves half written is closed all the same, and what it holds then stands
    for the file; in a thread no such interruption comes.
    """
    done, errors = Event(), list[BaseException]()

    def work() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    thread = Thread(target=work, name="metatune-write", daemon=True)
    try:
        thread.start()
        done.wait()
    except BaseException:
        # It may have come while the thread was starting.
        done.wait(None if thread.ident is not None else 1)
        raise
    if errors:
        raise errors[0]


def _bare(uri: str) -> str:
    """A URI that does not parse, without user, password and options: any may be a secret."""
    kind, _, rest = uri.partition("://")
    path = re.split(r"[?#]", rest, maxsplit=1)[0]
    # Up to the last @ there may be a password that was written as it is, with / and all.
    return one_line(f"{kind}://{path.rsplit('@', 1)[-1]}")


def _reason(error: Exception, uri: str) -> str:
    """What went wrong, in words that hold no part of a URI but its kind."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if isinstance(error, OSError) and (error.strerror or "AWS Error" in text):
        return reason_of(error)
    if found := re.search(r"[Uu]nrecognized filesystem type", text):
        return f"found the kind {urlsplit(uri).scheme!r}; allowed: file, s3, gs, hdfs"
    if found := re.search(r"(?:[Uu]nexpected|[Uu]nknown) query parameter[^:]*: '?(\w+)", text):
        return f"found the option {found[1]!r}, which its kind does not have"
    return "its file system refuses it"
