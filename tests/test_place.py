"""Places by path and URI; no secret of a URI stands in a message."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from metatune.errors import RunError
from metatune.place import Place
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
