from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from metatune.durable import write_atomically
from metatune.errors import RunError
from metatune.records.folder import RunFolder, opening


def test_a_new_folder_is_a_run_once_its_info_is_written(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs" / "first")
    with pytest.raises(RunError, match=r"first is not a run folder: run.json is missing"):
        RunFolder.open(folder.path)
    write_atomically(folder.info, "{}")
    assert RunFolder.open(folder.path) == folder
    assert folder.records.is_dir()
    assert folder.trial("r1-0007") == str(folder.path / "trials" / "r1-0007")


def test_an_existing_empty_folder_is_taken(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path).trials.is_dir()


def test_a_folder_that_is_not_empty_is_refused(folder: RunFolder) -> None:
    with pytest.raises(RunError, match="exists and is not empty"):
        RunFolder.create(folder.path)


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="exists and is not empty"):
        RunFolder.create(tmp_path / "file")
    with pytest.raises(RunError, match="cannot be made a run folder"):
        RunFolder.create(tmp_path / "file" / "run")


@pytest.mark.parametrize("name", ["/no-such-share/runs/one", "/mnt/no-such-share"])
def test_a_share_that_is_not_mounted_is_not_made(name: str) -> None:
    with pytest.raises(RunError, match=r"there is no /.*no-such-share: is its disk or share not"):
        RunFolder.create(name)
    assert not Path(name).exists()


def test_a_missing_folder_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        RunFolder.open(tmp_path / "nowhere")


def test_a_relative_path_stays_right_when_the_current_folder_changes(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.path.parent)
    found = RunFolder.open("run")
    monkeypatch.chdir("/")
    assert found == folder


def test_one_opener_at_a_time(folder: RunFolder) -> None:
    order: list[str] = []

    def other() -> None:
        with opening(folder):
            order.append("second")

    with opening(folder):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_an_opener_that_waits_too_long_is_told_why(folder: RunFolder) -> None:
    failures: list[str] = []

    def other() -> None:
        try:
            with opening(folder, wait=0.05):
                pass
        except RunError as error:
            failures.append(str(error))

    with opening(folder):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "is being opened by another process" in failures[0]


def test_the_thread_that_holds_the_lock_may_enter_again(folder: RunFolder) -> None:
    with opening(folder), opening(folder, wait=0):
        pass
    with opening(folder, wait=0):
        pass
