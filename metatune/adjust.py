"""Adjust: follow the gradient of the learning process, and move the space to where evidence points.

The gradient makes children of the round's leader. For its continuous inner knobs a *promoted* trial
learns them as meta-parameters; for the rate of the meta-optimiser two *probes*, whole cold trials
with the leader's own seed, tell by differences. The child is the leader with what was found written
as plain knobs, trained cold with that seed, too: only its own score counts.
"""

from __future__ import annotations

from metatune.confirm import confirmed, front, leaders
from metatune.driver import Driver
from metatune.gradient import outer_knobs, probes, promote, step, write_back
from metatune.history import History, Trial, differences
from metatune.jobs import RungResult, TrialJob
from metatune.records.rows import Ended, Origin
from metatune.search import ask, evidence_after, scored, spent
from metatune.space import Incumbent, Method, Region, Tried
from metatune.space.knobs import Params
from metatune.space.region import adjust as move
from metatune.strategy import Strategy

FACTOR = 1.5  # by which probes differ from their parent


class Gradient:
    """The jobs of one round's gradient; what is done already follows from the history.

    Args:
        driver: the run.
        method: what earlier rounds left.
    """

    def __init__(self, driver: Driver, method: Method) -> None:
        self._driver = driver
        self._round = method.round + 1
        self._running: set[str] = set()
        self._parent = leaders(driver, method)[0]
        self._wanted = dict(self._steps())
        for trial in self._made().values():
            # The record of its end was lost with an earlier driver.
            if trial.ended is None and trial.rungs[-1:] == [driver.last_rung(trial)]:
                self._end(trial, Ended(trial.id, "completed", "", spent(trial)))

    def _steps(self) -> list[tuple[str, tuple[Origin, Strategy]]]:
        """What is trained before the child, by name."""
        info, episode = self._driver.plan.info, self._driver.plan.space.space.episode
        name, parent = self._parent.asked.name, self._strategy
        found: list[tuple[str, tuple[Origin, Strategy]]] = []
        promoted = promote(parent, info, episode)
        if promoted is not None:
            found.append((f"{name}~promoted", ("promoted", promoted)))
        if "outer.lr" in outer_knobs(parent):
            down, up = probes(parent, "outer.lr", FACTOR)
            found += [(f"{name}~slower", ("probe", down)), (f"{name}~faster", ("probe", up))]
        return found

    @property
    def _strategy(self) -> Strategy:
        return Strategy.model_validate(self._parent.asked.strategy)

    def _made(self) -> dict[str, Trial]:
        """What has been asked so far, by name."""
        trials = self._driver.history.of_round(self._round)
        return {t.asked.name: t for t in trials if t.asked.parent == self._parent.id}

    # --- jobs out -------------------------------------------------------------------------------

    def next_job(self) -> TrialJob | None:
        """What was left behind, else the next step; None while the child waits for the others."""
        made = self._made()
        for trial in made.values():
            if trial.ended is None and trial.id not in self._running:
                return self._start(trial)
        for name, (origin, strategy) in self._wanted.items():
            if name not in made:
                return self._start(self._ask(name, origin, strategy))
        if self._child_name in made or any(t.ended is None for t in made.values()):
            return None
        child = self._child()
        if child is None:
            return None
        return self._start(self._ask(self._child_name, "child", child))

    @property
    def _child_name(self) -> str:
        return f"{self._parent.asked.name}~child"

    def _ask(self, name: str, origin: Origin, strategy: Strategy) -> Trial:
        return ask(self._driver, self._round, name, origin, strategy, parent=self._parent.id)

    def _start(self, trial: Trial) -> TrialJob:
        self._running.add(trial.id)
        # What the child is better or worse by comes of its numbers, not of its luck: the leader,
        # the best of many, has more of that than a seed of the child's own would have.
        common = trial.asked.origin in ("probe", "child")
        seed_of = self._parent.id if common else None
        recorded = trial.rungs[-1] if trial.rungs else 0
        return self._driver.job(trial, "select", recorded=recorded, seed_of=seed_of)

    def _child(self) -> Strategy | None:
        """The leader with what was found; None where nothing is."""
        child, made, name = self._strategy, self._made(), self._parent.asked.name
        in_order = (made.get(f"{name}~slower"), self._parent, made.get(f"{name}~faster"))
        gains = [gain for trial in in_order if (gain := self._gain(trial)) is not None]
        if len(gains) == len(in_order):
            child = step(child, "outer.lr", FACTOR, *gains) or child
        # Where the leader learns its numbers itself, there is none promoted.
        taught = made.get(f"{name}~promoted", self._parent)
        if (latest := taught.latest()) is not None:
            child = write_back(child, latest.learned)
        return None if child == self._strategy else child

    def _gain(self, trial: Trial | None) -> float | None:
        """The gain at the highest rung; None where a trial is missing or has come to none."""
        if trial is None or not trial.rungs:
            return None
        return self._driver.history.gain(trial, trial.rungs[-1])

    @property
    def exhausted(self) -> bool:
        """The child has come to its end, or it is known that there is none."""
        made = self._made()
        if any(t.ended is None for t in made.values()) or not self._wanted.keys() <= made.keys():
            return False
        return self._child_name in made or self._child() is None

    # --- results in -----------------------------------------------------------------------------

    def on_result(self, job: TrialJob, result: RungResult) -> bool:
        """Record a rung; every trial here goes on to its last."""
        trial = self._driver.history.trials[job.trial]
        if not result.whole:
            return True
        if result.outcome in ("diverged", "failed"):
            self._end(trial, Ended(trial.id, result.outcome, result.reason, spent(trial)))
            return False
        self._driver.record(scored(job, result, rung=result.rung))
        if result.rung < self._driver.last_rung(trial):
            return True
        self._end(trial, Ended(trial.id, "completed", "", spent(trial)))
        return False

    def on_lost(self, job: TrialJob, reason: str) -> None:
        """The worker was lost."""
        trial = self._driver.history.trials[job.trial]
        self._end(trial, Ended(trial.id, "failed", reason, spent(trial)))

    def _end(self, trial: Trial, end: Ended) -> None:
        self._running.discard(trial.id)
        self._driver.record(end)


def adjust(method: Method, driver: Driver) -> tuple[Method, list[str]]:
    """The method after a round, and what was changed in it, in words."""
    ranking = confirmed(driver, method.round + 1)
    region, moves = method.region, list[str]()
    if driver.plan.space.space.adjust.region:
        region, said = region_after(method, driver, ranking)
        moves += said
    incumbents = tuple(
        Incumbent(name=t.asked.name, strategy=Strategy.model_validate(t.asked.strategy))
        for t in ranking
    )
    changed = {
        "round": method.round + 1,
        "incumbents": incumbents,
        "region": region,
        "evidence": evidence_after(driver, method),
    }
    return method.model_copy(update=changed), moves


def region_after(
    method: Method, driver: Driver, ranking: list[Trial]
) -> tuple[Region, tuple[str, ...]]:
    """The region moved by a round, and the moves in words.

    It follows the leaders inside the space that ``confirm`` found no worse than the default, and
    with several objectives those on its front, whose choices keep their weights. What earlier
    rounds tried counts as tried; choices are weighed by this round's tasks alone.
    """
    history, default = driver.history, driver.history.default_of(method.round + 1)
    # Without scores of the default on ``confirm`` nobody is ranked, and nobody is followed.
    no_worse = ranking[: ranking.index(default) + 1] if default in ranking else []
    before = [Tried(seen.params, False, (), ()) for seen in method.evidence]
    now = [_tried(history, trial) for trial in history.of_round(method.round + 1)]
    known = [*before, *(t for t in now if t is not None)]
    unbeaten = _params(front(driver, method.round + 1, "confirm"))
    return move(driver.plan.space.tree, method.region, known, _params(no_worse), unbeaten)


def _params(trials: list[Trial]) -> list[Params]:
    """Of those inside the space."""
    return [trial.asked.params for trial in trials if trial.asked.params is not None]


def _tried(history: History, trial: Trial) -> Tried | None:
    """A trial of the space as evidence for the region; None where it lies outside the space."""
    if trial.asked.params is None:
        return None
    latest = trial.latest()
    reference = None if latest is None else history.reference(trial, latest.rung)
    if not trial.completed or latest is None or reference is None:
        return Tried(trial.asked.params, False, (), ())
    gains = differences(latest, reference, history.sign)
    return Tried(trial.asked.params, True, tuple(gains), tuple(latest.groups))
