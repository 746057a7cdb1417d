"""Runs in a real S3 server, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

import metatune
from metatune.analysis import leaderboard, verdict_table
from metatune.errors import RunError

from . import strategies_of_rows as some

KEY, SECRET = "AKIDOFATEST", "a-secret-of-a-test"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that knows a bucket; credentials are in the environment."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield f"{host}:{port}"
    moto.stop()


@pytest.fixture(scope="module")
def bucket(server: str, finished: Path) -> fs.S3FileSystem:
    files = fs.S3FileSystem(endpoint_override=server, scheme="http", allow_bucket_creation=True)
    files.create_dir("bucket")
    for part in ("run.json", "records"):
        source, target = finished / part, f"bucket/runs/one/{part}"
        if source.is_dir():
            fs.copy_files(str(source), target, destination_filesystem=files)
        else:
            with files.open_output_stream(target) as file:
                file.write(source.read_bytes())
    return files


def uri(server: str, path: str, user: str = "") -> str:
    return f"s3://{user}{path}?scheme=http&endpoint_override={server}"


@pytest.mark.usefixtures("bucket")
def test_a_run_there_reads_as_the_one_here(server: str, finished: Path) -> None:
    there, here = metatune.read_run(uri(server, "bucket/runs/one")), metatune.read_run(finished)
    some.same_frames(there, here)
    assert there.tasks.equals(here.tasks)
    assert leaderboard(there).equals(leaderboard(here))
    assert verdict_table(there).equals(verdict_table(here))
    assert there.info == here.info
    assert (there.path, there.name) == ("s3://bucket/runs/one", "one")


@pytest.mark.usefixtures("bucket")
def test_parts_are_read_by_column_and_filter(server: str, finished: Path) -> None:
    on_test = ds.field("split") == "test"
    there, here = (
        metatune.read_run(path).read("scores", ["trial", "score"], on_test)
        for path in (uri(server, "bucket/runs/one"), finished)
    )
    assert len(here)
    assert there.equals(here)


@pytest.mark.usefixtures("bucket")
def test_several_are_read_together_from_here_and_there(server: str, finished: Path) -> None:
    runs = metatune.read_runs(uri(server, "bucket/runs/one"), finished)
    assert runs.names == ("one", "run")
    assert len(runs.trials) == 2 * len(runs[0].trials)


def test_a_generation_that_vanishes_there_is_read_from_the_log(
    server: str, bucket: fs.S3FileSystem, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fs.copy_files("bucket/runs/one", "bucket/runs/two", bucket, bucket)
    run = metatune.read_run(uri(server, "bucket/runs/two"))
    bucket.delete_dir("bucket/runs/two/records/parquet-1")
    some.same_frames(run, metatune.read_run(finished))
    assert "the log is read in place of generation 1" in caplog.text


@pytest.mark.parametrize(("path", "told"), [
    ("nowhere/run", "s3://nowhere/run"),
    ("bucket/runs/three", "s3://bucket/runs/three is not a run folder: run.json is missing"),
])  # fmt: skip
@pytest.mark.usefixtures("bucket")
def test_what_is_not_there_is_told_without_a_secret(server: str, path: str, told: str) -> None:
    with pytest.raises(RunError) as refused:
        metatune.read_run(uri(server, path, f"{KEY}:{SECRET}@"))
    assert told in str(refused.value)
    safe(refused.value)


@pytest.mark.long
def test_a_server_that_does_not_answer_is_told(server: str) -> None:
    nobody = "127.0.0.1:9"
    with pytest.raises(RunError, match=r"s3://bucket/run/run\.json cannot be read: ") as refused:
        metatune.read_run(uri(nobody, "bucket/run", f"{KEY}:{SECRET}@"))
    safe(refused.value)


def safe(error: RunError) -> None:
    assert "\n" not in str(error)
    assert KEY not in str(error)
    assert SECRET not in str(error)
