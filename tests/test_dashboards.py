"""The study as others open it: with Optuna alone, and in optuna-dashboard."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from inline_runner import SPACE, inline_run, study_of

import metatune
from metatune.analysis import leaderboard
from metatune.ledger import _STATES

needs_dashboard = pytest.mark.skipif(
    importlib.util.find_spec("optuna_dashboard") is None, reason="extra `dashboards`"
)


@pytest.fixture(scope="module")
def in_sqlite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run whose study is in an SQLite file, and that file's URL."""
    folder = tmp_path_factory.mktemp("sqlite")
    url = f"sqlite:///{folder / 'study.db'}"
    return inline_run(SPACE, folder / "run", storage=url), url


def check(study: optuna.Study, path: Path) -> None:
    """A study says of every trial what the records say."""
    run = metatune.read_run(path)
    trials = run.trials[run.trials["origin"] != "ensemble"]
    gains = leaderboard(run)["gain"]
    assert study.metric_names == ["gain"]
    assert [direction.name for direction in study.directions] == ["MAXIMIZE"]
    assert [trial.user_attrs["trial"] for trial in study.trials] == trials.index.to_list()
    for trial, (name, row) in zip(study.trials, trials.iterrows(), strict=True):
        assert trial.state == _STATES[row["state"]]
        assert trial.params == ({} if pd.isna(row["params"]) else json.loads(row["params"]))
        for attribute in ("name", "origin", "round", "structure", "state", "seconds"):
            assert trial.user_attrs[attribute] == row[attribute]
        assert trial.user_attrs["strategy"] == json.loads(row["strategy"])
        curve = run.curves.query("trial == @name and split == 'select' and replica == 0")
        assert list(trial.intermediate_values) == curve["rung"].to_list()
        if row["state"] == "completed":
            assert trial.value == pytest.approx(gains[name])
            assert trial.user_attrs["score"] == pytest.approx(row["score"])


def test_a_journal_is_opened_with_optuna_alone(finished: Path) -> None:
    check(study_of(finished), finished)


def test_an_sqlite_storage_is_opened_with_optuna_alone(in_sqlite: tuple[Path, str]) -> None:
    path, url = in_sqlite
    check(optuna.load_study(study_name=path.name, storage=url), path)
    assert not (path / "study.log").exists()


@contextmanager
def dashboard(storage: str, cwd: Path) -> Iterator[str]:
    """optuna-dashboard over a storage, on a free port of this machine; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = "import sys; from optuna_dashboard._cli import main; sys.exit(main())"
    options = ["--host", "127.0.0.1", "--port", str(port)]
    with (cwd / "dashboard.out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", code, storage, *options], cwd=cwd, stdout=out, stderr=out
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def answer(address: str) -> Any:
    """What a server says, once it is up."""
    deadline = time.monotonic() + 300
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as reply:
                return json.load(reply)
        except urllib.error.URLError:
            assert time.monotonic() < deadline, f"{address} does not answer"
            time.sleep(0.2)


@needs_dashboard
def test_optuna_dashboard_shows_a_runs_trials(finished: Path, tmp_path: Path) -> None:
    run = metatune.read_run(finished)
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    with dashboard("run/study.log", tmp_path) as address:
        (study,) = answer(f"{address}/api/studies")["study_summaries"]
        assert study["study_name"] == "run"
        shown = answer(f"{address}/api/studies/{study['study_id']}")
    trials = run.trials[run.trials["origin"] != "ensemble"]
    assert shown["objective_names"] == ["gain"]
    states = {"COMPLETE": "Complete", "PRUNED": "Pruned", "FAIL": "Fail"}
    assert [trial["state"] for trial in shown["trials"]] == [
        states[_STATES[state].name] for state in trials["state"]
    ]
    for trial, (_, row) in zip(shown["trials"], trials.iterrows(), strict=True):
        attributes = {each["key"]: each["value"] for each in trial["user_attrs"]}
        assert attributes["name"] == row["name"]
        own = {} if pd.isna(row["params"]) else json.loads(row["params"])
        assert {param["name"] for param in trial["params"]} == set(own)
        assert bool(trial["intermediate_values"]) == pd.notna(row["rung"])
