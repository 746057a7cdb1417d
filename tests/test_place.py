"""Places by path and URI; no secret of a URI stands in a message."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import fs
from s3 import S3

from metatune.errors import RunError
from metatune.place import Place, below
from metatune.records.reading import read_run

SECRETS = ("AKIDSECRET", "hunter2", "p/w")


def test_a_path_is_absolute_and_a_file_uri_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for where in ("run", Path("run"), tmp_path / "run", f"file://{tmp_path}/run"):
        assert Place.at(where).name == tmp_path / "run"


def test_files_are_listed_with_their_sizes_and_read_from_a_position(tmp_path: Path) -> None:
    (tmp_path / "records" / "parquet-1").mkdir(parents=True)
    (tmp_path / "records" / "log").write_bytes(b"0123456789")
    place = Place.at(tmp_path)
    assert place.listed("records") == {"parquet-1": None, "log": 10}
    assert place.listed("nothing") == {}
    assert place.has("records")
    assert not place.has("nothing")
    assert place.read("records/log", 7) == b"789"
    assert place.read("records/log", 70) == b""
    with pytest.raises(RunError, match=f"{tmp_path}/nothing cannot be read: it is not there"):
        place.read("nothing")


def test_what_is_removed_stays_readable_where_it_is_open(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"0123456789")
    with Place.at(tmp_path).open("log") as file:
        (tmp_path / "log").unlink()
        assert file.read() == b"0123456789"


@pytest.mark.parametrize(("uri", "told"), [
    ("ftp://AKIDSECRET:hunter2@host/run", "ftp://host/run cannot be opened: found the kind 'ftp'"),
    ("s3://AKIDSECRET:hunter2@bucket/run?secret=hunter2",
     "s3://bucket/run cannot be opened: found the option 'secret'"),
    ("s3://AKIDSECRET:hunter2p/w@bucket/run?region=x&scheme=http", "s3://bucket/run cannot be"),
    ("s3://?x=hunter2", "cannot be opened"),
])  # fmt: skip
def test_uris_that_cannot_be_opened_are_refused_without_their_secrets(uri: str, told: str) -> None:
    with pytest.raises(RunError) as refused:
        read_run(uri)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not any(secret in str(refused.value) for secret in SECRETS)


@pytest.mark.parametrize(("error", "told"), [
    (OSError("When reading: AWS Error NETWORK_CONNECTION during GetObject: hunter2"),
     "the server cannot be reached"),
    (OSError("AWS Error SLOW_DOWN during GetObject: hunter2"), "the server says slow down"),
    (PermissionError(13, "Permission denied"), "Permission denied"),
    (pa.ArrowInvalid("hunter2"), "its file system refuses it"),
])  # fmt: skip
def test_errors_of_file_systems_are_told_in_words(error: Exception, told: str) -> None:
    place = Place.at("/run")
    assert str(place.refused("log", error)) == f"/run/log cannot be read: {told}"


@pytest.fixture(params=["here", "there"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder on this machine, and one in a real S3 server."""
    if request.param == "here":
        return Place.at(tmp_path / "place")
    s3: S3 = request.getfixturevalue("s3")
    return Place.at(s3.uri(f"bucket/{tmp_path.name}"))


def test_what_is_written_is_found_replaced_and_removed(place: Place) -> None:
    assert place.is_empty()
    assert place.find("a/file") is None
    place.write("a/file", "one")
    place.write("a/file", b"\x00two")
    place.write("a/other", "")
    assert place.find("a/file") == b"\x00two"
    assert place.find("a/other") == b""
    assert place.listed("a") == {"file": 4, "other": 0}
    assert not place.is_empty()
    place.remove("a/file")
    place.remove("a/file")
    assert place.find("a/file") is None
    place.remove_folder("a")
    place.remove_folder("a")
    assert place.listed("a") == {}
    place.make_folder("b")
    assert place.has("b")


def test_an_interruption_leaves_what_was_there_or_what_was_written(
    s3: S3,
) -> None:
    """Ctrl-C between the opening of a stream and its first byte would leave an empty file."""
    place = Place.at(s3.uri("bucket/interrupted"))
    place.write("log", "before")

    class Slow:
        def __init__(self, stream: pa.NativeFile) -> None:
            self._stream = stream

        def write(self, data: bytes) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            sleep(0.2)
            self._stream.write(data)

        def close(self) -> None:
            self._stream.close()

    slow = Place(_Opening(place.files, Slow), place.root, place.name)
    # A suite that was started in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            slow.write("log", "after")
    finally:
        signal.signal(signal.SIGINT, before)
    assert place.read("log") == b"after"


def test_nor_does_an_interruption_while_the_writing_thread_starts(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place.at(s3.uri("bucket/starting"))
    place.write("log", "before")
    start = Thread.start

    def interrupted(self: Thread) -> None:
        start(self)
        if self.name == "metatune-write":  # the server has threads, too
            raise KeyboardInterrupt

    class Slow:
        def __init__(self, stream: pa.NativeFile) -> None:
            self._stream = stream

        def write(self, data: bytes) -> None:
            sleep(0.2)
            self._stream.write(data)

        def close(self) -> None:
            self._stream.close()

    slow = Place(_Opening(place.files, Slow), place.root, place.name)
    monkeypatch.setattr(Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        slow.write("log", "after")
    monkeypatch.undo()
    assert place.read("log") == b"after"


class _Opening:
    """A file system whose streams are wrapped."""

    def __init__(self, files: fs.FileSystem, wrap: Callable[[pa.NativeFile], Any]) -> None:
        self._files, self._wrap = files, wrap

    def open_output_stream(self, path: str) -> Any:
        return self._wrap(self._files.open_output_stream(path))


@pytest.mark.parametrize(("where", "told"), [
    ("runs/one", "runs/one/trials/r1"),
    ("runs/one/", "runs/one/trials/r1"),
    ("what?/is=this", "what?/is=this/trials/r1"),  # a path is a path
    ("s3://bucket/run?scheme=http&region=x", "s3://bucket/run/trials/r1?scheme=http&region=x"),
    ("gs://bucket/run", "gs://bucket/run/trials/r1"),
])  # fmt: skip
def test_below_a_uri_its_options_stay_at_the_end(where: str, told: str) -> None:
    assert below(where, "trials", "r1") == told
