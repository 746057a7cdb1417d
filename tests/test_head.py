"""A head that answers no more is told from one that was only away for a moment."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from time import monotonic, sleep

import pytest

from metatune.errors import RunError
from metatune.runner.head import Head

LOOK = 0.02


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Something that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address_of(server: socket.socket) -> str:
    return "{}:{}".format(*server.getsockname())


def comes_true(condition: Callable[[], bool]) -> bool:
    until = monotonic() + 20
    while not condition() and monotonic() < until:
        sleep(LOOK)
    return condition()


def looked_at(server: socket.socket) -> None:
    """Wait for a look."""
    server.settimeout(20)
    server.accept()[0].close()


def test_a_head_that_goes_is_lost_and_the_sentence_says_how_to_go_on(
    listening: socket.socket,
) -> None:
    head = Head(address := address_of(listening), silent=0.1, look=LOOK)
    looked_at(listening)
    head.check()
    looked_at(listening)  # so the first one was seen to be answered
    listening.close()
    assert comes_true(lambda: head.lost)
    with pytest.raises(RunError, match=f"{address} has not answered for 0.1 s.*resume once"):
        head.check()
    head.close()


def test_a_head_that_comes_back_in_time_was_never_lost(listening: socket.socket) -> None:
    where = listening.getsockname()
    head = Head(address_of(listening), silent=20, look=LOOK)
    looked_at(listening)
    looked_at(listening)
    listening.close()
    assert comes_true(lambda: head._silent_since is not None)
    with socket.create_server(where):
        assert comes_true(lambda: head._silent_since is None)
    assert not head.lost
    head.close()


def test_where_the_head_cannot_be_reached_at_all_nothing_is_concluded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address_of(server)
    head = Head(address, silent=0, look=LOOK)
    sleep(10 * LOOK)
    head.check()
    head.close()
