"""Try: ask for strategies, train them in parallel, stop what falls behind.

``Search`` is the source of jobs for one round. Everything it decides follows from the method that
the round started from and from the round's own rows: so a resumed search goes on as the killed one
would have, and a run that starts from another's method as that one would have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import nlargest
from math import inf
from statistics import fmean as mean
from typing import Any

from metatune.driver import Driver
from metatune.errors import RunError
from metatune.history import Trial, merits
from metatune.jobs import RungResult, TrialJob
from metatune.objectives import Measured, cost, spread_over_fronts
from metatune.observations import Observation
from metatune.plan import Plan
from metatune.prior import discounted
from metatune.proposer import propose
from metatune.records.rows import Asked, Ended, Origin, Scored, State, last_line
from metatune.seeds import derive_seed
from metatune.space import Method, Named, ResolvedSpace, Seen, within
from metatune.space.knobs import Params
from metatune.stopping import Standing, why_behind, why_stop
from metatune.strategy import Strategy

TRIES = 20  # proposals looked at for one that was not tried yet
BASES = 3  # strategies that are mutated
FIRST = 5  # a bad strategy or two are a finding; five from the start on have a cause in common


class Search:
    """The jobs of one round's trials.

    Args:
        driver: the run.
        method: what earlier rounds left.
    """

    def __init__(self, driver: Driver, method: Method) -> None:
        self._driver = driver
        self._method = method
        self._round = method.round + 1
        self._costs = driver.plan.space.space.costs
        self._named = known_strategies(driver.plan.space, method)
        self._first = (*self._named, *portfolio_of(driver.plan, method))
        # What the gradient takes is set aside.
        self._allowed = driver.plan.share(self._round) - driver.plan.for_gradient(self._round)
        self._tree = within(driver.plan.space.tree, method.region)
        self._before = [_observation(seen) for seen in method.evidence]
        # What will not change any more of trials that have ended: there may be thousands.
        self._observed: dict[str, Observation] = {}
        self._stood: dict[tuple[str, int], Standing] = {}
        self._running: set[str] = set()
        self._ended: list[Ended] = []  # since this driver took the round up: a cause may be gone
        self._refuse_lost_default()
        # Trials that an earlier driver left behind go on first, in the order of their asking. The
        # record of a decision may have been lost with it: it is taken again.
        self._left = [
            t
            for t in self._trials()
            if t.ended is None and t.asked.parent is None and self._goes_on(t)
        ]

    def _trials(self) -> list[Trial]:
        return self._driver.history.of_round(self._round)

    # --- jobs out -------------------------------------------------------------------------------

    def next_job(self) -> TrialJob | None:
        """A trial left behind by an earlier driver, else a new one; None if neither is due."""
        if self._left:
            trial = self._left.pop(0)
        elif self._may_ask():
            trial = self._ask()
        else:
            return None
        self._running.add(trial.id)
        recorded = trial.rungs[-1] if trial.rungs else 0
        return self._driver.job(trial, "select", recorded=recorded)

    @property
    def exhausted(self) -> bool:
        """Nothing is left to start."""
        return not self._left and not self._running and not self._may_ask()

    def _may_ask(self) -> bool:
        asked = len(self._trials())
        if asked < len(self._named):
            return True  # what is known already is tried whatever the clock says
        return asked < self._allowed and self._driver.budget.time_for_another(self._round)

    def _ask(self) -> Trial:
        number = len(self._trials())
        if number < len(self._first):
            entry = self._first[number]
            return ask(self._driver, self._round, entry.name, entry.origin, entry.strategy)
        name = f"proposed-{self._round}-{number}"
        return ask(self._driver, self._round, name, "proposed", self._propose(number))

    def _propose(self, number: int) -> Strategy:
        """A strategy that was not tried yet, as far as ``TRIES`` proposals find one."""
        plan, region = self._driver.plan, self._method.region
        known = {t.asked.digest for t in self._trials()}
        before = [o.params for o in self._before]
        own = [self._observe(t) for t in self._trials() if t.asked.params is not None]
        observations = [*self._before, *own]
        if number % 2 == 0:
            # Every other proposal is made as without a prior, which so can exclude nothing.
            observations = [*self._earlier(observations), *observations]
        bases = self._best_known()
        for attempt in range(TRIES):
            seed = derive_seed(plan.seed, "propose", self._round, number, attempt)
            params = propose(
                self._tree,
                observations,
                seed,
                weights=region.weights,
                bases=bases,
                costs=self._costs,
            )
            strategy = strategy_of(plan.space, params)
            if strategy.digest() not in known and params not in before:
                break
        return strategy

    def _best_known(self) -> list[Params]:
        """The strategies inside the space that lead so far: of the round before, else of this."""
        tree = self._driver.plan.space.tree
        led = [tree.params_of(i.strategy.model_dump(mode="json")) for i in self._method.incumbents]
        found = [params for params in led if params is not None]
        if not found:
            done = [
                (trial, seen)
                for trial in self._trials()
                if trial.asked.params is not None and (seen := self._observe(trial)).values
                if trial.ended is not None
            ]
            if self._costs:
                done.sort(key=lambda each: -each[1].rank[1])
                known = [self._merits(trial, max(seen.values)) for trial, seen in done]
                done = [done[i] for i in spread_over_fronts(known, BASES)]
            else:
                done = nlargest(BASES, done, key=lambda each: each[1].rank[1])
            found = [seen.params for _, seen in done]
        return found[:BASES]

    def _merits(self, trial: Trial, rung: int) -> tuple[float, ...]:
        reference = self._driver.history.reference(trial, rung)
        assert reference is not None, "its gain there is known"
        return merits(trial.at(rung), reference, self._driver.history.sign, self._costs)

    def _earlier(self, own: list[Observation]) -> list[Observation]:
        """What the proposer hears of earlier runs; first, for TPE heeds what is old the least.

        A prior knows scores alone: a proposer that has costs to weigh makes nothing of it.
        """
        measured = [(o.params, o.values[max(o.values)]) for o in own if o.values]
        last = self._driver.plan.space.space.resource.rungs
        lessons = discounted(self._driver.plan.prior.lessons, measured)
        return [Observation(params, "completed", {last: gain}) for params, gain in lessons]

    def _observe(self, trial: Trial) -> Observation:
        """What is known of a trial; once and for all where it and the default have ended."""
        settled = self._observed.get(trial.id)
        if settled is not None:
            return settled
        found, default = self._looked_at(trial), self._driver.history.default_of(self._round)
        if trial.ended is not None and default is not None and default.ended is not None:
            self._observed[trial.id] = found
        return found

    def _looked_at(self, trial: Trial) -> Observation:
        assert trial.asked.params is not None
        gains = self._driver.history.gains(trial)
        costs = self._driver.history.costs(trial, self._costs)
        if trial.ended is None:
            return Observation(trial.asked.params, "running", gains, costs)
        match trial.ended.state:
            case "completed" | "stopped" as state:
                return Observation(trial.asked.params, state, gains, costs)
            case _:
                return Observation(trial.asked.params, "lost", {})

    # --- results in -----------------------------------------------------------------------------

    def on_result(self, job: TrialJob, result: RungResult) -> bool:
        """Record a rung; True if the trial goes on to the next."""
        driver = self._driver
        trial = driver.history.trials[job.trial]
        if result.outcome in ("diverged", "failed"):
            self._end(trial, result.outcome, result.reason)
            return False
        if not result.whole:
            return self._races_on(trial, job, result)
        driver.record(scored(job, result, rung=result.rung))
        return self._goes_on(trial)

    def on_lost(self, job: TrialJob, reason: str) -> None:
        """Record that the worker was lost."""
        self._end(self._driver.history.trials[job.trial], "failed", reason)

    def _races_on(self, trial: Trial, job: TrialJob, result: RungResult) -> bool:
        """Look at a rung's first tasks; a trial that is behind for sure is stopped at once.

        It races whoever scores best of those that cost no more than it does.
        """
        plan, sign = self._driver.plan, self._driver.history.sign
        if trial.asked.name in plan.space.protected:
            return True
        peers = self._peers(trial, result.rung)
        whole = [t.at(result.rung) for t in peers if self._scored_whole(t, result.rung)]
        no_dearer = [row for row in whole if self._is_no_dearer(row, result)]
        if not no_dearer:
            return True
        ahead = max(no_dearer, key=lambda s: sign * mean(s.scores))
        reason = why_behind(
            [sign * score for score in result.scores],
            [sign * score for score in ahead.scores[: len(result.scores)]],
            block=len(set(ahead.groups)),
            alpha=plan.space.space.tasks.race,
            rivals=max(1, plan.share(self._round) - 1),
        )
        if reason is None:
            return True
        self._driver.record(scored(job, result, rung=result.rung))
        self._end(trial, "stopped", reason)
        return False

    def _peers(self, trial: Trial, rung: int) -> list[Trial]:
        """The trials that were scored at a rung and that one can be compared with there.

        Who is done at this rung, such as a baseline that needs no training, is no measure for a
        trial that has only begun.
        """
        scored_there = [t for t in self._trials() if rung in t.rungs]
        if self._is_last(trial, rung):
            return scored_there
        return [t for t in scored_there if not self._is_last(t, rung)]

    def _is_last(self, trial: Trial, rung: int) -> bool:
        return rung >= self._driver.last_rung(trial)

    def _is_no_dearer(self, row: Measured, other: Measured) -> bool:
        return all(cost(name, row) <= cost(name, other) for name in self._costs)

    def _scored_whole(self, trial: Trial, rung: int) -> bool:
        """False where the trial was not there, or its race ended before all tasks were scored."""
        tasks = self._driver.plan.tasks("select")
        return rung in trial.rungs and len(trial.at(rung).scores) == tasks

    def _goes_on(self, trial: Trial) -> bool:
        """Decide on a trial after its newest rung, and record its end if this is it."""
        if not trial.rungs:
            return True
        if not self._scored_whole(trial, trial.rungs[-1]):
            self._end(trial, "stopped", "behind the leader on its rung's first tasks")
            return False
        if self._is_last(trial, trial.rungs[-1]):
            self._end(trial, "completed", "")
            return False
        reason = self._why_stop(trial, trial.rungs[-1])
        if reason is None:
            return True
        self._end(trial, "stopped", reason)
        return False

    def _why_stop(self, trial: Trial, rung: int) -> str | None:
        standings = {
            other.id: self._standing(other, trial, rung) for other in self._peers(trial, rung)
        }
        space = self._driver.plan.space
        protected = trial.asked.name in space.protected
        return why_stop(
            trial.id,
            standings,
            space.space.resource.reduction,
            protected=protected,
            first_rung=rung == 1,
        )

    def _standing(self, other: Trial, trial: Trial, rung: int) -> Standing:
        """How another one, or the trial itself, stood at a rung."""
        if (settled := self._stood.get((other.id, rung))) is not None:
            return settled
        whole = self._scored_whole(other, rung)
        found = Standing(
            # Who lost the race before all tasks were scored is behind whoever did not.
            score=self._driver.history.sign * mean(other.at(rung).scores) if whole else -inf,
            structure=other.asked.structure,
            passed=other.rungs[-1] > rung or (other.ended is None and other.id != trial.id),
            costs=tuple(cost(name, other.at(rung)) for name in self._costs),
        )
        if other.ended is not None:
            self._stood[other.id, rung] = found
        return found

    def _end(self, trial: Trial, state: State, reason: str) -> None:
        self._running.discard(trial.id)
        end = Ended(trial.id, state, reason, spent(trial))
        self._driver.record(end)
        self._ended.append(end)
        self._refuse_lost_default()
        if (why := why_hopeless(self._ended)) is not None:
            raise RunError(why)

    def _refuse_lost_default(self) -> None:
        """Go no further where there is nothing to compare with; nor when such a run is resumed."""
        default = self._driver.history.default_of(self._round)
        end = None if default is None else default.ended
        if default is not None and end is not None and end.state in ("diverged", "failed"):
            raise RunError(
                f"the default strategy {default.asked.name} {end.state}, so nothing can be "
                f"compared with it: {last_line(end.reason)}. "
                "Choose another default in the space file."
            )


def why_hopeless(ended: Sequence[Ended]) -> str | None:
    """Why a search is to go no further: the first ``FIRST`` trials that ended all failed.

    Args:
        ended: how trials ended, in that order.

    Returns:
        The reason that most of them have in common, with one of them and where it happened; None
        where there is hope.
    """
    first = ended[:FIRST]
    if len(ended) != FIRST or any(end.state != "failed" for end in first):
        return None
    said = Counter(last_line(end.reason) for end in first)
    commonest, times = said.most_common(1)[0]
    example = next(end for end in first if last_line(end.reason) == commonest)
    lines = [line.strip() for line in example.reason.splitlines()]
    where = "".join([f", {line}" for line in lines if line.startswith("File ")][-1:])
    return (
        f"the first {FIRST} trials all failed, {times} of them with: {commonest} "
        f"(such as {example.trial}{where}). The records stand: once the cause is gone, resume."
    )


def ask(
    driver: Driver,
    round_: int,
    name: str,
    origin: Origin,
    strategy: Strategy,
    parent: str | None = None,
) -> Trial:
    """Decide on a trial and record that; its number is the round's next."""
    number, plain = len(driver.history.of_round(round_)), strategy.model_dump(mode="json")
    row = Asked(
        trial=f"r{round_}-{number:04d}",
        round=round_,
        number=number,
        name=name,
        origin=origin,
        strategy=plain,
        digest=strategy.digest(),
        structure=strategy.structure(),
        params=driver.plan.space.tree.params_of(plain),
        parent=parent,
    )
    driver.record(row)
    return driver.history.trials[row.trial]


def known_strategies(space: ResolvedSpace, method: Method) -> tuple[Named, ...]:
    """What a round tries first: all that the file names, then, in later rounds, what has led.

    The default comes first. In later rounds those that take part in the verdict in any case are
    tried again, for they have the larger resource, too.
    """
    if method.round == 0:
        return space.initial
    named = [entry for entry in space.initial if entry.name in space.protected]
    led = [Named(i.name, "incumbent", i.strategy) for i in method.incumbents]
    found: dict[str, Named] = {}
    for entry in (*named, *led):
        found.setdefault(entry.strategy.digest(), entry)
    return tuple(found.values())


def portfolio_of(plan: Plan, method: Method) -> tuple[Named, ...]:
    """What earlier runs have this one try behind what is named, in the first round.

    At most half of what the round's share of trials leaves, so that a prior that is wrong here
    leaves room to find that out.
    """
    if method.round > 0:
        return ()
    left = plan.share(1) - plan.for_gradient(1) - len(known_strategies(plan.space, method))
    return plan.prior.portfolio[: max(0, left // 2)]


def evidence_after(driver: Driver, method: Method) -> tuple[Seen, ...]:
    """What the next round's proposals go by: what this round learned behind what was known."""
    history, names = driver.history, driver.plan.space.space.costs
    found = []
    for trial in history.of_round(method.round + 1):
        if trial.asked.params is None or trial.ended is None:
            continue
        lost = trial.ended.state in ("diverged", "failed")
        gains = () if lost else tuple(history.gains(trial).items())
        known = {} if lost else history.costs(trial, names)
        costs = {name: tuple(by_rung.items()) for name, by_rung in known.items()}
        state: Any = "lost" if lost else trial.ended.state
        found.append(Seen(params=trial.asked.params, state=state, gains=gains, costs=costs))
    return (*method.evidence, *found)


def _observation(seen: Seen) -> Observation:
    costs = {name: dict(by_rung) for name, by_rung in seen.costs.items()}
    return Observation(seen.params, seen.state, dict(seen.gains), costs)


def strategy_of(space: ResolvedSpace, params: Params) -> Strategy:
    """The strategy that these values make."""
    _, partial = space.tree.walk(lambda knob: params[knob.name])
    return space.strategy_from(partial)


def spent(trial: Trial) -> float:
    """Seconds of training and of scoring on ``select``."""
    latest = trial.latest()
    if latest is None:
        return 0.0
    scoring = sum(trial.at(rung).score_seconds for rung in trial.rungs)
    return round(latest.train_seconds + scoring, 6)


def scored(job: TrialJob, result: RungResult, rung: int) -> Scored:
    """The row of a result."""
    return Scored(
        trial=job.trial,
        round=job.round,
        rung=rung,
        split=job.split,
        replica=job.replica,
        resource=result.resource,
        train_seconds=result.train_seconds,
        score_seconds=result.score_seconds,
        train_loss=result.train_loss,
        tasks=list(result.tasks),
        groups=list(result.groups),
        scores=list(result.scores),
        transductive=result.transductive,
        learned=dict(result.learned),
        node=result.node,
    )
