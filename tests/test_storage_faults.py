"""Whole runs whose storage fails under them, for real: it is full, broken, taken away, removed."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Timer

import pytest
from inline_runner import (
    SPACE,
    InlineRunner,
    inline_resume,
    inline_run,
    lasting,
    rows_of,
    study_of,
)  # fmt: skip
from rich.console import Console

import metatune
from metatune import patience, session
from metatune.errors import RunError, StorageError
from metatune.jobs import RungResult, TrialJob

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import filesystems as made
from fault_cases import damaged

INSTANTS = [
    pytest.param(3, marks=pytest.mark.long),
    14,
    pytest.param(27, marks=pytest.mark.long),
]
"""Results of workers, of 31 in all: of the first trials, of later ones, of the verdict."""


@pytest.fixture
def mounts() -> None:
    if made.why_not():
        pytest.skip(made.why_not())


@pytest.fixture
def disk(mounts: None, tmp_path: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            path = stack.enter_context(made.disk(tmp_path / "disk"))
        except OSError as error:
            pytest.skip(str(error))
        yield path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SECONDS", 0.3)


def at(instant: int, fault: Callable[[], object]) -> InlineRunner:
    """A runner under which a fault happens when so many results of workers were taken."""
    results = 0

    def count(job: TrialJob, result: RungResult) -> RungResult:
        nonlocal results
        results += 1
        if results == instant:
            fault()
        return result

    return InlineRunner(clock=count)


def run_until_it_ends(run: Path, runner: InlineRunner) -> str:
    """The sentence with which a run ends."""
    with pytest.raises(StorageError) as told:
        inline_run(SPACE, run, runner=runner)
    sentence = str(told.value)
    assert "\n" not in sentence
    assert str(run) in sentence
    return sentence


def go_on(run: Path) -> None:
    """Resume a run that could not give back its lease: here its driver's process lives on."""
    (run / "driver.json").unlink()
    inline_resume(run)


def assert_whole(run: Path, undisturbed: Path) -> None:
    """A run has every row of an undisturbed one, once; so has its study. Its files are whole."""
    rows = rows_of(undisturbed)
    assert lasting(rows_of(run)) == lasting(rows)
    assert damaged(run) == []
    frames = metatune.read_run(run)
    assert len(frames.trials) == len(metatune.read_run(undisturbed).trials)
    told = [trial.user_attrs["trial"] for trial in study_of(run).trials]
    assert told == [trial.user_attrs["trial"] for trial in study_of(undisturbed).trials]


@pytest.mark.parametrize("instant", INSTANTS)
@pytest.mark.usefixtures("mounts", "impatient")
def test_a_full_disk_ends_a_run_that_goes_on_once_there_is_room(
    instant: int, tmp_path: Path, finished: Path
) -> None:
    with made.tmpfs(tmp_path / "small") as small:
        run = small / "run"
        filler = small / "filler"
        told = run_until_it_ends(run, at(instant, lambda: made.fill(small)))
        assert "No space left on device after 0.3 s of waiting. What was recorded stands" in told
        assert damaged(run) == []
        filler.unlink()
        inline_resume(run)
        assert_whole(run, finished)


@pytest.mark.usefixtures("mounts")
def test_a_disk_that_gets_room_in_time_costs_nothing(tmp_path: Path, finished: Path) -> None:
    with made.tmpfs(tmp_path / "small") as small:
        run, room = small / "run", Timer(0.5, (small / "filler").unlink)

        def fill() -> None:
            made.fill(small)
            room.start()

        inline_run(SPACE, run, runner=at(14, fill))
        assert_whole(run, finished)


@pytest.mark.parametrize("instant", INSTANTS)
def test_a_disk_that_may_only_be_read_ends_a_run_at_once(
    instant: int, disk: Path, finished: Path
) -> None:
    run = disk / "run"
    told = run_until_it_ends(run, at(instant, lambda: made.break_disk(disk)))
    assert "Read-only file system. What was recorded stands: make it writable" in told
    made.unmount(disk)
    made.mount_disk(disk)
    assert damaged(run) == []
    go_on(run)
    assert_whole(run, finished)


@pytest.mark.parametrize("instant", INSTANTS)
def test_a_run_that_is_away_for_a_while_goes_on_when_it_is_back(
    instant: int, tmp_path: Path, finished: Path
) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    back = Timer(0.5, lambda: elsewhere.rename(run))

    def away() -> None:
        run.rename(elsewhere)
        back.start()

    said = io.StringIO()
    inline_run(SPACE, run, runner=at(instant, away), console=Console(file=said, width=500))
    assert_whole(run, finished)
    if instant == 14:  # else a worker is the first to notice
        assert said.getvalue().count("Waiting up to 60 s for it.") == 1


@pytest.fixture
def mounted(mounts: None, tmp_path: Path) -> Iterator[Path]:
    """A run's folder that is a mount point itself."""
    with made.tmpfs(tmp_path / "server") as server:
        (server / "run").mkdir()
        (tmp_path / "run").mkdir()
        made.bind(server / "run", tmp_path / "run")
        yield tmp_path / "run"
        made.unmount(tmp_path / "run")


def test_a_mount_that_is_made_anew_is_gone_on_with(
    mounted: Path, tmp_path: Path, finished: Path
) -> None:
    back = Timer(0.5, lambda: made.bind(tmp_path / "server" / "run", mounted))
    left: list[Path] = []

    def away() -> None:
        made.unmount(mounted)
        left.extend(mounted.iterdir())
        back.start()

    inline_run(SPACE, mounted, runner=at(14, away))
    assert left == []
    assert_whole(mounted, finished)
    made.unmount(mounted)
    assert list(mounted.iterdir()) == []  # nothing was written below the mount
    made.bind(tmp_path / "server" / "run", mounted)


@pytest.mark.parametrize("instant", INSTANTS)
@pytest.mark.usefixtures("impatient")
def test_a_run_whose_folder_is_removed_ends_and_nothing_of_it_is_made_anew(
    instant: int, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    told = run_until_it_ends(run, at(instant, lambda: shutil.rmtree(run)))
    assert "No such file or directory after 0.3 s of waiting" in told
    assert not run.exists()


@pytest.mark.usefixtures("impatient")
def test_a_run_whose_folder_is_moved_goes_on_where_it_is_now(
    tmp_path: Path, finished: Path
) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved" / "run"
    moved.parent.mkdir()
    run_until_it_ends(run, at(14, lambda: run.rename(moved)))
    assert not run.exists()
    assert damaged(moved) == []
    go_on(moved)
    assert_whole(moved, finished)


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    return file


@pytest.mark.parametrize("name", ["run", "a/new/run"])
@pytest.mark.usefixtures("mounts")
def test_a_run_is_not_begun_where_nothing_may_be_written(
    name: str, space_file: Path, tmp_path: Path
) -> None:
    with made.tmpfs(tmp_path / "read") as place:
        made.only_read(place)
        with pytest.raises(RunError, match="cannot be made a run folder: Read-only file system"):
            session.create(space_file, out=place / name)
        assert list(place.iterdir()) == []


@pytest.mark.usefixtures("mounts")
def test_a_run_is_not_begun_where_there_is_no_room(space_file: Path, tmp_path: Path) -> None:
    with made.tmpfs(tmp_path / "small") as small:
        (small / "run").mkdir()
        made.fill(small)
        with pytest.raises(RunError, match="cannot be made a run folder: No space left on device"):
            session.create(space_file, out=small / "run")
        (small / "filler").unlink()
        session.create(space_file, out=small / "run")  # nothing is in the way


@pytest.mark.usefixtures("mounts")
def test_a_run_that_may_only_be_read_is_not_resumed_but_read(
    tmp_path: Path, finished: Path
) -> None:
    with made.tmpfs(tmp_path / "read") as place:
        shutil.copytree(finished, place / "run")
        made.only_read(place)
        with pytest.raises(RunError, match="cannot be locked: Read-only file system"):
            inline_resume(place / "run")
        assert rows_of(place / "run") == rows_of(finished)
