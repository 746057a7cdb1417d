from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings

from metatune.errors import RunError, StorageError
from metatune.patience import Patience
from metatune.records.compaction import compact
from metatune.records.folder import RunFolder, opening
from metatune.records.log import Log, parse_name, read_log, scan, segments, to_line
from metatune.records.reading import read_rows, read_run
from metatune.records.rows import Row

from . import strategies_of_rows as some
from .conftest import ENVIRONMENT, HERE

AT_ONCE = Patience(seconds=0, notice=lambda _: None)

WRITE = """
import sys
from metatune.records.folder import RunFolder
from metatune.records.log import Log
from metatune.records.compaction import Compactor
from strategies_of_rows import a_scored, an_asked
folder = RunFolder.open(sys.argv[1])
log, compactor = Log.open(folder, sys.argv[2]), Compactor(folder, every=20).start()
number = 0
while True:
    log.append(an_asked(number), a_scored(number))
    print(number, flush=True)
    compactor.request(2)
    number += 1
"""


@settings(max_examples=50)
@given(some.rows)
def test_lines_come_back_as_the_rows_that_they_were(rows: list[Row]) -> None:
    data = b"".join(to_line(row) for row in rows)
    found = scan(data, Path("log"))
    assert some.same_rows(found.rows, rows)
    assert found.end == len(data)


def test_losses_and_seconds_that_are_not_finite_come_back(tmp_path: Path) -> None:
    row = some.a_scored(train_loss=float("nan"), train_seconds=float("inf"))
    with Log(tmp_path / "log") as log:
        log.append(row)
    assert some.same_rows(read_log(tmp_path / "log"), [row])


def test_a_line_is_its_checksum_and_its_json(tmp_path: Path) -> None:
    line = to_line(some.an_ended())
    assert line.startswith(b'%s {"kind":"ended","trial":"r1-0000",' % line[:8])
    assert line.count(b"\n") == 1


def test_a_log_cut_at_any_byte_of_its_last_line_reads_to_the_line_before(tmp_path: Path) -> None:
    before, last, after = some.a_run(1), some.an_ended(1), some.an_ended(2)
    whole = b"".join(to_line(row) for row in before)
    path = tmp_path / "log"
    for cut in range(len(to_line(last))):
        path.write_bytes(whole + to_line(last)[:cut])
        assert read_log(path) == before
        with Log(path) as log:
            assert path.read_bytes() == whole
            log.append(after)
        assert read_log(path) == [*before, after]


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"\n\n\n", b"0badc0de {}\n00000000 {}\n0"])
def test_an_end_of_several_bad_lines_is_an_end_too(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(to_line(some.an_ended()) + tail)
    assert read_log(path) == [some.an_ended()]
    with Log(path) as log:
        log.append(some.an_ended(1))
    assert read_log(path) == [some.an_ended(), some.an_ended(1)]


def test_a_damaged_line_before_good_ones_is_refused_and_left_alone(folder: RunFolder) -> None:
    with Log.open(folder, "0000000a") as log:
        log.append(*some.a_run())
    data = bytearray(log.path.read_bytes())
    second = data.index(b"\n") + 20
    data[second] ^= 1
    log.path.write_bytes(data)
    for refused in (
        lambda: read_log(log.path),
        lambda: Log(log.path),
        lambda: read_rows(folder),
        lambda: read_run(folder.path),
        lambda: compact(folder),
    ):
        with pytest.raises(RunError, match=r"log-0001-0000000a.jsonl, line 2: damaged"):
            refused()
    assert log.path.read_bytes() == data


def test_a_row_of_an_unknown_kind_is_refused_with_its_line(tmp_path: Path) -> None:
    class Dreamt(type(some.an_ended())):  # type: ignore[misc]
        kind = "dreamt"

    path = tmp_path / "log"
    line = to_line(Dreamt("r1-0000", "completed", "", 1.0))
    path.write_bytes(to_line(some.an_ended()) + line)
    with pytest.raises(RunError, match="line 2: row of kind 'dreamt' cannot be read"):
        read_log(path)


def test_several_rows_are_one_write_and_one_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    write, fsync = os.write, os.fsync
    with Log(tmp_path / "log") as log:
        monkeypatch.setattr(os, "write", lambda *a: calls.append("write") or write(*a))
        monkeypatch.setattr(os, "fsync", lambda *a: calls.append("fsync") or fsync(*a))
        log.append(*some.a_run())
    assert calls == ["write", "fsync"]


def test_a_full_disk_leaves_whole_lines_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    room = [len(to_line(some.an_ended())) + 10]

    def nearly_full(handle: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(handle, data[: room[0]])
        room[0] -= done
        return done

    with Log(tmp_path / "log", AT_ONCE) as log:
        log.append(some.an_ended(0))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", nearly_full)
            with pytest.raises(StorageError, match="could not be written: No space left on device"):
                log.append(some.an_ended(1), some.an_ended(2))
        assert log.path.read_bytes() == to_line(some.an_ended(0))
        log.append(some.an_ended(3))
    assert read_log(log.path) == [some.an_ended(0), some.an_ended(3)]


def test_a_log_that_cannot_even_be_cut_is_opened_and_cut_before_it_takes_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    log = Log(tmp_path / "log", AT_ONCE)
    log.append(some.an_ended(0))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        patch.setattr(os, "ftruncate", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            log.append(some.an_ended(1))
    assert log.path.read_bytes() != to_line(some.an_ended(0))
    log.append(some.an_ended(2))
    log.close()
    assert read_log(log.path) == [some.an_ended(0), some.an_ended(2)]


def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.close()
    with pytest.raises(RunError, match="is closed"):
        log.append(some.an_ended())


def away(folder: RunFolder, seconds: float) -> threading.Timer:
    """Rename a run away now, and back after so many seconds."""
    elsewhere = folder.path.with_name("elsewhere")
    folder.path.rename(elsewhere)
    back = threading.Timer(seconds, lambda: elsewhere.rename(folder.path))
    back.start()
    return back


def test_rows_of_a_run_that_is_away_are_written_once_when_it_is_back(folder: RunFolder) -> None:
    told: list[str] = []
    with Log.open(folder, "0000000a", Patience(30, told.append)) as log:
        log.append(some.an_ended(0))
        back = away(folder, 0.4)
        log.append(some.an_ended(1))
        back.join()
        log.append(some.an_ended(2))
    assert read_rows(folder) == [some.an_ended(number) for number in range(3)]
    assert told == [
        f"{log.path} could not be written: No such file or directory. Waiting up to 30 s for it."
    ]


def test_rows_for_a_run_that_was_removed_are_not_taken_for_written(folder: RunFolder) -> None:
    log = Log.open(folder, "0000000a", AT_ONCE)
    log.append(some.an_ended(0))
    shutil.rmtree(folder.path)
    with pytest.raises(StorageError, match=r"No such file or directory.*bring it back"):
        log.append(some.an_ended(1))
    log.close()
    assert not folder.path.exists()


@pytest.mark.parametrize("copied", [True, False])
def test_a_run_that_comes_back_as_other_files_is_gone_on_with_if_it_is_whole(
    folder: RunFolder, copied: bool
) -> None:
    log = Log.open(folder, "0000000a", AT_ONCE)
    log.append(some.an_ended(0), some.an_ended(1))
    elsewhere = folder.path.with_name("elsewhere")
    folder.path.rename(elsewhere)
    shutil.copytree(elsewhere, folder.path)
    if copied:
        log.append(some.an_ended(2))
        assert read_rows(folder) == [some.an_ended(number) for number in range(3)]
    else:
        log.path.write_bytes(to_line(some.an_ended(0)))
        with pytest.raises(StorageError, match="came back without its last rows"):
            log.append(some.an_ended(2))
        assert read_rows(folder) == [some.an_ended(0)]
    log.close()
    assert read_log(elsewhere / "records" / log.path.name) == [some.an_ended(0), some.an_ended(1)]


def test_segments_of_drivers_follow_one_another(folder: RunFolder) -> None:
    for number, driver in enumerate(["ffffffff", "00000000", "aaaaaaaa"]):
        with Log.open(folder, driver) as log:
            log.append(some.an_ended(number))
    assert [path.name for path in segments(folder)] == [
        "log-0001-ffffffff.jsonl",
        "log-0002-00000000.jsonl",
        "log-0003-aaaaaaaa.jsonl",
    ]
    assert read_rows(folder) == [some.an_ended(number) for number in range(3)]


def test_segments_stay_in_order_beyond_9999(folder: RunFolder) -> None:
    for name in ("log-10000-b.jsonl", "log-9999-a.jsonl", "notes.txt", ".lock"):
        (folder.records / name).touch()
    assert [parse_name(path) for path in segments(folder)] == [(9999, "a"), (10000, "b")]
    with Log.open(folder, "c") as log:
        assert log.path.name == "log-10001-c.jsonl"


def test_a_segments_number_is_taken_while_no_other_driver_opens_the_run(
    folder: RunFolder,
) -> None:
    thread = threading.Thread(target=lambda: Log.open(folder, "0000000b").close())
    with opening(folder):
        thread.start()
        time.sleep(0.1)
        assert segments(folder) == []
        Log.open(folder, "0000000a").close()
    thread.join()
    assert [parse_name(path) for path in segments(folder)] == [(1, "0000000a"), (2, "0000000b")]


def test_a_driver_that_opens_its_log_again_goes_on_in_it(folder: RunFolder) -> None:
    for number in range(2):
        with Log.open(folder, "0000000a") as log:
            log.append(some.an_ended(number))
    assert len(segments(folder)) == 1
    assert read_rows(folder) == [some.an_ended(0), some.an_ended(1)]


def test_a_driver_id_that_would_hide_its_segment_is_refused(folder: RunFolder) -> None:
    with pytest.raises(RunError, match="is not a log segment"):
        Log.open(folder, "a-b")
    assert segments(folder) == []


def test_threads_share_a_log(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:

        def write(first: int) -> None:
            for number in range(first, first + 20):
                log.append(some.an_ended(number))

        threads = [threading.Thread(target=write, args=(100 * each,)) for each in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read_log(log.path)) == 80


def test_after_kill_9_every_acknowledged_row_is_there(folder: RunFolder) -> None:
    for driver in ("0000000a", "0000000b"):
        before = len(read_rows(folder))
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, str(folder.path), driver],
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE,
            env=ENVIRONMENT,
        )
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(40)]
        some_run = read_run(folder.path)  # While it is being written, and compacted.
        assert len(some_run.trials) >= 40
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        last = int(acknowledged[-1])
        rows = read_rows(folder)[before:]
        expected = [
            row
            for number in range(last + 1)
            for row in (some.an_asked(number), some.a_scored(number))
        ]
        assert rows[: len(expected)] == expected
        some.same_frames(read_run(folder.path), some.in_memory(folder, read_rows(folder)))
