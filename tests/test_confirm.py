"""Confirmation: who is looked at, on what evidence, and that a look is spent once."""

from __future__ import annotations

from dataclasses import replace

from handmade import SPACE, TASKS, TWO, Story, kind_of, plan_of, prototypes

from metatune.confirm import (
    Queue,
    confirmation,
    confirmed,
    finalists,
    front,
    leaders,
)
from metatune.jobs import RungResult, TrialJob
from metatune.records.rows import Ended, Looked, Scored
from metatune.space import Method


def rivals_and(story: Story, default: float = 0.5) -> str:
    """The default with this accuracy, and the two named others; the default's id."""
    trial = story.trial("protonet", default, default, default)
    story.trial("r2d2", 0.3, 0.3, 0.3)
    story.trial("nearest_neighbour", 0.2)
    return trial


def result(job: TrialJob, score: float, outcome: str = "completed") -> RungResult:
    lost = outcome != "completed"
    return RungResult(
        rung=job.recorded,
        outcome=outcome,  # type: ignore[arg-type]
        reason="not finite" if lost else "",
        resource=900,
        train_seconds=1.0,
        score_seconds=0.1,
        train_loss=None,
        tasks=() if lost else tuple(f"confirm-{t}" for t in range(TASKS)),
        groups=() if lost else tuple("abcdefgh"[t % 8] for t in range(TASKS)),
        scores=() if lost else (score,) * TASKS,
        transductive=False,
    )


def drained(queue: Queue, scores: dict[str, float]) -> list[TrialJob]:
    """Run a queue to its end with these scores; a trial without one is lost."""
    jobs = []
    while not queue.exhausted:
        job = queue.next_job()
        assert job is not None
        jobs.append(job)
        if job.trial in scores:
            go_on = queue.on_result(job, result(job, scores[job.trial]))
        else:
            go_on = queue.on_result(job, result(job, 0.0, "diverged"))
        assert not go_on
    return jobs


# --- who leads on select -------------------------------------------------------------------------


def test_leaders_are_the_completed_trials_by_their_gain_on_select() -> None:
    story = Story()
    default = rivals_and(story, 0.5)
    good = story.trial("a", 0.1, 0.1, 0.7)
    better = story.trial("b", 0.1, 0.1, 0.8)
    found = [trial.id for trial in leaders(story.driver(), Method())]
    assert found == [better, good, default, "r1-0001", "r1-0002"]


def test_stopped_diverged_failed_and_running_trials_do_not_lead() -> None:
    story = Story()
    rivals_and(story)
    states = ("stopped", "diverged", "failed", None)
    excellent = [story.trial(str(state), 0.9, 0.9, 0.9, state=state) for state in states]  # type: ignore[arg-type]
    assert not {trial.id for trial in leaders(story.driver(), Method())} & set(excellent)


def test_there_are_at_most_six_leaders_and_the_default_meets_them_whatever_it_scored() -> None:
    story = Story()
    default = rivals_and(story, 0.1)
    trials = [story.trial(f"t{i}", 0.5, 0.5, 0.5 + i / 100) for i in range(9)]
    found = [trial.id for trial in leaders(story.driver(), Method())]
    assert found == [*reversed(trials[-6:]), default]


def test_a_strategy_that_was_tried_twice_leads_once_with_its_better_trial() -> None:
    story = Story()
    rivals_and(story)
    same = prototypes(2.0)
    worse = story.trial("a", 0.6, 0.6, 0.6, strategy=same)
    better = story.trial("b", 0.7, 0.7, 0.7, strategy=same)
    found = [trial.id for trial in leaders(story.driver(), Method())]
    assert better in found
    assert worse not in found


def test_what_needs_no_training_leads_by_its_score_at_the_first_rung() -> None:
    story = Story()
    story.trial("protonet", 0.9, 0.9, 0.5)  # compared with the default's last score
    naive = story.trial("nearest_neighbour", 0.6)
    assert [trial.id for trial in leaders(story.driver(), Method())] == [naive, "r1-0000"]


# --- the look ------------------------------------------------------------------------------------


def test_the_look_is_recorded_before_any_job_is_given_out() -> None:
    story = Story()
    default = rivals_and(story)
    good = story.trial("a", 0.6, 0.6, 0.6)
    driver = story.driver()
    queue = confirmation(driver, Method())
    (look,) = kind_of(story.rows, Looked)
    assert (look.split, look.round) == ("confirm", 1)
    assert look.trials == [good, default, "r1-0001", "r1-0002"]
    assert not queue.exhausted


def test_leaders_are_scored_as_they_are_at_their_last_rung_without_training() -> None:
    story = Story()
    rivals_and(story)
    driver = story.driver()
    jobs = drained(confirmation(driver, Method()), {f"r1-000{i}": 0.5 for i in range(3)})
    assert [(j.trial, j.split, j.train, j.replica, j.tasks) for j in jobs] == [
        (f"r1-000{i}", "confirm", False, 0, 16) for i in range(3)
    ]
    assert [job.recorded for job in jobs] == [3, 3, 1]  # the baseline needs no training
    rows = [row for row in kind_of(story.rows, Scored) if row.split == "confirm"]
    assert [(row.trial, row.rung, row.replica) for row in rows] == [
        ("r1-0000", 3, 0),
        ("r1-0001", 3, 0),
        ("r1-0002", 1, 0),
    ]


def test_a_look_once_taken_is_gone_on_with_and_not_taken_anew() -> None:
    story = Story()
    default = rivals_and(story)
    drained(confirmation(story.driver(), Method()), {default: 0.5, "r1-0001": 0.4, "r1-0002": 0.3})
    del story.rows[-1]  # the driver died before the last score
    story.trial("late", 0.9, 0.9, 0.9)
    jobs = drained(confirmation(story.driver(), Method()), {"r1-0002": 0.3})
    assert [job.trial for job in jobs] == ["r1-0002"]
    assert len(kind_of(story.rows, Looked)) == 1


def test_each_round_takes_a_look_of_its_own() -> None:
    story = Story()
    rivals_and(story)
    driver = story.driver()
    confirmation(driver, Method())
    confirmation(driver, Method(round=1))
    assert [look.round for look in kind_of(story.rows, Looked)] == [1, 2]


# --- what it says --------------------------------------------------------------------------------


def test_confirm_ranks_anew_whatever_select_said() -> None:
    story = Story()
    default = rivals_and(story)
    first = story.trial("a", 0.9, 0.9, 0.9)
    second = story.trial("b", 0.8, 0.8, 0.8)
    scores = {default: 0.5, first: 0.4, second: 0.7, "r1-0001": 0.6, "r1-0002": 0.1}
    driver = story.driver()
    drained(confirmation(driver, Method()), scores)
    assert [t.id for t in confirmed(driver, 1)] == sorted(scores, key=lambda t: -scores[t])


def test_where_lower_is_better_the_lowest_comes_first() -> None:
    story = Story(plan_of(SPACE))
    default = rivals_and(story)
    driver = story.driver()
    driver.history.sign = -1
    drained(confirmation(driver, Method()), {default: 0.5, "r1-0001": 0.6, "r1-0002": 0.1})
    assert [t.id for t in confirmed(driver, 1)] == ["r1-0002", default, "r1-0001"]


def test_a_leader_that_confirm_could_not_score_is_out_and_keeps_its_end() -> None:
    story = Story()
    default = rivals_and(story)
    driver = story.driver()
    drained(confirmation(driver, Method()), {default: 0.5, "r1-0002": 0.1})
    assert [t.id for t in confirmed(driver, 1)] == [default, "r1-0002"]
    assert driver.history.trials["r1-0001"].ended == next(
        row for row in kind_of(story.rows, Ended) if row.trial == "r1-0001"
    )


def test_before_any_look_nobody_is_confirmed() -> None:
    story = Story()
    rivals_and(story)
    assert confirmed(story.driver(), 1) == []


# --- several objectives --------------------------------------------------------------------------


def traded(count: int, text: str = TWO) -> tuple[Story, list[str]]:
    """The named three, slow and bad; and so many of which each is a little better and slower."""
    story = Story(plan_of(text))
    story.trial("protonet", 0.3, 0.3, 0.3, seconds=0.9)
    story.trial("r2d2", 0.2, 0.2, 0.2, seconds=0.9)
    story.trial("nearest_neighbour", 0.1, seconds=0.9)
    scores = [(0.5 + i / 100, 0.01 * (i + 1)) for i in range(count)]
    return story, [story.trial(f"t{i}", s, s, s, seconds=c) for i, (s, c) in enumerate(scores)]


def looked(story: Story, scores: dict[str, tuple[float, float]]) -> None:
    """The look at confirm, with the score and the seconds a task of each trial."""
    confirmation(story.driver(), Method())
    for trial, (score, seconds) in scores.items():
        story.score(trial, "confirm", score, seconds=seconds)


def test_with_costs_leaders_lie_over_the_whole_front_best_first() -> None:
    story, trials = traded(11)
    found = [trial.id for trial in leaders(story.driver(), Method())]
    assert found == [*reversed(trials[::2]), "r1-0000"]
    alone, trials = traded(11, SPACE)
    assert [trial.id for trial in leaders(alone.driver(), Method())] == [
        *reversed(trials[-6:]), "r1-0000",
    ]  # fmt: skip


def test_with_costs_the_front_leads_before_better_ones_that_are_dominated() -> None:
    story, _ = traded(0)
    best = story.trial("best", 0.9, 0.9, 0.9, seconds=0.5)
    for number in range(7):  # a little worse and slower than the best
        story.trial(f"t{number}", 0.8, 0.8, 0.8 + number / 100, seconds=0.6)
    fast = story.trial("fast", 0.4, 0.4, 0.4, seconds=0.1)
    found = [trial.id for trial in leaders(story.driver(), Method())]
    assert found[:2] == [best, fast]
    assert len(found) == 7


def test_a_front_is_whom_no_completed_trial_dominates() -> None:
    story, trials = traded(4)
    story.trial("behind", 0.505, 0.505, 0.505, seconds=0.02)
    story.trial("stopped", 0.9, seconds=0.001, state="stopped")
    assert [trial.id for trial in front(story.driver(), 1)] == trials[::-1]


def test_what_only_finds_out_is_on_no_front() -> None:
    story, trials = traded(2)
    probe = story.trial("probe", 0.9, 0.9, 0.9, seconds=0.001)
    at = next(i for i, row in enumerate(story.rows) if getattr(row, "trial", "") == probe)
    story.rows[at] = replace(story.rows[at], origin="probe")  # type: ignore[call-arg]
    assert [trial.id for trial in front(story.driver(), 1)] == trials[::-1]


def test_with_the_score_alone_no_front_is_told_of() -> None:
    story, _ = traded(3, SPACE)
    assert front(story.driver(), 1) == []
    assert front(story.driver(), 1, "confirm") == []


def test_finalists_are_the_best_and_the_fastest_on_confirms_front() -> None:
    story, trials = traded(3)
    fast, middle, best = trials
    looked(story, {"r1-0000": (0.3, 0.9), fast: (0.4, 0.1), middle: (0.5, 0.3), best: (0.7, 0.2)})
    driver = story.driver()
    assert [t.id for t in confirmed(driver, 1)] == [best, middle, fast, "r1-0000"]
    assert [t.id for t in front(driver, 1, "confirm")] == [best, fast]
    assert [t.id for t in finalists(driver, 1)] == [best, fast]
    alone, trials = traded(3, SPACE)
    looked(alone, {"r1-0000": (0.3, 0.9), trials[0]: (0.4, 0.1), trials[1]: (0.5, 0.3)})
    assert [t.id for t in finalists(alone.driver(), 1)] == [trials[1], trials[0]]
