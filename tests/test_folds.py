"""Runs on different folds: what they say together equals what numpy gets from their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import TASKS, Story, family, plan_of

from metatune.errors import RunError
from metatune.folds import Rotated, rotated
from metatune.records.reading import Run
from metatune.records.rows import Concluded
from metatune.records.several import folders_of, is_rotation
from metatune.statistics import estimate, sign_flip_p
from metatune.tables import rotation_text

RNG = np.random.default_rng(5)
SCORES = RNG.uniform(0.3, 0.7, (4, 3, 2, TASKS))  # fold, role, training, task


def fold_run(
    fold: int,
    groups: Sequence[str],
    scores: np.ndarray = SCORES,
    itself: bool = False,
    trainings: int = 2,
    **changes: Any,
) -> Run:
    """A fold's run with a verdict: winner ``new``, rival ``r2d2``, default ``protonet``.

    Args:
        fold: its number; scores are ``scores[fold]``.
        groups: of its test tasks.
        scores: ``(folds, roles, trainings, tasks)``.
        itself: the rival wins itself.
        trainings: how many of the scores' are there.
        changes: of ``run.json``.
    """
    story = Story(plan_of(info=family(groups)), groups=groups)
    trials = [story.trial(name, 0.5) for name in ("new", "r2d2", "protonet")]
    for trial, own in zip(trials, scores[fold], strict=True):
        for replica, values in enumerate(own[:trainings], start=1):
            story.score(trial, "test", list(values), replica=replica)
    winner = trials[1] if itself else trials[0]
    story.rows.append(Concluded(winner, trials[1], "new tasks", "so it is"))
    run = story.run()
    options = {"data": ["/d.csv"], "fold": fold}
    about = run.info["family"] | {"options": options, "grouped": True, "groups": {"test": {"a": 1}}}
    told = {"rotation_sha256": "abc", "trials": 9, "minutes": None}
    return replace(
        run, path=Path(f"/fold-{fold}"), info=run.info | told | {"family": about} | changes
    )


def four_folds(each: int = 2, **changes: Any) -> list[Run]:
    """Four folds of so many groups each."""
    return [fold_run(f, [f"g{f}{n}" for n in range(each)], **changes) for f in range(4)]


def by_hand(found: Rotated, each: int) -> tuple[np.ndarray, list[str]]:
    """Gains over the rival by task, and their groups."""
    gains = (SCORES[:, 0] - SCORES[:, 1]).mean(axis=1).ravel()
    return gains, [f"g{f}{n % each}" for f in range(4) for n in range(TASKS)]


def test_the_frame_has_each_group_of_each_folds_test_once() -> None:
    found = rotated(list(reversed(four_folds())))
    frame = found.frame
    assert frame["fold"].to_list() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert frame["group"].is_unique
    assert set(frame["winner"]) == {"new"}
    assert set(frame["rival"]) == {"r2d2"}
    assert set(frame["default"]) == {"protonet"}
    assert frame["tasks"].to_list() == [TASKS // 2] * 8
    row = frame.query("group == 'g21'").iloc[0]
    own = SCORES[2][:, :, 1::2].mean(axis=(1, 2))
    assert row["winner_score"] == pytest.approx(own[0])
    assert row["rival_score"] == pytest.approx(own[1])
    assert row["default_score"] == pytest.approx(own[2])
    assert row["over_rival"] == pytest.approx(own[0] - own[1])
    assert row["gain"] == pytest.approx(own[0] - own[2])
    assert (found.tasks, found.trainings) == (4 * TASKS, 2)


@pytest.mark.parametrize("each", [1, 2])
def test_gains_are_paired_over_all_folds_with_the_luck_of_trainings(each: int) -> None:
    found = rotated(four_folds(each))
    gains, groups = by_hand(found, each)
    assert found.claim == ("new groups" if each == 2 else "new tasks")
    luck = [SCORES[:, role].mean(axis=(0, 2)).tolist() for role in (0, 1)]
    expected = estimate(gains.tolist(), groups, found.claim, trainings=luck)
    assert found.over_rival.units == (8 if each == 2 else 4 * TASKS)
    for end in ("mean", "low", "high"):
        assert getattr(found.over_rival, end) == pytest.approx(getattr(expected, end))
    p = sign_flip_p(gains.tolist(), groups, found.claim)  # of many units by random flips
    assert found.over_rival_p == pytest.approx(p, abs=1e-9 if each == 2 else 0.03)


def test_one_training_shows_no_luck_and_where_the_rival_wins_itself_there_is_none() -> None:
    once = rotated(four_folds(trainings=1))
    gains = (SCORES[:, 0, 0] - SCORES[:, 1, 0]).ravel()
    groups = [f"g{f}{n % 2}" for f in range(4) for n in range(TASKS)]
    expected = estimate(gains.tolist(), groups, "new groups")
    assert once.over_rival.low == pytest.approx(expected.low)
    assert once.trainings == 1
    nothing = rotated(four_folds(itself=True)).over_rival
    assert (nothing.mean, nothing.low, nothing.high) == (0, 0, 0)


def test_where_lower_is_better_a_lower_error_is_a_gain() -> None:
    runs = four_folds()
    lower = [replace(r, info=r.info | {"family": r.info["family"] | {"sign": -1}}) for r in runs]
    assert rotated(lower).over_rival.mean == pytest.approx(-rotated(runs).over_rival.mean)


def test_the_statement_is_about_the_search_and_says_how_many_groups() -> None:
    clear = SCORES.copy()
    clear[:, 0] = clear[:, 1] + 0.1 + RNG.normal(0, 0.01, clear[:, 1].shape)
    told = rotation_text(rotated(four_folds(scores=clear)), "accuracy")
    assert told.startswith("What the search finds beats (difference +10")
    assert "on new groups (G = 8, 64 tasks of 4 folds, 2 trainings each or more)" in told
    few = rotation_text(rotated(four_folds(each=1, scores=clear)), "accuracy")
    assert "Too few groups for a claim about new groups" in few
    worse = rotation_text(rotated(four_folds(scores=clear[:, [1, 0, 2]])), "accuracy")
    assert worse.startswith("What the search finds is worse than (difference -10")
    assert "is not shown to beat (difference" in rotation_text(rotated(four_folds()), "accuracy")


@pytest.mark.parametrize(("change", "told"), [
    ({"rotation_sha256": "abd"}, "found another space than in /fold-0"),
    ({"trials": 8}, "found another budget than in /fold-0"),
    ({"rotation_sha256": None}, "found the family glyphs; allowed: one with folds"),
])  # fmt: skip
def test_runs_of_other_spaces_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(RunError, match=told):
        rotated([fold_run(0, ["a"]), fold_run(1, ["b"], **change)])


@pytest.mark.parametrize(("key", "value", "told"), [
    ("groups", {"test": {"a": 2}}, "found another data than"),
    ("options", {"data": ["/e.csv"], "fold": 1}, "found another family than"),
])  # fmt: skip
def test_runs_on_other_data_are_refused(key: str, value: Any, told: str) -> None:
    one, other = fold_run(0, ["a"]), fold_run(1, ["b"])
    other.info["family"][key] = value
    with pytest.raises(RunError, match=told):
        rotated([one, other])


def test_too_few_folds_one_twice_and_unfinished_ones_are_refused() -> None:
    with pytest.raises(RunError, match="found 1 runs; allowed: two or more folds"):
        rotated([fold_run(0, ["a"])])
    with pytest.raises(RunError, match="found fold 1, as /fold-1; allowed: another"):
        rotated([fold_run(1, ["a"]), fold_run(1, ["a"])])
    going_on = Story().run()
    going_on.info.update(fold_run(1, ["a"]).info)
    with pytest.raises(RunError, match="found no verdict yet"):
        rotated([fold_run(0, ["a"]), going_on])


def test_a_folder_without_folds_is_no_rotation(tmp_path: Path) -> None:
    assert not is_rotation(tmp_path)
    with pytest.raises(RunError, match=f"{tmp_path} holds no runs of folds"):
        folders_of(tmp_path)
