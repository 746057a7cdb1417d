"""Pairs of strategies and the matrix of tasks equal what numpy gets from the records."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from handmade import Story
from scipy import stats

import metatune
from metatune.analysis import pairwise, task_matrix, verdict_table
from metatune.errors import RunError
from metatune.records.reading import Run
from metatune.statistics import holm


@pytest.fixture(scope="module")
def run(finished: Path) -> Run:
    return metatune.read_run(finished)


def test_a_cell_is_the_score_of_a_task_at_the_highest_rung(run: Run) -> None:
    matrix = task_matrix(run, "select")
    scores = run.scores.query("split == 'select' and replica == 0")
    assert set(matrix.columns) == set(scores["trial"])
    for trial, own in scores.groupby("trial"):
        own = own[own["rung"] == own["rung"].max()].set_index(["group", "task"])["score"]
        assert matrix[trial].dropna().to_dict() == own.to_dict()


def test_on_test_a_cell_is_the_mean_over_trainings(run: Run) -> None:
    matrix = task_matrix(run)
    assert matrix.mean().to_dict() == pytest.approx(verdict_table(run)["score"].to_dict())
    assert len(matrix) == 8


def test_a_split_that_is_none_is_refused(run: Run) -> None:
    with pytest.raises(RunError, match="found split 'train2'; allowed: train, select"):
        task_matrix(run, "train2")


def test_every_pair_is_compared_task_by_task_and_adjusted_for_all_pairs(run: Run) -> None:
    frame, matrix = pairwise(run), task_matrix(run)
    pairs = list(combinations(matrix.columns, 2))
    assert list(zip(frame["a"], frame["b"], strict=True)) == pairs
    for _, row in frame.iterrows():
        gains = (matrix[row["b"]] - matrix[row["a"]]).to_numpy()  # an error: lower is better
        reach = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
        mean = gains.mean()
        told = row["better_by"], row["low"], row["high"]
        assert told == pytest.approx((mean, mean - reach, mean + reach))
        assert (row["claim"], row["units"]) == ("new tasks", 8)
        assert row["name_a"] == run.trials.loc[row["a"], "name"]
    assert (frame["p"] <= 1).all()
    # Adjusting what is adjusted already changes nothing in the largest.
    assert max(holm(frame["p"].to_list())) == pytest.approx(1.0)


def test_the_better_one_is_better_by_a_positive_number_where_higher_is_better() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("high", 0.7, 0.7, 0.7)
    (row,) = pairwise(story.run(), "select").to_dict("records")
    assert (row["name_a"], row["name_b"]) == ("protonet", "high")
    assert row["better_by"] == pytest.approx(-0.2)


def test_of_a_run_that_has_not_come_so_far_both_are_empty() -> None:
    story = Story()
    story.trial("protonet", 0.5)
    assert task_matrix(story.run(), "confirm").empty
    assert pairwise(story.run(), "confirm").empty
