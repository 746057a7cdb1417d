"""Sessions: what a run's folder says, and what a run or a resume refuses before it starts."""

from __future__ import annotations

import json
import platform
import shutil
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import optuna
import pytest
from inline_runner import SPACE, InlineRunner, inline_resume, inline_run, rows_of

import metatune
from metatune import session
from metatune.errors import DataError, RunError, SpaceError
from metatune.records.folder import RunFolder
from metatune.records.lease import acquire
from metatune.space import load_space
from metatune.tasks.formulas.sinusoid import SinusoidFamily

TINY = SPACE.replace("seeds: 2", "seeds: 1").replace("full: 1800", "full: 900")


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def created(space_file: Path, tmp_path: Path) -> RunFolder:
    """A run that was made and not driven yet."""
    return session.create(space_file, out=tmp_path / "run")[0]


def edit_info(folder: RunFolder, **changes: object) -> None:
    folder.info.write_text(json.dumps({**json.loads(folder.info.read_text()), **changes}))


# --- the folder ----------------------------------------------------------------------------------


def test_run_json_says_what_a_resume_needs_and_a_reader_wants(
    space_file: Path, tmp_path: Path
) -> None:
    folder, plan = session.create(space_file, out=tmp_path / "run", trials=12, seed=5)
    about = json.loads(folder.info.read_text())
    assert about.pop("created").endswith("+00:00")
    assert about.pop("versions") == {
        "metatune": metatune.__version__,
        "python": platform.python_version(),
        **{
            name: version(name) for name in ("ray", "torch", "optuna", "numpy", "pandas", "pyarrow")
        },
    }
    assert about == {
        "run": "run",
        "py_modules": [],
        "seed": 5,
        "trials": 12,
        "minutes": None,
        "core_seconds": None,
        "code": str(space_file.parent),
        "objectives": ["score"],
        "rungs": [100, 300, 900],
        "rounds": {"first": 1, "last": 1, "growth": 2.0},
        "tasks": {"select": 8, "confirm": 8, "test": 8},
        "episode": {"way": 1, "shot": 5, "query": 5, "per_class": True, "fewest": None},
        "family": {
            "name": "sinusoid",
            "kind": "regression",
            "metric": "mse",
            "sign": -1,
            "grouped": False,
            "groups": {s: {"sinusoid": 1} for s in ("train", "select", "confirm", "test")},
            "options": {},
        },
        "data": SinusoidFamily().fingerprint,
        "notes": [],
        "space_sha256": sha256(TINY.encode()).hexdigest(),
        "rotation_sha256": None,
        "prior_sha256": None,
        "storage": None,
    }
    assert (plan.trials, plan.seed) == (12, 5)


def test_the_space_is_kept_to_the_letter(created: RunFolder) -> None:
    assert created.space.read_text() == TINY


def test_a_resume_has_the_plan_of_the_run(space_file: Path, tmp_path: Path) -> None:
    folder, plan = session.create(space_file, out=tmp_path / "run", trials=12, seed=5)
    again, same, storage = session.reopen(tmp_path / "run")
    assert (again, storage) == (folder, None)
    assert (same.trials, same.seed, same.minutes) == (12, 5, None)
    assert same.rungs(1) == plan.rungs(1)
    assert same.space.initial == plan.space.initial


def test_arguments_stand_above_the_file_and_what_is_named_is_tried_in_any_case(
    space_file: Path,
) -> None:
    space = load_space(space_file)
    assert session.plan_of(space)[0].trials == 9
    assert session.plan_of(space, trials=20, seed=3)[0].trials == 20
    assert session.plan_of(space, trials=20, seed=3)[0].seed == 3
    assert session.plan_of(space, trials=1)[0].trials == 5  # as many as are named


def test_a_run_folder_is_named_by_space_and_time(space_file: Path) -> None:
    path = session.default_folder(space_file)
    assert path.parent == Path("runs")
    assert path.name.startswith("space-2")


# --- refusals ------------------------------------------------------------------------------------


def test_nothing_is_made_where_the_space_or_the_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(TINY.replace("default: fomaml", "default: unknown"))
    with pytest.raises(SpaceError):
        session.create(path, out=tmp_path / "run")
    path.write_text(TINY.replace("shot: 5", "way: 3, shot: 5"))
    with pytest.raises((SpaceError, DataError)):
        session.create(path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_is_refused_and_left_alone(
    space_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="exists and is not empty"):
        session.create(space_file, out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_a_resume_refuses_a_changed_space(created: RunFolder) -> None:
    created.space.write_text(TINY + "# a remark\n")
    with pytest.raises(RunError, match=r"space\.yaml was changed since the run started"):
        session.reopen(created.path)


def test_a_resume_refuses_changed_data(created: RunFolder) -> None:
    edit_info(created, data="other")
    with pytest.raises(RunError, match="data of sinusoid have changed"):
        session.reopen(created.path)


def test_a_resume_refuses_a_storage_whose_password_was_not_kept(
    space_file: Path, tmp_path: Path
) -> None:
    url = "postgresql+psycopg://me:secret@host/studies"
    folder, _ = session.create(space_file, out=tmp_path / "run", storage=url)
    assert "secret" not in "".join(p.read_text() for p in folder.path.rglob("*") if p.is_file())
    with pytest.raises(RunError, match=r"needs its password: give it by --storage") as error:
        session.reopen(folder.path)
    assert "postgresql+psycopg://me:***@host/studies" in str(error.value)
    assert session.reopen(folder.path, storage=url)[2] == url


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match=r"is not a run folder: run\.json is missing"):
            session.reopen(path)


def test_a_run_that_another_driver_drives_is_refused_and_left_alone(created: RunFolder) -> None:
    runner = InlineRunner()
    with acquire(created), pytest.raises(RunError, match="is being driven by process"):
        inline_resume(created.path, runner=runner)
    assert runner.jobs == []
    assert rows_of(created.path) == []
    assert list(created.records.glob("log-*")) == []


def test_a_session_that_fails_gives_the_run_back(created: RunFolder) -> None:
    with pytest.raises(RunError, match="cannot be opened"):
        inline_resume(created.path, storage="sqlite:////nowhere/at/all.db")
    assert not created.driver.exists()
    inline_resume(created.path)
    assert not created.driver.exists()
    assert len(metatune.read_run(created.path).verdicts) == 1


# --- storages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "",
        "sqlite:////nowhere/at/all/x.db",
        "sqlite:////",
        "unknown://host/studies",
        "postgresql+psycopg://me:secret@localhost:1/studies",
    ],
)
def test_a_storage_that_cannot_be_opened_is_told_in_one_sentence(
    url: str, space_file: Path, tmp_path: Path
) -> None:
    runner = InlineRunner()
    with pytest.raises(RunError, match="storage of the study cannot be opened: ") as error:
        inline_run(TINY, tmp_path / "run", storage=url, runner=runner)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert runner.jobs == []


def test_the_study_goes_to_the_storage_that_was_named_and_is_found_there_again(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    run = inline_run(TINY, tmp_path / "run", storage=url, trials=6)
    assert not (run / "study.log").exists()
    told = optuna.load_study(study_name="run", storage=url).trials
    assert [t.user_attrs["state"] for t in told] == metatune.read_run(run).trials["state"].to_list()

    inline_resume(run)  # knows its storage
    assert len(optuna.load_study(study_name="run", storage=url).trials) == len(told)
    assert not (run / "study.log").exists()


def test_a_storage_that_holds_another_run_of_this_name_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    first = inline_run(TINY, tmp_path / "a" / "run", storage=url, trials=1)
    told = optuna.load_study(study_name="run", storage=url).trials
    with pytest.raises(RunError, match="has trials of another run run: name another folder"):
        inline_run(TINY, tmp_path / "b" / "run", storage=url, trials=1)
    assert len(optuna.load_study(study_name="run", storage=url).trials) == len(told)
    assert rows_of(tmp_path / "b" / "run") == []
    inline_resume(first)  # the one that it belongs to


def test_a_storage_with_a_study_of_other_objectives_is_refused(tmp_path: Path) -> None:
    url, runner = f"sqlite:///{tmp_path}/studies.db", InlineRunner()
    optuna.create_study(storage=url, study_name="run", direction="maximize")
    two = TINY.replace("budget:", "objectives: [score, adapt_seconds]\nbudget:")
    with pytest.raises(RunError, match="has the directions maximize, but the objectives") as error:
        inline_run(two, tmp_path / "run", storage=url, runner=runner)
    assert "\n" not in str(error.value)
    assert runner.jobs == []


def test_a_lost_journal_is_made_again_from_the_records(finished: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished, tmp_path / finished.name)
    journal = copy / "study.log"
    journal.write_bytes(b'{"op_code": "nonsense"}\n' + journal.read_bytes()[100:])
    inline_resume(copy)
    trials = metatune.read_run(copy).trials
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    study = optuna.load_study(study_name=copy.name, storage=optuna.storages.JournalStorage(backend))
    assert [t.user_attrs["state"] for t in study.trials] == trials["state"].to_list()
