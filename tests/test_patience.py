"""Real failures: a folder that is not there, a device that is full, a file in a folder's place."""

from __future__ import annotations

import errno
from pathlib import Path
from threading import Timer
from time import monotonic

import pytest

from metatune.errors import RunError, StorageError
from metatune.patience import Patience, passes


def test_what_works_is_done_once_and_nobody_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    done: list[int] = []
    Patience(notice=told.append).keep_trying(lambda: done.append(1), "a file")
    assert (told, done) == ([], [1])


def test_a_folder_that_comes_back_is_waited_for_with_one_notice(tmp_path: Path) -> None:
    away, told = tmp_path / "mount" / "file", list[str]()
    patience = Patience(seconds=30, notice=told.append)
    back = Timer(0.5, away.parent.mkdir)
    back.start()
    assert patience.keep_trying(lambda: away.write_text("row"), "the file") == 3
    back.join()
    assert away.read_text() == "row"
    assert told == ["the file: No such file or directory. Waiting up to 30 s for it."]


def test_a_full_device_ends_it_once_the_time_is_over() -> None:
    tries: list[float] = []

    def write() -> None:
        tries.append(monotonic())
        with open("/dev/full", "w") as file:
            file.write("row")

    with pytest.raises(StorageError) as told:
        Patience(seconds=0.4, notice=lambda _: None).keep_trying(write, "the log")
    assert str(told.value) == (
        "the log: No space left on device after 0.4 s of waiting. "
        "What was recorded stands: make room, then resume."
    )
    assert len(tries) > 2
    assert tries[-1] - tries[0] >= 0.4  # the last try is at the end, not before it


def test_what_no_waiting_helps_ends_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tries: list[int] = []

    def write() -> None:
        tries.append(1)
        (tmp_path / "file" / "inside").write_text("")

    with pytest.raises(StorageError, match=r"the log: Not a directory\. What was recorded stands"):
        Patience(notice=pytest.fail).keep_trying(write, "the log")
    assert len(tries) == 1


def test_before_each_further_try_it_is_asked_whether_to_go_on(tmp_path: Path) -> None:
    asked: list[int] = []

    def again() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise RunError("somebody else drives the run")
        raise OSError(errno.EIO, "Input/output error")

    tries: list[int] = []

    def write() -> None:
        tries.append(1)
        (tmp_path / "missing" / "file").write_text("")

    patience = Patience(seconds=30, notice=lambda _: None, again=again)
    with pytest.raises(RunError, match="somebody else drives the run"):
        patience.keep_trying(write, "the log")
    assert (len(tries), len(asked)) == (1, 2)


@pytest.mark.parametrize(
    ("name", "helps"),
    [
        *((name, True) for name in ("EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EAGAIN")),
        *((name, True) for name in ("ENOENT", "ENODEV", "ENOSPC", "EDQUOT")),
        *((name, False) for name in ("EROFS", "EACCES", "EPERM", "EINVAL", "ENOSYS", "EFBIG")),
    ],
)
def test_another_try_helps_where_storage_is_silent_away_or_full(name: str, helps: bool) -> None:
    assert passes(OSError(getattr(errno, name), name)) is helps


def test_of_errors_without_a_number_those_of_the_network_pass() -> None:
    said = "When reading 'a' in bucket 'b': AWS Error %s during GetObject operation"
    assert passes(OSError(said % "NETWORK_CONNECTION"))
    assert passes(OSError(said % "SLOW_DOWN"))
    assert not passes(OSError(said % "ACCESS_DENIED"))
