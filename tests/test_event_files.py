"""Event files, read back by TensorBoard itself."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from handmade import Story
from rich.console import Console

import metatune
from metatune.analysis import best_over_time
from metatune.errors import RunError
from metatune.event_files import NAME, EventFiles
from metatune.history import History
from metatune.records.rows import Row
from metatune.watch import watch

INFO = {"run": "run", "created": "2026-01-02T03:04:05+00:00"}


def written(run: Path, folder: Path) -> Path:
    """The event files of a run as ``metatune watch --tensorboard`` makes them."""
    watch(run, once=True, tensorboard=folder, console=Console(file=io.StringIO()))
    return folder / run.name


def made(rows: list[Row], folder: Path, *, at_once: bool = True) -> dict[str, bytes]:
    """Event files of rows: their contents by name."""
    files, history = EventFiles(folder, INFO), History(1)
    for row in rows:
        history.add(row)
        files.add(row, history)
        if not at_once:
            files.write()
    files.write()
    return contents(folder / "run")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob(NAME)}


def opened(folder: Path) -> Any:
    """The scalars and metadata in a folder of event files, as TensorBoard reads them."""
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="extra `dashboards`"
    )
    found = accumulators.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found


def session(found: Any) -> tuple[dict[str, Any], int]:
    """A trial's hyperparameters and status, as TensorBoard's HPARAMS reads them."""
    from tensorboard.plugins.hparams import metadata

    by_tag = found.summary_metadata
    read = [
        metadata.parse_session_start_info_plugin_data,
        metadata.parse_session_end_info_plugin_data,
    ]
    tags = (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)
    start, end = (
        parse(by_tag[tag].plugin_data.content) for parse, tag in zip(read, tags, strict=True)
    )
    kinds = ("string_value", "number_value", "bool_value")
    values = {
        name: getattr(value, kind)
        for name, value in start.hparams.items()
        for kind in kinds
        if value.HasField(kind)
    }
    return values, end.status


def test_tensorboard_reads_what_the_records_say(finished: Path, tmp_path: Path) -> None:
    folder, run = written(finished, tmp_path), metatune.read_run(finished)
    begin = run.info["created"]
    trials = run.trials[run.trials["origin"] != "ensemble"]
    assert len(trials) == 9
    names = {f"{trial} {name}" for trial, name in trials["name"].items()}
    assert {each.name for each in folder.iterdir()} == {*names, "search"}
    for trial, row in trials.iterrows():
        found = opened(folder / f"{trial} {row['name']}")
        values, status = session(found)
        assert values == {
            "name": row["name"],
            "origin": row["origin"],
            "structure": row["structure"],
            **({} if pd.isna(row["params"]) else json.loads(row["params"])),
        }
        assert status == (1 if row["state"] in ("completed", "stopped") else 2)
        own = run.curves[run.curves["trial"] == trial]
        for split, by in (("select", "resource"), ("confirm", "replica"), ("test", "replica")):
            curve = own[(own["split"] == split) & (own["replica"].eq(0) | (split == "test"))]
            if curve.empty:
                assert f"{split}/score" not in found.Tags()["scalars"]
                continue
            events = found.Scalars(f"{split}/score")
            assert [event.step for event in events] == curve[by].to_list()
            assert [event.value for event in events] == pytest.approx(curve["score"].to_list())
            times = [event.wall_time - timestamp(begin) for event in events]
            assert times == pytest.approx(curve["at"].to_list(), abs=1e-3)


def timestamp(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def test_the_best_so_far_is_that_of_the_analysis(finished: Path, tmp_path: Path) -> None:
    expected = best_over_time(metatune.read_run(finished))["best"].to_list()
    events = opened(written(finished, tmp_path) / "search").Scalars("best/round 1")
    assert [event.step for event in events] == list(range(1, len(expected) + 1))
    assert [event.value for event in events] == pytest.approx(expected)


def test_row_by_row_they_are_as_at_once(tmp_path: Path) -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("new", 0.4, state="stopped")
    story.trial("last", 0.6, 0.7, 0.8)
    at_once = made(story.rows, tmp_path / "at once")
    assert made(story.rows, tmp_path / "by row", at_once=False) == at_once


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_files_that_are_there_are_gone_on_with(tmp_path: Path, cut: int) -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    whole = made(story.rows, tmp_path / "whole")
    made(story.rows[:3], tmp_path / "part")
    (file,) = (tmp_path / "part" / "run").rglob(NAME)
    file.write_bytes(file.read_bytes()[: -cut or None])  # the writer was killed at it
    assert made(story.rows, tmp_path / "part") == whole


def test_files_of_a_run_that_was_begun_anew_are_replaced_and_of_others_are_left(
    tmp_path: Path,
) -> None:
    old, new = Story(), Story()
    old.trial("protonet", 0.1, 0.2, 0.3)
    new.trial("protonet", 0.4, 0.5, 0.6)
    made(old.rows, tmp_path / "both")
    shutil.copytree(tmp_path / "both" / "run", tmp_path / "both" / "other")
    other = contents(tmp_path / "both" / "other")
    assert made(new.rows, tmp_path / "both") == made(new.rows, tmp_path / "new")
    assert contents(tmp_path / "both" / "other") == other


def test_names_leave_the_folder_nowhere(tmp_path: Path) -> None:
    story = Story()
    story.trial("../../out: [of] it", 0.5, 0.5, 0.5)
    (name, _) = sorted(made(story.rows, tmp_path / "events"))
    assert name == f"r1-0000 .._.._out_of_it/{NAME}"
    assert [each.name for each in tmp_path.iterdir()] == ["events"]


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    story = Story()
    story.trial("protonet", 0.5)
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match=r"taken/run cannot be written: Not a directory"):
        made(story.rows, tmp_path / "taken")
