"""The loop that metatune is: initialise - try - adjust - recurse.

A *method* is what the loop turns. One turn tries strategies and adjusts the method by what
happened; recursion is the composition of turns. Everything durable goes through the driver's
records, so a loop that was killed goes on where it stood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from metatune.confirm import confirmation, confirmed
from metatune.driver import Driver
from metatune.jobs import Runner
from metatune.method import Method, write_method
from metatune.records.rows import Concluded, Turned
from metatune.search import Search
from metatune.verdict import conclude, trainings

ROUNDS = 1  # turns a run


@dataclass(frozen=True)
class Loop:
    """What every turn works with: the driver's records, and the engine that runs jobs."""

    driver: Driver
    runner: Runner
    tick: Callable[[], None]


def meta_loop(loop: Loop) -> Concluded:
    """Initialise, turn until the budget is spent, and give the verdict."""
    method = initialise(loop.driver)
    while method.round < ROUNDS:
        method = turn(method, loop)
    return verdict(method, loop)


def initialise(driver: Driver) -> Method:
    """Where to start: the method that the newest recorded turn left, else the space's own."""
    turns = driver.history.turns
    if not turns:
        return Method(round=0, incumbents=())
    method = Method.after(turns[-1])
    write_method(driver.folder, method, driver.history)  # a killed driver may not have come to it
    return method


def turn(method: Method, loop: Loop) -> Method:
    """Try strategies on fresh tasks, and adjust the method by what ``confirm`` bears out."""
    driver, round_ = loop.driver, method.round + 1
    start = driver.elapsed()
    loop.runner.drain(Search(driver, round_), loop.tick)
    loop.runner.drain(confirmation(driver, round_), loop.tick)
    leaders = [trial.id for trial in confirmed(driver, round_)]
    driver.record(Turned(round_, leaders, [], driver.elapsed() - start))
    adjusted = Method.after(driver.history.turns[-1])
    write_method(driver.folder, adjusted, driver.history)
    return adjusted


def verdict(method: Method, loop: Loop) -> Concluded:
    """Open ``test`` once: finalists, default, presets and baselines, each trained anew."""
    known = loop.driver.history.verdict
    if known is not None:
        return known
    loop.runner.drain(trainings(loop.driver, method.round), loop.tick)
    concluded = conclude(loop.driver, method.round)
    loop.driver.record(concluded)
    return concluded
