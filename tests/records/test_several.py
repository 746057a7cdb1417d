"""Several runs read together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest
from handmade import Story

import metatune
from metatune.analysis import best_over_time, leaderboard, pareto, task_matrix, verdict_table
from metatune.errors import RunError
from metatune.records.reading import Run
from metatune.records.several import ABOUT, Runs, read_runs


@pytest.fixture(scope="module")
def folders(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs, the second without its last rows."""
    parent = tmp_path_factory.mktemp("several")
    paths = [parent / name for name in ("one", "two")]
    for path in paths:
        shutil.copytree(finished, path, ignore=shutil.ignore_patterns("trials", "parquet-*"))
    segment = next(paths[1].glob("records/log-*.jsonl"))
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:-2]))
    return paths


@pytest.fixture(scope="module")
def runs(folders: list[Path]) -> Runs:
    return read_runs(*folders)


def test_they_are_a_sequence_with_names(runs: Runs, folders: list[Path]) -> None:
    assert runs.names == ("one", "two")
    assert [run.path for run in runs] == folders
    assert runs["two"] is runs[1]
    assert [run.name for run in runs[1:]] == ["two"]
    assert repr(runs) == "Runs(one, two)"
    with pytest.raises(RunError, match="found run 'three'; allowed: one, two"):
        runs["three"]


@pytest.mark.parametrize("name", ["scores", "curves", "rounds", "tasks", "looks", "verdicts"])
def test_a_frame_has_the_rows_of_each_with_its_name_in_front(runs: Runs, name: str) -> None:
    frame = getattr(runs, name)
    assert frame.columns[0] == "run"
    assert frame["run"].dtype == pd.CategoricalDtype(["one", "two"])
    for run_name, run in zip(runs.names, runs, strict=True):
        own = frame[frame["run"] == run_name].drop(columns="run").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, getattr(run, name))


def test_trials_are_indexed_by_run_and_trial(runs: Runs) -> None:
    assert runs.trials.index.names == ["run", "trial"]
    pd.testing.assert_frame_equal(runs.trials.loc["one"], runs[0].trials)


def test_parts_are_read_of_each(runs: Runs) -> None:
    found = runs.read("scores", ["trial", "score"], ds.field("split") == "confirm")
    assert list(found.columns) == ["run", "trial", "score"]
    assert len(found) == sum(len(run.scores.query("split == 'confirm'")) for run in runs)


def test_a_question_is_answered_by_each_for_itself(runs: Runs) -> None:
    board = leaderboard(runs)
    assert board.index.names == ["run", "trial"]
    for name, run in zip(runs.names, runs, strict=True):
        pd.testing.assert_frame_equal(board.loc[name], leaderboard(run))
    assert set(best_over_time(runs)["run"]) == {"one", "two"}
    assert pareto(runs, round_=1).equals(runs.each(pareto, round_=1))


def test_runs_with_and_without_a_verdict_are_asked_together(folders: list[Path]) -> None:
    segment = next(folders[1].glob("records/log-*.jsonl"))
    assert b'"kind":"concluded"' not in segment.read_bytes()
    table = verdict_table(read_runs(*folders))
    assert set(table.index.get_level_values("run")) == {"one"}


def test_trials_of_different_runs_are_no_columns_of_one_matrix(runs: Runs) -> None:
    with pytest.raises(RunError, match="task_matrix: found 2 runs; allowed: one"):
        task_matrix(runs)  # type: ignore[arg-type]


def test_scores_of_different_metrics_are_not_put_together() -> None:
    story = Story()
    story.trial("protonet", 0.5)
    one = story.run()
    other = of_metric(one, "mse", "/other")
    with pytest.raises(RunError, match=r"accuracy \(nowhere\), mse \(other\); allowed: one metric"):
        leaderboard(Runs([one, other]))


def of_metric(run: Run, metric: str, path: str) -> Run:
    family = run.info["family"] | {"metric": metric}
    return replace(run, path=Path(path), info=run.info | {"family": family})


def test_runs_of_one_name_are_told_apart_by_their_folders() -> None:
    run = Story().run()
    paths = ("/a/x/run", "/b/x/run", "/b/y/run")
    assert Runs([replace(run, path=Path(path)) for path in paths]).names == (
        "a/x/run", "b/x/run", "b/y/run",
    )  # fmt: skip


def test_the_same_run_twice_or_none_is_refused(folders: list[Path]) -> None:
    with pytest.raises(RunError, match="one: found 2 times; allowed: each run once"):
        read_runs(folders[0], str(folders[0]))
    with pytest.raises(RunError, match="found no run; allowed: one or more"):
        read_runs()


def test_a_folder_of_folds_stands_for_its_runs(folders: list[Path], tmp_path: Path) -> None:
    for fold in range(2):
        shutil.copytree(folders[0], tmp_path / f"fold-{fold}")
    (tmp_path / ABOUT).write_text(json.dumps({"folds": 2}))
    for path in (tmp_path, f"file://{tmp_path}"):
        assert metatune.read_runs(path, folders[0]).names == ("fold-0", "fold-1", "one")
    (tmp_path / ABOUT).write_text("{}")
    with pytest.raises(RunError, match=r"holds no runs of folds: folds.json cannot be read"):
        read_runs(tmp_path)
