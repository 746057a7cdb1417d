from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.errors import RunError
from metatune.records import parquet
from metatune.records.folder import RunFolder
from metatune.records.log import Log, to_line
from metatune.records.parquet import COLUMNS, Compactor, compact, extend, schema, snapshot, tables
from metatune.records.reading import read_rows, read_run
from metatune.records.rows import Row, Turned

from . import strategies_of_rows as some
from .conftest import make_run


def append(folder: RunFolder, *rows: Row, driver: str = "0000000a") -> None:
    with Log.open(folder, driver) as log:
        log.append(*rows)


def generations(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.records.glob("parquet-*"))


# --- from rows to tables --------------------------------------------------------------------------


def test_a_trial_is_one_row_with_its_highest_rung_on_select() -> None:
    rows = [
        some.an_asked(),
        some.a_scored(rung=1, score=0.25),
        some.a_scored(rung=2, score=0.5),
        some.a_scored(rung=3, score=0.75, split="confirm"),
        some.a_scored(rung=3, score=0.75, replica=1),
    ]
    (trial,) = tables(rows)["trials"].to_pylist()
    assert (trial["rung"], trial["score"], trial["resource"]) == (2, 0.5, 200)
    assert (trial["state"], trial["reason"], trial["seconds"]) == ("running", None, None)
    assert trial["strategy"] == '{"start": "none", "head": {"kind": "ridge", "penalty": 0.5}}'
    (ended,) = tables([*rows, some.an_ended(state="stopped", reason="lost to r1-0002")])[
        "trials"
    ].to_pylist()
    assert ended == {
        **trial,
        "state": "stopped",
        "reason": "lost to r1-0002",
        "seconds": 9.0,
    }


def test_the_end_of_a_training_anew_does_not_end_the_trial() -> None:
    rows = [some.an_asked(), some.an_ended(replica=1, state="failed")]
    assert tables(rows)["trials"]["state"].to_pylist() == ["running"]


def test_an_ensemble_is_completed_as_it_is_chosen_and_has_its_members() -> None:
    ensemble = some.an_asked(7, origin="ensemble", strategy={}, params=None, members=["r1-0000"])
    rows = [some.an_asked(), ensemble, some.an_asked(8, origin="ensemble")]
    found = tables([*rows, some.an_ended(8, state="failed", reason="lost")])["trials"]
    assert found["members"].to_pylist() == [[], ["r1-0000"], []]
    assert found["state"].to_pylist() == ["running", "completed", "failed"]


def test_scores_have_one_row_a_task_and_curves_one_a_rung() -> None:
    found = tables(some.a_run(2))
    assert found["scores"].num_rows == 2 * 2 * 2
    assert found["curves"].num_rows == 2 * 2
    assert found["scores"].slice(0, 2).to_pylist() == [
        {
            "trial": "r1-0000",
            "round": 1,
            "rung": 1,
            "split": "select",
            "replica": 0,
            "task": task,
            "group": group,
            "score": score,
            "transductive": False,
        }
        for task, group, score in [("a", "north", 0.25), ("b", "south", 0.75)]
    ]
    assert found["curves"]["score"].to_pylist() == [0.5] * 4
    assert found["curves"]["tasks"].to_pylist() == [2] * 4


def test_curves_tell_what_a_trial_has_learned_of_its_knobs() -> None:
    learned = {"prior.strength": 2.5, "head.penalty": 0.5}
    found = tables([some.a_scored(learned=learned), some.a_scored(1)])["curves"]["learned"]
    assert found.to_pylist() == ['{"head.penalty": 0.5, "prior.strength": 2.5}', None]


def test_a_rung_scored_twice_counts_once_and_the_later_scores_stand() -> None:
    rows = [some.a_scored(score=0.5), some.a_scored(1), some.a_scored(score=0.75)]
    found = tables(rows)
    assert found["curves"]["trial"].to_pylist() == ["r1-0001", "r1-0000"]
    assert found["curves"]["score"].to_pylist() == [0.5, 0.75]
    assert found["scores"].num_rows == 4
    assert found["trials"]["score"].to_pylist() == [0.75, 0.5]


def test_every_column_says_its_meaning_and_numbers_their_unit() -> None:
    for name in COLUMNS:
        for column in schema(name):
            assert column.metadata[b"meaning"]
    assert schema("trials").field("seconds").metadata[b"unit"] == b"s"
    assert schema("scores").metadata[b"metatune_schema"] == b"4"


def test_a_reason_that_is_not_unicode_does_not_hide_the_run() -> None:
    rows = [some.an_asked(), some.an_ended(state="failed", reason="no file \udcff.png")]
    rows_of_round = Turned(1, [], ["\udcff"], 1.0)
    found = tables([*rows, rows_of_round])
    assert found["trials"]["reason"].to_pylist() == ["no file ?.png"]
    assert found["rounds"]["moves"].to_pylist() == [["?"]]


@settings(max_examples=50)
@given(some.rows, st.data())
def test_folding_in_two_steps_equals_folding_at_once(rows: list[Row], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    some.same_tables(extend(tables(rows[:cut]), rows[cut:]), tables(rows))


# --- generations ----------------------------------------------------------------------------------


@settings(max_examples=10)
@given(some.rows, st.data())
def test_compacted_and_tail_read_as_the_whole_log(rows: list[Row], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=2)))
    with TemporaryDirectory() as parent:
        folder = make_run(Path(parent) / "run")
        start = 0
        for driver, cut in enumerate(cuts):
            append(folder, *rows[start:cut], driver=f"{driver:08x}")
            compact(folder)
            start = cut
        append(folder, *rows[start:], driver="ffffffff")
        some.same_frames(read_run(folder.path), some.in_memory(folder, rows))
        assert some.same_rows(read_rows(folder), rows)


def test_a_compacted_run_reads_from_parquet_alone(folder: RunFolder) -> None:
    append(folder, *some.a_run())
    path = compact(folder)
    assert path == folder.records / "parquet-1"
    assert snapshot(folder).fresh == 0
    assert pq.read_schema(path / "scores.parquet").metadata[b"metatune_schema"] == b"4"
    assert pq.read_schema(path / "curves.parquet").field("resource").metadata[b"unit"] == (
        b"forward-equivalents"
    )
    some.same_frames(read_run(folder.path), some.in_memory(folder, some.a_run()))


def test_a_trial_that_ends_after_compaction_appears_once_as_ended(folder: RunFolder) -> None:
    append(folder, some.an_asked(), some.a_scored())
    compact(folder)
    append(folder, some.a_scored(rung=2, score=0.75), some.an_ended())
    assert snapshot(folder).fresh == 2
    trials = read_run(folder.path).trials
    assert trials.index.to_list() == ["r1-0000"]
    assert trials.loc["r1-0000", ["state", "rung", "score"]].to_list() == ["completed", 2, 0.75]


def test_a_new_generation_takes_the_place_of_the_old(folder: RunFolder) -> None:
    append(folder, some.an_asked())
    compact(folder)
    compact(folder)
    assert generations(folder) == ["parquet-1"]
    append(folder, some.an_ended())
    compact(folder)
    assert generations(folder) == ["parquet-2"]


def test_a_run_without_rows_is_not_compacted(folder: RunFolder) -> None:
    assert compact(folder) is None
    assert generations(folder) == []


def test_a_torn_line_is_not_covered_and_is_read_once_whole(folder: RunFolder) -> None:
    append(folder, some.an_asked())
    segment = folder.records / "log-0001-0000000a.jsonl"
    line = to_line(some.an_ended())
    with segment.open("ab") as file:
        file.write(line[:30])
    compact(folder)
    with segment.open("ab") as file:
        file.write(line[30:])
    assert read_run(folder.path).trials["state"].to_list() == ["completed"]


def test_a_log_that_was_cut_below_what_parquet_covers_is_believed(folder: RunFolder) -> None:
    append(folder, some.an_asked(0), some.an_asked(1))
    compact(folder)
    segment = folder.records / "log-0001-0000000a.jsonl"
    segment.write_bytes(to_line(some.an_asked(0)))
    assert read_run(folder.path).trials.index.to_list() == ["r1-0000"]
    with segment.open("ab") as file:
        file.write(to_line(some.an_asked(2)))
    assert read_run(folder.path).trials.index.to_list() == ["r1-0000", "r1-0002"]
    compact(folder)
    assert generations(folder) == ["parquet-2"]
    some.same_frames(read_run(folder.path), some.in_memory(folder, read_rows(folder)))


def test_an_earlier_segment_that_grew_keeps_its_place(folder: RunFolder) -> None:
    append(folder, some.an_asked(0), driver="0000000a")
    append(folder, some.an_ended(0), driver="0000000b")
    compact(folder)
    with Log(folder.records / "log-0001-0000000a.jsonl") as log:
        log.append(some.an_ended(0, state="failed"))
    assert read_run(folder.path).trials["state"].to_list() == ["completed"]


@pytest.mark.parametrize("name", ["trials.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", [b"", b"PAR1 nonsense", None])
def test_a_damaged_generation_is_replaced_by_the_log(
    folder: RunFolder, name: str, damage: bytes | None
) -> None:
    append(folder, *some.a_run())
    path = compact(folder)
    assert path is not None
    if damage is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(damage)
    some.same_frames(read_run(folder.path), some.in_memory(folder, some.a_run()))
    compact(folder)
    assert generations(folder) == ["parquet-2"]


def test_a_generation_of_another_schema_is_passed_over(folder: RunFolder) -> None:
    append(folder, *some.a_run())
    path = compact(folder)
    assert path is not None
    manifest = path / "manifest.json"
    manifest.write_text(
        manifest.read_text().replace('"metatune_schema": "3"', '"metatune_schema": "2"')
    )
    some.same_frames(read_run(folder.path), some.in_memory(folder, some.a_run()))


def test_a_missing_segment_is_read_from_parquet_but_not_resumed(folder: RunFolder) -> None:
    append(folder, *some.a_run())
    path = compact(folder)
    (folder.records / "log-0001-0000000a.jsonl").unlink()
    some.same_frames(read_run(folder.path), some.in_memory(folder, some.a_run()))
    with pytest.raises(RunError, match="the run cannot go on without this part"):
        read_rows(folder)
    assert path is not None
    (path / "scores.parquet").unlink()
    with pytest.raises(RunError, match="the run cannot go on without this part"):
        read_run(folder.path)


def test_reading_goes_on_when_a_generation_vanishes(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(folder, some.an_asked())
    compact(folder)
    append(folder, some.an_ended())
    read = parquet._read_tables
    paths: list[Path] = []

    def overtaken(path: Path) -> Any:
        paths.append(path)
        if len(paths) == 1:
            monkeypatch.setattr(parquet, "_read_tables", read)
            compact(folder)
            monkeypatch.setattr(parquet, "_read_tables", overtaken)
        return read(path)

    monkeypatch.setattr(parquet, "_read_tables", overtaken)
    assert read_run(folder.path).trials["state"].to_list() == ["completed"]
    assert [path.name for path in paths] == ["parquet-1", "parquet-2"]


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
        some.same_tables(snapshot(killed).tables, whole)
        append(killed, some.an_asked(9), driver="0000000c")
        compact(killed)
        some.same_tables(snapshot(killed).tables, longer)
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
        wait_for(lambda: snapshot(folder).manifest is not None)
        append(folder, some.an_asked(3))
        compactor.request()
    assert snapshot(folder).fresh == 0
    compactor.close()


def test_a_failed_compaction_is_kept_and_tried_again(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: RunFolder) -> None:
        raise OSError("no space left")

    compactor = Compactor(folder, every=1).start()
    append(folder, some.an_asked())
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "compact", fail)
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

    monkeypatch.setattr(parquet, "compact", fail)
    with pytest.raises(RunError, match="no space left; nothing is lost"), Compactor(folder):
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
