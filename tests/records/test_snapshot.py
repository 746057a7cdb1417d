from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.errors import RunError
from metatune.place import Place
from metatune.records import snapshot as snapshots
from metatune.records.compaction import compact
from metatune.records.folder import RunFolder
from metatune.records.log import Log, to_line
from metatune.records.reading import read_rows, read_run
from metatune.records.rows import Row
from metatune.records.snapshot import Manifest

from . import strategies_of_rows as some
from .conftest import append, generations, make_run, now


def compacted(folder: RunFolder) -> Path:
    """The generation that compaction makes."""
    made = compact(folder)
    assert made is not None
    return folder.path / made


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
    path = compacted(folder)
    assert path == folder.records / "parquet-1"
    assert len(now(folder).rows) == 0
    assert pq.read_schema(path / "scores.parquet").metadata[b"metatune_schema"] == b"6"
    assert pq.read_schema(path / "curves.parquet").field("resource").metadata[b"unit"] == (
        b"forward-equivalents"
    )
    some.same_frames(read_run(folder.path), some.in_memory(folder, some.a_run()))


def test_a_trial_that_ends_after_compaction_appears_once_as_ended(folder: RunFolder) -> None:
    append(folder, some.an_asked(), some.a_scored())
    compact(folder)
    append(folder, some.a_scored(rung=2, score=0.75), some.an_ended())
    assert len(now(folder).rows) == 2
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
    path = compacted(folder)
    if damage is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(damage)
    some.same_frames(read_run(folder.path), some.in_memory(folder, some.a_run()))
    compact(folder)
    assert generations(folder) == ["parquet-2"]


def test_a_generation_of_another_schema_is_passed_over(folder: RunFolder) -> None:
    append(folder, *some.a_run())
    path = compacted(folder)
    manifest = path / "manifest.json"
    manifest.write_text(
        manifest.read_text().replace('"metatune_schema": "3"', '"metatune_schema": "2"')
    )
    some.same_frames(read_run(folder.path), some.in_memory(folder, some.a_run()))


def test_a_missing_segment_is_read_from_parquet_but_not_resumed(folder: RunFolder) -> None:
    append(folder, *some.a_run())
    path = compacted(folder)
    (folder.records / "log-0001-0000000a.jsonl").unlink()
    some.same_frames(read_run(folder.path), some.in_memory(folder, some.a_run()))
    with pytest.raises(RunError, match="the run cannot go on without this part"):
        read_rows(folder)
    (path / "scores.parquet").unlink()
    with pytest.raises(RunError, match="the run cannot go on without this part"):
        read_run(folder.path)


def test_reading_goes_on_when_a_generation_vanishes(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(folder, some.an_asked())
    compact(folder)
    append(folder, some.an_ended())
    real, seen = snapshots._open, list[int]()

    def overtaken(place: Place, manifest: Manifest, name: str) -> Any:
        seen.append(manifest.generation)
        if len(seen) == 1:
            with monkeypatch.context() as patch:
                patch.setattr(snapshots, "_open", real)
                compact(folder)
        return real(place, manifest, name)

    monkeypatch.setattr(snapshots, "_open", overtaken)
    assert read_run(folder.path).trials["state"].to_list() == ["completed"]
    assert seen == [1, 2, 2, 2, 2, 2, 2]
