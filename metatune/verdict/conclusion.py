"""The conclusion: what was measured on ``test`` is weighed, and told."""

from __future__ import annotations

from metatune.driver import Driver
from metatune.history import Trial
from metatune.records.rows import Concluded
from metatune.statistics import claim_for
from metatune.verdict.ensembles import RIVALS_BLEND, ensemble_of, leads
from metatune.verdict.entrants import Entrant, entrant_of, trained, two_best
from metatune.verdict.words import Parties, members_in_words, sentence


def conclude(driver: Driver, round_: int) -> Concluded:
    """Weigh what was measured on ``test``.

    Raises:
        RunError: the default lost every training.
    """
    parties = parties_of(driver, round_)
    winner, rival = parties.winner, parties.rival
    claim = claim_for(winner.groups)
    return Concluded(
        winner=winner.trial.id,
        rival=rival.trial.id,
        claim=claim,
        sentence=sentence(driver, parties, claim),
    )


def parties_of(driver: Driver, round_: int) -> Parties:
    """The two best, or the ensembles where the leaders' is first on ``confirm``."""
    winner, rival = two_best(driver, round_)
    default = driver.history.default
    assert default is not None
    three = (winner, rival, trained(driver)[default.asked.digest])
    single, best, reference = map(entrant_of, three)
    if not driver.plan.space.space.verdict.ensemble:
        return Parties(single, best, reference)
    found = _ensembles(driver, round_, rival)
    if isinstance(found, str):
        return Parties(single, best, reference, remark=found)
    own, other = found
    if leads(driver, round_, own.trial):
        return Parties(own, other, reference, found)
    return Parties(single, best, reference, found)


def _ensembles(driver: Driver, round_: int, rival: Trial) -> tuple[Entrant, Entrant] | str:
    """The leaders' ensemble and the rival's, or, in words, why they do not compete."""
    history = driver.history
    own, other = ensemble_of(driver, round_), ensemble_of(driver, round_, RIVALS_BLEND)
    if own is None:
        return "No ensemble: no blend of leaders does better on select than the best of them alone"
    if not own.asked.members:
        reason = "unknown" if own.ended is None else own.ended.reason.strip().splitlines()[-1]
        return f"No ensemble: the choice of its members was lost: {reason}"
    left_out = f"The ensemble of {members_in_words(own, history)} is left out"
    if not own.trainings:
        return f"{left_out}: none of its blends is whole"
    if other is None or not other.trainings or history.digests(other)[0] != rival.asked.digest:
        return f"{left_out}: {rival.asked.name} has no blend to compare it with"
    return entrant_of(own), entrant_of(other)
