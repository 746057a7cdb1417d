"""The frame ``tasks`` equals what is worked out by hand from the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from handmade import TASKS, Story

import metatune
from metatune.analysis import task_matrix, verdict_table
from metatune.records.reading import Run


@pytest.fixture(scope="module")
def run(finished: Path) -> Run:
    return metatune.read_run(finished)


@pytest.mark.parametrize("split", ["select", "confirm", "test"])
def test_a_task_has_the_best_median_and_worst_of_its_row_in_the_matrix(
    run: Run, split: str
) -> None:
    tasks = run.tasks.query("split == @split").set_index(["group", "task"])
    matrix = task_matrix(run, split)
    assert list(tasks.index) == list(matrix.index)
    for place, row in tasks.iterrows():
        scores = matrix.loc[place].dropna()
        assert row["strategies"] == len(scores) > 1
        assert (row["best"], row["worst"]) == (scores.min(), scores.max())  # an error
        assert scores[row["best_trial"]] == row["best"]
        assert row["median"] == pytest.approx(scores.median())
        assert row["spread"] == pytest.approx(scores.std())
        if "r1-0000" in scores:
            assert row["default"] == scores["r1-0000"]
            assert row["gain"] == pytest.approx(scores["r1-0000"] - row["best"])


def test_a_task_says_how_large_it_is(run: Run) -> None:
    assert run.info["episode"]["shot"] == 5
    assert set(run.tasks["shot"]) == set(run.tasks["query"]) == {5}


def test_where_higher_is_better_the_best_is_the_highest_and_the_first_of_equals() -> None:
    story = Story()
    story.trial("protonet", 0.1, 0.2, 0.5)
    first = story.trial("new", 0.1, 0.2, 0.7)
    story.trial("like it", 0.1, 0.2, 0.7)
    tasks = story.run().tasks
    assert len(tasks) == TASKS
    assert set(tasks["best_trial"]) == {first}
    assert tasks["gain"].to_list() == pytest.approx([0.2] * TASKS)
    assert set(tasks["worst"]) == {0.5}
    assert set(tasks["strategies"]) == {3}
    assert tasks[["way", "shot", "query"]].isna().all(axis=None)


def test_on_test_trainings_are_averaged_first() -> None:
    story = Story()
    trials = [story.trial(name, 0.5) for name in ("protonet", "new")]
    for trial, scores in zip(trials, ((0.2, 0.6), (0.5, 0.5)), strict=True):
        for replica, score in enumerate(scores, start=1):
            story.score(trial, "test", score, replica=replica)
    tasks = story.run().tasks.query("split == 'test'")
    assert set(tasks["best"]) == {0.5}
    assert tasks["worst"].to_list() == pytest.approx([0.4] * TASKS)
    assert set(tasks["strategies"]) == {2}


def test_a_task_that_one_strategy_was_scored_on_has_no_spread() -> None:
    story = Story()
    story.trial("new", 0.5)
    tasks = story.run().tasks
    assert tasks["spread"].isna().all()
    assert tasks[["default", "gain"]].isna().all(axis=None)


def test_the_mean_over_test_tasks_of_the_default_is_that_of_the_verdict(run: Run) -> None:
    on_test = run.tasks.query("split == 'test'")
    table = verdict_table(run)
    assert np.mean(on_test["default"]) == pytest.approx(table.loc["r1-0000", "score"])


def test_an_empty_run_has_no_tasks() -> None:
    tasks = Story().run().tasks
    assert tasks.empty
    assert isinstance(tasks, pd.DataFrame)
