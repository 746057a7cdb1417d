from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pandas as pd
import pytest

from metatune.errors import RunError
from metatune.records.compaction import compact
from metatune.records.folder import RunFolder
from metatune.records.reading import read_rows, read_run
from metatune.records.rows import STATES
from metatune.records.schema import COLUMNS

from . import strategies_of_rows as some
from .conftest import ENVIRONMENT, append


def test_an_empty_run_has_empty_typed_frames(folder: RunFolder) -> None:
    run = read_run(folder.path)
    assert run.info == {"seed": 7}
    for name in some.TABLES:
        frame = getattr(run, name)
        assert len(frame) == 0
        columns = [column.name for column in COLUMNS[name]]
        assert [*([frame.index.name] if name == "trials" else []), *frame.columns] == columns
    assert read_rows(folder) == []
    assert run.trials["state"].dtype == pd.CategoricalDtype(["running", *STATES])


@pytest.mark.parametrize("compacted", [False, True])
def test_frames_are_typed(folder: RunFolder, compacted: bool) -> None:
    append(folder, *some.a_run(), some.an_asked(8, params=None))
    if compacted:
        compact(folder)
    run = read_run(folder.path)
    assert run.trials.index.name == "trial"
    assert run.trials.dtypes.astype(str).loc[
        ["round", "state", "origin", "rung", "score"]
    ].to_list() == ["Int64", "category", "category", "Int64", "float64"]
    assert run.trials.loc["r1-0008", "state"] == "running"
    assert run.trials.loc["r1-0008", ["rung", "score", "params"]].isna().all()
    assert run.scores.dtypes.astype(str).loc[
        ["trial", "rung", "split", "score", "transductive"]
    ].to_list() == ["str", "int64", "category", "float64", "bool"]
    assert run.curves["train_loss"].to_list() == [1.5] * 6
    assert run.rounds.loc[0].to_list() == [
        1,
        ["r1-0001", "r1-0000"],
        ["penalty: smaller"],
        12.5,
        True,
        ["r1-0001"],
    ]
    assert run.looks.loc[0].to_list() == ["confirm", 1, ["r1-0000"], 0]
    assert run.verdicts.loc[0, "sentence"] == "nothing beats the default"


def test_strategies_become_columns_behind_the_standard_ones(folder: RunFolder) -> None:
    append(
        folder,
        some.an_asked(0, strategy={"head": {"kind": "ridge"}, "outer": {"lr": 0.1, "steps": 5}}),
        some.an_asked(1, strategy={"head": {"kind": "gp", "scales": [1, 2]}, "outer": {"lr": 1}}),
        some.an_asked(2, strategy={"head": {"fixed": True}, "score": "r2"}),
    )
    trials = read_run(folder.path).trials
    names = list(trials.columns)
    assert names[names.index("members") + 1 :] == [
        "head.kind",
        "outer.lr",
        "outer.steps",
        "head.scales",
        "head.fixed",
        "strategy.score",
    ]
    assert trials["head.kind"].to_list()[:2] == ["ridge", "gp"]
    assert trials["outer.lr"].dtype == "float64"
    assert trials["outer.steps"].dtype == "Int64"
    assert trials["head.fixed"].dtype == "boolean"
    assert trials["head.scales"].to_list()[1] == "[1, 2]"
    assert trials["score"].isna().all()


def test_a_path_may_be_relative_or_text(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    append(folder, *some.a_run())
    monkeypatch.chdir(folder.path.parent)
    for path in ("run", Path("run"), str(folder.path)):
        run = read_run(path)
        assert run.path == folder.path
        assert len(run.trials) == 3


def test_a_run_is_what_it_was_when_it_was_read(folder: RunFolder) -> None:
    append(folder, some.an_asked())
    compact(folder)
    run = read_run(folder.path)
    append(folder, some.an_asked(1))
    compact(folder)
    assert len(run.trials) == 1
    assert run.trials is run.trials
    with pytest.raises(FrozenInstanceError):
        run.path = Path()  # type: ignore[misc]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run folder: run.json is missing"):
        read_run(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '"run"'])
def test_a_damaged_info_is_refused(folder: RunFolder, text: str) -> None:
    folder.info.write_text(text)
    with pytest.raises(RunError, match=r"run.json (cannot be read|holds a (list|str))"):
        read_run(folder.path)


def test_writing_the_log_needs_no_pandas() -> None:
    check = (
        "import sys, metatune.records.log, metatune.records.lease; "
        "assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True, env=ENVIRONMENT)
