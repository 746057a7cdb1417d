"""Runs in a real S3 server, on this machine."""

from __future__ import annotations

from pathlib import Path

import pyarrow.dataset as ds
import pytest
from pyarrow import fs
from s3 import ENVIRONMENT, S3

import metatune
from metatune.analysis import leaderboard, verdict_table
from metatune.errors import RunError

from . import strategies_of_rows as some

KEY, SECRET = ENVIRONMENT["AWS_ACCESS_KEY_ID"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]


@pytest.fixture(scope="module")
def bucket(s3: S3, finished: Path) -> fs.S3FileSystem:
    files, root = fs.FileSystem.from_uri(s3.uri("bucket/runs/one"))
    for part in ("run.json", "records"):
        source, target = finished / part, f"{root}/{part}"
        if source.is_dir():
            fs.copy_files(str(source), target, destination_filesystem=files)
        else:
            with files.open_output_stream(target) as file:
                file.write(source.read_bytes())
    return files


@pytest.mark.usefixtures("bucket")
def test_a_run_there_reads_as_the_one_here(s3: S3, finished: Path) -> None:
    there, here = metatune.read_run(s3.uri("bucket/runs/one")), metatune.read_run(finished)
    some.same_frames(there, here)
    assert there.tasks.equals(here.tasks)
    assert leaderboard(there).equals(leaderboard(here))
    assert verdict_table(there).equals(verdict_table(here))
    assert there.info == here.info
    assert (there.path, there.name) == ("s3://bucket/runs/one", "one")


@pytest.mark.usefixtures("bucket")
def test_parts_are_read_by_column_and_filter(s3: S3, finished: Path) -> None:
    on_test = ds.field("split") == "test"
    there, here = (
        metatune.read_run(path).read("scores", ["trial", "score"], on_test)
        for path in (s3.uri("bucket/runs/one"), finished)
    )
    assert len(here)
    assert there.equals(here)


@pytest.mark.usefixtures("bucket")
def test_several_are_read_together_from_here_and_there(s3: S3, finished: Path) -> None:
    runs = metatune.read_runs(s3.uri("bucket/runs/one"), finished)
    assert runs.names == ("one", "run")
    assert len(runs.trials) == 2 * len(runs[0].trials)


def test_a_generation_that_vanishes_there_is_read_from_the_log(
    s3: S3, bucket: fs.S3FileSystem, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fs.copy_files("bucket/runs/one", "bucket/runs/two", bucket, bucket)
    run = metatune.read_run(s3.uri("bucket/runs/two"))
    bucket.delete_dir("bucket/runs/two/records/parquet-1")
    some.same_frames(run, metatune.read_run(finished))
    assert "the log is read in place of generation 1" in caplog.text


@pytest.mark.parametrize(("path", "told"), [
    ("nowhere/run", "s3://nowhere/run"),
    ("bucket/runs/three", "s3://bucket/runs/three is not a run folder: run.json is missing"),
])  # fmt: skip
@pytest.mark.usefixtures("bucket")
def test_what_is_not_there_is_told_without_a_secret(s3: S3, path: str, told: str) -> None:
    with pytest.raises(RunError) as refused:
        metatune.read_run(s3.uri(path, f"{KEY}:{SECRET}@"))
    assert told in str(refused.value)
    safe(refused.value)


@pytest.mark.long
def test_a_server_that_does_not_answer_is_told(s3: S3) -> None:
    nobody = s3.uri("bucket/run", f"{KEY}:{SECRET}@").replace(s3.address, "127.0.0.1:9")
    with pytest.raises(RunError, match=r"s3://bucket/run/run\.json cannot be read: ") as refused:
        metatune.read_run(nobody)
    safe(refused.value)


def safe(error: RunError) -> None:
    assert "\n" not in str(error)
    assert KEY not in str(error)
    assert SECRET not in str(error)
