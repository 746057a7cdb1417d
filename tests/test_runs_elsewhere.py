"""Whole runs in a real S3 server, driven in this process: as those here, and through faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import Timer
from typing import Any

import optuna
import pytest
from inline_runner import SPACE, InlineRunner, inline_resume, inline_run, lasting, silent
from s3 import ENVIRONMENT, S3

import metatune
from metatune import patience, session
from metatune.errors import RunError
from metatune.jobs import TrialJob
from metatune.place import Place
from metatune.records.folder import RunFolder
from metatune.records.reading import read_rows

TINY = SPACE.replace("seeds: 2", "seeds: 1").replace("full: 1800", "full: 900")


class Stop(Exception):  # noqa: N818 - the end of a process, as it were
    """Nothing of a run's may catch it."""


def at_job(number: int, action: Callable[[], object]) -> InlineRunner:
    """A runner that does something before its job of that number."""
    count = iter(range(number + 1))

    def lost(job: TrialJob) -> bool:
        if next(count, None) == number:
            action()
        return False

    return InlineRunner(lost)


def stop() -> None:
    raise Stop


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a run on this machine records."""
    return rows_of(inline_run(TINY, tmp_path_factory.mktemp("here") / "run"))


@pytest.fixture(scope="module")
def finished(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a run to its verdict."""
    uri = s3.uri("bucket/runs/finished")
    started(tmp_path_factory.mktemp("finished"), uri, InlineRunner())
    return uri


def started(folder: Path, uri: str, runner: InlineRunner) -> str | Path:
    file = folder / "tiny.yaml"
    file.write_text(TINY)
    made, plan = session.create(file, out=uri)
    return session.drive(made, plan, None, nullcontext(runner), silent())


def rows_of(where: str | Path) -> list[dict[str, Any]]:
    return lasting(read_rows(RunFolder.open(where)))


def test_a_run_there_records_what_one_here_does(finished: str, here: list[dict[str, Any]]) -> None:
    assert rows_of(finished) == here
    run = metatune.read_run(finished)
    assert (str(run.path), run.info["run"]) == ("s3://bucket/runs/finished", "finished")
    assert len(run.verdicts) == 1


def test_what_is_left_there_is_the_run_and_no_secret(finished: str, tmp_path: Path) -> None:
    place = Place.at(finished)
    assert place.listed("").keys() == {
        "run.json", "space.yaml", "method.yaml", "study.log", "records", "trials", "claims", "logs",
    }  # fmt: skip
    secrets = [value.encode() for name, value in ENVIRONMENT.items() if "KEY" in name]
    for name in ("run.json", "space.yaml", "method.yaml", "study.log"):
        assert not any(secret in place.read(name) for secret in secrets)
    (tmp_path / "study.log").write_bytes(place.read("study.log"))
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))
    study = optuna.load_study(
        study_name="finished", storage=optuna.storages.JournalStorage(backend)
    )
    assert len(study.trials) == len(metatune.read_run(finished).trials)


def test_a_finished_run_has_nothing_left_to_do(finished: str) -> None:
    runner, before = InlineRunner(), rows_of(finished)
    assert inline_resume(finished, runner=runner) == finished
    assert not runner.jobs
    assert rows_of(finished) == before


@pytest.mark.parametrize("job", [1, 5, 12])
def test_a_run_that_was_cut_off_goes_on_at_another_desk(
    s3: S3, tmp_path: Path, here: list[dict[str, Any]], job: int
) -> None:
    uri = s3.uri(f"bucket/cut-{job}")
    with pytest.raises(Stop):
        started(tmp_path, uri, at_job(job, stop))
    before = rows_of(uri)
    assert len(before) < len(here)
    (tmp_path / "tiny.yaml").unlink()  # another machine has only what the store has
    inline_resume(uri)
    after = rows_of(uri)
    assert after[: len(before)] == before
    assert by_trial(after) == by_trial(here)


def by_trial(rows: list[dict[str, Any]]) -> list[str]:
    """Rows but those of failures, whose traceback tells where they were called from."""
    return sorted(json.dumps(row, sort_keys=True) for row in rows if row.get("state") != "failed")


def test_a_server_that_is_away_for_a_while_is_waited_for(
    s3: S3, tmp_path: Path, here: list[dict[str, Any]]
) -> None:
    uri = s3.uri("bucket/away")

    def away() -> None:
        s3.stop()
        Timer(2, s3.start).start()

    started(tmp_path, uri, at_job(4, away))
    assert rows_of(uri) == here


@pytest.mark.long
def test_a_server_that_stays_away_ends_the_run_and_a_resume_goes_on(
    s3: S3, tmp_path: Path, here: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = s3.uri("bucket/gone")
    monkeypatch.setattr(patience, "SECONDS", 0.5)
    try:
        with pytest.raises(RunError, match=r"the server cannot be reached.* then resume"):
            started(tmp_path, uri, at_job(4, s3.stop))
    finally:
        s3.start()
    before = rows_of(uri)
    inline_resume(uri)
    after = rows_of(uri)
    assert after[: len(before)] == before
    ended = [row["trial"] for row in after if row["kind"] == "ended" and row["replica"] == 0]
    assert sorted(ended) == sorted(set(ended))


@pytest.mark.parametrize(("path", "told"), [
    ("nowhere/run", "s3://nowhere/run cannot be made a run folder: there is no such bucket"),
    ("bucket/runs", "s3://bucket/runs exists and is not empty"),
])  # fmt: skip
@pytest.mark.usefixtures("finished")
def test_a_place_that_holds_no_new_run_is_refused(
    s3: S3, tmp_path: Path, path: str, told: str
) -> None:
    with pytest.raises(RunError, match=told):
        started(tmp_path, s3.uri(path), InlineRunner())


def test_credentials_in_a_uri_are_refused_and_not_told(s3: S3, tmp_path: Path) -> None:
    for user in ("AKIDSECRET:hunter2@", "AKIDSECRET:hun/ter2@"):
        for refused in (
            lambda uri: started(tmp_path, uri, InlineRunner()),
            RunFolder.open,
        ):
            with pytest.raises(RunError) as error:
                refused(s3.uri("bucket/secret", user))
            assert "hun" not in str(error.value)
            assert "AKID" not in str(error.value)


def test_a_file_uri_is_a_path(tmp_path: Path, here: list[dict[str, Any]]) -> None:
    where = started(tmp_path, f"file://{tmp_path}/run", InlineRunner())
    assert where == tmp_path / "run"
    assert rows_of(tmp_path / "run") == here
