"""A run that was killed or interrupted goes on, and ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from s3 import S3

from metatune import read_run, session
from metatune.place import Place
from metatune.records.folder import RunFolder
from metatune.records.log import segment_names, segments
from metatune.records.reading import read_rows
from tests.integration.conftest import UNDISTURBED_TRIALS, repeatable, study_of

Command = Callable[..., "subprocess.Popen[str]"]
TRIALS = UNDISTURBED_TRIALS


def wait_for_rows(path: str | Path, rows: int, process: subprocess.Popen[str]) -> None:
    """Wait until a run has recorded so many rows."""
    deadline, place = time.monotonic() + 300, Place.at(path)
    while process.poll() is None and time.monotonic() < deadline:
        logs = segment_names(place.listed("records"))
        if sum(place.read(f"records/{log}").count(b"\n") for log in logs) >= rows:
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not reach {rows} rows: exit code {process.poll()}")


def test_killed_twice_at_random_instants_a_run_ends_with_the_same_records(
    cluster: str, space_file: Path, tmp_path: Path, undisturbed: Path, command: Command
) -> None:
    expected = repeatable(undisturbed)
    path = tmp_path / "killed"
    options = ("--workers", 1, "--address", cluster)
    commands = [
        ("run", space_file, "--out", path, "--trials", TRIALS, *options),
        ("resume", path, *options),
    ]
    # New instants each time the suite runs, in the search and after it; shown when the test fails.
    middle = len(expected) // 2
    spans = [(2, middle), (middle + 1, len(expected) - 3)]
    for arguments, (low, high) in zip(commands, spans, strict=True):
        row, delay = random.randint(low, high), random.random() * 0.3
        print(f"killed {delay:.3f} s after row {row} of {len(expected)}")
        driver = command(*arguments)
        wait_for_rows(path, row, driver)
        time.sleep(delay)
        driver.kill()
        driver.communicate()
        before = read_rows(RunFolder.open(path))
    session.resume(path, workers=1)
    assert read_rows(RunFolder.open(path))[: len(before)] == before
    assert repeatable(path) == expected
    told = {t.user_attrs["trial"]: t.value for t in study_of(path).trials}
    assert told == {t.user_attrs["trial"]: t.value for t in study_of(undisturbed).trials}


@pytest.mark.long
def test_in_an_object_store_a_run_that_was_killed_goes_on_from_another_machine(
    cluster: str, space_file: Path, tmp_path: Path, undisturbed: Path, command: Command, s3: S3
) -> None:
    """What the other machine has of the run is its URI."""
    uri, expected = s3.uri("bucket/runs/killed"), repeatable(undisturbed)
    options = ("--workers", 1, "--address", cluster)
    driver = command("run", space_file, "--out", uri, "--trials", TRIALS, *options)
    row = random.randint(2, len(expected) - 3)
    print(f"killed after row {row} of {len(expected)}")
    wait_for_rows(uri, row, driver)
    driver.kill()
    driver.communicate()
    space_file.unlink()
    before = read_rows(RunFolder.open(uri))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    driver = command("resume", uri, *options, cwd=elsewhere)
    out, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, err
    assert f"metatune report '{uri}' -o report.html" in out
    assert read_rows(RunFolder.open(uri))[: len(before)] == before
    assert repeatable(uri) == expected
    there, here = read_run(uri), read_run(undisturbed)
    assert there.trials["score"].equals(here.trials["score"])
    assert list(there.verdicts["sentence"]) == list(here.verdicts["sentence"])
    assert not list(elsewhere.iterdir())


def test_ctrl_c_ends_cleanly_and_resume_goes_on(
    cluster: str, space_file: Path, tmp_path: Path, undisturbed: Path, command: Command
) -> None:
    path = tmp_path / "interrupted"
    driver = command(
        "run", space_file, "--out", path, "--workers", 1, "--trials", TRIALS, "--address", cluster
    )
    wait_for_rows(path, 1, driver)  # the first trial was asked for; its worker is starting
    os.kill(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert f"metatune resume {path}" in err
    assert "Traceback" not in out + err
    assert not read_run(path).trials.empty
    assert read_run(path).verdicts.empty
    again = command("resume", path, "--workers", 1)  # on a Ray of its own, as on a laptop
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "Verdict" in out
    assert f"Results: {path}" in out
    assert repeatable(path) == repeatable(undisturbed)


@pytest.mark.long
def test_the_trial_of_a_killed_worker_is_tried_again_and_ends_as_any_other(
    cluster: str, space_file: Path, tmp_path: Path, command: Command
) -> None:
    path, one_round = tmp_path / "bereft", tmp_path / "one_round.yaml"
    # Trials of seconds: a worker that is killed is in the midst of one, and the search goes on.
    slow = space_file.read_text().replace("full: 30000", "full: 300000")
    one_round.write_text(slow.replace("count: 2", "count: 1"))
    driver = command(
        "run", one_round, "--out", path, "--workers", 1, "--trials", TRIALS, "--address", cluster
    )
    wait_for_rows(path, 6, driver)  # the default has ended: without it nothing could go on
    log = segments(RunFolder(path))[0]
    while b'"retried"' not in log.read_bytes() and driver.poll() is None:
        for worker in workers_of_this_session():
            os.kill(worker, signal.SIGKILL)
        time.sleep(0.5)  # a worker between two trials takes none with it: try again
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 0, err
    trials = read_run(path).trials
    assert trials["retries"].sum() >= 1
    assert not trials["state"].eq("failed").any()
    assert len(trials) == TRIALS
    assert not trials["state"].eq("running").any()


def workers_of_this_session() -> list[int]:
    """Processes of carriers on this session's cluster: those that descend from this process."""
    parents, carriers = {}, []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid = int(status.parent.name)
            parents[pid] = int(status.read_text().rpartition(")")[2].split()[1])
            if (status.parent / "cmdline").read_bytes().startswith(b"ray::ResourceTrainable"):
                carriers.append(pid)
        except OSError:
            continue  # it has ended meanwhile

    def descends(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and descends(parents[pid]))

    return [pid for pid in carriers if descends(pid)]


def test_a_second_driver_is_refused_while_the_first_is_alive(
    cluster: str, space_file: Path, tmp_path: Path, command: Command
) -> None:
    path = tmp_path / "taken"
    first = command("run", space_file, "--out", path, "--workers", 1, "--address", cluster)
    try:
        wait_for_rows(path, 1, first)
        second = command("resume", path, "--address", cluster)
        _, err = second.communicate(timeout=60)
        assert second.returncode == 2
        assert re.search(rf"process {first.pid}", err)
        assert "Traceback" not in err
    finally:
        first.kill()
        first.communicate()


def test_a_resume_of_a_finished_run_repeats_nothing(undisturbed: Path, cluster: str) -> None:
    before = read_rows(RunFolder.open(undisturbed))
    session.resume(undisturbed, workers=1)
    assert read_rows(RunFolder.open(undisturbed)) == before


def test_a_resume_with_a_changed_space_is_refused(
    cluster: str, space_file: Path, tmp_path: Path, undisturbed: Path
) -> None:
    copy = tmp_path / "changed"
    subprocess.run(["cp", "-r", str(undisturbed), str(copy)], check=True)
    with (copy / "space.yaml").open("a") as file:
        file.write("# another line\n")
    with pytest.raises(session.RunError, match="was changed since the run started"):
        session.resume(copy)
