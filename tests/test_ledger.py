"""The ledger on real Optuna: it says what the records say, whatever befell it."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from branching import LABEL, PENALTY, TREE
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from metatune.errors import RunError
from metatune.history import History
from metatune.ledger import Journal, Ledger, open_ledger, repair_journal
from metatune.records.rows import Asked, Ended, Origin, Row, Scored, State
from metatune.space import Params

COSTS = ("adapt_seconds",)
PARAMS: Params = {"inner.lr": 0.01, LABEL: "ridge", PENALTY: 1.0}


def asked(number: int, origin: Origin = "proposed", params: Params | None = PARAMS) -> Asked:
    strategy = {"head": {"kind": "ridge"}}
    name = f"r1-{number:04d}"
    return Asked(name, 1, number, f"n{number}", origin, strategy, name, "a", params)


def scored(number: int, rung: int, value: float) -> Scored:
    return Scored(
        f"r1-{number:04d}", 1, rung, "select", 0, 100, 1.0, 1.0, None,
        ["a", "b"], ["g", "g"], [value, value], False,
    )  # fmt: skip


def ended(number: int, state: State, reason: str = "") -> Ended:
    return Ended(f"r1-{number:04d}", state, reason, 1.0)


ROWS: list[Row] = [
    asked(0, "default", None),
    scored(0, 1, 0.5),
    scored(0, 2, 0.75),
    ended(0, "completed"),
    asked(1),
    scored(1, 1, 0.75),
    scored(1, 2, 0.875),
    ended(1, "completed"),
    asked(2, params={**PARAMS, "inner.lr": 5.0}),  # outside the region, within the limits
    scored(2, 1, 0.25),
    ended(2, "stopped", "ranked 3 of 3"),
    asked(3),
    ended(3, "diverged", "the training loss is not finite at meta-step 3"),
    asked(4),
    scored(4, 1, 0.5),
    ended(4, "failed", "Traceback"),
    asked(5),
    scored(5, 1, 0.625),
]


def open_(journal: Path, rows: list[Row] = ROWS, storage: str | None = None) -> Ledger:
    return open_ledger(journal, storage, "run", History(1, rows), TREE)


def read(journal: Path) -> dict[str, FrozenTrial]:
    """The trials of a journal by our ids, as anybody with Optuna reads them."""
    study = optuna.load_study(
        study_name="run", storage=JournalStorage(JournalFileBackend(str(journal)))
    )
    trials = study.get_trials()
    by_id = {trial.user_attrs["trial"]: trial for trial in trials}
    assert len(by_id) == len(trials)
    return by_id


def summary(journal: Path) -> list[object]:
    return [
        (t.number, name, t.state, t.value, t.intermediate_values, t.params, t.user_attrs)
        for name, t in read(journal).items()
    ]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


@pytest.fixture
def whole(journal: Path) -> Path:
    """A journal with all rows."""
    open_(journal)
    return journal


def test_every_trial_is_in_the_ledger_with_its_gains_over_the_default(whole: Path) -> None:
    found = [read(whole)[f"r1-{number:04d}"] for number in range(6)]
    assert [trial.number for trial in found] == list(range(6))
    expected = [
        (TrialState.COMPLETE, 0.0, {1: 0.0, 2: 0.0}),
        (TrialState.COMPLETE, 0.125, {1: 0.25, 2: 0.125}),
        (TrialState.PRUNED, -0.25, {1: -0.25}),
        (TrialState.FAIL, None, {}),
        (TrialState.FAIL, None, {1: 0.0}),
        (TrialState.RUNNING, None, {1: 0.125}),
    ]
    assert [(t.state, t.value, t.intermediate_values) for t in found] == expected


def test_the_ledger_names_strategies_states_and_reasons(whole: Path) -> None:
    found = read(whole)
    assert found["r1-0000"].user_attrs["origin"] == "default"
    assert found["r1-0000"].params == {}
    assert found["r1-0001"].params == PARAMS
    assert found["r1-0001"].user_attrs["strategy"] == {"head": {"kind": "ridge"}}
    assert found["r1-0002"].user_attrs["reason"] == "ranked 3 of 3"
    states = [trial.user_attrs.get("state") for trial in found.values()]
    assert states == ["completed", "completed", "stopped", "diverged", "failed", None]
    rest = ("round", "structure", "seconds", "score")
    assert [found["r1-0001"].user_attrs[name] for name in rest] == [1, "a", 1.0, 0.875]
    assert "score" not in found["r1-0003"].user_attrs  # it has none


def test_the_study_names_what_its_values_are(whole: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(whole)))
    assert optuna.load_study(study_name="run", storage=storage).metric_names == ["gain"]


def test_a_score_that_is_no_number_is_left_out_for_browsers_cannot_read_it(journal: Path) -> None:
    open_(journal, [*ROWS, asked(6), scored(6, 1, math.inf), ended(6, "diverged")])
    assert "score" not in read(journal)["r1-0006"].user_attrs


def test_the_ledgers_ranges_are_the_hard_limits(whole: Path) -> None:
    trial = read(whole)["r1-0002"]
    assert trial.params["inner.lr"] == 5.0
    assert trial.distributions["inner.lr"] == optuna.distributions.FloatDistribution(
        1e-5, 10.0, log=True
    )


def test_a_trial_that_ended_before_the_default_got_there_waits_for_it(journal: Path) -> None:
    rows: list[Row] = [
        asked(0, "default", None), scored(0, 1, 0.5), asked(1), scored(1, 1, 0.75),
        scored(1, 2, 1.0), ended(1, "completed"),
    ]  # fmt: skip
    history = History(1, rows)
    ledger = open_ledger(journal, None, "run", history, TREE)
    waiting = read(journal)["r1-0001"]
    assert (waiting.state, waiting.intermediate_values) == (TrialState.RUNNING, {1: 0.25})
    for row in (scored(0, 2, 0.75), ended(0, "completed")):
        assert read(journal)["r1-0001"].state == TrialState.RUNNING
        history.add(row)
        trial = history.trials["r1-0001"]
        ledger.sync(trial, history.gains(trial))
    done = read(journal)["r1-0001"]
    assert (done.state, done.value) == (TrialState.COMPLETE, 0.25)
    assert done.intermediate_values == {1: 0.25, 2: 0.25}


def test_syncing_row_by_row_equals_syncing_at_the_end(whole: Path, tmp_path: Path) -> None:
    step_by_step = tmp_path / "steps.journal"
    history = History(1)
    ledger = open_ledger(step_by_step, None, "run", history, TREE)
    for row in ROWS:
        history.add(row)
        for trial in history.trials.values():
            ledger.sync(trial, history.gains(trial))
    assert summary(step_by_step) == summary(whole)


def test_reopening_brings_what_is_missing_and_repeats_nothing(whole: Path, tmp_path: Path) -> None:
    journal = tmp_path / "reopened.journal"
    for count in range(len(ROWS) + 1):
        open_(journal, ROWS[:count])
    assert summary(journal) == summary(whole)
    before = journal.read_bytes()
    open_(journal)
    (added,) = journal.read_bytes().removeprefix(before).splitlines()
    assert json.loads(added)["op_code"] == 0  # Optuna notes that the study was opened


def test_reopening_goes_on_with_a_trial_that_was_running(whole: Path) -> None:
    history = History(1, ROWS)
    ledger = open_ledger(whole, None, "run", history, TREE)
    for row in (scored(5, 2, 1.0), ended(5, "completed")):
        history.add(row)
        trial = history.trials["r1-0005"]
        ledger.sync(trial, history.gains(trial))
    found = read(whole)["r1-0005"]
    assert (found.state, found.value) == (TrialState.COMPLETE, 0.25)


def test_trials_of_others_in_the_study_are_left_alone(whole: Path) -> None:
    study = optuna.load_study(
        study_name="run", storage=JournalStorage(JournalFileBackend(str(whole)))
    )
    study.add_trial(optuna.trial.create_trial(value=3.0))
    open_(whole, [*ROWS, asked(6)])
    states = [
        trial.state
        for trial in optuna.load_study(
            study_name="run", storage=JournalStorage(JournalFileBackend(str(whole)))
        ).get_trials()
    ]
    assert states[6:] == [TrialState.COMPLETE, TrialState.RUNNING]


# --- damage ---------------------------------------------------------------------------------------


def test_a_journal_cut_anywhere_in_its_last_line_loses_that_line_alone(
    whole: Path, tmp_path: Path
) -> None:
    content, torn = whole.read_bytes(), tmp_path / "torn.journal"
    last = content[:-1].rfind(b"\n") + 1
    for end in range(last, len(content)):
        torn.write_bytes(content[:end])
        repair_journal(torn)
        assert torn.read_bytes() == content[:last]


@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_a_journal_cut_in_its_last_line_is_opened_and_goes_on(
    kept: int, whole: Path, tmp_path: Path
) -> None:
    content, expected, torn = whole.read_bytes(), summary(whole), tmp_path / "torn.journal"
    last = content[:-1].rfind(b"\n") + 1
    torn.write_bytes(content[:last] + content[last:][:kept])
    open_(torn, [*ROWS, asked(6)])
    # Read by another reader, also what was added behind the cut.
    assert summary(torn)[:6] == expected
    assert list(read(torn))[6:] == ["r1-0006"]


def test_a_journal_cut_after_any_line_is_brought_up_to_the_records(
    whole: Path, tmp_path: Path
) -> None:
    lines, expected = whole.read_bytes().splitlines(keepends=True), summary(whole)
    torn = tmp_path / "torn.journal"
    for count in range(0, len(lines), 2):
        torn.write_bytes(b"".join(lines[:count]))
        open_(torn)
        assert summary(torn) == expected


def test_repair_cuts_to_the_last_whole_line_and_no_further(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    for content, whole in (
        (b'{"a":1}\n{"b":2}\n', b'{"a":1}\n{"b":2}\n'),
        (b'{"a":1}\n{"b":2}', b'{"a":1}\n'),
        (b'{"a":1}\n{"b":\n', b'{"a":1}\n'),
        (b'{"a":1}\n\x00\x00\x00', b'{"a":1}\n'),
        (b'{"a":1}\n\x00\x00\n\x00\n', b'{"a":1}\n'),
        (b'{"a"', b""),
        (b"", b""),
    ):
        journal.write_bytes(content)
        repair_journal(journal)
        assert journal.read_bytes() == whole


def test_a_stale_lock_is_removed(whole: Path) -> None:
    lock = whole.with_name(whole.name + ".lock")
    lock.symlink_to(whole)
    repair_journal(whole)
    assert not lock.is_symlink()
    open_(whole, [*ROWS, asked(6)])
    assert len(read(whole)) == 7


def test_a_journal_that_is_not_there_needs_no_repair(journal: Path) -> None:
    repair_journal(journal)
    assert not journal.exists()


def damages(content: bytes) -> Iterator[bytes]:
    """Ways for a journal to be unreadable before its end."""
    lines = content.splitlines(keepends=True)
    for number in range(0, len(lines) - 2, 6):
        rest = lines[number + 1 :]
        yield b"".join([*lines[:number], b"\x00" * len(lines[number]), *rest])  # a lost block
        yield b"".join([*lines[:number], lines[number][:-9], *rest])  # two lines run together
        yield b"".join([*lines[:number], b"{}\n", *rest])
        yield b"".join([*lines[:number], b"[]\n", *rest])
    yield content + b"{}\n"


def test_a_damaged_journal_is_rebuilt_from_the_records(whole: Path, tmp_path: Path) -> None:
    expected, broken = summary(whole), tmp_path / "broken.journal"
    for content in damages(whole.read_bytes()):
        broken.write_bytes(content)
        open_(broken)
        assert summary(broken) == expected
        assert broken.with_suffix(".damaged").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage\n" * 3, b"\x00" * 100])
def test_a_journal_without_a_sound_line_is_begun_anew(
    content: bytes, whole: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "garbage.journal"
    journal.write_bytes(content)
    open_(journal)
    assert summary(journal) == summary(whole)


# --- other storages -------------------------------------------------------------------------------


def test_an_sqlite_url_holds_the_same_ledger(whole: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    for rows in (ROWS[:9], ROWS):
        open_(tmp_path / "unused.journal", rows, url)
    assert not (tmp_path / "unused.journal").exists()
    study = optuna.load_study(study_name="run", storage=url)
    found = [
        (t.number, t.user_attrs["trial"], t.state, t.value, t.intermediate_values, t.params,
         t.user_attrs)
        for t in study.get_trials()
    ]  # fmt: skip
    assert found == summary(whole)


def test_a_storage_with_trials_of_another_run_is_refused(tmp_path: Path, journal: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    open_(journal, ROWS[:1], url)
    with pytest.raises(RunError, match="trials of another run run: name another folder"):
        open_(journal, [], url)


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.db", "nosuchbase://host/x"])
def test_a_storage_that_cannot_be_opened_is_an_error_of_ours(url: str, journal: Path) -> None:
    with pytest.raises(RunError, match="storage"):
        open_(journal, ROWS, url)


# --- several directions ---------------------------------------------------------------------------


def timed(rows: list[Row]) -> list[Row]:
    """The rows, where each trial takes as many seconds a task as its number says."""
    return [
        replace(row, score_seconds=2.0 * (1 + int(row.trial[-4:])))
        if isinstance(row, Scored)
        else row
        for row in rows
    ]


@pytest.fixture
def two(journal: Path) -> Path:
    """A journal of two objectives with all rows."""
    open_ledger(journal, None, "run", History(1, timed(ROWS)), TREE, COSTS)
    return journal


def test_a_ledger_of_two_objectives_has_two_directions_and_names_them(two: Path) -> None:
    study = optuna.load_study(
        study_name="run", storage=JournalStorage(JournalFileBackend(str(two)))
    )
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["gain", "adapt_seconds"]
    expected = [
        (TrialState.COMPLETE, [0.0, 0.0]),
        (TrialState.COMPLETE, [0.125, pytest.approx(math.log(2))]),
        (TrialState.PRUNED, None),
        (TrialState.FAIL, None),
        (TrialState.FAIL, None),
        (TrialState.RUNNING, None),
    ]
    assert [(t.state, t.values) for t in study.trials] == expected
    assert all(t.intermediate_values == {} for t in study.trials)
    assert [t.user_attrs["trial"] for t in study.best_trials] == ["r1-0000", "r1-0001"]


def test_a_ledger_of_two_objectives_is_reopened_and_goes_on(two: Path, tmp_path: Path) -> None:
    rows, journal = timed(ROWS), tmp_path / "reopened.journal"
    for count in range(len(rows) + 1):
        open_ledger(journal, None, "run", History(1, rows[:count]), TREE, COSTS)

    def summary_of(path: Path) -> list[object]:
        return [(n, t.state, t.values, t.params, t.user_attrs) for n, t in read(path).items()]

    assert summary_of(journal) == summary_of(two)
    before = journal.read_bytes()
    open_ledger(journal, None, "run", History(1, rows), TREE, COSTS)
    (added,) = journal.read_bytes().removeprefix(before).splitlines()
    assert json.loads(added)["op_code"] == 0  # Optuna notes that the study was opened


@pytest.mark.parametrize("sql", [False, True])
def test_a_study_of_other_directions_is_refused_in_a_sentence(
    sql: bool, journal: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}" if sql else None
    open_ledger(journal, url, "run", History(1, ROWS), TREE)
    with pytest.raises(RunError) as error:
        open_ledger(journal, url, "run", History(1, ROWS), TREE, COSTS)
    assert str(error.value) == (
        "the storage's study run has the directions maximize, but the objectives of this run need "
        "maximize, minimize: name another folder (--out)"
    )
    open_(journal, ROWS, url)  # what was there is left alone


def test_a_journal_whose_lock_cannot_be_let_go_is_opened_anew(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that may only be read from here on: Optuna then raises no ``OSError``."""
    history, rename, failures = History(1, ROWS[:3]), os.rename, [1]

    def fail_once(*paths: str) -> None:
        if failures and str(paths[0]).endswith(".lock"):
            failures.pop()
            raise OSError(errno.EIO, "Input/output error")
        rename(*paths)

    ledger = open_ledger(journal, None, "run", history, TREE)
    for row in ROWS[3:]:
        history.add(row)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail_once)
        for trial in history.trials.values():
            ledger.sync(trial, history.gains(trial))
    assert failures == []
    assert read(journal).keys() == history.trials.keys()


def test_entries_that_are_written_at_once_read_as_those_written_one_by_one(tmp_path: Path) -> None:
    one, other = Journal(str(tmp_path / "a.log")), Journal(str(tmp_path / "a.log"))
    entries = [{"op_code": number} for number in range(9)]
    one.append_logs(entries[:1])
    assert list(one.read_logs(0)) == entries[:1]
    other.append_logs(entries[1:2])  # of another process, which one has not read yet
    with one.at_once():
        one.append_logs(entries[2:3])
        one.append_logs(entries[3:4])
        assert list(one.read_logs(1)) == entries[1:4]
        one.append_logs(entries[4:5])
        assert list(one.read_logs(4)) == entries[4:5]
        assert list(one.read_logs(5)) == []
        assert list(other.read_logs(0)) == entries[:2]
    assert list(other.read_logs(2)) == entries[2:5]
    other.append_logs(entries[5:6])
    assert list(one.read_logs(5)) == entries[5:6]
    assert list(one.read_logs(0)) == entries[:6]
    with one.at_once():
        one.append_logs(entries[6:7])
        assert list(one.read_logs(6)) == entries[6:7]
    assert list(one.read_logs(7)) == []
    assert list(Journal(str(tmp_path / "a.log")).read_logs(0)) == entries[:7]
