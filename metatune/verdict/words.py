"""The verdict in words: what beats what, by how much, on what, and what cannot be said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isinf

from metatune.confirm import confirmed
from metatune.driver import Driver
from metatune.history import History, Trial
from metatune.statistics import Claim, Estimate, estimate, sign_flip_p
from metatune.tasks.base import FamilyInfo
from metatune.verdict.entrants import Entrant

UNSEEN_LUCK = "whose luck the intervals do not show"


@dataclass(frozen=True)
class Parties:
    """Whom a verdict is about.

    Attributes:
        winner, rival: which two are compared.
        default: what everything is compared with.
        ensembles: the leaders' and the rival's, which compete in any case; None where they do not.
        remark: why they do not, where they were asked for.
    """

    winner: Entrant
    rival: Entrant
    default: Entrant
    ensembles: tuple[Entrant, Entrant] | None = None
    remark: str = ""

    @property
    def all(self) -> list[Entrant]:
        """Each of them once, in order."""
        found = (self.winner, self.rival, self.default, *(self.ensembles or ()))
        return list({entrant.trial.id: entrant for entrant in found}.values())


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


def sentence(driver: Driver, parties: Parties, claim: Claim) -> str:
    """The whole verdict."""
    winner, rival, default = parties.winner, parties.rival, parties.default
    info, sign = driver.plan.info, driver.history.sign
    basis = _basis(info, parties.all, claim)
    among = rival.trial.asked.name in driver.plan.space.rivals
    role = role_of(driver, rival.trial)
    if winner.trial.asked.digest == rival.trial.asked.digest:
        lead = f"Nothing beats {role}, {_name(rival)}: it came first itself"
    else:
        lead = _comparison(winner, rival, sign, claim, info, role)
    parts = [lead]
    if default.trial.id not in (winner.trial.id, rival.trial.id):
        parts.append(_comparison(winner, default, sign, claim, info, "the default"))
    elif winner.trial.id == default.trial.id and among:
        parts.append("Nothing beats the default")
    if parties.ensembles is not None:
        own, other = parties.ensembles
        if own != winner:
            of_rival = role_of(driver, other.trial)
            parts.append(_comparison(own, other, sign, claim, info, of_rival, beside=True))
        parts.append(f"{_name(own)} blends {members_in_words(own.trial, driver.history)}")
    if parties.remark:
        parts.append(parties.remark)
    if driver.plan.prior.strategies:
        parts.append(of_prior(driver, winner.trial))
    if before := driver.plan.space.space.method.tested:
        rounds = ", ".join(map(str, before))
        basis += f". Test was opened before, after round {rounds}: these tasks are not fresh"
    return ". ".join([*parts, basis])


def role_of(driver: Driver, rival: Trial) -> str:
    """What a rival is to the winner."""
    members = rival.asked.members
    name = driver.history.trials[members[0]].asked.name if members else rival.asked.name
    role = "the best preset or baseline" if name in driver.plan.space.rivals else "the default"
    return f"the ensemble of {role}" if members else role


def members_in_words(ensemble: Trial, history: History) -> str:
    """The names of an ensemble's members."""
    *names, last = (history.trials[member].asked.name for member in ensemble.asked.members)
    return f"{', '.join(names)} and {last}"


def of_prior(driver: Driver, winner: Trial) -> str:
    """What earlier runs contributed, in words: the winner or what it was made from, or how far the
    best of theirs came."""
    history, brought = driver.history, driver.plan.prior.brought
    if not brought:
        return "The prior brought no strategy that the space file does not name"
    if members := winner.asked.members:
        blended = [history.trials[member] for member in members]
        count = sum(
            any(trial.asked.digest in brought for trial in (member, *ancestors(member, history)))
            for member in blended
        )
        if count:
            return f"{count} of the winner's {len(members)} members came from the prior"
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
    winner: Entrant,
    other: Entrant,
    sign: int,
    claim: Claim,
    info: FamilyInfo,
    role: str,
    *,
    beside: bool = False,
) -> str:
    """What the first is to the other; ``beside``: another is the winner."""
    difference, p = gain(winner, other, sign, claim)
    amount = amount_of(difference, info)
    if is_gain(difference, p):
        return f"{_name(winner)} beats {role}, {_name(other)}, by {amount} (p = {p:.2g})"
    if difference.high < 0 and p < 0.05:
        if beside:
            return f"{_name(winner)} is worse than {role}, {_name(other)}, by {amount}"
        return f"Nothing beats {role}: {_name(winner)} is worse than {_name(other)}, by {amount}"
    return f"{_name(winner)} is not shown to beat {role}, {_name(other)}: difference {amount}"


def amount_of(difference: Estimate, info: FamilyInfo) -> str:
    """A difference with its 95 % interval, in the metric's usual units."""
    scale, unit = (100, " points") if info.metric.name == "accuracy" else (1, "")
    mean, low, high = (scale * x for x in (difference.mean, difference.low, difference.high))
    if isinf(low):
        return f"{mean:+.3g}{unit} (one unit only, no interval)"
    return f"{mean:+.3g}{unit} [{low:+.3g}, {high:+.3g}]"


def _basis(info: FamilyInfo, compared: Sequence[Entrant], claim: Claim) -> str:
    groups, count = sorted(set(compared[0].groups)), len(compared[0].scores)
    trained = _trained(compared)
    if claim == "new groups":
        return f"Claim: new groups ({len(groups)} unseen groups, {count} tasks, {trained})"
    if not info.grouped:
        return f"Claim: new tasks ({count} tasks, {trained})"
    names = ", ".join(groups)
    return (
        f"Too few groups for a claim about new groups (G = {len(groups)}: {names}). "
        f"Claim: new tasks of these groups ({count} tasks, {trained})"
    )


def _trained(compared: Sequence[Entrant]) -> str:
    """How often each was trained, and of whom that says too little."""
    counts = [len(entrant.replicas) for entrant in compared]
    low, high = min(counts), max(counts)
    if high == 1:
        return f"1 training each, {UNSEEN_LUCK}"
    if low == high:
        return f"{low} trainings each"
    once = [_name(e) for e, count in zip(compared, counts, strict=True) if count == 1]
    alone = f", of {' and '.join(once)} one only, {UNSEEN_LUCK}" if once else ""
    return f"{low} to {high} trainings each{alone}"


def _name(entrant: Entrant) -> str:
    return entrant.trial.asked.name
