"""The main job on a real Ray cluster: search, confirmation, verdict, and records that agree."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metatune import read_run, session
from metatune.analysis import leaderboard
from metatune.history import History
from metatune.jobs import TrialJob
from metatune.records.folder import RunFolder
from metatune.records.reading import read_rows
from metatune.records.rows import Asked, Ended, Scored
from metatune.runner.tune_runner import TuneRunner
from metatune.tasks.base import Episode
from metatune.trial import run_trial
from tests.integration.conftest import SPACE, UNDISTURBED_TRIALS, repeatable, study_of

# A rate that leaves the finite numbers, and a solve that fails on features that are all zero.
TROUBLED = """
  - {preset: fomaml, name: diverges, inner: {lr: 1e6}}
  - name: raises
    backbone: {kind: mlp, width: 1, depth: 12}
    head: {kind: ridge, penalty: 1e-300, learn: false}
    meta: {rule: none}
"""


@pytest.fixture(scope="module")
def finished(
    cluster: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """A finished run with two workers, and Tune's own last result of every carrier."""
    folder = tmp_path_factory.mktemp("finished")
    space = folder / "space.yaml"
    text = SPACE.replace("full: 30000", "full: 150000")
    space.write_text(text.replace("initial: [fomaml, maml]", f"initial:\n  - fomaml{TROUBLED}"))
    carriers: list[dict[str, Any]] = []
    close = TuneRunner.__exit__

    def spy(self: TuneRunner, *exit_: Any) -> None:
        close(self, *exit_)
        last = [result.metrics for result in self.tune_results()]
        carriers.extend(metrics for metrics in last if metrics["state"] != "warm")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TuneRunner, "__exit__", spy)
        path = session.run(space, out=folder / "run", workers=2, address=cluster)
    return path, carriers


def test_a_run_ends_with_a_verdict_that_names_its_claim(
    finished: tuple[Path, list[dict[str, Any]]],
) -> None:
    run = read_run(finished[0])
    verdict = run.verdicts.iloc[-1]
    assert verdict["winner"] in run.trials.index
    assert "Claim: new tasks" in verdict["sentence"]
    assert set(run.looks["split"]) == {"confirm", "test"}


def test_counts_by_state_agree_in_records_study_and_tune(
    finished: tuple[Path, list[dict[str, Any]]],
) -> None:
    path, carriers = finished
    recorded = Counter(read_run(path).trials["state"])
    study = study_of(path)
    told = Counter(trial.user_attrs["state"] for trial in study.trials)
    assert recorded == told
    assert recorded["diverged"] >= 1
    assert recorded["failed"] >= 1
    assert sum(recorded.values()) == 10
    states = Counter(trial.state.name for trial in study.trials)
    assert states["COMPLETE"] == recorded["completed"]
    assert states["PRUNED"] == recorded["stopped"]
    assert states["FAIL"] == recorded["diverged"] + recorded["failed"]
    # Tune carried each trial, each confirmation and each training of the verdict, once.
    rows = read_rows(RunFolder.open(path))
    beyond = sum(isinstance(row, Scored) and row.split != "select" for row in rows)
    assert len(carriers) == sum(recorded.values()) + beyond
    search = Counter(c["state"] for c in carriers[: sum(recorded.values())])
    assert search["diverged"] == recorded["diverged"]
    assert search["failed"] == recorded["failed"]


def test_a_failed_trial_keeps_its_traceback_and_a_diverged_one_its_step(
    finished: tuple[Path, list[dict[str, Any]]],
) -> None:
    trials = read_run(finished[0]).trials.set_index("name")
    assert trials.loc["raises", "state"] == "failed"
    assert "Traceback" in trials.loc["raises", "reason"]
    assert "singular" in trials.loc["raises", "reason"]
    assert trials.loc["diverges", "state"] == "diverged"
    assert "meta-step" in trials.loc["diverges", "reason"]


def test_the_value_of_every_trial_can_be_recomputed_from_the_task_scores(
    finished: tuple[Path, list[dict[str, Any]]],
) -> None:
    path, _ = finished
    run = read_run(path)
    scores = run.scores.query("split == 'select'")
    defaults = run.trials[run.trials["origin"] == "default"].reset_index().set_index("round")
    assert list(defaults.index) == [1, 2]  # each round has its own

    def at(trial: str, rung: int) -> np.ndarray:
        return scores.query("trial == @trial and rung == @rung").sort_values("task")["score"].values

    valued = [t for t in study_of(path).trials if t.value is not None]
    assert len(valued) >= 6
    for trial in valued:
        name = trial.user_attrs["trial"]
        rung = int(run.trials.loc[name, "rung"])
        default, last = defaults.loc[run.trials.loc[name, "round"], ["trial", "rung"]]
        reference = last if run.trials.loc[name, "state"] == "completed" else rung
        # Lower is better for a squared error, so the gain is the default's less the trial's.
        gain = np.mean(at(default, reference) - at(name, rung))
        assert trial.value == pytest.approx(gain, rel=1e-12)
        assert leaderboard(run).loc[name, "gain"] == pytest.approx(gain, rel=1e-12)


def test_trials_run_in_two_worker_processes_at_once(
    finished: tuple[Path, list[dict[str, Any]]],
) -> None:
    path, carriers = finished
    assert len({carrier["pid"] for carrier in carriers}) >= 2
    rows = read_rows(RunFolder.open(path))
    spans = {row.trial: row.at for row in rows if isinstance(row, Asked)}
    ends = {row.trial: row.at for row in rows if isinstance(row, Ended) and row.replica == 0}
    names = sorted(spans)
    overlaps = [
        (a, b) for a in names for b in names if a < b and spans[b] < ends[a] and spans[a] < ends[b]
    ]
    assert overlaps


def test_a_strategy_scores_the_same_in_another_process(
    finished: tuple[Path, list[dict[str, Any]]],
) -> None:
    path, _ = finished
    run = read_run(path)
    trial = run.trials.query("state == 'completed' and rung == 3").iloc[0]
    asked = History(-1, read_rows(RunFolder.open(path))).trials[trial.name].asked
    job = TrialJob(
        trial=asked.trial,
        round=1,
        replica=0,
        strategy=asked.strategy,
        family="sinusoid",
        data_dir=None,
        episode=Episode(1, 5, 5),
        run_seed=3,
        rungs=tuple(run.info["rungs"]),
        recorded=0,
        split="select",
        tasks=24,
        train=True,
        folder=None,
    )
    here = list(run_trial(job))[-1]
    there = run.scores.query("trial == @trial.name and split == 'select' and rung == 3")
    assert here.scores == pytest.approx(there["score"].tolist(), abs=1e-6)


@pytest.mark.long
def test_the_same_seed_with_one_worker_gives_the_same_run_again(
    cluster: str, space_file: Path, tmp_path: Path, undisturbed: Path
) -> None:
    path = session.run(space_file, out=tmp_path / "run", workers=1, trials=UNDISTURBED_TRIALS)
    assert repeatable(path) == repeatable(undisturbed)
    assert len(repeatable(path)) > 20
