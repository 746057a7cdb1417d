"""The loop that metatune is: initialise - try - adjust - recurse.

A *method* is what the loop turns. One turn tries strategies and adjusts the method by what
happened; recursion is the composition of turns. Everything durable goes through the driver's
records, so a loop that was killed goes on where it stood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from metatune.adjust import Gradient, adjust
from metatune.confirm import borne_out, confirmation, confirmed, front
from metatune.driver import Driver
from metatune.jobs import JobSource, Runner
from metatune.records.rows import Concluded, Turned
from metatune.retries import Retrying
from metatune.search import Search
from metatune.space import Method
from metatune.verdict import blends, choice, conclude, duel, further, ranking, trainings


@dataclass(frozen=True)
class Loop:
    """What every turn works with: the driver's records, and the engine that runs jobs."""

    driver: Driver
    runner: Runner
    tick: Callable[[], None]

    def run(self, source: JobSource) -> None:
        """Run every job of a source to its end; those whose worker is lost begin again."""
        self.runner.drain(Retrying(self.driver, source), self.tick)


def meta_loop(loop: Loop) -> Concluded:
    """Initialise, turn for as long as it brings something, and give the verdict."""
    method = initialise(loop.driver)
    while goes_on(method, loop.driver):
        method = turn(method, loop)
    return verdict(method, loop)


def initialise(driver: Driver) -> Method:
    """Where to start: the method of the newest recorded turn, else the one that was given."""
    turns = turns_of(driver)
    if not turns:
        return driver.plan.space.space.method
    method = Method.model_validate(turns[-1].method)
    driver.write_method(method)  # a killed driver may not have come to it
    return method


def turns_of(driver: Driver) -> list[Turned]:
    """The turns that were made by the plan; those before a change of the space led to it."""
    return [turn for turn in driver.history.turns if turn.round >= driver.plan.first_round]


def goes_on(method: Method, driver: Driver) -> bool:
    """True while rounds are left and the newest brought something that ``confirm`` bears out."""
    turns = turns_of(driver)
    return method.round < driver.plan.last_round and (not turns or turns[-1].borne_out)


def turn(method: Method, loop: Loop) -> Method:
    """Try strategies on fresh tasks, and adjust the method by what ``confirm`` bears out."""
    driver, round_ = loop.driver, method.round + 1
    start = driver.elapsed()
    loop.run(Search(driver, method))
    if driver.plan.for_gradient(round_):
        loop.run(Gradient(driver, method))
    loop.run(confirmation(driver, method))
    adjusted, moves = adjust(method, driver)
    driver.record(
        Turned(
            round=round_,
            incumbents=[trial.id for trial in confirmed(driver, round_)],
            moves=moves,
            seconds=driver.elapsed() - start,
            borne_out=borne_out(driver, method),
            method=adjusted.model_dump(mode="json"),
            front=[trial.id for trial in front(driver, round_)],
        )
    )
    driver.write_method(adjusted)
    return adjusted


def verdict(method: Method, loop: Loop) -> Concluded:
    """Open ``test`` once: finalists, default, presets and baselines, each trained anew."""
    driver, round_ = loop.driver, method.round
    if driver.history.verdict is not None:
        return driver.history.verdict
    for before in (choice, ranking):  # an ensemble, where one is asked for
        loop.run(before(driver, round_))
    queue = trainings(driver, round_)
    driver.write_method(method.model_copy(update={"tested": (*method.tested, round_)}))
    loop.run(queue)
    for after in (further, duel, blends):
        loop.run(after(driver, round_))
    concluded = conclude(driver, round_)
    driver.record(concluded)
    return concluded
