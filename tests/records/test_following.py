"""Following a run: every row once, in order, and no byte of the log twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from metatune.errors import RunError
from metatune.records.compaction import compact
from metatune.records.folder import RunFolder
from metatune.records.following import Follower
from metatune.records.log import Log, segments, to_line
from metatune.records.reading import read_rows

from . import strategies_of_rows as some


def test_each_row_is_told_once_over_all_drivers(folder: RunFolder) -> None:
    rows = some.a_run()
    follower = Follower(folder)
    assert follower.news() == []
    told = []
    for driver, part in (("first", rows[:5]), ("second", rows[5:])):
        with Log.open(folder, driver) as log:
            for row in part:
                log.append(row)
                found = follower.news()
                assert found == [row]
                told += found
    assert follower.news() == []
    assert told == read_rows(folder) == Follower(folder).news()


def test_what_was_read_is_not_read_again(folder: RunFolder) -> None:
    follower = Follower(folder)
    with Log.open(folder, "driver") as log:
        log.append(*some.a_run())
        follower.news()
        (segment,) = segments(folder)
        size = segment.stat().st_size
        with segment.open("r+b") as file:
            file.write(b"?" * (size - 1))  # whoever reads it now finds damage
        log.append(some.an_asked(7))
    assert follower.news() == [some.an_asked(7)]


def test_a_line_that_is_still_being_written_is_waited_for(folder: RunFolder) -> None:
    segment = folder.records / "log-0001-driver.jsonl"
    line = to_line(some.an_asked())
    follower = Follower(folder)
    segment.write_bytes(line[:-5])
    assert follower.news() == []
    segment.write_bytes(line)
    assert follower.news() == [some.an_asked()]


def test_damage_is_told_with_its_line_in_the_whole_segment(folder: RunFolder) -> None:
    segment = folder.records / "log-0001-driver.jsonl"
    lines = [to_line(some.an_asked(number)) for number in range(4)]
    follower = Follower(folder)
    segment.write_bytes(b"".join(lines[:2]))
    follower.news()
    segment.write_bytes(b"".join([*lines[:2], b"damaged\n", lines[3]]))
    with pytest.raises(RunError, match=r"log-0001-driver\.jsonl, line 3: damaged"):
        follower.news()


def test_a_log_that_became_shorter_is_not_followed_any_further(folder: RunFolder) -> None:
    segment = folder.records / "log-0001-driver.jsonl"
    segment.write_bytes(to_line(some.an_asked(0)) + to_line(some.an_asked(1)))
    follower = Follower(folder)
    follower.news()
    segment.write_bytes(to_line(some.an_asked(0)))
    with pytest.raises(RunError, match="has become shorter: watch the run anew"):
        follower.news()


def test_a_part_of_the_log_that_is_missing_is_told(folder: RunFolder) -> None:
    with Log.open(folder, "driver") as log:
        log.append(*some.a_run())
    compact(folder)
    Path(segments(folder)[0]).unlink()
    with pytest.raises(RunError, match="is missing: the run cannot go on"):
        Follower(folder)
