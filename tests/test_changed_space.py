"""A run whose space is changed between two drivers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from inline_runner import SPACE, InlineRunner, inline_resume, inline_run, rows_of, study_of

import metatune
from metatune import session
from metatune.changed_space import change_space
from metatune.errors import RunError
from metatune.jobs import RungResult, TrialJob
from metatune.records.folder import RunFolder
from metatune.records.rows import Ended, Turned

TINY = SPACE.replace("seeds: 2", "seeds: 1").replace("full: 1800", "full: 900")
NEW = (
    TINY.replace("    joint:\n", "    plain:\n")
    .replace("lr: {float: [1.0e-3, 1.0e-2], log: true}", "lr: 0.004")
    .replace("budget: {trials: 9}", "budget: {trials: 7}")
)


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was ended in the midst of a trial of its first round. Not to be changed."""
    seen: list[TrialJob] = []

    def interrupted(job: TrialJob, result: RungResult) -> RungResult:
        seen.append(job)
        if job.trial == "r1-0005":
            raise KeyboardInterrupt
        return result

    path = tmp_path_factory.mktemp("cut_off") / "run"
    with pytest.raises(KeyboardInterrupt):
        inline_run(TINY, path, runner=InlineRunner(clock=interrupted))
    return path


@pytest.fixture
def run(cut_off: Path, tmp_path: Path) -> Path:
    return shutil.copytree(cut_off, tmp_path / "run")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    file = tmp_path / "new.yaml"
    file.write_text(NEW)
    return file


def test_a_run_goes_on_with_a_new_round_in_the_new_space(run: Path, new: Path) -> None:
    before, old_study = rows_of(run), study_of(run)
    change_space(run, new)
    change_space(run, new)  # nothing twice
    changed = rows_of(run)
    inline_resume(run)
    rows = rows_of(run)

    # What was measured stands, and the round under way has ended.
    assert rows[: len(before)] == before
    assert rows[: len(changed)] == changed
    ended, turned = changed[len(before) :]
    assert isinstance(ended, Ended)
    assert (ended.trial, ended.state) == ("r1-0005", "stopped")
    assert isinstance(turned, Turned)
    assert turned.round == 1
    assert turned.moves == [ended.reason]
    assert ended.reason.startswith("the space was changed (sha256 ")

    # The next round has the new space, and goes by what was learned in the old one.
    found = metatune.read_run(run)
    trials = found.trials
    assert trials["round"].value_counts().to_dict() == {1: 6, 2: 7}
    proposed = trials.query("round == 2 and origin == 'proposed'")
    assert not proposed.empty
    strategies = proposed["strategy"].map(json.loads)
    assert {each["outer"]["lr"] for each in strategies if "lr" in each["outer"]} <= {0.004}
    assert len(found.verdicts) == 1
    plan = session.planned(run)[1]
    assert plan.first_round == 2
    assert len(plan.space.space.method.evidence) == trials.query("round == 1")["params"].count()

    # Each space has its study.
    told = {t.user_attrs["trial"]: t.state.name for t in old_study.trials}
    assert list(told) == trials.query("round == 1").index.to_list()
    assert "RUNNING" not in told.values()
    about = json.loads((run / "run.json").read_text())
    assert about["study"] == "run-2"
    assert [each["since_round"] for each in about["spaces"]] == [2]
    assert (run / "space-1.yaml").read_text() == TINY


def test_a_change_that_was_killed_is_made_again(
    run: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = RunFolder.write

    def killed(folder: RunFolder, file: Path, data: bytes | str) -> None:
        if file.name == "run.json":
            raise KeyboardInterrupt
        write(folder, file, data)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            change_space(run, new)
    rows = rows_of(run)
    with pytest.raises(RunError, match="was changed since the run started"):
        session.reopen(run)
    change_space(run, new)
    assert rows_of(run) == rows
    assert session.planned(run)[1].first_round == 2


@pytest.mark.parametrize(
    ("old", "other", "told"),
    [
        ("shot: 5", "shot: 4", "family: found"),
        ("budget:", "objectives: [score, adapt_seconds]\nbudget:", "objectives: found"),
    ],
)
def test_a_space_whose_scores_would_not_compare_is_refused(
    old: str, other: str, told: str, run: Path, new: Path
) -> None:
    new.write_text(NEW.replace(old, other))
    before = {path: path.read_bytes() for path in run.rglob("*.*") if path.is_file()}
    with pytest.raises(RunError, match=told):
        change_space(run, new)
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_with_its_verdict_is_refused(finished: Path, tmp_path: Path, new: Path) -> None:
    copy = shutil.copytree(finished, tmp_path / finished.name)
    new.write_text(SPACE.replace("trials: 9", "trials: 12"))
    with pytest.raises(RunError, match="for which test is opened once: start a new run"):
        change_space(copy, new)
