"""The clock: what the verdict will take, from what trials took."""

from __future__ import annotations

import pytest

from metatune.budget import (
    Limit,
    core_seconds,
    entrants_seconds,
    seldom,
    trial_seconds,
    wall_clock,
)
from metatune.history import History
from metatune.records.rows import Asked, Ended, Row, Scored, State


def trial(
    number: int, seconds: float, state: State | None = "completed", rung: int = 3
) -> list[Row]:
    """A trial whose training took so many seconds, scored in 2, at one rung."""
    name = f"t{number}"
    rows: list[Row] = [
        Asked(name, 1, number, name, "proposed", {}, name, "a", {}),
        Scored(name, 1, rung, "select", 0, 1, seconds, 2.0, None, ["a"], ["g"], [1.0], False),
    ]
    return rows + ([Ended(name, state, "", seconds + 2)] if state else [])


def history(*trials: list[Row]) -> History:
    return History(1, [row for rows in trials for row in rows])


def seconds(of: History, others: int = 1, named: tuple[str, ...] = ()) -> list[float]:
    """By their training alone."""
    return entrants_seconds(
        of, named, others, lambda trial: trial.at(trial.rungs[-1]).train_seconds
    )


def test_nothing_is_set_aside_before_a_trial_has_come_to_its_end() -> None:
    assert seconds(history()) == []
    assert seconds(history(trial(0, 10.0, None), trial(1, 10.0, "stopped"))) == []


def test_entrants_are_taken_to_be_between_the_mean_and_the_slowest_of_the_leaders() -> None:
    found = seconds(history(trial(0, 10.0), trial(1, 30.0)), others=3)
    assert found == [pytest.approx((20 + 30) / 2)] * 3


def test_as_many_leaders_again_as_take_part_are_looked_at() -> None:
    leaders = history(trial(0, 10.0), trial(1, 30.0), trial(2, 90.0))  # equally good
    assert seconds(leaders, others=1) == [pytest.approx((20 + 30) / 2)]


def test_who_takes_part_in_any_case_takes_what_it_took() -> None:
    found = seconds(history(trial(0, 10.0), trial(1, 30.0)), named=("t1", "t0", "not there yet"))
    assert found == pytest.approx([30.0, 10.0, 25.0, 25.0])


def test_trials_that_did_not_train_to_the_end_tell_nothing() -> None:
    base = history(trial(0, 10.0))
    more = history(
        trial(0, 10.0), trial(1, 900.0, "stopped"), trial(2, 900.0, None),
        trial(3, 0.1, "completed", rung=1), trial(4, 900.0, "diverged"),
    )  # fmt: skip
    assert seconds(more) == seconds(base)


@pytest.mark.parametrize(("trainings", "workers", "expected"), [
    ((), 2, 0), ((10,), 1, 10), ((10, 20), 1, 30), ((10,), 64, 10), ((10, 10), 2, 15),
    ((10, 10, 10, 30), 2, 45),  # at the latest: 40 if the longest comes last
])  # fmt: skip
def test_workers_have_made_trainings_by_the_worst_of_orders(
    trainings: tuple[float, ...], workers: int, expected: float
) -> None:
    assert wall_clock(trainings, workers) == pytest.approx(expected)


def test_a_trial_takes_what_ended_ones_took_on_average_stopped_ones_included() -> None:
    assert trial_seconds(history(trial(0, 8.0, None))) == 0.0
    found = history(trial(0, 8.0), trial(1, 18.0, "stopped"), trial(2, 99.0, None))
    assert trial_seconds(found) == pytest.approx((10 + 20) / 2)


def test_core_seconds_are_those_of_trials_confirmation_and_trainings_anew() -> None:
    rows = [*trial(0, 10.0), *trial(1, 5.0, None)]
    assert core_seconds(History(1, rows)) == pytest.approx(12 + 7)
    rows.append(Scored("t0", 1, 3, "confirm", 0, 1, 10.0, 3.0, None, ["a"], ["g"], [1.0], False))
    rows.append(Scored("t0", 1, 3, "test", 1, 1, 11.0, 4.0, None, ["a"], ["g"], [1.0], False))
    assert core_seconds(History(1, rows)) == pytest.approx(12 + 7 + 3 + 15)
    assert core_seconds(History(1, rows), before=1) == 0
    assert core_seconds(History(1, rows), before=2) == core_seconds(History(1, rows))


@pytest.mark.parametrize(("used", "rounds", "another"), [
    (69.0, 1, True), (71.0, 1, False),  # 100 - 20 set aside - 10 for the next
    (29.0, 2, True), (36.0, 2, False),  # an even share: (80 - 10) / 2 from 10 on, 10 for the next
])  # fmt: skip
def test_a_round_uses_its_share_of_what_was_left_at_its_start(
    used: float, rounds: int, another: bool
) -> None:
    limit = Limit(total=100.0, before=10.0, used=used, workers=1)
    assert limit.allows_another(10.0, 20.0, rounds) == another


def test_an_estimate_is_made_anew_only_now_and_then_but_asked_for_until_there_is_one() -> None:
    made = iter([None, None, 5.0, 4.0, 3.0])
    left = seldom(lambda: next(made), every=3600)
    assert [left() for _ in range(5)] == [None, None, 5.0, 5.0, 5.0]
    left = seldom(lambda: next(made), every=0)
    assert [left(), left()] == [4.0, 3.0]
