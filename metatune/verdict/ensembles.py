"""Ensembles at the verdict: leaders blended, and the rival blended with itself as often.

An ensemble is never trained. It is chosen from what leaders predicted on ``select``, ranked by what
they predicted on ``confirm``, and judged by what its members predict on ``test``, each trained
anew. It costs what all its members cost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from metatune.confirm import Queue, as_they_are, confirmed
from metatune.driver import Driver
from metatune.history import History, Trial, mean_gain
from metatune.jobs import RungResult, TrialJob
from metatune.records.rows import Asked, Ended, Looked, Row, Scored
from metatune.tasks.base import Split
from metatune.verdict.entrants import rival_of

LEADERS_BLEND, RIVALS_BLEND = 0, 1  # numbers of a round's ensembles


def ensemble_of(driver: Driver, round_: int, number: int = LEADERS_BLEND) -> Trial | None:
    """A round's ensemble; None where there is none."""
    return driver.history.ensembles.get(_name(round_, number))


def members_of(driver: Driver, round_: int) -> list[Trial]:
    """The leaders that the round's ensemble blends; none where there is no ensemble."""
    own = ensemble_of(driver, round_)
    return [] if own is None else [driver.history.trials[name] for name in own.asked.members]


# --- chosen on select, ranked on confirm ----------------------------------------------------------


def choice(driver: Driver, round_: int) -> Queue:
    """The job that chooses an ensemble of leaders by what they predicted on ``select``.

    Where no blend is better than its best member there is no ensemble, and nothing is recorded.
    """
    history, most = driver.history, driver.plan.space.space.verdict.ensemble
    own, leaders = ensemble_of(driver, round_), confirmed(driver, round_)
    if not most or len(leaders) < 2 or history.look_at("test") is not None:
        return Queue(driver, [])
    if own is not None:
        # An earlier driver may have died between the records of its choice and of the scores.
        known = own.on("select") is not None
        return _blended(
            driver, own, "select", [] if known else _on_select(members_of(driver, round_))
        )
    candidates = _on_select(leaders)

    def decided(job: TrialJob, result: RungResult) -> Sequence[Row]:
        chosen = [leaders[place] for place in result.chosen]
        asked = _asked(round_, LEADERS_BLEND, "ensemble", chosen)
        if result.outcome in ("diverged", "failed"):
            return [asked, Ended(asked.trial, "failed", result.reason, 0.0)]
        if len(chosen) < 2:
            return []
        return [asked, _summed(job, result, _on_select(chosen))]

    nobody = Trial(_asked(round_, LEADERS_BLEND, "ensemble", []))
    job = _job(driver, nobody, "select", 0, candidates)
    return Queue(driver, [replace(job, most=most)], decided)


def ranking(driver: Driver, round_: int) -> Queue:
    """The job that scores the ensemble on ``confirm``, by what its members predicted there."""
    history, own = driver.history, ensemble_of(driver, round_)
    members = members_of(driver, round_)
    if own is None or not members or own.on("confirm") or history.look_at("test"):
        return Queue(driver, [])
    if not any(look.trials == [own.id] for look in history.looks):
        driver.record(Looked("confirm", round_, [own.id]))
    parts = [row for member in members if (row := member.on("confirm")) is not None]
    return _blended(driver, own, "confirm", parts)


def leads(driver: Driver, round_: int, ensemble: Trial) -> bool:
    """True where ``confirm`` puts the ensemble before every leader."""
    history, default = driver.history, driver.history.default_of(round_)
    assert default is not None
    reference, own = default.on("confirm"), ensemble.on("confirm")
    first = confirmed(driver, round_)[0].on("confirm")
    if reference is None or own is None or first is None:
        return False
    sign = history.sign
    return mean_gain(own, reference, sign) > mean_gain(first, reference, sign)


# --- judged on test -------------------------------------------------------------------------------


def blended_at_the_verdict(driver: Driver, round_: int, present: list[str]) -> list[Trial]:
    """The ensemble, and the rival's that it meets; the latter is decided on here.

    Args:
        driver: the run.
        round_: its last.
        present: ids of the entrants that are trained.
    """
    own, members = ensemble_of(driver, round_), members_of(driver, round_)
    if own is None or not members:
        return []
    if ensemble_of(driver, round_, RIVALS_BLEND) is None:
        rival, count = rival_of(driver, present), len(members)
        name = f"{rival.asked.name} x {count}"
        driver.record(_asked(round_, RIVALS_BLEND, name, [rival] * count))
    return [own, driver.history.ensembles[_name(round_, RIVALS_BLEND)]]


def blends(driver: Driver, round_: int) -> Queue:
    """The jobs that judge the ensembles on ``test``: once for each training of their members."""
    looked = driver.history.look_at("test")
    assert looked is not None
    known = driver.history.ensembles
    wanted = {
        (name, replica): parts
        for name in looked.trials
        if name in known
        for replica, parts in enumerate(replicas(driver.history, known[name]), start=1)
        if not known[name].was_trained(replica)
    }
    jobs = [
        _job(driver, known[name], "test", replica, parts)
        for (name, replica), parts in wanted.items()
    ]
    return Queue(driver, jobs, _sums(lambda job: wanted[job.trial, job.replica]))


def replicas(history: History, ensemble: Trial) -> Iterator[tuple[Scored, ...]]:
    """What each blend on ``test`` is made of: every member brings a training of its own to each.

    So the r-th blend of different members has the r-th training of each; and a strategy that is
    blended with itself needs as many trainings for every blend as it stands there. A training that
    was lost is not there, and the blends are fewer.
    """
    looked = history.look_at("test")
    assert looked is not None
    trials = history.trained_for(looked.trials)
    left = {trial.asked.digest: iter(trial.trainings) for trial in trials}
    while True:
        parts = [next(left[digest], None) for digest in history.digests(ensemble)]
        whole = tuple(part for part in parts if part is not None)
        if len(whole) < len(parts):
            return
        yield whole


# --- rows and jobs --------------------------------------------------------------------------------


def _name(round_: int, number: int) -> str:
    return f"r{round_}-e{number}"


def _asked(round_: int, number: int, name: str, members: Sequence[Trial]) -> Asked:
    digests = " ".join(member.asked.digest for member in members)
    return Asked(
        trial=_name(round_, number),
        round=round_,
        number=number,
        name=name,
        origin="ensemble",
        strategy={},
        digest=hashlib.sha256(f"ensemble {digests}".encode()).hexdigest()[:12],
        structure=f"ensemble/{len(members)} members",
        params=None,
        members=[member.id for member in members],
    )


def _on_select(trials: Sequence[Trial]) -> list[Scored]:
    return [row for trial in trials if (row := trial.latest()) is not None]


def _blended(driver: Driver, ensemble: Trial, split: Split, parts: Sequence[Scored]) -> Queue:
    """The one job of blending these; none without any."""
    jobs = [_job(driver, ensemble, split, 0, parts)] if parts else []
    return Queue(driver, jobs, _sums(lambda job: parts))


def _job(
    driver: Driver, ensemble: Trial, split: Split, replica: int, parts: Sequence[Scored]
) -> TrialJob:
    folders = tuple(driver.kept(row) for row in parts)
    rung = max(row.rung for row in parts)
    job = driver.job(ensemble, split, replica=replica, recorded=rung, train=False)
    return replace(job, parts=folders, looks=False)


def _sums(
    parts: Callable[[TrialJob], Sequence[Scored]],
) -> Callable[[TrialJob, RungResult], Sequence[Row]]:
    """The rows of a blend, which costs what its parts cost."""

    def rows(job: TrialJob, result: RungResult) -> Sequence[Row]:
        if result.outcome in ("diverged", "failed"):
            return as_they_are(job, result)
        return [_summed(job, result, parts(job))]

    return rows


def _summed(job: TrialJob, result: RungResult, parts: Sequence[Scored]) -> Scored:
    (row,) = as_they_are(job, result)
    assert isinstance(row, Scored)
    return replace(
        row,
        rung=max(part.rung for part in parts),
        resource=sum(part.resource for part in parts),
        train_seconds=sum(part.train_seconds for part in parts),
        score_seconds=sum(part.score_seconds for part in parts),
        transductive=any(part.transductive for part in parts),
    )
