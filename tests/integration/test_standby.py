"""Two drivers on one run: one drives, the other follows and takes over where it falls."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from metatune import read_run
from metatune.records.folder import RunFolder
from metatune.records.lease import Holder, read_lease
from metatune.records.log import segments
from metatune.records.reading import read_rows
from metatune.records.rows import Ended, Scored
from tests.integration.conftest import QUICK, repeatable
from tests.integration.test_resume import wait_for_rows
from tests.postgres import Server, needs_postgres, server

Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with server() as made:
        yield made


@needs_postgres
def test_of_two_drivers_on_one_run_one_is_killed_and_the_other_takes_over(
    cluster: str, postgres: Server, tmp_path: Path, command: Command
) -> None:
    url, path, space = postgres.create("two_drivers"), tmp_path / "run", tmp_path / "space.yaml"
    space.write_text(QUICK)
    options = ("--workers", 1, "--address", cluster, "--storage", url)
    first = command("run", space, "--out", path, "--trials", 6, *options)
    wait_for_rows(path, 2, first)
    os.kill(first.pid, signal.SIGSTOP)  # or it could be through before the other stands by
    second = command("resume", path, "--standby", *options)
    assert second.stdout is not None
    told = second.stdout.readline()
    assert told == f"Standing by: process {first.pid} on {holder(path).host} drives this run.\n"
    line = Path(f"/proc/{first.pid}/cmdline").read_text()
    assert "--storage" in line
    assert postgres.password not in line
    os.kill(first.pid, signal.SIGCONT)
    wait_for_rows(path, 8, first)
    first.kill()
    out, err = first.communicate()
    before = read_rows(RunFolder.open(path))
    out_of_second, err_of_second = second.communicate(timeout=240)
    assert second.returncode == 0, err_of_second
    assert "Nobody drives this run any more: taking over." in out_of_second
    assert "Verdict" in out_of_second

    # Every earlier record stands, and none is there twice.
    rows = read_rows(RunFolder.open(path))
    assert rows[: len(before)] == before
    assert len(segments(RunFolder(path))) == 2
    scored = [(r.trial, r.split, r.replica, r.rung) for r in rows if isinstance(r, Scored)]
    ended = [(r.trial, r.replica) for r in rows if isinstance(r, Ended)]
    assert len(set(scored)) == len(scored)
    assert len(set(ended)) == len(ended)

    # Study and records agree.
    storage = optuna.storages.RDBStorage(url)
    told_of = optuna.load_study(study_name="run", storage=storage).trials
    trials = read_run(path).trials
    assert [t.user_attrs["trial"] for t in told_of] == trials.index.to_list()
    assert [t.user_attrs["state"] for t in told_of] == trials["state"].to_list()
    storage.remove_session()
    storage.engine.dispose()

    kept = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert postgres.password.encode() not in kept
    assert postgres.password not in out + err + told + out_of_second + err_of_second


@pytest.mark.long
def test_who_stands_by_ends_with_the_results_of_the_other(
    cluster: str, tmp_path: Path, command: Command
) -> None:
    path, space = tmp_path / "run", tmp_path / "space.yaml"
    space.write_text(QUICK)
    options = ("--workers", 1, "--address", cluster)
    first = command("run", space, "--out", path, "--trials", 3, *options)
    wait_for_rows(path, 1, first)
    second = command("resume", path, "--standby", *options)
    _, err = first.communicate(timeout=240)
    assert first.returncode == 0, err
    before = repeatable(path)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert out.startswith("Standing by: process")
    assert "taking over" not in out
    assert f"Results: {path}" in out
    assert repeatable(path) == before
    assert len(segments(RunFolder(path))) == 1


def holder(path: Path) -> Holder:
    found = read_lease(RunFolder(path))
    assert found is not None
    return found
