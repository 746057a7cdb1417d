"""How a search went."""

from __future__ import annotations

from pathlib import Path

import pytest
from handmade import Story
from inline_runner import rows_of

import metatune
from metatune.analysis import (
    best_over_time,
    generalisation_gap,
    learning_curves,
    regret,
    verdict_table,
)
from metatune.records.reading import Run
from metatune.records.rows import Scored


@pytest.fixture(scope="module")
def run(finished: Path) -> Run:
    return metatune.read_run(finished)


def test_completed_trials_stand_in_the_order_of_their_ends_with_the_best_so_far(
    run: Run, finished: Path
) -> None:
    frame = best_over_time(run)
    last: dict[str, tuple[float, float]] = {}
    for row in rows_of(finished):
        if isinstance(row, Scored) and (row.split, row.replica) == ("select", 0):
            last[row.trial] = (row.at, sum(row.scores) / len(row.scores))
    done = run.trials.index[run.trials["state"] == "completed"]
    told = {
        t: (at, s) for t, at, s in zip(frame["trial"], frame["at"], frame["score"], strict=True)
    }
    assert told == {trial: pytest.approx(last[trial]) for trial in done}
    assert frame["at"].is_monotonic_increasing
    best = [min(frame["score"][: n + 1]) for n in range(len(frame))]  # an error
    assert frame["best"].to_list() == pytest.approx(best)


def test_the_best_goes_up_where_higher_is_better_and_rounds_start_anew() -> None:
    story = Story()
    for name, score in (("protonet", 0.5), ("high", 0.7), ("low", 0.3)):
        story.trial(name, score, score, score)
    assert best_over_time(story.run())["best"].to_list() == pytest.approx([0.5, 0.7, 0.7])
    assert regret(story.run())["regret"].to_list() == pytest.approx([0.2, 0.0, 0.0])
    assert regret(story.run())["completed"].to_list() == [1, 2, 3]


def test_regret_ends_at_nothing(run: Run) -> None:
    frame = regret(run)
    assert frame["regret"].iloc[-1] == 0
    assert (frame["regret"] >= 0).all()
    assert frame["regret"].is_monotonic_decreasing


def test_a_drop_is_what_is_worse_than_on_select(run: Run) -> None:
    frame, table = generalisation_gap(run), verdict_table(run)
    looked = next(iter(run.looks.query("split == 'confirm'")["trials"]))
    assert sorted(frame.index) == sorted(looked)
    for trial, row in frame.iterrows():
        assert row["confirm_drop"] == pytest.approx(row["confirm"] - row["select"])  # an error
        if trial in table.index:
            assert row["test_drop"] == pytest.approx(table.loc[trial, "score"] - row["select"])
    assert frame["test"].notna().any()


def test_before_anything_is_complete_there_are_frames_without_rows() -> None:
    story = Story()
    assert best_over_time(story.run()).empty
    assert regret(story.run()).empty
    assert generalisation_gap(story.run()).empty


def test_learning_curves_are_the_finalists_rungs_on_select(run: Run, finished: Path) -> None:
    frame = learning_curves(run)
    assert set(frame["trial"]) == set(run.looks.iloc[-1]["trials"])
    for row in rows_of(finished):
        if isinstance(row, Scored) and (row.split, row.replica) == ("select", 0):
            own = frame[(frame["trial"] == row.trial) & (frame["rung"] == row.rung)]
            if row.trial in set(frame["trial"]):
                expected = [row.resource, sum(row.scores) / len(row.scores)]
                assert own[["resource", "score"]].to_numpy()[0].tolist() == pytest.approx(expected)


def test_before_any_look_learning_curves_are_of_the_first_of_the_leaderboard() -> None:
    story = Story()
    for number in range(8):
        story.trial(f"new-{number}", 0.1 * number, 0.1 * number, 0.1 * number)
    frame = learning_curves(story.run())
    assert set(frame["name"]) == {f"new-{number}" for number in range(2, 8)}
    assert frame["rung"].to_list() == [1, 2, 3] * 6
    assert learning_curves(Story().run()).empty
