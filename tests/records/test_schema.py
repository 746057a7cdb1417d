"""The frames have exactly the columns, dtypes and index that the documentation says."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import metatune
from metatune.records.compaction import compact
from metatune.records.folder import RunFolder
from metatune.records.schema import COLUMNS, FRAMES, described, schema
from metatune.tasks.base import SPLITS

from . import strategies_of_rows as some
from .conftest import append

NAMES = ("trials", "scores", "curves", "rounds", "tasks", "looks", "verdicts")


def test_every_column_says_its_meaning_and_numbers_their_unit() -> None:
    for name in COLUMNS:
        for column in schema(name):
            assert column.metadata[b"meaning"]
    assert schema("trials").field("seconds").metadata[b"unit"] == b"s"
    assert schema("scores").metadata[b"metatune_schema"] == b"6"


def test_the_documentation_has_a_line_for_every_column_of_every_frame() -> None:
    lines = list(described())
    assert tuple(FRAMES) == NAMES
    assert len({(line.frame, line.column) for line in lines}) == len(lines)
    assert {line.frame for line in lines} == set(NAMES)
    assert all(line.meaning and line.dtype for line in lines)
    assert [(line.frame, line.column) for line in lines if line.index] == [("trials", "trial")]
    assert "head.kind" in FRAMES["trials"].more


def documented(frame: pd.DataFrame, name: str) -> None:
    """Asserts that a frame is what is said of it."""
    about = FRAMES[name]
    assert frame.index.name == (about.index or None)
    whole = frame.reset_index() if about.index else frame
    columns = [column.name for column in about.columns]
    assert list(whole.columns)[: len(columns)] == columns
    assert about.more or len(whole.columns) == len(columns)
    for column in about.columns:
        assert str(whole[column.name].dtype) == column.dtype, column.name
        if not column.nullable:
            assert whole[column.name].notna().all(), column.name
        if column.choices:
            assert tuple(whole[column.name].cat.categories) == column.choices


@pytest.mark.parametrize("name", NAMES)
def test_the_frames_of_a_finished_run_are_as_documented(finished: Path, name: str) -> None:
    frame = getattr(metatune.read_run(finished), name)
    assert len(frame)
    documented(frame, name)


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_so_are_those_of_a_run_that_has_just_begun(
    about: RunFolder, name: str, compacted: bool
) -> None:
    documented(getattr(metatune.read_run(about.path), name), name)
    append(about, some.an_asked(), some.a_scored())
    if compacted:
        compact(about)
    append(about, some.an_asked(1), some.a_scored(rung=2))
    documented(getattr(metatune.read_run(about.path), name), name)


def test_settings_of_strategies_have_the_narrowest_dtype_that_holds_them(finished: Path) -> None:
    trials = metatune.read_run(finished).trials
    own = trials.columns[len(FRAMES["trials"].columns) - 1 :]
    dtypes = set(trials[own].dtypes.astype(str))
    assert {"str", "Int64", "float64"} <= dtypes <= {"str", "Int64", "float64", "boolean", "object"}
    assert trials["inner.kind"].dtype == "str"


def test_splits_are_those_of_a_family() -> None:
    assert FRAMES["scores"].columns[3].choices == SPLITS
