"""Taking turns where there are no locks: claims in a real S3 server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep

import pytest
from s3 import S3

from metatune.errors import RunError
from metatune.place import Place
from metatune.records import claims
from metatune.records.claims import claimed
from metatune.records.folder import RunFolder
from metatune.records.lease import acquire, read_lease

TAKERS = 4


def at_once(action: Callable[[int], str]) -> list[str]:
    """What so many threads make of it that begin together."""
    begin = Barrier(TAKERS)

    def take(number: int) -> str:
        begin.wait()
        return action(number)

    with ThreadPoolExecutor(TAKERS) as pool:
        return list(pool.map(take, range(TAKERS)))


def test_everybody_has_a_turn_and_nobody_two_at_once(s3: S3) -> None:
    place, inside = Place.at(s3.uri("bucket/turns")), list[int]()

    def turn(number: int) -> str:
        with claimed(place, 60):
            inside.append(number)
            sleep(0.05)
            assert inside == [number]
            inside.remove(number)
        return "had it"

    assert at_once(turn) == ["had it"] * TAKERS
    assert not [each for each in place.contents("claims") if each.is_file]


@pytest.mark.parametrize("number", range(3))
def test_of_drivers_that_begin_together_one_gets_the_lease(s3: S3, number: int) -> None:
    folder = RunFolder.create(s3.uri(f"bucket/lease-{number}"))
    held = Barrier(TAKERS)

    def drive(number: int) -> str:
        try:
            with acquire(folder) as lease:
                held.wait()
                return lease.driver
        except RunError as error:
            held.wait()
            return str(error)

    told = at_once(drive)
    refused = [text for text in told if "is being driven by process" in text]
    assert len(refused) == TAKERS - 1
    assert read_lease(folder) is None  # given back


def test_a_turn_that_is_taken_is_waited_for_and_then_refused(s3: S3) -> None:
    place = Place.at(s3.uri("bucket/taken"))
    with claimed(place, 60):
        refusal = "s3://bucket/taken is being opened by another process"
        with pytest.raises(RunError, match=refusal), claimed(place, 0.2):
            pass
    with claimed(place, 0):
        pass


def test_a_turn_that_ends_in_an_error_is_given_back(s3: S3) -> None:
    place = Place.at(s3.uri("bucket/error"))
    with pytest.raises(KeyError), claimed(place, 0):
        raise KeyError
    with claimed(place, 0):
        pass


def test_a_claim_that_a_crash_left_is_overlooked_once_it_is_old(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place.at(s3.uri("bucket/crash"))
    place.write("claims/of-the-dead", "")
    with pytest.raises(RunError, match="claimed"), claimed(place, 0):
        pass
    monkeypatch.setattr(claims, "OLD_SECONDS", 2)
    with claimed(place, 20):
        pass


def test_a_turn_that_took_so_long_that_another_may_have_it_is_refused(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place.at(s3.uri("bucket/slow"))
    monkeypatch.setattr(claims, "OLD_SECONDS", 0.1)
    with pytest.raises(RunError, match="may be another driver's"), claimed(place, 0):
        sleep(0.2)
