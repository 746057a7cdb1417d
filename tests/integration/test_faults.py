"""A run on real Ray in which trials go wrong in every way: each has its end, with its reason."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from metatune import read_run, session
from metatune.records.folder import RunFolder
from metatune.records.reading import Run, read_rows
from metatune.records.rows import Ended, Retried
from tests.integration.conftest import study_of

SPACE = """
family: {name: sinusoid, shot: 5, query: 5}
seed: 3
resource: {full: 3000, rungs: 2, reduction: 3}
tasks: {select: 8, confirm: 8, test: 8}
budget: {trials: 8}
faults: {max_retries: 1, hang_minutes: 0.2}
common:
  backbone: {kind: own, use: "faulty:Network"}
default: fomaml
initial:
  - fomaml
  - {name: once, preset: fomaml, backbone: {options: {fault: once, after: AFTER}}}
  - {name: nan, preset: fomaml, backbone: {options: {fault: nan}}}
  - {name: raises, preset: fomaml, backbone: {options: {fault: raises}}}
  - {name: leaves, preset: fomaml, backbone: {options: {fault: leaves}}}
  - {name: exits, preset: fomaml, backbone: {options: {fault: exits}}}
  - {name: hangs, preset: fomaml, backbone: {options: {fault: hangs}}}
strategy:
  head: {kind: linear, start: learned}
  inner: {kind: sgd, scope: all, steps: {int: [1, 3]}, lr: 0.01}
  meta: {rule: first_order}
  outer: {tasks_per_batch: 4}
verdict: {seeds: 1, best_seeds: 1, finalists: 1, presets: [once]}  # which is not stopped
"""


@pytest.fixture(scope="module")
def path(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's folder."""
    folder = tmp_path_factory.mktemp("faults")
    shutil.copy(Path(__file__).with_name("faulty.py"), folder)
    after = folder / "run" / "trials" / "r1-0001" / "rung-1" / "state.safetensors"
    (folder / "space.yaml").write_text(SPACE.replace("AFTER", str(after)))
    return session.run(folder / "space.yaml", out=folder / "run", workers=2, address=cluster)


@pytest.fixture(scope="module")
def run(path: Path) -> Run:
    return read_run(path)


def test_every_trial_has_one_end_in_records_and_study(path: Path, run: Run) -> None:
    rows = read_rows(RunFolder.open(path))
    ends = Counter(row.trial for row in rows if isinstance(row, Ended) and not row.replica)
    assert ends == dict.fromkeys(run.trials.index, 1)
    states = run.trials.set_index("name")["state"]
    failed = ["raises", "leaves", "exits", "hangs"]
    assert states[["fomaml", "nan", *failed]].to_list() == [
        "completed",
        "diverged",
        *["failed"] * 4,
    ]
    assert (states == "failed").sum() == len(failed)
    told = {t.user_attrs["trial"]: t.user_attrs["state"] for t in study_of(path).trials}
    assert told == run.trials["state"].to_dict()


def test_reasons_say_what_happened_and_where(run: Run) -> None:
    reason = run.trials.set_index("name")["reason"]
    assert "in go_wrong" in reason["raises"]
    assert "Unpicklable: out of luck" in reason["raises"]
    assert "faulty.py" in reason["raises"]
    assert reason["leaves"].strip().endswith("SystemExit: 3")
    assert "in go_wrong" in reason["leaves"]
    assert "the worker's process ended (process " in reason["exits"]
    assert "faulty.py" in reason["hangs"]
    assert "time.sleep" in reason["hangs"]
    assert reason["hangs"].endswith("no progress for 12 s")
    assert "meta-step 0" in reason["nan"]


def test_only_what_another_try_can_help_is_tried_again(path: Path, run: Run) -> None:
    retries = run.trials.set_index("name")["retries"]
    lossy = ["once", "exits", "hangs"]
    assert retries[lossy].to_list() == [1, 1, 1]
    assert retries.drop(lossy).eq(0).all()
    lost = [row for row in read_rows(RunFolder.open(path)) if isinstance(row, Retried)]
    assert {row.rung for row in lost if row.trial == "r1-0001"} == {1}


def test_a_trial_that_was_killed_goes_on_and_is_measured_once(run: Run) -> None:
    (trial,) = run.trials.index[run.trials["name"] == "once"]
    assert run.trials.loc[trial, "state"] == "completed"
    curve = run.curves.query("trial == @trial and split == 'select'")
    assert list(curve["rung"]) == [1, 2]
    assert not run.scores.duplicated(["trial", "split", "replica", "rung", "task"]).any()
