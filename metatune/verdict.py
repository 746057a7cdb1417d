"""The verdict: finalists, default, presets and baselines meet on ``test``, which opens once.

Every entrant is trained anew with new seeds. The winner is the finalist that ``confirm`` put
first, and its rival the preset or baseline that ``select`` put first, so neither was chosen by
what ``test`` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isinf

import numpy as np

from metatune.confirm import Queue, confirmed, finalists
from metatune.driver import Driver
from metatune.errors import RunError
from metatune.history import History, Trial
from metatune.records.rows import Concluded, Looked
from metatune.statistics import Claim, Estimate, claim_for, estimate, sign_flip_p
from metatune.tasks.base import FamilyInfo

UNSEEN_LUCK = "whose luck the intervals do not show"


@dataclass(frozen=True)
class Entrant:
    """A strategy at the verdict, averaged over its trainings.

    Attributes:
        trial: whose strategy.
        scores: of each test task, the mean over trainings; empty if every training was lost.
        groups: group of each test task.
        replicas: mean score of each training.
    """

    trial: Trial
    scores: tuple[float, ...]
    groups: tuple[str, ...]
    replicas: tuple[float, ...]


def entrants(driver: Driver, round_: int) -> list[Trial]:
    """Finalists first, then the default, then the presets and baselines; one a strategy.

    Where a finalist repeats a named strategy, the named trial stands for both.
    """
    space = driver.plan.space
    trials = driver.history.of_round(round_)
    named = [t for t in trials if t.asked.name in space.protected and _completed(t)]
    return list(
        {trial.asked.digest: trial for trial in [*finalists(driver, round_), *named]}.values()
    )


def trainings(driver: Driver, round_: int) -> Queue:
    """The jobs that train every entrant anew and score it on ``test``."""
    history = driver.history
    if history.look_at("test") is None:
        chosen = [trial.id for trial in entrants(driver, round_)]
        seeds = driver.affordable_seeds(len(chosen))
        driver.record(Looked("test", round_, chosen, seeds))
    look = history.look_at("test")
    assert look is not None
    jobs = [
        # Rungs below the last are trained through without a report.
        driver.job(trial, "test", replica=replica, recorded=driver.last_rung(trial) - 1)
        for replica in range(1, look.seeds + 1)
        for trial in (history.trials[name] for name in look.trials)
        if trial.on("test", replica) is None and replica not in trial.replicas
    ]
    return Queue(driver, jobs)


def conclude(driver: Driver, round_: int) -> Concluded:
    """Weigh what was measured on ``test``."""
    history = driver.history
    looked = history.look_at("test")
    assert looked is not None
    present = [entrant_of(history.trials[name]) for name in looked.trials]
    known = {entrant.trial.asked.digest: entrant for entrant in present if entrant.scores}
    default = history.default
    assert default is not None
    if default.asked.digest not in known:
        raise RunError(
            f"the default strategy {default.asked.name} could not be trained anew for the verdict: "
            f"{_why_lost(default)}"
        )
    ranking = [t for t in confirmed(driver, round_) if t.asked.digest in known]
    winner = known[(ranking or [default])[0].asked.digest]
    rival = known[rival_of(driver, [e.trial.id for e in known.values()]).asked.digest]
    claim = claim_for(winner.groups)
    return Concluded(
        winner=winner.trial.id,
        rival=rival.trial.id,
        claim=claim,
        sentence=sentence(driver, winner, rival, known[default.asked.digest], claim),
    )


def rival_of(driver: Driver, present: list[str]) -> Trial:
    """The best preset or baseline as chosen on ``select``; the default where there is none."""
    history = driver.history
    named = [
        trial
        for trial in history.trials.values()
        if trial.asked.name in driver.plan.space.rivals and trial.id in present
    ]
    gains = {t.id: history.gain(t, t.rungs[-1]) for t in named}
    default = history.default
    assert default is not None
    return max(named, key=lambda t: gains[t.id] or 0.0, default=default)


def entrant_of(trial: Trial) -> Entrant:
    """The entrant's scores over its trainings."""
    rows = [
        row
        for (split, replica, _), row in sorted(trial.scores.items())
        if split == "test" and replica > 0
    ]
    if not rows:
        return Entrant(trial, (), (), ())
    scores = np.array([row.scores for row in rows])
    return Entrant(
        trial, tuple(scores.mean(0)), tuple(rows[0].groups), tuple(scores.mean(1).tolist())
    )


def gain(a: Entrant, b: Entrant, sign: int, claim: Claim) -> tuple[Estimate, float]:
    """Paired difference with its interval (positive: ``a`` is better), and the p value of zero."""
    values = [sign * (x - y) for x, y in zip(a.scores, b.scores, strict=True)]
    return (
        estimate(values, a.groups, claim, trainings=(a.replicas, b.replicas)),
        sign_flip_p(values, a.groups, claim),
    )


def is_gain(difference: Estimate, p: float) -> bool:
    """Whether the first of two is shown to be better."""
    return difference.low > 0 and p < 0.05


def sentence(
    driver: Driver, winner: Entrant, rival: Entrant, default: Entrant, claim: Claim
) -> str:
    """The verdict in words: what beats what, by how much, on what, and what cannot be said."""
    info, sign = driver.plan.info, driver.history.sign
    basis = _basis(info, winner, claim, len(winner.replicas))
    among = rival.trial.asked.name in driver.plan.space.rivals
    role = "the best preset or baseline" if among else "the default"
    if winner.trial.asked.digest == rival.trial.asked.digest:
        lead = f"Nothing beats {role}, {_name(rival)}: it came first itself"
    else:
        lead = _comparison(winner, rival, sign, claim, info, role)
    parts = [lead]
    if default.trial.id not in (winner.trial.id, rival.trial.id):
        parts.append(_comparison(winner, default, sign, claim, info, "the default"))
    elif winner.trial.id == default.trial.id and among:
        parts.append("Nothing beats the default")
    if driver.plan.prior.strategies:
        parts.append(of_prior(driver, winner.trial))
    if before := driver.plan.space.space.method.tested:
        rounds = ", ".join(map(str, before))
        basis += f". Test was opened before, after round {rounds}: these tasks are not fresh"
    return ". ".join([*parts, basis])


def of_prior(driver: Driver, winner: Trial) -> str:
    """What earlier runs contributed, in words: the winner or what it was made from, or how far the
    best of theirs came."""
    history, brought = driver.history, driver.plan.prior.brought
    if not brought:
        return "The prior brought no strategy that the space file does not name"
    if winner.asked.digest in brought:
        return "The winner came from the prior"
    for ancestor in ancestors(winner, history):
        if ancestor.asked.digest in brought:
            return f"The winner was made from {ancestor.asked.name}, which came from the prior"
    ranking = confirmed(driver, winner.asked.round)
    for place, trial in enumerate(ranking, start=1):
        if trial.asked.digest in brought:
            name = trial.asked.name
            return f"The prior's best, {name}, came in place {place} of {len(ranking)} on confirm"
    return "No strategy of the prior was among the leaders"


def ancestors(trial: Trial, history: History) -> Iterator[Trial]:
    """What a trial was made from, and what that was made from, as far as the run knows."""
    while (parent := trial.asked.parent) is not None and parent in history.trials:
        trial = history.trials[parent]
        yield trial


def _comparison(
    winner: Entrant, other: Entrant, sign: int, claim: Claim, info: FamilyInfo, role: str
) -> str:
    difference, p = gain(winner, other, sign, claim)
    amount = amount_of(difference, info)
    if is_gain(difference, p):
        return f"{_name(winner)} beats {role}, {_name(other)}, by {amount} (p = {p:.2g})"
    if difference.high < 0 and p < 0.05:
        return f"Nothing beats {role}: {_name(winner)} is worse than {_name(other)}, by {amount}"
    return f"{_name(winner)} is not shown to beat {role}, {_name(other)}: difference {amount}"


def amount_of(difference: Estimate, info: FamilyInfo) -> str:
    """A difference with its 95 % interval, in the metric's usual units."""
    scale, unit = (100, " points") if info.metric.name == "accuracy" else (1, "")
    mean, low, high = (scale * x for x in (difference.mean, difference.low, difference.high))
    if isinf(low):
        return f"{mean:+.3g}{unit} (one unit only, no interval)"
    return f"{mean:+.3g}{unit} [{low:+.3g}, {high:+.3g}]"


def _basis(info: FamilyInfo, entrant: Entrant, claim: Claim, seeds: int) -> str:
    groups = sorted(set(entrant.groups))
    trained = f"{seeds} trainings each" if seeds > 1 else f"1 training each, {UNSEEN_LUCK}"
    count = len(entrant.scores)
    if claim == "new groups":
        return f"Claim: new groups ({len(groups)} unseen groups, {count} tasks, {trained})"
    if not info.grouped:
        return f"Claim: new tasks ({count} tasks, {trained})"
    names = ", ".join(groups)
    return (
        f"Too few groups for a claim about new groups (G = {len(groups)}: {names}). "
        f"Claim: new tasks of these groups ({count} tasks, {trained})"
    )


def _why_lost(trial: Trial) -> str:
    reasons = [f"{end.state}: {end.reason.strip()}" for end in trial.replicas.values()]
    return reasons[0].splitlines()[-1] if reasons else "its scores are missing"


def _name(entrant: Entrant) -> str:
    return entrant.trial.asked.name


def _completed(trial: Trial) -> bool:
    return trial.ended is not None and trial.ended.state == "completed"
