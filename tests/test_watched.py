"""Work that is watched: what is done, not done yet, and hangs."""

from __future__ import annotations

from threading import Event, current_thread

import pytest

from metatune.runner.watched import Hung, Watched

NEVER, LONG = 0.0, 600.0  # seconds


def test_a_call_gives_what_the_work_gives_and_all_work_is_one_threads() -> None:
    watched: Watched[str] = Watched()
    names = {watched.call(lambda: current_thread().name, LONG, LONG) for _ in range(5)}
    assert len(names) == 1
    assert names != {current_thread().name}


def test_what_the_work_raises_is_raised_and_further_work_is_done() -> None:
    watched: Watched[int] = Watched()
    for error in (ValueError("no"), SystemExit(3)):

        def fail(error: BaseException = error) -> int:
            raise error

        with pytest.raises(type(error)):
            watched.call(fail, LONG, LONG)
    assert watched.call(lambda: 7, LONG, LONG) == 7


def test_work_that_takes_longer_than_the_wait_is_waited_for_and_not_begun_twice() -> None:
    watched: Watched[int] = Watched()
    begun: list[int] = []
    gate = Event()

    def slow() -> int:
        begun.append(1)
        gate.wait()
        return 3

    assert watched.call(slow, NEVER, LONG) is None
    assert watched.call(slow, NEVER, None) is None
    gate.set()
    assert watched.call(slow, LONG, LONG) == 3
    assert begun == [1]


def test_work_hangs_where_it_stands_once_there_was_no_progress_for_so_long() -> None:
    watched: Watched[None] = Watched()
    gate, here = Event(), Event()

    def stand_still() -> None:
        here.set()
        gate.wait()

    assert watched.call(stand_still, NEVER, LONG) is None
    here.wait()
    watched.progressed()
    assert watched.call(stand_still, NEVER, LONG) is None
    found = watched.call(stand_still, LONG, 0.0)
    assert isinstance(found, Hung)
    assert "in stand_still" in found.where
    assert "gate.wait()" in found.where
    gate.set()
