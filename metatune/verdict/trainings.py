"""Every entrant is trained anew as often as the others; the two best, while there is room, more."""

from __future__ import annotations

from collections.abc import Iterator

from metatune.confirm import Queue
from metatune.driver import Driver
from metatune.history import Trial
from metatune.jobs import TrialJob
from metatune.records.rows import Looked
from metatune.verdict.ensembles import blended_at_the_verdict, members_of
from metatune.verdict.entrants import entrants, two_best


def trainings(driver: Driver, round_: int) -> Queue:
    """The jobs that train every entrant anew and score it on ``test``, which is opened here."""
    history = driver.history
    if history.look_at("test") is None:
        chosen = [trial.id for trial in entrants(driver, round_, members_of(driver, round_))]
        chosen += [e.id for e in blended_at_the_verdict(driver, round_, chosen)]
        driver.record(Looked("test", round_, chosen, driver.affordable_seeds(chosen)))
    look = history.look_at("test")
    assert look is not None
    owed = history.owed(look.trials, look.seeds)
    jobs = [_job(driver, t, replica) for t, replica in owed if not t.was_trained(replica)]
    return Queue(driver, jobs)


def further(driver: Driver, round_: int) -> Queue:
    """The jobs that train the winner and its rival more often than the others.

    In turns, up to ``verdict.best_seeds`` trainings of each, and as long as the budget has room for
    one more of both by what the ones before took.

    Raises:
        RunError: the default lost every training.
    """
    return Queue(driver, _in_turns(driver, round_))


def _in_turns(driver: Driver, round_: int) -> Iterator[TrialJob]:
    pair = list(dict.fromkeys(trial.id for trial in two_best(driver, round_)))
    best = [driver.history.trials[name] for name in pair]
    begun: list[tuple[Trial, int]] = []
    for replica in range(1, driver.plan.space.space.verdict.best_seeds + 1):
        due = [trial for trial in best if not trial.was_trained(replica)]
        under_way = sum(_seconds(t) for t, number in begun if not t.was_trained(number))
        if due and not driver.room_for([_seconds(trial) for trial in due], under_way):
            return
        for trial in due:
            begun.append((trial, replica))
            yield _job(driver, trial, replica)


def _seconds(trial: Trial) -> float:
    """What a training and its scoring take: the most that they have taken."""
    return max(row.train_seconds + row.score_seconds for row in trial.trainings)


def _job(driver: Driver, trial: Trial, replica: int) -> TrialJob:
    # Rungs below the last are trained through without a report.
    return driver.job(trial, "test", replica=replica, recorded=driver.last_rung(trial) - 1)
