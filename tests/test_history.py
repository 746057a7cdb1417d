"""The history: a fold over rows that repeats nothing and forgets nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from handmade import Story
from hypothesis import given
from hypothesis import strategies as st

from metatune.history import History, differences, mean_gain, merits
from metatune.records.rows import (
    Asked,
    Concluded,
    Ended,
    Looked,
    Origin,
    Row,
    Scored,
    State,
    Turned,
)
from metatune.tasks.base import Split


def asked(trial: str, origin: Origin = "proposed", at: float = 0.0) -> Asked:
    return Asked(trial, 1, int(trial[1:]), trial, origin, {}, trial, "a", {}, at)


def scored(
    trial: str,
    rung: int,
    scores: list[float],
    split: Split = "select",
    replica: int = 0,
    groups: list[str] | None = None,
) -> Scored:
    return Scored(
        trial=trial,
        round=1,
        rung=rung,
        split=split,
        replica=replica,
        resource=100 * rung,
        train_seconds=float(rung),
        score_seconds=0.5,
        train_loss=None,
        tasks=[f"{split}-{number}" for number in range(len(scores))],
        groups=groups or ["g"] * len(scores),
        scores=scores,
        transductive=False,
    )


def ended(trial: str, state: State = "completed", replica: int = 0) -> Ended:
    return Ended(trial, state, "", 3.0, replica)


ROWS: list[Row] = [
    asked("t0", "default", at=1.0),
    scored("t0", 1, [0.5, 0.5]),
    asked("t1", at=2.0),
    scored("t0", 2, [0.6, 0.8]),
    scored("t1", 1, [0.4, 0.8]),
    ended("t1", "stopped"),
    ended("t0"),
    Looked("confirm", 1, ["t0"]),
    scored("t0", 2, [0.9], "confirm"),
    Turned(1, ["t0"], [], 9.0, at=12.5),
    Looked("test", 1, ["t0"]),
    scored("t0", 2, [0.7], "test", replica=1),
    ended("t0", "diverged", replica=2),
    Concluded("t0", "t0", "new tasks", "so it is"),
]


def state(history: History) -> object:
    return (
        {name: (t.asked, t.scores, t.ended, t.replicas) for name, t in history.trials.items()},
        history.looks,
        history.turns,
        history.verdict,
        history.at,
    )


# --- folding --------------------------------------------------------------------------------------


def test_every_row_finds_its_place() -> None:
    history = History(1, ROWS)
    default, other = history.trials["t0"], history.trials["t1"]
    assert history.default is default
    assert default.rungs == [1, 2]
    assert other.rungs == [1]
    assert default.at(2).scores == [0.6, 0.8]
    assert (default.on("confirm"), default.on("test", 1)) == (ROWS[8], ROWS[11])
    assert default.on("test") is None
    assert (default.ended, other.ended) == (ROWS[6], ROWS[5])
    assert default.replicas == {2: ROWS[12]}
    assert (history.looks, history.turns) == ([ROWS[7], ROWS[10]], [ROWS[9]])
    assert history.verdict == ROWS[13]
    assert history.at == 12.5


def test_a_trials_latest_scores_are_those_of_its_highest_rung() -> None:
    history = History(1, [asked("t0"), scored("t0", 2, [2.0]), scored("t0", 1, [1.0])])
    trial = history.trials["t0"]
    assert trial.rungs == [1, 2]
    latest = trial.latest()
    assert latest is not None
    assert latest.rung == 2
    assert History(1, [asked("t0")]).trials["t0"].latest() is None


@given(st.lists(st.integers(0, len(ROWS) - 1), max_size=20))
def test_repeated_rows_change_nothing(again: list[int]) -> None:
    history = History(1, ROWS)
    for number in again:
        history.add(ROWS[number])
    assert state(history) == state(History(1, ROWS))


@given(st.integers(0, len(ROWS)))
def test_a_fold_in_two_parts_is_a_fold(cut: int) -> None:
    history = History(1, ROWS[:cut])
    for row in ROWS[cut:]:
        history.add(row)
    assert state(history) == state(History(1, ROWS))


def test_scores_that_were_recorded_stand() -> None:
    history = History(1, ROWS)
    history.add(scored("t0", 1, [0.0, 0.0]))
    assert history.trials["t0"].at(1).scores == [0.5, 0.5]


def test_trials_stand_in_the_order_of_their_asking() -> None:
    names = ["t3", "t1", "t2"]
    assert list(History(1, [asked(name) for name in names]).trials) == names


# --- differences to the default -------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_a_gain_is_the_paired_difference_to_the_default_where_better_is_positive(
    sign: int,
) -> None:
    history = History(sign, ROWS)
    assert history.gain(history.trials["t1"], 1) == pytest.approx(sign * 0.1)
    assert history.gain(history.trials["t0"], 2) == 0.0
    assert history.gains(history.trials["t0"]) == {1: 0.0, 2: 0.0}


def test_no_gain_is_known_before_the_default_was_scored_at_that_rung() -> None:
    history = History(1, [asked("t1"), scored("t1", 1, [2.0]), scored("t1", 2, [3.0])])
    trial = history.trials["t1"]
    assert history.default is None
    assert history.gains(trial) == {}
    history.add(asked("t0", "default"))
    assert history.gains(trial) == {}
    history.add(scored("t0", 1, [1.5]))
    assert history.gains(trial) == {1: 0.5}
    assert history.gain(trial, 2) is None
    history.add(scored("t0", 2, [1.0]))
    assert history.gains(trial) == {1: 0.5, 2: 2.0}


def test_a_default_that_is_done_at_the_first_rung_stands_at_its_score() -> None:
    history = History(1, [
        asked("t0", "default"), scored("t0", 1, [1.0]), asked("t1"), scored("t1", 1, [2.0]),
        scored("t1", 2, [3.0]),
    ])  # fmt: skip
    trial = history.trials["t1"]
    assert history.gains(trial) == {1: 1.0}
    history.add(ended("t0"))
    assert history.gains(trial) == {1: 1.0, 2: 2.0}


@pytest.mark.parametrize(("state", "gains"), [
    ("completed", {1: 4.0 - 3.0}), ("stopped", {1: 4.0 - 1.0}), ("failed", {1: 4.0 - 1.0}),
])  # fmt: skip
def test_a_trial_that_is_done_at_the_first_rung_is_compared_with_the_default_at_its_end(
    state: State, gains: dict[int, float]
) -> None:
    history = History(1, [
        asked("t0", "default"), scored("t0", 1, [1.0]), asked("t1"), scored("t1", 1, [4.0]),
        ended("t1", state), scored("t0", 2, [3.0]),
    ])  # fmt: skip
    trial = history.trials["t1"]
    assert history.gains(trial) == ({} if state == "completed" else gains)
    history.add(ended("t0"))
    assert history.gains(trial) == gains


def test_few_groups_weigh_by_tasks_and_many_by_groups() -> None:
    def gain(groups: list[str]) -> float:
        values = [7.0] + [0.0] * (len(groups) - 1)
        own = scored("t1", 1, values, groups=groups)
        return mean_gain(own, scored("t0", 1, [0.0] * len(groups), groups=groups), 1)

    assert gain(["a"] + ["b"] * 6) == pytest.approx(1.0)
    assert gain(["a", *"bbcdefg"]) == pytest.approx(1.0)  # 7 groups: a weighs a seventh


def test_scores_on_other_tasks_are_not_compared() -> None:
    one, other = scored("t0", 1, [1.0, 2.0]), scored("t1", 1, [1.0, 2.0], "confirm")
    with pytest.raises(ValueError, match="t0 and t1 were not scored on the same tasks"):
        differences(one, other, 1)
    assert differences(one, replace(one, scores=[3.0, 1.0]), -1) == [2.0, -1.0]


# --- costs ----------------------------------------------------------------------------------------


def test_costs_are_log_ratios_to_the_default_at_the_same_rung_where_it_was() -> None:
    rows: list[Row] = [
        asked("t0", "default"),
        replace(scored("t0", 1, [1.0, 2.0]), score_seconds=0.2),
        asked("t1"),
        replace(scored("t1", 1, [1.0, 2.0]), score_seconds=0.1),
        replace(scored("t1", 2, [1.0, 2.0]), score_seconds=0.8),
    ]
    history = History(1, rows)
    trial = history.trials["t1"]
    assert history.costs(trial, ["adapt_seconds"]) == {
        "adapt_seconds": {1: pytest.approx(math.log(0.5))}
    }
    assert history.costs(trial, []) == {}
    history.add(replace(scored("t0", 2, [1.0, 2.0]), score_seconds=0.4))
    assert history.costs(trial, ["adapt_seconds"])["adapt_seconds"] == pytest.approx(
        {1: math.log(0.5), 2: math.log(2)}
    )
    assert history.costs(history.trials["t0"], ["adapt_seconds"]) == {
        "adapt_seconds": {1: 0.0, 2: 0.0}
    }


def test_a_race_that_was_lost_on_the_first_tasks_costs_what_one_of_them_took() -> None:
    whole = replace(scored("t0", 1, [1.0, 2.0, 3.0, 4.0]), score_seconds=0.4)
    part = replace(scored("t1", 1, [1.0, 2.0]), score_seconds=0.4)
    history = History(1, [asked("t0", "default"), whole, asked("t1"), part])
    found = history.costs(history.trials["t1"], ["adapt_seconds"])
    assert found["adapt_seconds"][1] == pytest.approx(math.log(2))


def test_merits_are_higher_where_a_trial_is_better_or_cheaper() -> None:
    one = replace(scored("t0", 1, [0.5, 0.5]), score_seconds=0.2)
    other = replace(scored("t1", 1, [0.25, 0.25]), score_seconds=0.1)
    assert merits(other, one, 1, ["adapt_seconds"]) == pytest.approx((-0.25, math.log(2)))
    assert merits(other, one, -1, []) == (0.25,)


# --- ensembles and what a verdict owes -----------------------------------------------------------


def test_an_ensemble_is_found_by_its_id_and_is_no_trial() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("new", 0.6, 0.6, 0.6)
    name = story.ensemble("ensemble", "new", "protonet")
    story.score(name, "select", 0.7)
    story.rows.append(Ended(name, "failed", "lost", 0.0, replica=1))
    history = History(1, story.rows)
    assert list(history.trials) == ["r1-0000", "r1-0001"]
    own = history.find(name)
    assert own.at(3).scores[0] == 0.7
    assert own.was_trained(1)
    assert not own.was_trained(2)
    assert history.digests(own) == [history.trials[t].asked.digest for t in ("r1-0001", "r1-0000")]


def test_a_verdict_owes_each_its_trainings_and_more_of_what_is_blended_with_itself() -> None:
    story = Story()
    for name in ("protonet", "new"):
        story.trial(name, 0.5, 0.5, 0.5)
    story.ensemble("ensemble", "new", "protonet")
    story.ensemble("protonet x 3", *["protonet"] * 3)
    history = History(1, story.rows)

    def owed(*entrants: str) -> list[tuple[str, int]]:
        return [(trial.id, number) for trial, number in history.owed(entrants, 2)]

    both = [("r1-0001", 1), ("r1-0000", 1), ("r1-0001", 2), ("r1-0000", 2)]
    assert owed("r1-0001", "r1-0000") == both
    assert owed("r1-0001", "r1-0000", "r1-e0", "r1-e1") == [*both, ("r1-0000", 3)]


def test_trainings_are_those_of_test_in_their_order() -> None:
    story = Story()
    trial = story.trial("protonet", 0.5, 0.5, 0.5)
    story.score(trial, "confirm", 0.1)
    for replica in (2, 1):
        story.score(trial, "test", replica / 10, replica=replica)
    found = History(1, story.rows).trials[trial].trainings
    assert [row.scores[0] for row in found] == [0.1, 0.2]
