"""A driver's log: what happened, in words, each line with its trial; and nothing rests on it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from handmade import Story
from inline_runner import rows_of

import metatune
from metatune.history import History
from metatune.logs import LONGEST, MOST, RunLog, WorkerLog, pass_on
from metatune.records.rows import Ended

KEYS = ["time", "level", "logger", "message", "trial", "rung", "replica", "node", "process",
        "exception"]  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@contextmanager
def without_handlers() -> Iterator[None]:
    """Python's logging as a program finds it that sets none up."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = before


# --- the driver's ---------------------------------------------------------------------------------


def test_a_run_leaves_the_acts_of_every_trial(finished: Path) -> None:
    (file,) = (finished / "logs").iterdir()
    log = pd.read_json(file, lines=True)
    assert list(log.columns) == KEYS
    assert log["time"].is_monotonic_increasing
    acts = log[log["logger"] == "metatune.run"]
    assert len(acts) == len(rows_of(finished))
    trials = metatune.read_run(finished).trials
    for trial, row in trials[trials["origin"] != "ensemble"].iterrows():
        own = acts[(acts["trial"] == trial) & (acts["replica"] != 1) & (acts["replica"] != 2)]
        assert own["message"].iloc[0].startswith(f"asked: {row['name']} ({row['origin']}, ")
        (end,) = own[own["message"].str.startswith(f"ended: {row['state']}")].itertuples()
        lost = row["state"] in ("diverged", "failed")
        assert end.level == ("WARNING" if lost else "INFO")
        if row["state"] == "failed":
            assert end.exception.strip() == row["reason"].strip()
            assert end.message.endswith(row["reason"].strip().splitlines()[-1])


DRIVER = """
import logging, sys, warnings
from pathlib import Path
from metatune.logs import RunLog

warnings.simplefilter("always")
others = logging.getLogger("of.others")
with RunLog(Path(sys.argv[1])):
    others.warning("a disk is %s", "slow")
    others.info("not asked for")
    warnings.warn("not so", RuntimeWarning)
    try:
        raise ValueError("of no use")
    except ValueError:
        others.exception("it failed")
others.warning("later")
warnings.warn("later", RuntimeWarning)
"""


def test_what_python_is_told_is_logged_and_shown_as_before(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "log.jsonl"
    command = [sys.executable, "-c", DRIVER, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second, third = lines(file)
    assert (first["logger"], first["level"]) == ("of.others", "WARNING")
    assert first["message"] == "a disk is slow"
    assert second["logger"] == "py.warnings"
    assert second["message"] == "<string>:11: RuntimeWarning: not so"
    assert third["exception"].endswith("ValueError: of no use")
    said = ("a disk is slow", "RuntimeWarning: not so", "it failed", "not asked for", "later")
    assert [done.stderr.count(words) for words in said] == [1, 1, 1, 0, 2]


def test_what_ended_the_driver_is_logged_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunLog(tmp_path / "logs" / "log.jsonl"):
        _ = 1 / 0
    (line,) = lines(tmp_path / "logs" / "log.jsonl")
    assert line["level"] == "ERROR"
    assert line["exception"].endswith("ZeroDivisionError: division by zero")
    with pytest.raises(KeyboardInterrupt), RunLog(tmp_path / "logs" / "log.jsonl"):
        raise KeyboardInterrupt
    assert (
        lines(tmp_path / "logs" / "log.jsonl")[1]["message"] == "the driver ends: KeyboardInterrupt"
    )


def test_no_password_stands_in_it(tmp_path: Path) -> None:
    url = "postgresql://me:hunter2@host/db"
    with RunLog(tmp_path / "logs" / "log.jsonl") as log:
        logging.getLogger("sqlalchemy").warning("cannot connect to %s", url)
        try:
            raise OSError(f"no answer from {url}")
        except OSError:
            logging.getLogger("sqlalchemy").exception("it failed")
        log.watch(Ended("r1-0000", "failed", f"Traceback\nOSError: {url}\n", 1.0), History(1))
    text = (tmp_path / "logs" / "log.jsonl").read_text()
    assert text.count("me:***@host") == 4
    assert "hunter2" not in text


@pytest.mark.parametrize("gone", ["from the start", "later"])
def test_where_it_cannot_be_written_the_run_goes_on_and_nothing_is_made(
    gone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    if gone == "later":
        run.mkdir()
    story = Story()
    story.trial("protonet", 0.5)
    with RunLog(run / "logs" / "log.jsonl") as log:
        if gone == "later":
            log.watch(story.rows[0], History(1, story.rows))
            run.rename(tmp_path / "elsewhere")
        log.watch(story.rows[1], History(1, story.rows))
    assert not run.exists()
    assert capsys.readouterr().err == ""


# --- workers' -------------------------------------------------------------------------------------

WORKER = """
import logging, sys, warnings
from metatune.logs import WorkerLog

def trains(text):
    warnings.warn(text, RuntimeWarning)

log = WorkerLog()
for trial in ("r1-0001", "r1-0002"):
    log.begin(trial, 0)
    trains("does not converge")
    trains("does not converge")
    logging.getLogger("mine").error("of %s", trial)
    logging.getLogger("mine").info("not asked for")
    print(log.take())
print(log.take() == "")
"""


def test_a_worker_tells_of_each_trial_what_python_is_told_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKER], capture_output=True, text=True, check=True
    )
    *told, empty = done.stdout.splitlines()
    assert empty == "True"
    assert done.stderr.count("does not converge") == 2  # a process's own output has it as before
    assert "of r1-0002" in done.stderr
    shown = io.StringIO()
    with without_handlers(), redirect_stderr(shown), RunLog(tmp_path / "logs" / "log.jsonl"):
        for number, text in enumerate(told, start=1):
            pass_on(text, number, f"10.0.0.{number}")
        pass_on("", 3, "10.0.0.3")
    assert shown.getvalue() == ""
    found = lines(tmp_path / "logs" / "log.jsonl")
    assert [(line["logger"], line["trial"], line["rung"], line["node"]) for line in found] == [
        (logger, f"r1-000{number}", number, f"10.0.0.{number}")
        for number in (1, 2)
        for logger in ("py.warnings", "mine")
    ]
    assert found[1]["message"] == "of r1-0001"
    assert len({line["process"] for line in found}) == 1


def test_a_worker_that_says_very_much_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    log = WorkerLog()
    try:
        log.begin("r1-0001", 0)
        for _ in range(MOST + 7):
            logging.getLogger("mine").error("much " * LONGEST)
        told = json.loads(log.take())
    finally:
        logging.getLogger().removeHandler(log)
    assert len(told) == MOST + 1
    assert told[-1]["msg"] == "and 7 more"
    assert max(len(line["msg"]) for line in told) == LONGEST
