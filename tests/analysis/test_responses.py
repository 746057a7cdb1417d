"""How gains and costs answer to a knob."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from handmade import TWO, Story, plan_of, prototypes

from metatune.analysis import importance, leaderboard, response
from metatune.errors import RunError
from metatune.records.rows import Asked

KNOB = "head.scale"


def tried() -> Story:
    """Twelve scales: the larger the better and, by what a task takes, the dearer."""
    story = Story(plan_of(TWO))
    story.trial("protonet", 0.5, 0.5, 0.5, seconds=0.05)
    for number in range(12):
        score = 0.4 + number / 50
        done = number % 2 == 0
        story.trial(
            f"new-{number}", *[score] * (3 if done else 1),
            state="completed" if done else "stopped",
            strategy=prototypes(0.2 + number / 4), seconds=0.01 * (number + 1),
        )  # fmt: skip
    return story


def test_each_trial_has_its_value_and_its_gain_in_the_order_of_values() -> None:
    run = tried().run()
    frame, board = response(run, KNOB), leaderboard(run)
    assert frame["value"].is_monotonic_increasing
    assert len(frame) == 13
    for trial, row in frame.iterrows():
        assert row["value"] == json.loads(str(run.trials.loc[trial, "params"]))[KNOB]
        assert row["gain"] == board.loc[trial, "gain"]
        assert row["state"] == board.loc[trial, "state"]


def test_the_median_is_that_of_the_trials_in_the_same_bin() -> None:
    frame = response(tried().run(), KNOB)
    assert 1 < frame["bin"].nunique() < len(frame)
    for _, own in frame.groupby("bin"):
        assert own["median"].to_list() == pytest.approx([own["gain"].median()] * len(own))


def test_a_cost_answers_in_its_own_unit() -> None:
    frame = response(tried().run(), KNOB, objective="adapt_seconds")
    own = frame[frame["name"] != "protonet"]
    assert own["adapt_seconds"].to_list() == pytest.approx([0.01 * (n + 1) for n in range(12)])


def test_ways_of_learning_stand_in_place_of_a_knob() -> None:
    frame = response(tried().run(), "structure")
    assert set(frame["value"]) == {prototypes(1.0).structure()}


def test_trials_without_the_knob_or_without_a_gain_are_left_out() -> None:
    story = tried()
    story.trial("silent", state="failed")
    assert "silent" not in set(response(story.run(), KNOB)["name"])
    assert response(story.run(), "head.other").empty
    assert response(Story().run(), KNOB).empty


def test_flags_and_choices_are_words() -> None:
    story = tried()
    story.rows = [
        replace(row, params={"flag": row.number % 2 == 0}) if isinstance(row, Asked) else row
        for row in story.rows
    ]
    assert set(response(story.run(), "flag")["value"]) == {"true", "false"}


def test_an_unknown_objective_is_refused_in_a_sentence() -> None:
    run = tried().run()
    for ask in (
        lambda: response(run, KNOB, objective="luck"),
        lambda: importance(run, objective="x"),
    ):
        with pytest.raises(RunError, match="allowed: score, adapt_seconds"):
            ask()


def test_importance_for_a_cost_favours_what_is_cheap_and_for_the_score_what_is_good() -> None:
    run = tried().run()
    for objective, best in (("score", "3"), ("adapt_seconds", "0.2")):
        favoured = importance(run, objective=objective).loc[KNOB, "favoured"]
        ends = [float(part) for part in str(favoured).split(" to ")]
        assert (ends[0] < 1) == (best == "0.2")
