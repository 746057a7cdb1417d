"""Lost workers: what goes on, from where, how often, and what a resume knows of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from handmade import SPACE as BY_HAND
from handmade import Story, kind_of, plan_of
from inline_runner import (
    SPACE,
    InlineRunner,
    inline_resume,
    inline_run,
    lasting,
    rows_of,
    study_of,
)

import metatune
from metatune.jobs import RungResult, TrialJob
from metatune.records.rows import Ended, Retried, Scored
from metatune.retries import Retrying, recorded_of


class Given:
    """A source of given jobs, which keeps what it is told."""

    def __init__(self, *jobs: TrialJob) -> None:
        self.jobs = list(jobs)
        self.lost: list[str] = []

    def next_job(self) -> TrialJob | None:
        return self.jobs.pop(0) if self.jobs else None

    def on_result(self, job: TrialJob, result: RungResult) -> bool:
        return False

    def on_lost(self, job: TrialJob, reason: str) -> None:
        self.lost.append(reason)

    @property
    def exhausted(self) -> bool:
        return not self.jobs


def story(retries: int = 2) -> Story:
    return Story(plan_of(BY_HAND + f"faults: {{max_retries: {retries}}}\n"))


def test_a_lost_job_goes_on_before_any_other_from_its_last_recorded_rung() -> None:
    told = story()
    first, second = told.trial("protonet", state=None), told.trial("other", state=None)
    driver = told.driver()
    jobs = [driver.job(driver.history.trials[name], "select") for name in (first, second)]
    source = Retrying(driver, Given(*jobs))
    job = source.next_job()
    assert job == jobs[0]
    told.score(first, "select", 0.5, rung=1)
    driver.history.add(told.rows[-1])
    source.on_lost(jobs[0], "killed")
    assert not source.exhausted
    assert source.next_job() == replace(jobs[0], recorded=1)
    assert source.next_job() == jobs[1]
    (row,) = kind_of(told.rows, Retried)
    assert (row.trial, row.split, row.replica, row.rung, row.reason) == (
        first, "select", 0, 1, "killed",
    )  # fmt: skip


@pytest.mark.parametrize("most", [0, 1, 2])
def test_a_job_is_lost_to_its_source_after_so_many_retries(most: int) -> None:
    told = story(most)
    name = told.trial("protonet", state=None)
    driver = told.driver()
    job = driver.job(driver.history.trials[name], "select")
    source = Retrying(driver, given := Given(job))
    for time in range(most + 1):
        assert given.lost == []
        assert source.next_job() == job
        source.on_lost(job, f"killed {time}")
    expected = f"lost {most + 1} times, the last time: killed {most}" if most else "killed 0"
    assert given.lost == [expected]
    assert source.exhausted
    assert [row.reason for row in kind_of(told.rows, Retried)] == [
        f"killed {time}" for time in range(most)
    ]


def test_another_driver_goes_on_counting_and_a_new_rung_counts_anew() -> None:
    told = story()
    name = told.trial("protonet", state=None)
    told.rows += [Retried(name, "select", 0, 0, "killed")] * 2
    driver = told.driver()
    job = driver.job(driver.history.trials[name], "select")
    source = Retrying(driver, given := Given())
    source.on_lost(job, "killed")
    assert len(given.lost) == 1
    told.score(name, "select", 0.5, rung=1)
    driver.history.add(told.rows[-1])
    source.on_lost(job, "killed")
    assert len(given.lost) == 1


def test_what_only_scores_begins_again_as_it_was() -> None:
    told = story()
    name = told.trial("protonet", 0.5, 0.5, 0.5)
    told.score(name, "confirm", 0.5)
    driver = told.driver()
    trial = driver.history.trials[name]
    assert recorded_of(driver.job(trial, "confirm", recorded=3, train=False), driver.history) == 3
    # Of an anew training nothing below its last rung is kept.
    assert recorded_of(driver.job(trial, "test", replica=1, recorded=2), driver.history) == 2
    nobody = replace(driver.job(trial, "select"), trial="r1-e0")
    assert recorded_of(nobody, driver.history) == 0


class Unlucky(InlineRunner):
    """Loses every job's worker as it begins, and again once its first rung is recorded."""

    def __init__(self) -> None:
        self.looked: Counter[tuple[str, str, int]] = Counter()
        super().__init__(lost=self.loses)

    def loses(self, job: TrialJob) -> bool:
        key = (job.trial, job.split, job.replica)
        self.looked[key] += 1
        return self.looked[key] in (1, 3)


def test_a_run_whose_workers_are_lost_measures_what_it_would_have(tmp_path: Path) -> None:
    whole = inline_run(SPACE, tmp_path / "whole" / "run")
    lossy = inline_run(SPACE, tmp_path / "lossy" / "run", runner=(runner := Unlucky()))
    assert {job.trial for job in runner.jobs} > {"r1-0000", "r1-0001"}
    rows = rows_of(lossy)
    lost = [row for row in rows if isinstance(row, Retried)]
    assert {row.split for row in lost} == {"select", "confirm", "test"}
    assert {row.rung for row in lost if row.split == "select"} == {0, 1}

    def measured(run: Path) -> list[object]:
        kept = [row for row in rows_of(run) if isinstance(row, Scored | Ended)]
        return sorted(lasting(kept), key=repr)  # type: ignore[arg-type]

    assert measured(lossy) == measured(whole)
    trials = metatune.read_run(lossy).trials
    counted = Counter(row.trial for row in lost)
    assert trials["retries"].to_dict() == {trial: counted[trial] for trial in trials.index}
    assert len(study_of(lossy).trials) == len(trials)


def test_a_trial_that_loses_every_worker_fails_once_and_a_resume_keeps_that(
    tmp_path: Path,
) -> None:
    def doomed(job: TrialJob) -> bool:
        return job.trial == "r1-0003"

    run = inline_run(SPACE, tmp_path / "run", runner=InlineRunner(lost=doomed))
    trial = metatune.read_run(run).trials.loc["r1-0003"]
    assert (trial["state"], trial["retries"]) == ("failed", 2)
    assert trial["reason"] == "lost 3 times, the last time: the worker was lost: OOM"
    before = rows_of(run)
    inline_resume(run)
    assert rows_of(run) == before
