"""The leaderboard, which is made at once, equals what is told of trials one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from handmade import GROUPS, TASKS, Story, family, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.analysis import leaderboard
from metatune.history import History, Trial, differences
from metatune.objectives import dominators
from metatune.records.rows import Asked, Scored
from metatune.statistics import Estimate, claim_for, estimate

STATES = ["completed", "stopped", "diverged", None]


trials = st.tuples(st.sampled_from(["r2d2", "new"]), st.integers(0, 3), st.sampled_from(STATES))
tales = st.tuples(
    st.sampled_from([1, 5, 6, 8]),  # groups
    st.integers(0, 2**32 - 1),  # seed of the scores
    st.lists(trials, max_size=5, unique_by=lambda trial: trial[0]),
    st.tuples(st.integers(0, 3), st.sampled_from(STATES)),  # the default
    st.none() | st.integers(1, TASKS),  # tasks after which a race was lost
)


def story_of(tale: tuple[Any, ...]) -> Story:
    """A default and some trials, each as far as it came; some lost a race on their first tasks."""
    count, seed, others, default, lost = tale
    groups = GROUPS[:count]
    story, random = Story(plan_of(info=family(groups)), groups=groups), np.random.default_rng(seed)
    for number, (name, rungs, state) in enumerate([("protonet", *default), *others]):
        scores = random.uniform(size=(rungs, TASKS)).round(3).tolist()
        story.trial(name, *scores, state=state, seconds=0.01 * (number + 1))
    if lost is not None:
        for place, row in enumerate(story.rows):
            if isinstance(row, Scored) and row.rung == 2 and row.trial != "r1-0000":
                story.rows[place] = cut(row, lost)
    return story


def cut(row: Scored, tasks: int) -> Scored:
    return replace(
        row, tasks=row.tasks[:tasks], groups=row.groups[:tasks], scores=row.scores[:tasks]
    )


def estimated(values: Sequence[float], groups: Sequence[str]) -> Estimate:
    return estimate(values, groups, claim_for(groups))


def told(row: pd.Series, label: str, expected: Estimate | None) -> None:
    """Asserts that a row's mean and interval are these, or missing."""
    prefix = "" if label == "score" else f"{label}_"
    found = [row[label], row[f"{prefix}low"], row[f"{prefix}high"]]
    if expected is None:
        assert np.isnan(found).all()
    else:
        ends = [expected.mean, expected.low, expected.high]
        assert found == pytest.approx(ends, rel=1e-12, abs=1e-12)


@settings(max_examples=60)
@given(tales)
def test_each_row_is_what_the_history_says_of_the_trial(tale: tuple[Any, ...]) -> None:
    story = story_of(tale)
    history, board = History(1, story.rows), leaderboard(story.run())
    assert set(board.index) == set(history.trials)
    for name, row in board.iterrows():
        trial = history.trials[str(name)]
        latest = trial.latest()
        if latest is None:
            assert pd.isna(row["rung"])
            told(row, "score", None)
            told(row, "gain", None)
            continue
        assert (row["rung"], row["tasks"]) == (latest.rung, len(latest.tasks))
        assert row["resource"] == latest.resource
        assert row["adapt_seconds"] == latest.score_seconds / len(latest.tasks)
        told(row, "score", estimated(latest.scores, latest.groups))
        told(row, "gain", gain(history, trial, latest))


def gain(history: History, trial: Trial, latest: Scored) -> Estimate | None:
    reference = history.reference(trial, latest.rung)
    if reference is None:
        return None
    if reference is latest:
        return Estimate(0.0, 0.0, 0.0, len(latest.tasks))
    gains = differences(latest, reference, 1)
    return estimated(gains, latest.groups[: len(gains)])


@settings(max_examples=30)
@given(tales)
def test_the_front_is_whom_no_completed_trial_dominates(tale: tuple[Any, ...]) -> None:
    board = leaderboard(story_of(tale).run())
    may = board[board["state"] == "completed"]
    may = may[may["score"].notna()]
    merits = np.column_stack([may["score"], -may["adapt_seconds"]])
    by = dominators(merits) if len(may) else []
    on_front = set(board.index[board["pareto"]]) & set(may.index)
    assert on_front == set(may.index[[number == 0 for number in by]])


def test_of_equals_who_was_asked_first_comes_first_however_their_means_are_rounded() -> None:
    story, scores = Story(), [0.1 * (task % 7) for task in range(TASKS)]
    random = np.random.default_rng(0)
    story.trial("protonet", 0.0)
    equal = [story.trial(f"new {n}", list(random.permutation(scores))) for n in range(8)]
    board = leaderboard(story.run())
    assert board["score"].nunique() > 2  # they do differ in the last digit
    assert list(board.index[:8]) == equal


def test_rounds_are_compared_with_their_own_defaults() -> None:
    story = Story()
    story.trial("protonet", 0.5)
    story.trial("new", 0.6)
    second = Story()
    second.trial("protonet", 0.3)
    second.trial("new", 0.2)
    for row in second.rows:
        moved = {"trial": row.trial.replace("r1", "r2")}  # type: ignore[union-attr]
        if isinstance(row, Asked | Scored):
            moved["round"] = 2  # type: ignore[assignment]
        if isinstance(row, Scored):
            moved["tasks"] = [f"other-{task}" for task in row.tasks]  # type: ignore[assignment]
        story.rows.append(replace(row, **moved))  # type: ignore[arg-type]
    gains = leaderboard(story.run())["gain"]
    assert gains.to_dict() == pytest.approx(
        {"r1-0000": 0.0, "r1-0001": 0.1, "r2-0000": 0.0, "r2-0001": -0.1}
    )
