"""A run's folder that is corrupted, half written or of another version: read, or one sentence."""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metatune
from metatune.analysis import leaderboard, verdict_table
from metatune.errors import MetatuneError, RunError
from metatune.records.compaction import compact
from metatune.records.folder import RunFolder
from metatune.records.log import to_line
from metatune.records.reading import Run, read_run
from metatune.records.rows import to_plain
from metatune.records.schema import FRAMES

from . import strategies_of_rows as some
from .conftest import append, with_family


def asked(run: Run) -> None:
    """Looks at everything."""
    for name in FRAMES:
        getattr(run, name)
    leaderboard(run)
    verdict_table(run)


def sentence(path: Path) -> str | None:
    """What is said of a folder that cannot be read; None of one that can."""
    try:
        asked(read_run(path))
    except MetatuneError as error:
        told = str(error)
        assert "\n" not in told
        assert str(path) in told
        return told
    return None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    """A finished run, compacted but for its last rows."""
    path = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(finished, path, ignore=shutil.ignore_patterns("trials"))
    segment = next(path.glob("records/log-*.jsonl"))
    lines = segment.read_bytes().splitlines(keepends=True)
    shutil.rmtree(next(path.glob("records/parquet-*")))
    segment.write_bytes(b"".join(lines[:-5]))
    compact(RunFolder(path))
    segment.write_bytes(b"".join(lines))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same with rows by hand, of some bytes."""
    folder = with_family(tmp_path_factory.mktemp("small") / "run")
    *rows, looked, turned, concluded = some.a_run(3)
    test = [some.a_scored(n, rung=2, split="test", replica=1) for n in range(2)]
    default = replace(rows[0], origin="default")  # type: ignore[type-var]
    append(folder, default, *rows[1:], *test)
    compact(folder)
    append(folder, looked, turned, concluded)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    yield path
    shutil.rmtree(path)


def files(path: Path) -> list[Path]:
    records = [*path.glob("records/*.jsonl"), *path.glob("records/parquet-*/*")]
    return [*sorted(records), path / "run.json"]


# --- any damage -----------------------------------------------------------------------------------


@settings(max_examples=max(8, settings.default.max_examples // 5))
@given(st.data())
def test_bytes_that_flip_or_are_cut_off_are_mended_or_told(
    small: RunFolder, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(small.path, path)
    hurt = data.draw(st.sampled_from([each.relative_to(path) for each in files(path)]))
    content = bytearray((path / hurt).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    (path / hurt).write_bytes(content)
    if sentence(path) is None and hurt.suffix == ".parquet":
        some.same_frames(read_run(path), read_run(small.path))
    shutil.rmtree(path)


# --- one by one -----------------------------------------------------------------------------------


def test_a_truncated_table_is_read_from_the_log(
    copy: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = next(copy.glob("records/parquet-*/scores.parquet"))
    table.write_bytes(table.read_bytes()[:-100])
    some.same_frames(read_run(copy), read_run(whole))
    assert "is damaged" in caplog.text


def test_a_table_with_other_columns_is_read_from_the_log(copy: Path, whole: Path) -> None:
    records = next(copy.glob("records/parquet-*"))
    shutil.copy(records / "curves.parquet", records / "scores.parquet")
    some.same_frames(read_run(copy), read_run(whole))


def test_damage_that_shows_only_when_a_frame_is_asked_for_is_mended_then(
    copy: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = next(copy.glob("records/parquet-*/scores.parquet"))
    content = bytearray(table.read_bytes())
    content[len(content) // 4] ^= 1
    table.write_bytes(content)
    run = read_run(copy)
    assert not caplog.records
    some.same_frames(run, read_run(whole))
    assert "the log is read in place of generation" in caplog.text


def test_of_damaged_parquet_no_more_is_read_than_is_asked_for(
    copy: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import pyarrow.parquet as pq

    table = next(copy.glob("records/parquet-*/scores.parquet"))
    column = pq.ParquetFile(table).metadata.row_group(0).column(5)
    assert column.path_in_schema == "task"
    content = bytearray(table.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start + column.total_compressed_size // 2] ^= 1
    table.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        scores = read_run(copy).read("scores", ["trial", "score"])
        assert scores.equals(read_run(whole).scores[["trial", "score"]])
        assert not caplog.records
        read_run(copy).read("scores", ["task"])
        assert caplog.records


def test_a_torn_last_line_is_left_out(copy: Path, whole: Path) -> None:
    with next(copy.glob("records/log-*.jsonl")).open("ab") as file:
        file.write(to_line(some.an_asked())[:-9])
    some.same_frames(read_run(copy), read_run(whole))


def test_a_folder_without_run_json_is_no_run(copy: Path) -> None:
    (copy / "run.json").unlink()
    assert sentence(copy) == f"{copy} is not a run folder: run.json is missing"


def test_a_folder_without_records_is_not_whole(copy: Path) -> None:
    shutil.rmtree(copy / "records")
    assert sentence(copy) == f"{copy}/records is missing: the run's folder is not whole"


@pytest.mark.parametrize(("text", "told"), [
    ("{}", "found no family.sign"),
    ('{"family": []}', "found no family.sign"),
    ('{"family": {"sign": 2, "metric": "mse"}}', "family.sign: found 2; allowed: 1 or -1"),
    ("[" * 100_000, "run.json cannot be read"),
    ("", "run.json cannot be read"),
    ("null", "holds a NoneType: expected an object"),
])  # fmt: skip
def test_a_run_json_that_is_not_one_is_told(copy: Path, text: str, told: str) -> None:
    (copy / "run.json").write_text(text)
    assert told in (sentence(copy) or "")


# --- other versions -------------------------------------------------------------------------------


def test_parquet_of_another_schema_is_read_from_the_log(copy: Path, whole: Path) -> None:
    of_version(copy, "99")
    some.same_frames(read_run(copy), read_run(whole))


def test_without_the_log_parquet_of_another_schema_is_refused(copy: Path) -> None:
    of_version(copy, "99")
    next(copy.glob("records/log-*.jsonl")).unlink()
    told = sentence(copy)
    assert told is not None
    assert "is missing, and its Parquet is of schema 99, not 6" in told


def of_version(path: Path, version: str) -> None:
    manifest = next(path.glob("records/parquet-*/manifest.json"))
    data = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(data | {"metatune_schema": version}))


def line_of(data: Any) -> bytes:
    text = json.dumps(data).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


@pytest.mark.parametrize(("changes", "told"), [
    ({"kind": "dreamed"}, "row of kind 'dreamed' cannot be read by this version"),
    ({"kind": None}, "row of kind None cannot be read"),
    ({"trial": 7}, "trial cannot be 7"),
    ({"scores": ["0.5", "0.5"]}, 'scores cannot be ["0.5", "0.5"]'),
    ({"scores": 0.5}, "scores cannot be 0.5"),
    ({"scores": [0.5]}, "tasks, groups and scores are not equally many"),
    ({"split": "train2"}, 'split cannot be "train2"'),
    ({"rung": True}, "rung cannot be true"),
    ({"resource": 2**70}, "resource cannot be"),
    ({"train_loss": "nan"}, "train_loss cannot be"),
    ({"learned": []}, "learned cannot be []"),
])  # fmt: skip
def test_a_row_that_is_none_is_told_with_its_line(
    about: RunFolder, changes: dict[str, Any], told: str
) -> None:
    append(about, some.an_asked())
    segment = next(about.records.glob("log-*.jsonl"))
    with segment.open("ab") as file:
        file.write(line_of(to_plain(some.a_scored()) | changes))
    found = sentence(about.path)
    assert found is not None
    assert f"{segment}, line 2: " in found
    assert told in found


@pytest.mark.parametrize("text", [b"[1]", b"7", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_line_that_is_no_row_at_all_is_told(about: RunFolder, text: bytes) -> None:
    segment = about.records / "log-0001-0000000a.jsonl"
    segment.write_bytes(b"%08x %s\n" % (zlib.crc32(text), text))
    assert "line 1: row of kind None cannot be read" in (sentence(about.path) or "")


def test_a_line_beyond_what_parquet_covers_has_its_number_in_the_file(copy: Path) -> None:
    segment = next(copy.glob("records/log-*.jsonl"))
    lines = segment.read_bytes().count(b"\n")
    with segment.open("ab") as file:
        file.write(b"nonsense\n" + to_line(some.an_ended()))
    assert f"line {lines + 1}: damaged" in (sentence(copy) or "")


# --- what is asked for ----------------------------------------------------------------------------


def test_frames_columns_and_filters_that_are_not_there_are_refused(whole: Path) -> None:
    import pyarrow.dataset as ds

    run = metatune.read_run(whole)
    with pytest.raises(RunError, match="found frame 'score'; allowed: trials, scores"):
        run.read("score")
    with pytest.raises(RunError, match="scores: found column gain; allowed: trial, round"):
        run.read("scores", ["trial", "gain"])
    with pytest.raises(RunError, match=r"scores: found filter .*; columns: trial, round"):
        run.read("scores", where=ds.field("spilt") == "test")
    with pytest.raises(RunError, match=r"scores: found filter .*; columns: trial, round"):
        run.read("scores", where=ds.field("rung") == "last")
