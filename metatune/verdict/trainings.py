"""Every entrant is trained anew as often as the others; where there is room, the two best more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metatune.confirm import Queue
from metatune.driver import Driver
from metatune.history import Trial
from metatune.jobs import TrialJob
from metatune.records.rows import Looked
from metatune.verdict.ensembles import blended_at_the_verdict, members_of
from metatune.verdict.entrants import entrants, two_best


def trainings(driver: Driver, round_: int) -> Queue:
    """The jobs that train entrants anew and score them on ``test``, which is opened here.

    As often as is done whatever it takes: ``verdict.seeds`` times, or once where the budget has a
    limit.
    """
    history = driver.history
    if history.look_at("test") is None:
        chosen = [trial.id for trial in entrants(driver, round_, members_of(driver, round_))]
        chosen += [e.id for e in blended_at_the_verdict(driver, round_, chosen)]
        seeds = 1 if driver.budget.limited else driver.plan.space.space.verdict.seeds
        driver.record(Looked("test", round_, chosen, seeds))
    look = history.look_at("test")
    assert look is not None
    owed = history.owed(look.trials, look.seeds)
    jobs = [_job(driver, t, replica) for t, replica in owed if not t.was_trained(replica)]
    return Queue(driver, jobs)


def further(driver: Driver, round_: int) -> Queue:
    """The jobs that train all entrants up to ``verdict.seeds`` times, as the budget has room."""
    look = driver.history.look_at("test")
    assert look is not None
    everybody = driver.history.trained_for(look.trials)
    return Queue(driver, _in_turns(driver, everybody, driver.plan.space.space.verdict.seeds))


def duel(driver: Driver, round_: int) -> Queue:
    """The jobs that train the winner and its rival more often, up to ``verdict.best_seeds`` times.

    Raises:
        RunError: the default lost every training.
    """
    best = {trial.id: trial for trial in two_best(driver, round_)}
    most = driver.plan.space.space.verdict.best_seeds
    return Queue(driver, _in_turns(driver, list(best.values()), most))


def _in_turns(driver: Driver, trials: Sequence[Trial], most: int) -> Iterator[TrialJob]:
    """One more training of each, then again: while the budget has room for a whole turn.

    That goes by what trainings were measured to take, not by what they took in the search.
    """
    budget, begun = driver.budget, list[tuple[Trial, int]]()
    for replica in range(1, most + 1):
        due = [trial for trial in trials if not trial.was_trained(replica)]
        going = [budget.seconds_anew(trial) for trial, of in begun if not trial.was_trained(of)]
        wanted = [budget.seconds_anew(trial) for trial in due]
        if due and not budget.room_for(wanted, sum(going)):
            return
        for trial in due:
            begun.append((trial, replica))
            yield _job(driver, trial, replica)


def _job(driver: Driver, trial: Trial, replica: int) -> TrialJob:
    # Rungs below the last are trained through without a report.
    return driver.job(trial, "test", replica=replica, recorded=driver.last_rung(trial) - 1)
