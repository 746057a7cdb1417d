"""Every entrant is trained anew as often as the others; where there is room, the two best more."""

from __future__ import annotations

from collections.abc import Iterator

from metatune.confirm import Queue
from metatune.driver import Driver
from metatune.history import Trial
from metatune.jobs import TrialJob
from metatune.records.rows import Looked
from metatune.verdict.ensembles import blended_at_the_verdict, members_of
from metatune.verdict.entrants import entrants, trained, two_best


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
    """The jobs that use what the budget has left, by what the trainings before have taken.

    First all entrants in turns, where the budget was thought to be too short for ``verdict.seeds``
    trainings of each; then the winner and its rival, up to ``verdict.best_seeds``. A turn is begun
    only where there is room for all of it.

    Raises:
        RunError: the default lost every training.
    """
    return Queue(driver, _in_turns(driver, round_))


def _in_turns(driver: Driver, round_: int) -> Iterator[TrialJob]:
    verdict = driver.plan.space.space.verdict
    everybody = list(trained(driver).values())
    best = list({trial.id: trial for trial in two_best(driver, round_)}.values())
    begun: list[tuple[Trial, int]] = []
    for trials, most in ((everybody, verdict.seeds), (best, verdict.best_seeds)):
        for number in range(1, most + 1):
            due = [trial for trial in trials if not trial.was_trained(number)]
            going = [driver.seconds_anew(t) for t, replica in begun if not t.was_trained(replica)]
            if due and not driver.room_for([driver.seconds_anew(t) for t in due], sum(going)):
                break
            for trial in due:
                begun.append((trial, number))
                yield _job(driver, trial, number)


def _job(driver: Driver, trial: Trial, replica: int) -> TrialJob:
    # Rungs below the last are trained through without a report.
    return driver.job(trial, "test", replica=replica, recorded=driver.last_rung(trial) - 1)
