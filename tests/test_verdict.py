"""The verdict: who meets, who wins against whom, and every form of its sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade import GROUPS, SPACE, TASKS, TWO, Story, family, kind_of, plan_of
from scipy import stats

from metatune.budget import core_seconds
from metatune.confirm import Queue, confirmation
from metatune.driver import Driver
from metatune.errors import RunError
from metatune.jobs import RungResult, TrialJob
from metatune.records.rows import Asked, Concluded, Ended, Looked, Scored
from metatune.space import Method
from metatune.statistics import Estimate, estimate
from metatune.verdict import (
    amount_of,
    blends,
    choice,
    conclude,
    duel,
    entrants,
    further,
    ranking,
    trainings,
)

BY_GROUP = (0.08, 0.10, 0.12, 0.10, 0.09, 0.11, 0.10, 0.10)
"""A difference that every group shows, with a mean of 0.1."""


def searched(story: Story, **confirm: float) -> Driver:
    """Search and confirmation are over; the driver stands before the verdict."""
    driver = story.driver()
    confirmation(driver, Method())
    for trial in kind_of(story.rows, Looked)[0].trials:
        name = driver.history.trials[trial].asked.name
        story.score(trial, "confirm", confirm[name])
    return story.driver()


def after_trainings(story: Story, **test: float | Sequence[float]) -> Driver:
    """The verdict's trainings are over, with these scores of each training."""
    driver = story.driver()
    trainings(driver, 1)
    for trial in kind_of(story.rows, Looked)[1].trials:
        name = driver.history.trials[trial].asked.name
        for replica in range(1, driver.plan.space.space.verdict.seeds + 1):
            if name in test:
                story.score(trial, "test", test[name], replica=replica)
    return story.driver()


def simple(text: str = SPACE, **options: object) -> Story:
    """A search with one proposal, ``new``; confirm puts it first."""
    info = family(**options)  # type: ignore[arg-type]
    story = Story(plan_of(text, info), groups=tuple(info.groups["test"]))
    story.trial("protonet", 0.5, 0.5, 0.5)
    if "presets: [r2d2]" in text:
        story.trial("r2d2", 0.6, 0.6, 0.6)
    if "[nearest_neighbour]" in text:
        story.trial("nearest_neighbour", 0.3)
    story.trial("new", 0.7, 0.7, 0.7)
    return story


CONFIRM = {"new": 0.7, "r2d2": 0.6, "protonet": 0.5, "nearest_neighbour": 0.3}
ONE_SEED = SPACE.replace("seeds: 2", "seeds: 1")
NO_RIVALS = SPACE.replace("presets: [r2d2], baselines: [nearest_neighbour]", "presets: []")


def above(scores: float, by: Sequence[float] = BY_GROUP) -> list[float]:
    """Scores that exceed ``scores`` in each group (of eight, in turns) by so much."""
    return [scores + by[task % len(by)] for task in range(TASKS)]


def verdict_of(text: str = SPACE, story: Story | None = None, **test: object) -> Concluded:
    story = story or simple(text)
    searched(story, **CONFIRM)
    return conclude(after_trainings(story, **test), 1)  # type: ignore[arg-type]


# --- who meets -----------------------------------------------------------------------------------


def test_finalists_come_first_then_default_presets_and_baselines() -> None:
    story = simple()
    for number, score in enumerate((0.8, 0.9)):
        story.trial(f"more{number}", score, score, score)
    confirm = {**CONFIRM, "more0": 0.9, "more1": 0.4}
    found = [t.asked.name for t in entrants(searched(story, **confirm), 1)]
    assert found == ["more0", "new", "protonet", "r2d2", "nearest_neighbour"]


def test_with_costs_the_fastest_of_the_front_meets_and_the_best_may_win() -> None:
    story = Story(plan_of(TWO))
    names = {"protonet": 0.5, "r2d2": 0.45, "nearest_neighbour": 0.3, "good": 0.65, "new": 0.7}
    seconds = {"protonet": 0.02, "r2d2": 0.02, "good": 0.03, "new": 0.03, "fast": 0.01}
    for name, score in {**names, "fast": 0.4}.items():
        rungs = [score] * (1 if name == "nearest_neighbour" else 3)
        story.trial(name, *rungs, seconds=seconds.get(name, 0.9))
    driver = story.driver()
    confirmation(driver, Method())
    for trial in kind_of(story.rows, Looked)[0].trials:
        name = driver.history.trials[trial].asked.name
        score = {**names, "fast": 0.4}[name]
        story.score(trial, "confirm", score, seconds=seconds.get(name, 0.9))
    driver = story.driver()
    names_of = [trial.asked.name for trial in entrants(driver, 1)]
    assert names_of == ["new", "fast", "protonet", "r2d2", "nearest_neighbour"]
    tests = dict.fromkeys(names_of, 0.5) | {"fast": 0.9}
    final = conclude(after_trainings(story, **tests), 1)
    assert driver.history.trials[final.winner].asked.name == "new"


def test_a_preset_that_did_not_complete_does_not_meet() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("r2d2", state="diverged")
    story.trial("nearest_neighbour", 0.3)
    driver = searched(story, protonet=0.5, nearest_neighbour=0.3)
    assert [t.asked.name for t in entrants(driver, 1)] == ["protonet", "nearest_neighbour"]


@pytest.mark.parametrize("name", ["protonet", "r2d2"])
def test_a_proposal_that_repeats_a_named_strategy_leaves_it_its_name(name: str) -> None:
    story = simple()
    same = next(e.strategy for e in story.plan.space.initial if e.name == name)
    story.trial("again", 0.9, 0.9, 0.9, strategy=same)
    driver = searched(story, **{**CONFIRM, "again": 0.9})
    found = [t.asked.name for t in entrants(driver, 1)]
    assert found[0] == name
    assert sorted(found) == ["nearest_neighbour", "new", "protonet", "r2d2"]
    final = conclude(after_trainings(story, **dict.fromkeys(CONFIRM, 0.5)), 1)
    assert driver.history.trials[final.winner].asked.name == name
    assert driver.history.trials[final.rival].asked.name == "r2d2"


def test_every_entrant_is_trained_anew_once_a_seed_without_reports_on_the_way() -> None:
    story = simple()
    driver = searched(story, **CONFIRM)
    queue = trainings(driver, 1)
    jobs = []
    while (job := queue.next_job()) is not None:
        jobs.append(job)
    names = [driver.history.trials[job.trial].asked.name for job in jobs]
    assert names == ["new", "r2d2", "protonet", "nearest_neighbour"] * 2
    assert [job.replica for job in jobs] == [1] * 4 + [2] * 4
    assert all(job.train and job.split == "test" and job.tasks == 16 for job in jobs)
    assert [job.recorded for job in jobs[:4]] == [2, 2, 2, 0]
    assert len({job.folder for job in jobs}) == 8
    assert not {job.folder for job in jobs} & {str(driver.folder.trial(j.trial)) for j in jobs}


def test_test_is_opened_once_and_gone_on_with_where_it_was_left() -> None:
    story = simple()
    searched(story, **CONFIRM)
    queue = trainings(story.driver(), 1)
    first, second = queue.next_job(), queue.next_job()
    assert first is not None
    assert second is not None
    story.score(first.trial, "test", 0.5, replica=1)
    queue.on_lost(second, "the worker was lost")
    story.trial("late", 0.9, 0.9, 0.9)  # changes nothing: the look is taken
    rest = trainings(story.driver(), 1)
    left = []
    while (job := rest.next_job()) is not None:
        left.append((job.trial, job.replica))
    assert len([look for look in kind_of(story.rows, Looked) if look.split == "test"]) == 1
    assert len(left) == 6
    assert (first.trial, 1) not in left
    assert (second.trial, 1) not in left


def test_a_training_that_diverges_is_recorded_as_that_replicas_end_and_not_the_trials() -> None:
    story = simple()
    driver = searched(story, **CONFIRM)
    queue = trainings(driver, 1)
    job = queue.next_job()
    assert job is not None
    lost = RungResult(3, "diverged", "at step 5", 0, 0.0, 0.0, None, (), (), (), False)
    assert queue.on_result(job, lost) is False
    row = story.rows[-1]
    assert isinstance(row, Ended)
    assert (row.trial, row.state, row.replica, row.reason) == (
        job.trial, "diverged", 1, "at step 5",
    )  # fmt: skip
    ended = driver.history.trials[job.trial].ended
    assert ended is not None
    assert ended.state == "completed"


# --- winner and rival ----------------------------------------------------------------------------


def test_the_winner_is_who_confirm_put_first_whatever_test_says() -> None:
    final = verdict_of(protonet=0.9, r2d2=0.9, nearest_neighbour=0.9, new=0.1)
    assert final.winner == "r1-0003"


def test_the_rival_is_the_preset_or_baseline_that_select_put_first_whatever_test_says() -> None:
    final = verdict_of(protonet=0.5, r2d2=0.1, nearest_neighbour=0.9, new=0.5)
    assert final.rival == "r1-0001"


def test_a_baseline_is_the_rival_where_select_put_it_first() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("r2d2", 0.4, 0.4, 0.4)
    story.trial("nearest_neighbour", 0.6)
    story.trial("new", 0.7, 0.7, 0.7)
    final = verdict_of(story=story, **dict.fromkeys(CONFIRM, 0.5))
    assert final.rival == "r1-0002"


def test_who_lost_every_training_cannot_win_and_the_next_does() -> None:
    final = verdict_of(protonet=0.5, r2d2=0.5, nearest_neighbour=0.5)
    assert final.winner == "r1-0001"  # r2d2, second on confirm


def test_a_rival_that_lost_every_training_is_replaced_by_the_next() -> None:
    final = verdict_of(protonet=0.5, new=0.5, nearest_neighbour=0.5)
    assert final.rival == "r1-0002"


def test_without_the_default_there_is_no_verdict() -> None:
    with pytest.raises(RunError, match="default strategy protonet could not be trained anew"):
        verdict_of(r2d2=0.5, new=0.5, nearest_neighbour=0.5)


# --- the sentence --------------------------------------------------------------------------------


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    units = np.asarray(values)
    reach = stats.t.ppf(0.975, len(units) - 1) * np.sqrt(units.var(ddof=1) / len(units))
    return float(units.mean() - reach), float(units.mean() + reach)


def test_a_better_winner_beats_its_rival_and_the_default_by_so_many_points() -> None:
    final = verdict_of(new=above(0.6), r2d2=0.6, protonet=0.5, nearest_neighbour=0.3)
    low, high = t_interval([100 * x for x in BY_GROUP])
    assert final.claim == "new groups"
    assert final.sentence == (
        f"new beats the best preset or baseline, r2d2, by +10 points [{low:+.3g}, {high:+.3g}] "
        f"(p = {2 / 2**8:.2g}). "
        f"new beats the default, protonet, by +20 points [{low + 10:+.3g}, {high + 10:+.3g}] "
        f"(p = {2 / 2**8:.2g}). "
        "Claim: new groups (8 unseen groups, 16 tasks, 2 trainings each)"
    )


def test_a_difference_that_some_groups_contradict_is_not_shown() -> None:
    by = (0.3, -0.2, 0.25, -0.15, 0.3, -0.1, 0.2, -0.2)
    final = verdict_of(new=above(0.6, by), r2d2=0.6, protonet=0.6, nearest_neighbour=0.3)
    low, high = t_interval([100 * x for x in by])
    assert low < 0 < high
    amount = f"difference +5 points [{low:+.3g}, {high:+.3g}]"
    assert final.sentence.startswith(
        f"new is not shown to beat the best preset or baseline, r2d2: {amount}. "
        f"new is not shown to beat the default, protonet: {amount}. "
    )


def test_a_worse_winner_is_told_as_worse() -> None:
    rivals = above(0.6)
    final = verdict_of(new=0.6, r2d2=rivals, protonet=rivals, nearest_neighbour=0.3)
    low, high = t_interval([-100 * x for x in BY_GROUP])
    amount = f"-10 points [{low:+.3g}, {high:+.3g}]"
    assert final.sentence.startswith(
        f"Nothing beats the best preset or baseline: new is worse than r2d2, by {amount}. "
        f"Nothing beats the default: new is worse than protonet, by {amount}. "
    )


def test_few_groups_that_agree_cannot_reach_significance_by_luck() -> None:
    """With two of eight groups against it, the interval may exclude zero: the p value decides."""
    by = (0.01,) * 5 + (0.0, 0.0, 0.012)
    final = verdict_of(new=above(0.6, by), r2d2=0.6, protonet=0.5, nearest_neighbour=0.3)
    # 6 groups above zero, 2 at zero: of 2^8 flips 8 reach the mean.
    assert t_interval(by)[0] > 0
    assert "(p = 0.031)" in final.sentence
    by = (0.01,) * 4 + (0.0,) * 3 + (0.012,)
    final = verdict_of(new=above(0.6, by), r2d2=0.6, protonet=0.5, nearest_neighbour=0.3)
    assert t_interval(by)[0] > 0
    assert final.sentence.startswith("new is not shown to beat the best preset or baseline, r2d2")


def test_where_a_preset_comes_first_nothing_beats_it() -> None:
    story = simple()
    searched(story, **{**CONFIRM, "r2d2": 0.9})
    test = {"new": 0.5, "r2d2": above(0.5), "protonet": 0.5, "nearest_neighbour": 0.5}
    final = conclude(after_trainings(story, **test), 1)  # type: ignore[arg-type]
    assert final.winner == final.rival == "r1-0001"
    assert final.sentence.startswith(
        "Nothing beats the best preset or baseline, r2d2: it came first itself. "
        "r2d2 beats the default, protonet, by +10 points "
    )


def test_where_the_default_comes_first_nothing_beats_it() -> None:
    story = simple()
    searched(story, **{**CONFIRM, "protonet": 0.9})
    test = {"new": 0.5, "r2d2": 0.5, "protonet": above(0.5), "nearest_neighbour": 0.5}
    final = conclude(after_trainings(story, **test), 1)  # type: ignore[arg-type]
    assert final.winner == "r1-0000"
    assert "Nothing beats the default. Claim: " in final.sentence
    assert final.sentence.startswith("protonet beats the best preset or baseline, r2d2, by +10")


def test_without_presets_and_baselines_the_rival_is_the_default_and_is_called_so() -> None:
    final = verdict_of(NO_RIVALS, new=above(0.5), protonet=0.5)
    assert final.rival == "r1-0000"
    assert final.sentence.startswith("new beats the default, protonet, by +10 points ")
    assert "preset" not in final.sentence
    assert final.sentence.count("the default") == 1


def test_a_default_that_wins_without_presets_is_named_once() -> None:
    story = simple(NO_RIVALS)
    searched(story, new=0.4, protonet=0.9)
    final = conclude(after_trainings(story, new=0.5, protonet=0.5), 1)
    assert final.sentence.startswith(
        "Nothing beats the default, protonet: it came first itself. Claim: "
    )


def test_a_default_that_is_a_preset_too_is_the_rival_it_was_chosen_as() -> None:
    text = SPACE.replace("presets: [r2d2]", "presets: [protonet]")
    story = simple(text)
    searched(story, new=0.4, protonet=0.9, nearest_neighbour=0.1)
    final = conclude(after_trainings(story, new=0.5, protonet=0.5, nearest_neighbour=0.5), 1)
    assert final.sentence.startswith(
        "Nothing beats the best preset or baseline, protonet: it came first itself. "
        "Nothing beats the default. "
    )


def test_with_fewer_than_six_groups_the_claim_is_about_tasks_and_says_why() -> None:
    story = simple(ONE_SEED, groups=GROUPS[:4])
    final = verdict_of(story=story, new=above(0.6), r2d2=0.6, protonet=0.5, nearest_neighbour=0.3)
    assert final.claim == "new tasks"
    assert final.sentence.endswith(
        "Too few groups for a claim about new groups (G = 4: script-a, script-b, script-c, "
        "script-d). Claim: new tasks of these groups (16 tasks, 1 training each, whose luck the "
        "intervals do not show)"
    )
    low, high = t_interval([100 * BY_GROUP[task % 8] for task in range(TASKS)])
    assert f"by +10 points [{low:+.3g}, {high:+.3g}]" in final.sentence


def test_where_groups_mean_nothing_they_are_not_spoken_of() -> None:
    story = simple(groups=("all",), grouped=False)
    final = verdict_of(story=story, **dict.fromkeys(CONFIRM, 0.5))
    assert final.sentence.endswith(". Claim: new tasks (16 tasks, 2 trainings each)")


ONCE = "1 training each, whose luck the intervals do not show)"


@pytest.mark.parametrize(("text", "words"), [(SPACE, "2 trainings each)"), (ONE_SEED, ONCE)])
def test_it_says_how_often_each_was_trained(text: str, words: str) -> None:
    assert verdict_of(text, **dict.fromkeys(CONFIRM, 0.5)).sentence.endswith(words)


def test_trainings_that_differ_widen_the_interval() -> None:
    story = simple()
    searched(story, **CONFIRM)
    driver = story.driver()
    trainings(driver, 1)
    level = {"new": 0.6, "r2d2": 0.6, "protonet": 0.5, "nearest_neighbour": 0.3}
    for trial in kind_of(story.rows, Looked)[1].trials:
        name = driver.history.trials[trial].asked.name
        for replica, luck in ((1, 0.01), (2, -0.01)):
            scores = above(level[name] + luck) if name == "new" else level[name] + luck
            story.score(trial, "test", scores, replica=replica)
    final = conclude(story.driver(), 1)
    units, pair = [100 * x for x in BY_GROUP], [1.0, -1.0]
    expected = estimate(units, GROUPS, "new groups", trainings=[pair, pair])
    amount = f"+10 points [{expected.low:+.3g}, {expected.high:+.3g}]"
    assert f"r2d2, by {amount}" in final.sentence
    assert expected.low < t_interval(units)[0]


def test_two_trainings_that_differ_much_show_nothing() -> None:
    """Ten points on every group: but trainings of the same strategy are four points apart."""
    story = simple()
    searched(story, **CONFIRM)
    driver = story.driver()
    trainings(driver, 1)
    for trial in kind_of(story.rows, Looked)[1].trials:
        level = 0.6 if driver.history.trials[trial].asked.name == "new" else 0.5
        for replica, luck in ((1, 0.02), (2, -0.02)):
            story.score(trial, "test", level + luck, replica=replica)
    final = conclude(story.driver(), 1)
    assert final.sentence.startswith("new is not shown to beat")


def test_a_squared_error_has_no_points_and_one_unit_has_no_interval() -> None:
    from metatune.tasks.formulas.sinusoid import SinusoidFamily

    waves = SinusoidFamily.info
    assert amount_of(Estimate(0.1234, -0.5, 0.75, 8), waves) == "+0.123 [-0.5, +0.75]"
    assert amount_of(Estimate(0.1, 0.05, 0.15, 8), family()) == "+10 points [+5, +15]"
    alone = Estimate(0.1, -np.inf, np.inf, 1)
    assert amount_of(alone, family()) == "+10 points (one unit only, no interval)"


# --- as often as the budget allows ----------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "seeds"), [(None, 2), (10.0, 2), (0.1, 1)])
def test_each_is_trained_as_often_as_the_budget_allows_and_once_in_any_case(
    minutes: float | None, seeds: int
) -> None:
    story = simple()
    story.plan = replace(story.plan, minutes=minutes)
    searched(story, **CONFIRM)
    jobs = drained(trainings(story.driver(), 1), story)
    jobs += drained(further(story.driver(), 1), story)
    look = kind_of(story.rows, Looked)[1]
    assert look.seeds == (2 if minutes is None else 1)
    assert len(jobs) == seeds * len(look.trials)


def test_a_limited_budget_sets_at_most_half_aside_for_more_than_one_training() -> None:
    aside = {}
    for minutes in (None, 0.8, 0.1):
        story = simple()
        story.plan = replace(story.plan, minutes=minutes)
        aside[minutes] = searched(story, **CONFIRM).budget.set_aside()
    assert aside[None] > 0.5 * 48
    assert aside[0.8] == pytest.approx(0.5 * 48)
    assert aside[0.1] == pytest.approx(aside[None] / 2)  # one training instead of two


# --- the two best, more often ---------------------------------------------------------------------


def drained(queue: Queue, story: Story, score: float = 0.5, seconds: float = 3.0) -> list[TrialJob]:
    """Run a queue to its end: each job gives ``score`` in so many seconds of training."""
    jobs = []
    while not queue.exhausted:
        job = queue.next_job()
        assert job is not None
        jobs.append(job)
        tasks, groups = tuple(f"{job.split}-{t}" for t in range(TASKS)), tuple(GROUPS) * 2
        scores = (score,) * TASKS
        queue.on_result(job, RungResult(
            3, "completed", "", 900, seconds, 0.16, None, tasks, groups, scores, False,
            chosen=tuple(range(len(job.parts))),
        ))  # fmt: skip
    return jobs


def limited(core: float | None, story: Story | None = None) -> Story:
    """A search is over, within a budget of so many core seconds."""
    story = story or simple()
    if core is not None:
        budget = story.plan.space.space.budget.model_copy(update={"core_seconds": core})
        space = story.plan.space.space.model_copy(update={"budget": budget})
        story.plan = replace(story.plan, space=replace(story.plan.space, space=space))
    searched(story, **CONFIRM)
    return story


def names_of(story: Story, jobs: Sequence[TrialJob]) -> list[tuple[str, int]]:
    trials = story.driver().history.trials
    return [(trials[job.trial].asked.name, job.replica) for job in jobs]


def test_without_a_budget_winner_and_rival_are_trained_five_times_in_turns() -> None:
    story = limited(None)
    drained(trainings(story.driver(), 1), story)
    jobs = drained(duel(story.driver(), 1), story)
    assert names_of(story, jobs) == [(n, r) for r in (3, 4, 5) for n in ("new", "r2d2")]
    assert {job.split for job in jobs} == {"test"}
    assert drained(duel(story.driver(), 1), story) == []


def test_a_winner_that_is_its_own_rival_is_trained_once_a_turn() -> None:
    story = simple()
    searched(story, **{**CONFIRM, "r2d2": 0.9})
    drained(trainings(story.driver(), 1), story)
    jobs = drained(duel(story.driver(), 1), story)
    assert names_of(story, jobs) == [("r2d2", 3), ("r2d2", 4), ("r2d2", 5)]


def test_what_test_says_does_not_choose_who_is_trained_duel() -> None:
    story = simple()
    searched(story, **CONFIRM)
    driver = after_trainings(story, new=0.1, r2d2=0.1, protonet=0.9, nearest_neighbour=0.9)
    assert {name for name, _ in names_of(story, drained(duel(driver, 1), story))} == {
        "new", "r2d2",
    }  # fmt: skip


@pytest.mark.parametrize(("left", "pairs"), [(7.2, 0), (7.3, 1), (13.5, 1), (13.6, 2), (99.0, 3)])
def test_with_a_budget_they_are_trained_as_often_as_pairs_fit(left: float, pairs: int) -> None:
    """A training and its scoring take 3.16 seconds; the next may take 15 % more."""
    story = limited(None)
    drained(trainings(story.driver(), 1), story)
    used = core_seconds(story.driver().history)
    again = limited(used + left)
    drained(trainings(again.driver(), 1), again)
    drained(further(again.driver(), 1), again)
    assert core_seconds(again.driver().history) == pytest.approx(used)
    assert len(drained(duel(again.driver(), 1), again)) == 2 * pairs
    assert core_seconds(again.driver().history) <= used + left


def test_what_trainings_were_measured_to_take_decides_and_not_what_trials_took() -> None:
    story = limited(28.0)  # trials took three seconds; trainings anew take one
    jobs = drained(trainings(story.driver(), 1), story, seconds=1.0)
    assert kind_of(story.rows, Looked)[-1].seeds == 1
    assert len(jobs) == 4
    rest = names_of(story, drained(further(story.driver(), 1), story, seconds=1.0))
    more = names_of(story, drained(duel(story.driver(), 1), story, seconds=1.0))
    everybody = ["new", "r2d2", "protonet", "nearest_neighbour"]
    assert rest == [(name, 2) for name in everybody]
    assert more == [(n, r) for r in (3, 4, 5) for n in ("new", "r2d2")]
    assert core_seconds(story.driver().history) <= 28


def test_who_lost_its_only_training_is_trained_again_where_there_is_room() -> None:
    story = limited(28.0)
    queue = trainings(story.driver(), 1)
    first = queue.next_job()
    assert first is not None
    queue.on_lost(first, "the worker was lost")  # the winner
    drained(queue, story, seconds=1.0)
    drained(further(story.driver(), 1), story, seconds=1.0)
    jobs = drained(duel(story.driver(), 1), story, seconds=1.0)
    assert {name for name, _ in names_of(story, jobs)} == {"new", "r2d2"}


def test_with_two_workers_what_is_under_way_counts_as_used() -> None:
    story = limited(None)
    drained(trainings(story.driver(), 1), story)
    again = limited(core_seconds(story.driver().history) + 7.5)  # room for one pair
    drained(trainings(again.driver(), 1), again)
    drained(further(again.driver(), 1), again)
    queue = duel(again.driver(), 1)
    started = [queue.next_job() for _ in range(3)]
    assert [job is None for job in started] == [False, False, True]


def test_the_intervals_are_right_where_two_were_trained_differently_often() -> None:
    story = limited(None)
    driver = story.driver()
    trainings(driver, 1)
    luck = {"new": (0.01, -0.01, 0.03, -0.03, 0.0), "protonet": (0.02, -0.02)}
    for trial in kind_of(story.rows, Looked)[1].trials:
        name = driver.history.trials[trial].asked.name
        for replica, by in enumerate(luck.get(name, (0.0, 0.0)), start=1):
            scores = above(0.6 + by) if name == "new" else 0.5 + by
            story.score(trial, "test", scores, replica=replica)
    final = conclude(story.driver(), 1)
    units = [100 * (x + 0.1) for x in BY_GROUP]
    own, other = ([100 * by for by in luck[name]] for name in ("new", "protonet"))
    expected = estimate(units, GROUPS, "new groups", trainings=[own, other])
    amount = f"+20 points [{expected.low:+.3g}, {expected.high:+.3g}]"
    assert f"new beats the default, protonet, by {amount}" in final.sentence
    assert final.sentence.endswith("2 to 5 trainings each)")


# --- an ensemble ----------------------------------------------------------------------------------

BLENDED = SPACE.replace("verdict: {", "verdict: {ensemble: 3, ")
HALF = {"new": 0.5, "protonet": 0.5, "nearest_neighbour": 0.5}


def blended(
    story: Story | None = None, members: Sequence[str] = ("new", "protonet"), confirm: float = 0.8
) -> Story:
    """An ensemble of these was chosen, and scored on ``confirm``."""
    story = story or simple(BLENDED)
    driver = searched(story, **CONFIRM)
    queue = choice(driver, 1)
    job = queue.next_job()
    assert job is not None
    names = [driver.history.trials[Path(part).parent.name].asked.name for part in job.parts]
    places = tuple(names.index(name) for name in members)
    queue.on_result(job, blend_of(job, 0.75, places))
    drained(ranking(story.driver(), 1), story, confirm)
    return story


def blend_of(job: TrialJob, score: float, chosen: tuple[int, ...]) -> RungResult:
    tasks, groups = tuple(f"{job.split}-{t}" for t in range(TASKS)), tuple(GROUPS) * 2
    scores = (score,) * TASKS
    return RungResult(
        3, "completed", "", 0, 0.0, 0.1, None, tasks, groups, scores, False, chosen=chosen
    )


def judged(story: Story, ensemble: object = 0.9, other: object = 0.6, **test: object) -> Concluded:
    """The verdict after these scores of the ensembles and of the others on ``test``."""
    trainings(story.driver(), 1)
    for trial in kind_of(story.rows, Looked)[-1].trials:
        found = story.driver().history.find(trial)
        own = {"ensemble": ensemble, "r2d2 x 2": other, **test}.get(found.asked.name)
        for replica in (1, 2):
            once = found.asked.members and found.asked.name != "ensemble"
            if own is not None and not (once and replica == 2):
                story.score(trial, "test", own, replica=replica)  # type: ignore[arg-type]
    return conclude(story.driver(), 1)


def test_without_one_in_the_space_nothing_is_chosen() -> None:
    story = simple()
    driver = searched(story, **CONFIRM)
    assert choice(driver, 1).exhausted
    assert ranking(driver, 1).exhausted


def test_it_is_chosen_from_what_all_leaders_predicted_on_select() -> None:
    story = simple(BLENDED)
    driver = searched(story, **CONFIRM)
    job = choice(driver, 1).next_job()
    assert job is not None
    assert (job.trial, job.split, job.most, job.train) == ("r1-e0", "select", 3, False)
    ranked = ["r1-0003/rung-3", "r1-0001/rung-3", "r1-0000/rung-3", "r1-0002/rung-1"]
    assert [str(Path(part).relative_to("/nowhere/trials")) for part in job.parts] == ranked


def test_it_is_recorded_with_its_members_its_scores_and_what_they_cost_together() -> None:
    story = blended()
    asked = next(row for row in story.rows if isinstance(row, Asked) and row.origin == "ensemble")
    assert (asked.trial, asked.name, asked.members) == ("r1-e0", "ensemble", ["r1-0003", "r1-0000"])
    assert (asked.strategy, asked.params) == ({}, None)
    own = [row for row in story.rows if isinstance(row, Scored) and row.trial == "r1-e0"]
    assert [(row.split, row.scores[0]) for row in own] == [("select", 0.75), ("confirm", 0.8)]
    assert {(row.train_seconds, row.resource) for row in own} == {(6.0, 1800)}
    assert own[0].score_seconds == pytest.approx(0.32)
    assert Looked("confirm", 1, ["r1-e0"]) in [
        replace(row, at=0.0) for row in kind_of(story.rows, Looked)
    ]
    history = story.driver().history
    assert len(history.of_round(1)) == 4  # it is none of the round's trials
    assert core_seconds(history) == pytest.approx(core_seconds(searched_only().history))


def searched_only() -> Driver:
    return searched(simple(BLENDED), **CONFIRM)


def test_one_member_alone_is_no_ensemble_and_the_verdict_says_so() -> None:
    story = blended(members=("new",))
    assert not any(isinstance(row, Asked) and row.origin == "ensemble" for row in story.rows)
    final = judged(story, r2d2=0.5, **HALF)
    assert (
        "No ensemble: no blend of leaders does better on select than the best of them alone. Claim"
    ) in final.sentence


def test_a_choice_that_was_lost_is_recorded_and_the_verdict_given_without() -> None:
    story = simple(BLENDED)
    queue = choice(searched(story, **CONFIRM), 1)
    job = queue.next_job()
    assert job is not None
    queue.on_lost(job, "the worker was lost: OOM")
    assert queue.exhausted
    assert choice(story.driver(), 1).exhausted  # it is not tried again
    assert ranking(story.driver(), 1).exhausted
    final = judged(story, r2d2=0.5, **HALF)
    assert "No ensemble: the choice of its members was lost: the worker was lost: OOM. " in (
        final.sentence
    )


def test_scores_that_were_lost_with_a_driver_are_made_again() -> None:
    story = blended()
    scored = [row for row in story.rows if isinstance(row, Scored) and row.trial == "r1-e0"]
    place = story.rows.index(scored[0])
    rows, story.rows[place:] = story.rows[place:], []  # its choice was the last that was written
    (job,) = drained(choice(story.driver(), 1), story, 0.75)
    assert (job.most, len(job.parts)) == (0, 2)
    drained(ranking(story.driver(), 1), story, 0.8)
    again = [row for row in story.rows if isinstance(row, Scored) and row.trial == "r1-e0"]
    assert [(r.split, r.scores, r.train_seconds) for r in again] == [
        (r.split, r.scores, r.train_seconds) for r in scored
    ]
    assert len(story.rows) == place + len(rows)


def test_members_that_are_no_finalists_meet_too_and_the_rival_as_often_as_there_are_members() -> (
    None
):
    story = simple(BLENDED.replace("seeds: 2, finalists: 2", "seeds: 1, finalists: 1"))
    story.trial("more", 0.4, 0.4, 0.4)
    story = with_confirm(story, ("new", "protonet", "more"))
    jobs = drained(trainings(story.driver(), 1), story)
    look = kind_of(story.rows, Looked)[-1]
    found = [story.driver().history.find(trial).asked.name for trial in look.trials]
    assert found == ["new", "protonet", "more", "r2d2", "nearest_neighbour", "ensemble", "r2d2 x 3"]
    assert sorted(names_of(story, jobs)) == sorted(
        [(name, 1) for name in found[:5]] + [("r2d2", 2), ("r2d2", 3)]
    )


def with_confirm(story: Story, members: Sequence[str]) -> Story:
    CONFIRM["more"] = 0.2
    try:
        return blended(story, members)
    finally:
        del CONFIRM["more"]


def test_each_blend_has_a_training_of_its_own_of_every_member() -> None:
    story = blended()
    drained(trainings(story.driver(), 1), story)
    drained(duel(story.driver(), 1), story)
    jobs = drained(blends(story.driver(), 1), story)
    parts = {
        (job.trial, job.replica): [
            str(Path(part).relative_to("/nowhere/trials").parent) for part in job.parts
        ]
        for job in jobs
    }
    assert parts == {
        ("r1-e0", 1): ["r1-0003/replica-1", "r1-0000/replica-1"],
        ("r1-e0", 2): ["r1-0003/replica-2", "r1-0000/replica-2"],
        ("r1-e1", 1): ["r1-0001/replica-1", "r1-0001/replica-2"],
        ("r1-e1", 2): ["r1-0001/replica-3", "r1-0001/replica-4"],
    }
    (own,) = {
        (row.train_seconds, round(row.score_seconds, 6))
        for row in story.rows
        if isinstance(row, Scored) and row.split == "test" and row.trial.startswith("r1-e")
    }
    assert own == (6.0, 0.32)
    assert blends(story.driver(), 1).exhausted


def test_a_member_that_lost_a_training_makes_the_blends_fewer() -> None:
    story = blended()
    driver = story.driver()
    queue = trainings(driver, 1)
    first = queue.next_job()
    assert first is not None
    queue.on_lost(first, "the worker was lost")  # the winner's first
    drained(queue, story)
    jobs = drained(blends(story.driver(), 1), story)
    (own,) = [job for job in jobs if job.trial == "r1-e0"]
    assert [Path(part).parent.name for part in own.parts] == ["replica-2", "replica-1"]


def test_an_ensemble_that_leads_on_confirm_is_the_winner_against_the_rivals() -> None:
    final = judged(blended(), above(0.6), r2d2=0.6, **HALF)
    low, high = t_interval([100 * x for x in BY_GROUP])
    assert (final.winner, final.rival) == ("r1-e0", "r1-e1")
    assert final.sentence == (
        f"ensemble beats the ensemble of the best preset or baseline, r2d2 x 2, by +10 points "
        f"[{low:+.3g}, {high:+.3g}] (p = {2 / 2**8:.2g}). "
        f"ensemble beats the default, protonet, by +20 points [{low + 10:+.3g}, {high + 10:+.3g}] "
        f"(p = {2 / 2**8:.2g}). ensemble blends new and protonet. "
        "Claim: new groups (8 unseen groups, 16 tasks, 1 to 2 trainings each, of r2d2 x 2 one "
        "only, whose luck the intervals do not show)"
    )


def test_else_a_clause_says_how_it_compares_and_the_finalist_wins() -> None:
    story = blended(confirm=0.65)  # behind new's 0.7
    final = judged(story, above(0.6), r2d2=0.5, **HALF)
    assert (final.winner, final.rival) == ("r1-0003", "r1-0001")
    assert final.sentence.startswith("new is not shown to beat the best preset or baseline, r2d2")
    assert (
        ". ensemble beats the ensemble of the best preset or baseline, r2d2 x 2, by +10 points ["
    ) in final.sentence
    assert "ensemble blends new and protonet. Claim" in final.sentence


def test_one_that_is_worse_without_being_the_winner_says_nothing_of_the_winner() -> None:
    story = blended(confirm=0.65)
    final = judged(story, 0.6, above(0.6), new=0.9, r2d2=0.5, protonet=0.5)
    assert final.sentence.startswith("new beats the best preset or baseline, r2d2, by ")
    assert "Nothing beats" not in final.sentence
    assert (
        ". ensemble is worse than the ensemble of the best preset or baseline, r2d2 x 2, by -10 "
    ) in final.sentence


def test_without_a_whole_blend_it_is_left_out_with_a_clause() -> None:
    final = judged(blended(), None, r2d2=0.5, **HALF)
    assert final.winner == "r1-0003"
    assert (
        "The ensemble of new and protonet is left out: none of its blends is whole. Claim"
    ) in final.sentence


def test_without_a_blend_of_the_rival_it_is_left_out_with_a_clause() -> None:
    for other in (judged(blended(), 0.9, None, r2d2=0.5, **HALF), judged(blended(), 0.9, **HALF)):
        assert other.winner == "r1-0003"
        assert "is left out: " in other.sentence
        assert "has no blend to compare it with" in other.sentence


def test_without_presets_the_ensemble_meets_the_defaults() -> None:
    text = NO_RIVALS.replace("verdict: {", "verdict: {ensemble: 3, ")
    story = simple(text)
    driver = searched(story, new=0.7, protonet=0.5)
    queue = choice(driver, 1)
    job = queue.next_job()
    assert job is not None
    queue.on_result(job, blend_of(job, 0.75, (0, 1)))
    drained(ranking(story.driver(), 1), story, 0.8)
    drained(trainings(story.driver(), 1), story)
    drained(blends(story.driver(), 1), story)
    final = conclude(story.driver(), 1)
    assert final.sentence.startswith(
        "ensemble is not shown to beat the ensemble of the default, protonet x 2: difference "
    )


def test_what_a_limited_budget_sets_aside_holds_for_members_and_the_rivals_trainings() -> None:
    alone, beside = (
        searched(simple(text), **CONFIRM).budget.set_aside() for text in (SPACE, BLENDED)
    )
    # One more entrant of about the finalists' cost, twice, and the rival once more.
    assert 1.2 * alone < beside < 2 * alone
