"""The log where nothing can be appended to: segments in a real S3 server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from s3 import S3

from metatune.errors import RunError, StorageError
from metatune.patience import Patience
from metatune.records import put_log
from metatune.records.compaction import compact
from metatune.records.folder import RunFolder
from metatune.records.following import Follower
from metatune.records.log import Log
from metatune.records.put_log import open_log
from metatune.records.reading import read_rows
from metatune.records.snapshot import snapshot

from . import strategies_of_rows as some

AT_ONCE = Patience(seconds=0, notice=lambda _: None)


@pytest.fixture
def run(s3: S3, request: pytest.FixtureRequest) -> RunFolder:
    folder = RunFolder.create(s3.uri(f"bucket/{request.node.name}"))
    folder.write(folder.info, "{}")
    return folder


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(put_log, "FULL", 300)


def segments(run: RunFolder) -> list[str]:
    return sorted(name for name in run.place.listed("records") if name.startswith("log-"))


@pytest.mark.usefixtures("small_segments")
def test_rows_of_all_segments_and_drivers_come_in_their_order(run: RunFolder) -> None:
    rows = [some.an_ended(number) for number in range(20)]
    follower, seen = Follower(run), []
    for driver, own in (("a", rows[:15]), ("b", rows[15:])):
        with open_log(run, driver) as log:
            for row in own:
                log.append(row)
                seen += follower.news()
    assert read_rows(run) == rows == seen
    names = segments(run)
    assert [name.split("-")[1] for name in names] == [f"{n:04d}" for n in range(1, len(names) + 1)]
    assert "".join(name[-7] for name in names).strip("a").strip("b") == ""
    assert len(names) > 3


@pytest.mark.usefixtures("small_segments")
def test_compaction_there_leaves_the_run_reading_as_before(run: RunFolder) -> None:
    with open_log(run, "a") as log:
        for part in range(3):
            log.append(*(some.an_asked(part * 5 + n) for n in range(5)))
            log.append(*(some.a_scored(part * 5 + n) for n in range(5)))
            before = snapshot(run.place).tables
            assert compact(run) == f"records/parquet-{part + 1}"
            after = snapshot(run.place)
            assert after.manifest is not None
            assert not after.rows
            assert all(after.tables[name].equals(before[name]) for name in before)
    kept = [name for name in run.place.listed("records") if name.startswith("parquet-")]
    assert kept == ["parquet-3"]
    assert compact(run) == "records/parquet-3"  # nothing is new


@pytest.mark.usefixtures("small_segments")
def test_threads_share_it(run: RunFolder) -> None:
    with open_log(run, "a") as log, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: log.append(some.an_ended(number)), range(20)))
    assert sorted(row.trial for row in read_rows(run)) == sorted(
        some.an_ended(number).trial for number in range(20)
    )


def test_what_the_store_did_not_take_is_not_in_the_log_and_may_be_tried_again(
    s3: S3, run: RunFolder
) -> None:
    log = open_log(run, "a", AT_ONCE)
    log.append(some.an_ended(0))
    s3.stop()
    try:
        with pytest.raises(StorageError, match=r"log-0001-a.jsonl could not be written"):
            log.append(some.an_ended(1))
    finally:
        s3.start()
    assert read_rows(run) == [some.an_ended(0)]
    log.append(some.an_ended(2))
    assert read_rows(run) == [some.an_ended(0), some.an_ended(2)]
    log.close()
    with pytest.raises(RunError, match="is closed"):
        log.append(some.an_ended(3))


def test_a_run_on_this_machine_appends_to_a_file(folder: RunFolder) -> None:
    with open_log(folder, "0000000a") as log:
        assert isinstance(log, Log)
