"""Studies in databases: PostgreSQL and SQLite, as they are and as they fail."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from inline_runner import SPACE, InlineRunner, inline_resume, inline_run, rows_of
from postgres import BINARIES, Server, needs_postgres, server
from rich.console import Console
from test_dashboards import answer, check, dashboard, needs_dashboard

import metatune
from metatune import patience
from metatune.errors import RunError
from metatune.jobs import RungResult, TrialJob
from metatune.report import report

TINY = SPACE.replace("seeds: 2", "seeds: 1").replace("full: 1800", "full: 900")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with server() as made:
        yield made


def check_study(url: str, run: Path) -> None:
    """The study in a database says of every trial what the records say."""
    storage = optuna.storages.RDBStorage(url)
    check(optuna.load_study(study_name="run", storage=storage), run)
    storage.remove_session()
    storage.engine.dispose()


def everything_of(folder: Path) -> bytes:
    """The bytes of every file below a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


# --- PostgreSQL ----------------------------------------------------------------------------------


@needs_postgres
def test_a_study_in_postgresql_says_what_the_records_say(postgres: Server, tmp_path: Path) -> None:
    url, heard = postgres.create("whole"), Console(file=io.StringIO())
    run = inline_run(TINY, tmp_path / "run", storage=url, trials=5, console=heard)
    check_study(url, run)
    inline_resume(run, storage=url)  # adds nothing
    check_study(url, run)

    # Nothing that is kept or shown has the password.
    (page,) = report(run)
    assert "***" in (run / "run.json").read_text()
    assert not (run / "study.log").exists()
    assert postgres.password.encode() not in everything_of(tmp_path)
    assert postgres.password not in page.read_text() + heard.file.getvalue()  # type: ignore[attr-defined]


@needs_postgres
@needs_dashboard
def test_optuna_dashboard_opens_a_study_in_postgresql(postgres: Server, tmp_path: Path) -> None:
    url = postgres.create("shown")
    run = inline_run(TINY, tmp_path / "run", storage=url, trials=3)
    with dashboard(url, tmp_path) as address:
        (study,) = answer(f"{address}/api/studies")["study_summaries"]
        assert study["study_name"] == "run"
        shown = answer(f"{address}/api/studies/{study['study_id']}")
    attributes = [{a["key"]: a["value"] for a in trial["user_attrs"]} for trial in shown["trials"]]
    asked = metatune.read_run(run).trials
    assert [each["trial"] for each in attributes] == asked.index.to_list()


@needs_postgres
def test_a_server_that_restarts_under_a_run_is_waited_for(postgres: Server, tmp_path: Path) -> None:
    url, back = postgres.create("away"), threading.Timer(1.5, postgres.start)
    seen: list[RungResult] = []

    def crashing(job: TrialJob, result: RungResult) -> RungResult:
        seen.append(result)
        if len(seen) == 4:
            postgres.stop()
            back.start()
        return result

    heard = Console(file=io.StringIO(), width=300)
    runner = InlineRunner(clock=crashing)
    run = inline_run(TINY, tmp_path / "run", storage=url, trials=3, runner=runner, console=heard)
    back.join()
    check_study(url, run)
    told = heard.file.getvalue()  # type: ignore[attr-defined]
    assert "the study run could not be written: " in told
    assert postgres.password not in told


@needs_postgres
def test_a_server_that_stays_away_ends_the_run_and_a_resume_makes_its_study_whole(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SECONDS", 0.2)
    url, seen = postgres.create("gone"), list[RungResult]()

    def crashing(job: TrialJob, result: RungResult) -> RungResult:
        seen.append(result)
        if len(seen) == 4:
            postgres.stop()
        return result

    try:
        with pytest.raises(RunError, match=r"after 0\.2 s of waiting\. What was") as error:
            inline_run(
                TINY, tmp_path / "run", storage=url, trials=3, runner=InlineRunner(clock=crashing)
            )
        with pytest.raises(RunError, match="storage of the study cannot be opened") as refused:
            inline_resume(tmp_path / "run", storage=url)
    finally:
        postgres.start()
    for message in map(str, (error.value, refused.value)):
        assert "\n" not in message
        assert postgres.password not in message
    before = rows_of(tmp_path / "run")
    inline_resume(tmp_path / "run", storage=url)
    assert rows_of(tmp_path / "run")[: len(before)] == before
    check_study(url, tmp_path / "run")


@needs_postgres
def test_a_wrong_password_is_told_without_it(postgres: Server, tmp_path: Path) -> None:
    url = postgres.url(password="not-the-secret")
    with pytest.raises(RunError, match="password authentication failed") as error:
        inline_run(TINY, tmp_path / "run", storage=url)
    assert "not-the-secret" not in str(error.value)
    assert b"not-the-secret" not in everything_of(tmp_path)


@needs_postgres
def test_a_password_of_the_environment_needs_none_in_the_url(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.create("plain").replace(f":{postgres.password}", "")
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    run = inline_run(TINY, tmp_path / "run", storage=url, trials=3)
    inline_resume(run)  # it is in run.json as it is
    check_study(url, run)


# --- opening -------------------------------------------------------------------------------------

OPEN = """
import sys
from pathlib import Path
from metatune.history import History
from metatune.ledger import open_ledger
from metatune.space.knobs import Group, KnobTree
for url in sys.argv[2:]:
    sys.stdin.readline()
    open_ledger(Path("unused"), url, sys.argv[1], History(1), KnobTree(Group(()))).close()
    print("opened", flush=True)
"""


def test_runs_that_open_an_empty_database_at_once_all_find_their_study(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    urls, names = [f"sqlite:///{tmp_path / 'fresh.db'}"], ["a", "b", "c"]
    if BINARIES is not None:
        urls.append(request.getfixturevalue("postgres").create("fresh"))
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, name, *urls],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for url in urls:
        for run in runs:  # all have imported what they need, or do so now
            assert run.stdin is not None
            run.stdin.write("go\n")
            run.stdin.flush()
        assert [run.stdout.readline() for run in runs if run.stdout] == ["opened\n"] * len(runs)
        storage = optuna.storages.RDBStorage(url)
        assert sorted(study.study_name for study in storage.get_all_studies()) == names
        storage.remove_session()
        storage.engine.dispose()
    for run in runs:
        run.communicate(timeout=60)
        assert run.returncode == 0


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_url_without_its_driver_is_refused_before_anything_is_made(
    scheme: str, tmp_path: Path
) -> None:
    url = f"{scheme}://me:secret@host/studies"
    with pytest.raises(RunError, match=r"allowed: postgresql\+psycopg://me:\*\*\*@host/studies"):
        inline_run(TINY, tmp_path / "run", storage=url)
    assert not (tmp_path / "run").exists()


def test_a_driver_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    url = "postgresql+psycopg://me:secret@127.0.0.1:1/studies"
    told = r"its driver psycopg is not installed: pip install 'metatune\[postgresql\]'"
    with pytest.raises(RunError, match=told):
        inline_run(TINY, tmp_path / "run", storage=url)
