"""What the winner is against others on each task, and who comes how close to the best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from handmade import GROUPS, TASKS, Story
from inline_runner import rows_of

import metatune
from metatune.analysis import paired_differences, performance_profile, task_matrix, verdict_table
from metatune.records.folding import tables
from metatune.records.reading import Run
from metatune.records.rows import Concluded


def judged(groups: int = len(GROUPS)) -> Story:
    """``new`` beats r2d2 on all tasks but those of the first group; the default is worst."""
    story = Story(groups=GROUPS[:groups])
    default, rival, winner = (story.trial(name, 0.5) for name in ("protonet", "r2d2", "new"))
    for replica in (1, 2):
        luck = 0.02 * (replica - 1)
        story.score(default, "test", 0.2, replica=replica)
        story.score(rival, "test", 0.5 - luck, replica=replica)
        own = [0.4 if task % groups == 0 else 0.6 + task / 100 for task in range(TASKS)]
        story.score(winner, "test", [score + luck for score in own], replica=replica)
    story.rows.append(Concluded(winner, rival, "new groups", "new beats r2d2"))
    return story


def test_each_task_has_its_scores_over_trainings_and_their_differences() -> None:
    frame = paired_differences(judged().run())
    assert frame.index.names == ["group", "task"]
    assert len(frame) == TASKS
    row = frame.loc[(GROUPS[1], "test-1")]
    assert row[["winner", "rival", "default"]].to_list() == pytest.approx([0.62, 0.49, 0.2])
    assert row[["over_rival", "gain"]].to_list() == pytest.approx([0.13, 0.42])
    assert frame["over_rival"].is_monotonic_decreasing
    assert set(frame.index.get_level_values("group")[frame["over_rival"] < 0]) == {GROUPS[0]}


def test_each_group_has_the_means_of_its_tasks() -> None:
    run = judged().run()
    tasks, groups = paired_differences(run), paired_differences(run, by="group")
    assert groups["tasks"].to_dict() == dict.fromkeys(GROUPS, 2)
    for group, row in groups.iterrows():
        assert row["over_rival"] == pytest.approx(tasks.loc[group, "over_rival"].mean())
    assert groups["over_rival"].is_monotonic_decreasing


def test_the_means_are_the_verdicts_by_group_or_by_task_as_the_claim_has_it(finished: Path) -> None:
    run = judged().run()
    row = verdict_table(run).loc["r1-0002"]
    means = paired_differences(run, by="group").mean()
    assert means[["over_rival", "gain"]].to_list() == pytest.approx(
        row[["over_rival", "gain"]].to_list()
    )
    real = metatune.read_run(finished)
    row = verdict_table(real).loc[real.verdicts.iloc[-1]["winner"]]
    means = paired_differences(real).mean()
    assert means[["winner", "over_rival", "gain"]].to_list() == pytest.approx(
        row[["score", "over_rival", "gain"]].to_list()
    )


def test_before_the_verdict_both_are_empty(finished: Path) -> None:
    info = metatune.read_run(finished).info
    for run in (Story().run(), Run(finished, info, tables(rows_of(finished)[:10]))):
        assert paired_differences(run).empty
        assert paired_differences(run, by="group").empty
        assert performance_profile(run).empty


def test_a_profile_counts_the_tasks_on_which_one_is_at_most_so_far_behind(finished: Path) -> None:
    run = metatune.read_run(finished)
    frame, matrix = performance_profile(run), task_matrix(run)
    behind = matrix.sub(matrix.min(axis=1), axis=0)  # an error: the least is the best
    for _, row in frame.iterrows():
        assert row["share"] == pytest.approx((behind[row["trial"]] <= row["within"]).mean())
    for _, own in frame.groupby("trial"):
        assert own["within"].iloc[0] == 0
        assert own["share"].iloc[-1] == 1
        assert own["within"].is_monotonic_increasing
        assert own["share"].is_monotonic_increasing
    best = frame[frame["within"] == 0]["share"].sum()
    assert best == pytest.approx(1)  # no two tie here


def test_where_the_claim_is_about_groups_each_of_them_counts_alike() -> None:
    story = judged(groups=7)  # of 16 tasks: two groups have three, five have two
    frame = performance_profile(story.run())
    own = frame[(frame["name"] == "r2d2") & (frame["within"] == 0)]
    assert own["share"].to_list() == pytest.approx([1 / 7])
    assert np.isclose(3 / 16, 1 / 7) is np.False_
