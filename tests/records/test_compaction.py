from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metatune.errors import RunError
from metatune.records import compaction
from metatune.records.compaction import Compactor, compact
from metatune.records.folder import RunFolder
from metatune.records.folding import tables

from . import strategies_of_rows as some
from .conftest import append, generations, now


def crash_at(monkeypatch: pytest.MonkeyPatch, calls: tuple[str, ...], step: int) -> None:
    """Lets the ``step``-th of these calls of ``os`` fail, and all after it, as a dying process."""
    count = 0
    for call in calls:
        real = getattr(os, call)

        def dying(*args: Any, real: Callable[..., Any] = real, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count >= step:
                raise KeyboardInterrupt("killed")
            return real(*args, **more)

        monkeypatch.setattr(os, call, dying)


def test_a_compaction_killed_at_any_step_leaves_the_run_reading_as_before(
    folder: RunFolder, tmp_path: Path
) -> None:
    rows = some.a_run(2)
    append(folder, *rows[:3])
    compact(folder)
    append(folder, *rows[3:], driver="0000000b")
    whole, longer = tables(rows), tables([*rows, some.an_asked(9)])
    finished, step = False, 0
    while not finished:
        step += 1
        killed = RunFolder(shutil.copytree(folder.path, tmp_path / f"run{step}"))
        with pytest.MonkeyPatch.context() as patch:
            crash_at(patch, ("replace", "fsync", "mkdir", "unlink", "rmdir"), step)
            try:
                compact(killed)
                finished = True
            except KeyboardInterrupt:
                pass
        some.same_tables(now(killed).tables, whole)
        append(killed, some.an_asked(9), driver="0000000c")
        compact(killed)
        some.same_tables(now(killed).tables, longer)
        assert len(generations(killed)) == 1
    assert step > 20  # Seven files of three steps each, at least.


# --- in the background ----------------------------------------------------------------------------


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_compactor_waits_for_enough_rows_and_compacts_the_rest_at_its_end(
    folder: RunFolder,
) -> None:
    with Compactor(folder, every=3) as compactor:
        append(folder, some.an_asked(0), some.an_asked(1))
        compactor.request(2)
        time.sleep(0.1)
        assert generations(folder) == []
        append(folder, some.an_asked(2))
        compactor.request()
        wait_for(lambda: now(folder).manifest is not None)
        append(folder, some.an_asked(3))
        compactor.request()
    assert len(now(folder).rows) == 0
    compactor.close()


def test_a_failed_compaction_is_kept_and_tried_again(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: RunFolder) -> None:
        raise OSError("no space left")

    compactor = Compactor(folder, every=1).start()
    append(folder, some.an_asked())
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "compact", fail)
        compactor.request()
        wait_for(lambda: compactor.failure is not None)
        assert "was not compacted: no space left" in caplog.text
    compactor.close()
    assert compactor.failure is None
    assert generations(folder) == ["parquet-1"]


def test_a_failure_at_the_end_is_raised_unless_another_error_is_on_its_way(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: RunFolder) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(compaction, "compact", fail)
    with (
        pytest.raises(RunError, match=r"was not compacted: no space left\. What was"),
        Compactor(folder),
    ):
        pass
    with pytest.raises(KeyError, match="first"), Compactor(folder):
        raise KeyError("first")


def test_a_compactor_that_was_not_started_still_compacts_at_its_end(folder: RunFolder) -> None:
    append(folder, some.an_asked())
    Compactor(folder).close()
    assert generations(folder) == ["parquet-1"]


def test_rows_between_compactions_must_be_positive(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="every must be at least 1 row, not 0"):
        Compactor(folder, every=0)


def test_two_that_compact_at_once_leave_one_generation(folder: RunFolder) -> None:
    append(folder, *some.a_run())
    threads = [threading.Thread(target=compact, args=(folder,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert generations(folder) == ["parquet-1"]
