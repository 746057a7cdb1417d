"""The loop as a whole: in which order, the same from a seed, the same after any interruption."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from inline_runner import (
    SPACE,
    TRADE_OFF,
    InlineRunner,
    by_resource,
    by_steps,
    inline_resume,
    inline_run,
    lasting,
    rows_of,
    study_of,
)

import metatune
from metatune import session
from metatune.budget import core_seconds
from metatune.errors import RunError
from metatune.history import History
from metatune.records.log import Log, to_line
from metatune.records.rows import Asked, Concluded, Ended, Looked, Row, Scored, Turned
from metatune.space import load_space


class Killed(BaseException):
    """The driver's process ends here."""


@contextmanager
def killed_after(rows: int) -> Iterator[None]:
    """The next ``rows`` rows are recorded; with the last one the driver dies."""
    left = rows
    append = Log.append

    def append_and_die(log: Log, *new: Row) -> None:
        nonlocal left
        append(log, *new)
        left -= len(new)
        if left <= 0:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Log, "append", append_and_die)
        yield


def small(text: str = SPACE) -> str:
    """The space with fewer trials and one training each."""
    return text.replace("trials: 9", "trials: 7").replace("seeds: 2", "seeds: 1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that nothing interrupted."""
    return inline_run(small(), tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk, which is not what fails in these tests."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def ledger(run: Path) -> list[tuple[str, str, float | None]]:
    """What Optuna knows of each trial: our id, the state and the value."""
    trials = study_of(run).trials
    return [(t.user_attrs["trial"], t.state.name, t.value if t.values else None) for t in trials]


def scored_once(rows: list[Row]) -> bool:
    keys = [(r.trial, r.split, r.replica, r.rung) for r in rows if isinstance(r, Scored)]
    return len(keys) == len(set(keys))


# --- the order of things -------------------------------------------------------------------------


def test_the_default_comes_first_and_the_verdict_last_and_once(finished: Path) -> None:
    rows = rows_of(finished)
    first = rows[0]
    assert isinstance(first, Asked)
    assert (first.origin, first.name, first.number) == ("default", "fomaml", 0)
    assert [i for i, r in enumerate(rows) if isinstance(r, Concluded)] == [len(rows) - 1]
    assert sum(isinstance(row, Turned) for row in rows) == 1


@pytest.mark.parametrize("split", ["confirm", "test"])
def test_a_reserved_split_is_looked_at_in_the_records_before_any_score_on_it(
    finished: Path, split: str
) -> None:
    rows = rows_of(finished)
    looks = [i for i, row in enumerate(rows) if isinstance(row, Looked) and row.split == split]
    scores = [i for i, row in enumerate(rows) if isinstance(row, Scored) and row.split == split]
    assert len(looks) == 1
    assert scores
    assert looks[0] < min(scores)
    look = rows[looks[0]]
    assert isinstance(look, Looked)
    assert {rows[i].trial for i in scores} == set(look.trials)  # type: ignore[union-attr]


def test_search_confirmation_round_and_verdict_follow_one_another(finished: Path) -> None:
    rows = rows_of(finished)
    phases = [
        next(i for i, row in enumerate(rows) if isinstance(row, Looked) and row.split == "confirm"),
        next(i for i, row in enumerate(rows) if isinstance(row, Turned)),
        next(i for i, row in enumerate(rows) if isinstance(row, Looked) and row.split == "test"),
    ]
    assert phases == sorted(phases)
    assert all(isinstance(row, Asked | Scored | Ended) for row in rows[: phases[0]])
    after = {row.split for row in rows[phases[2] :] if isinstance(row, Scored)}
    assert after == {"test"}


def test_each_trial_ends_once_and_every_state_occurs(finished: Path) -> None:
    rows = rows_of(finished)
    asked = [row.trial for row in rows if isinstance(row, Asked)]
    ends = Counter(row.trial for row in rows if isinstance(row, Ended) and not row.replica)
    assert asked == [f"r1-{number:04d}" for number in range(9)]
    assert ends == Counter(asked)
    states = Counter(row.state for row in rows if isinstance(row, Ended))
    assert set(states) == {"completed", "stopped", "diverged", "failed"}


def test_the_method_names_the_incumbents_with_their_whole_strategies(finished: Path) -> None:
    rows = rows_of(finished)
    turned = next(row for row in rows if isinstance(row, Turned))
    asked = {row.trial: row for row in rows if isinstance(row, Asked)}
    method = load_space(finished / "method.yaml").method
    assert (method.round, method.tested) == (1, (1,))
    assert [i.name for i in method.incumbents] == [asked[t].name for t in turned.incumbents]
    assert [i.strategy.digest() for i in method.incumbents] == [
        asked[trial].digest for trial in turned.incumbents
    ]


def test_the_incumbents_are_ranked_by_confirm(finished: Path) -> None:
    run = metatune.read_run(finished)
    scores = run.scores.query("split == 'confirm'").groupby("trial")["score"].mean()
    incumbents = run.rounds.iloc[0]["incumbents"]
    assert incumbents == list(scores.sort_values().index)  # a squared error: lower is better


# --- the same again ------------------------------------------------------------------------------


def test_a_seed_gives_the_same_strategies_and_scores_again(whole: Path, tmp_path: Path) -> None:
    again = inline_run(small(), tmp_path / "again")
    assert lasting(rows_of(again)) == lasting(rows_of(whole))
    assert ledger(again) == ledger(whole)


def test_another_seed_gives_other_proposals_and_other_tasks(whole: Path, tmp_path: Path) -> None:
    other = rows_of(inline_run(small(), tmp_path / "other", seed=1))

    def proposals(rows: list[Row]) -> set[str]:
        return {r.digest for r in rows if isinstance(r, Asked) and r.origin == "proposed"}

    def tasks(rows: list[Row]) -> set[str]:
        return {name for row in rows if isinstance(row, Scored) for name in row.tasks}

    assert not proposals(other) & proposals(rows_of(whole))
    assert not tasks(other) & tasks(rows_of(whole))


def test_all_strategies_meet_on_the_same_tasks_and_no_task_serves_two_splits(
    finished: Path,
) -> None:
    tasks: dict[str, set[tuple[str, ...]]] = {}
    for row in rows_of(finished):
        if isinstance(row, Scored):
            tasks.setdefault(row.split, set()).add(tuple(row.tasks))
    assert set(tasks) == {"select", "confirm", "test"}
    assert all(len(lists) == 1 for lists in tasks.values())
    names = [name for lists in tasks.values() for one in lists for name in one]
    assert len(names) == len(set(names)) == 3 * 8


# --- interruptions -------------------------------------------------------------------------------


@pytest.mark.usefixtures("_no_sync")
def test_a_driver_killed_after_every_single_row_ends_with_the_same_records(
    whole: Path, tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text(small())
    session.create(tmp_path / "s.yaml", out=tmp_path / "run")
    killed = 0
    while True:
        try:
            with killed_after(1):
                inline_resume(tmp_path / "run")
        except Killed:
            killed += 1
        else:
            break
    rows = rows_of(tmp_path / "run")
    assert killed == len(rows)
    assert lasting(rows) == lasting(rows_of(whole))
    assert scored_once(rows)
    assert ledger(tmp_path / "run") == ledger(whole)
    assert (tmp_path / "run" / "method.yaml").read_text() == (whole / "method.yaml").read_text()


@pytest.mark.usefixtures("_no_sync")
def test_a_log_that_ends_anywhere_leads_to_the_same_records(whole: Path, tmp_path: Path) -> None:
    rows = rows_of(whole)
    # Trials have up to five rows, so that all kinds of rows are cut off somewhere.
    for kept in range(0, len(rows), 6):
        copy = cut_copy(whole, tmp_path / str(kept) / "run", rows, kept)
        inline_resume(copy)
        found = rows_of(copy)
        assert lasting(found) == lasting(rows), f"cut after {kept} rows"
        assert scored_once(found), f"cut after {kept} rows"
        assert ledger(copy) == ledger(whole), f"cut after {kept} rows"
        assert (copy / "method.yaml").read_text() == (whole / "method.yaml").read_text()
        shutil.rmtree(copy)


def cut_copy(run: Path, copy: Path, rows: list[Row], kept: int) -> Path:
    """The run as a driver leaves it that died within row ``kept`` + 1; checkpoints are ahead."""
    shutil.copytree(run, copy)
    (copy / "study.log").unlink()
    (copy / "method.yaml").unlink()
    (log,) = (copy / "records").glob("log-*.jsonl")
    lines = [to_line(row) for row in rows]
    log.write_bytes(b"".join(lines[:kept]) + lines[kept][:-7])
    return copy


def test_what_could_not_be_written_down_is_told_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Log.append

    def append_while_there_is_room(log: Log, *rows: Row) -> None:
        if any(isinstance(row, Scored) and row.rung == 2 for row in rows):
            raise RunError("the disk is full")
        append(log, *rows)

    monkeypatch.setattr(Log, "append", append_while_there_is_room)
    with pytest.raises(RunError, match="the disk is full"):
        inline_run(small(), tmp_path / "run")
    (told,) = study_of(tmp_path / "run").trials
    assert (told.state.name, told.intermediate_values) == ("RUNNING", {1: 0.0})
    assert [type(row) for row in rows_of(tmp_path / "run")] == [Asked, Scored]


def test_lost_checkpoints_are_made_again_and_change_no_score(whole: Path, tmp_path: Path) -> None:
    rows = rows_of(whole)
    middle = next(i for i, row in enumerate(rows) if isinstance(row, Scored) and row.rung == 2)
    copy = cut_copy(whole, tmp_path / "run", rows, middle + 1)
    shutil.rmtree(copy / "trials")
    inline_resume(copy)
    assert lasting(rows_of(copy)) == lasting(rows)


def test_a_finished_run_is_resumed_without_work(whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / whole.name)
    runner = InlineRunner()
    inline_resume(copy, runner=runner)
    assert runner.jobs == []
    assert rows_of(copy) == rows_of(whole)


def test_a_driver_whose_lease_went_to_another_stops_and_records_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = 0

    def check(lease: object) -> None:
        nonlocal checks
        checks += 1
        if checks > 4:
            raise RunError("the lease went to another")

    monkeypatch.setattr("metatune.records.lease.Lease.check", check)
    with pytest.raises(RunError, match="went to another"):
        inline_run(small(), tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert sum(isinstance(row, Scored) for row in rows) < 5
    assert not any(isinstance(row, Looked) for row in rows)


# --- strategies that come to nothing -------------------------------------------------------------

HOPELESS = {
    "inner": "{name: lost, preset: fomaml, inner: {steps: 9, lr: 1.0e9}}",
    "outer": "{name: lost, preset: fomaml, outer: {lr: 1.0e9}}",
    "raises": "{name: lost, backbone: {kind: mlp, width: 1, depth: 16}, inner: {kind: none}, "
    "head: {kind: ridge, penalty: 1.0e-60}, meta: {rule: first_order}}",
}


@pytest.mark.parametrize("kind", HOPELESS)
def test_a_default_that_comes_to_nothing_ends_the_run_with_a_sentence(
    kind: str, tmp_path: Path
) -> None:
    text = small().replace("default: fomaml", "default: lost")
    text = text.replace("  - fomaml\n", f"  - fomaml\n  - {HOPELESS[kind]}\n")
    state = "failed" if kind == "raises" else "diverged"
    with pytest.raises(RunError) as error:
        inline_run(text, tmp_path / "run")
    assert f"the default strategy lost {state}, so nothing can be compared with it: " in str(
        error.value
    )
    assert "\n" not in str(error.value)
    kept = rows_of(tmp_path / "run")
    assert [type(row) for row in kept] == [Asked, Ended]
    assert kept[1].state == state  # type: ignore[union-attr]

    runner = InlineRunner()  # nothing is gained by going on, and resuming says so again
    with pytest.raises(RunError, match=f"the default strategy lost {state}"):
        inline_resume(tmp_path / "run", runner=runner)
    assert runner.jobs == []
    assert rows_of(tmp_path / "run") == kept


def test_a_strategy_that_diverges_is_recorded_with_its_step_and_the_run_goes_on(
    finished: Path,
) -> None:
    wild = metatune.read_run(finished).trials.query("name == 'wild'").iloc[0]
    assert wild["state"] == "diverged"
    assert "not finite at meta-step 0" in wild["reason"]
    assert (finished / "method.yaml").exists()


def test_a_strategy_that_raises_is_recorded_with_its_traceback_and_the_run_goes_on(
    finished: Path,
) -> None:
    singular = metatune.read_run(finished).trials.query("name == 'singular'").iloc[0]
    assert singular["state"] == "failed"
    assert singular["reason"].startswith("Traceback (most recent call last)")
    assert "in ridge" in singular["reason"]
    assert "singular" in singular["reason"].splitlines()[-1]


def test_proposals_that_diverge_or_raise_are_recorded_and_the_run_goes_on(tmp_path: Path) -> None:
    text = small().replace("steps: {int: [1, 3], limits: [1, 9]}", "steps: 9")
    text = text.replace("lr: {float: [0.001, 0.1], log: true, limits: [1.0e-4, 1.0e9]}", "lr: 1e9")
    text = text.replace("head: {kind: ridge, penalty: {float: [0.001, 10.0], log: true}}", BROKEN)
    text = text.replace("trials: 7", "trials: 11")
    run = metatune.read_run(inline_run(text, tmp_path / "run"))
    proposed = run.trials.query("origin == 'proposed'")
    states = {"sgd-all/first_order": set(), "none/first_order": set()}
    for structure, state in zip(proposed["structure"], proposed["state"], strict=True):
        states.setdefault(structure.split("/", 2)[2], set()).add(state)
    assert states["sgd-all/first_order"] == {"diverged"}
    assert states["none/first_order"] == {"failed"}
    assert len(run.verdicts) == 1


BROKEN = "backbone: {width: 1, depth: 16}\n      head: {kind: ridge, penalty: 1.0e-60}"


# --- workers that are lost -----------------------------------------------------------------------


def test_a_lost_worker_fails_its_trial_and_the_run_goes_on(tmp_path: Path) -> None:
    runner = InlineRunner(lost=lambda job: job.trial == "r1-0005")
    run = metatune.read_run(inline_run(small(), tmp_path / "run", runner=runner))
    assert run.trials.loc["r1-0005", ["state", "reason"]].to_list() == [
        "failed",
        "lost 3 times, the last time: the worker was lost: OOM",
    ]
    assert run.trials.loc["r1-0006", "state"] != "running"
    assert len(run.verdicts) == 1


def test_a_training_lost_at_the_verdict_leaves_the_others_to_count(tmp_path: Path) -> None:
    text = small().replace("seeds: 1", "seeds: 2")
    runner = InlineRunner(lost=lambda job: job.replica == 2)
    run = metatune.read_run(inline_run(text, tmp_path / "run", runner=runner))
    assert set(run.scores.query("split == 'test'")["replica"]) == {1}
    assert "1 training each" in run.verdicts.iloc[0]["sentence"]
    assert set(run.trials["state"]) <= {"completed", "stopped", "diverged", "failed"}
    lost = [r for r in rows_of(tmp_path / "run") if isinstance(r, Ended) and r.replica == 2]
    assert {row.state for row in lost} == {"failed"}


def test_a_default_lost_at_the_verdict_is_told_in_a_sentence(tmp_path: Path) -> None:
    runner = InlineRunner(lost=lambda job: (job.trial, job.replica) == ("r1-0000", 1))
    with pytest.raises(RunError) as error:
        inline_run(small(), tmp_path / "run", runner=runner)
    assert str(error.value) == (
        "the default strategy fomaml could not be trained anew for the verdict: "
        "failed: lost 3 times, the last time: the worker was lost: OOM"
    )
    assert metatune.read_run(tmp_path / "run").verdicts.empty


# --- the budget ----------------------------------------------------------------------------------


def test_with_no_time_left_what_was_named_is_tried_and_the_verdict_given(tmp_path: Path) -> None:
    text = small().replace("{trials: 7}", "{trials: 50, minutes: 1.0e-6}")
    run = metatune.read_run(inline_run(text, tmp_path / "run"))
    assert run.trials["name"].to_list() == ["fomaml", "wild", "singular", "maml", "scratch"]
    assert len(run.verdicts) == 1


def test_fewer_trials_than_named_strategies_still_tries_all_named(tmp_path: Path) -> None:
    run = metatune.read_run(inline_run(small(), tmp_path / "run", trials=1))
    assert run.trials["name"].to_list() == ["fomaml", "wild", "singular", "maml", "scratch"]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_run_uses_its_core_seconds_almost_up_and_stays_within_them(
    seed: int, tmp_path: Path
) -> None:
    runner = InlineRunner(clock=by_resource)
    run = inline_run(LIMITED, tmp_path / "run", seed=seed, runner=runner)
    history = History(-1, rows_of(run))
    assert 0.95 * 900 < core_seconds(history) <= 900


LIMITED = SPACE.replace("{trials: 9}", "{trials: 300, core_seconds: 900}").replace(
    "seeds: 2, best_seeds: 1", "seeds: 2"
)


# --- ensembles -----------------------------------------------------------------------------------

BLENDED = (
    small()
    .replace("verdict: {seeds: 1, best_seeds: 1", "verdict: {seeds: 1, best_seeds: 2, ensemble: 3")
    .replace("tasks: {select: 8", "tasks: {select: 20")
)


@pytest.fixture(scope="module")
def with_ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which an ensemble competes."""
    return inline_run(BLENDED, tmp_path_factory.mktemp("blended") / "run")


def test_an_ensemble_stands_in_the_records_and_frames_with_its_members(with_ensemble: Path) -> None:
    run = metatune.read_run(with_ensemble)
    found = run.trials.query("origin == 'ensemble'")
    (own, other) = (row for _, row in found.iterrows())
    count = len(own["members"])
    assert list(found.index) == ["r1-e0", "r1-e1"]
    assert own["name"] == "ensemble"
    assert 2 <= count <= 3
    assert set(own["members"]) <= set(run.looks.iloc[0]["trials"])
    assert other["name"] == f"{run.trials.loc[other['members'][0], 'name']} x {count}"
    assert other["members"] == other["members"][:1] * count
    assert set(found["state"]) == {"completed"}
    assert run.trials.query("origin != 'ensemble'")["members"].map(len).eq(0).all()
    assert len(run.trials) == 7 + 2  # beside the trials that were asked for
    assert [list(look) for look in run.looks["trials"]][1] == ["r1-e0"]
    assert run.looks.iloc[2]["trials"][-2:] == ["r1-e0", "r1-e1"]
    assert {name for name, _, _ in ledger(with_ensemble)} == {f"r1-000{i}" for i in range(7)}


def test_it_costs_what_its_members_cost(with_ensemble: Path) -> None:
    run = metatune.read_run(with_ensemble)
    test = run.curves.query("split == 'test' and replica == 1").set_index("trial")
    members = run.trials.loc["r1-e0", "members"]
    for column in ("train_seconds", "score_seconds", "resource"):
        assert test.loc["r1-e0", column] == pytest.approx(test.loc[members, column].sum())


def test_its_members_are_trained_anew_and_nothing_is_trained_for_it(with_ensemble: Path) -> None:
    rows = rows_of(with_ensemble)
    history = History(-1, rows)
    count = len(history.ensembles["r1-e0"].asked.members)
    rival = history.trials[history.ensembles["r1-e1"].asked.members[0]]
    assert len(rival.trainings) == max(2, count)
    assert not (with_ensemble / "trials" / "r1-e0").exists()
    assert scored_once(rows)
    assert len(history.ensembles["r1-e1"].trainings) == len(rival.trainings) // count


@pytest.mark.usefixtures("_no_sync")
@pytest.mark.long
def test_a_verdict_with_an_ensemble_is_the_same_after_any_interruption(
    with_ensemble: Path, tmp_path: Path
) -> None:
    rows = rows_of(with_ensemble)
    turned = next(i for i, row in enumerate(rows) if isinstance(row, Turned))
    for kept in range(turned, len(rows)):
        copy = cut_copy(with_ensemble, tmp_path / str(kept) / "run", rows, kept)
        inline_resume(copy)
        assert lasting(rows_of(copy)) == lasting(rows), f"cut after {kept} rows"
        assert ledger(copy) == ledger(with_ensemble), f"cut after {kept} rows"
        shutil.rmtree(copy)


def test_a_member_lost_at_the_verdict_leaves_the_ensemble_out_and_the_run_goes_on(
    with_ensemble: Path, tmp_path: Path
) -> None:
    lost = metatune.read_run(with_ensemble).trials.loc["r1-e0", "members"][0]
    runner = InlineRunner(lost=lambda job: job.trial == lost and job.replica > 0)
    run = metatune.read_run(inline_run(BLENDED, tmp_path / "run", runner=runner))
    assert "is left out: none of its blends is whole" in run.verdicts.iloc[0]["sentence"]


# --- rounds --------------------------------------------------------------------------------------

TWO_ROUNDS = (
    small()
    .replace("rounds: {count: 1}", "rounds: {count: 2, growth: 2}")
    .replace("trials: 7", "trials: 12")
)


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds."""
    return inline_run(TWO_ROUNDS, tmp_path_factory.mktemp("two") / "run")


def of_round(rows: list[Row], round_: int) -> list[Row]:
    return [row for row in rows if getattr(row, "round", None) == round_ or trial_of(row, round_)]


def trial_of(row: Row, round_: int) -> bool:
    return str(getattr(row, "trial", "")).startswith(f"r{round_}-")


def test_two_rounds_in_one_run_are_two_runs_of_one_round(two_rounds: Path, tmp_path: Path) -> None:
    one = TWO_ROUNDS.replace("count: 2", "count: 1").replace("trials: 12", "trials: 6")
    first = inline_run(one, tmp_path / "first")
    second = inline_run((first / "method.yaml").read_text(), tmp_path / "second")
    whole = rows_of(two_rounds)
    until_verdict = [r for r in rows_of(first) if not on_test(r)]
    assert lasting(until_verdict) == lasting([r for r in of_round(whole, 1) if not on_test(r)])
    found, expected = lasting(of_round(rows_of(second), 2)), lasting(of_round(whole, 2))
    # The chain opened test once before, which the method says from then on.
    assert [{**row, "method": None} for row in found] == [
        {**row, "method": None} for row in expected
    ]
    methods = [load_space(run / "method.yaml").method for run in (two_rounds, second)]
    assert methods[0].model_copy(update={"tested": (1, 2)}) == methods[1]
    verdicts = [row for row in (whole[-1], rows_of(second)[-1]) if isinstance(row, Concluded)]
    assert verdicts[1].sentence.startswith(verdicts[0].sentence)
    assert verdicts[1].sentence.endswith(
        "Test was opened before, after round 1: these tasks are not fresh"
    )


def on_test(row: Row) -> bool:
    return isinstance(row, Concluded) or getattr(row, "split", "") == "test"


def test_a_further_round_tries_what_has_led_on_fresh_tasks_with_more_resource(
    two_rounds: Path,
) -> None:
    run = metatune.read_run(two_rounds)
    first, second = (run.trials.query(f"round == {r}") for r in (1, 2))
    assert set(run.rounds.iloc[0]["incumbents"]) <= set(first.index)
    led = set(run.trials.loc[run.rounds.iloc[0]["incumbents"], "digest"])
    assert led <= set(second["digest"])
    assert second["origin"].iloc[0] == "default"
    full = run.curves.query("split == 'select' and rung == 3").groupby("round")["resource"].max()
    assert full[1] <= 1800 < full[2] <= 3600
    tasks = (
        run.scores.query("replica == 0").groupby(["split", "round"], observed=True)["task"].unique()
    )
    assert not set(tasks["select", 1]) & set(tasks["select", 2])
    assert not set(tasks["confirm", 1]) & set(tasks["confirm", 2])


@pytest.mark.usefixtures("_no_sync")
def test_a_run_killed_in_any_round_ends_with_the_same_records(
    two_rounds: Path, tmp_path: Path
) -> None:
    rows = rows_of(two_rounds)
    for kept in range(0, len(rows), 11):
        copy = cut_copy(two_rounds, tmp_path / str(kept) / "run", rows, kept)
        inline_resume(copy)
        assert lasting(rows_of(copy)) == lasting(rows), f"cut after {kept} rows"
        assert (copy / "method.yaml").read_text() == (two_rounds / "method.yaml").read_text()
        shutil.rmtree(copy)


def test_a_round_whose_gain_is_not_borne_out_is_the_last(tmp_path: Path) -> None:
    text = TWO_ROUNDS.replace("count: 2", "count: 4").replace("trials: 12", "trials: 24")
    run = metatune.read_run(inline_run(text, tmp_path / "run"))
    assert list(run.rounds["borne_out"]) == [True, False]
    assert run.trials["round"].max() == 2
    assert len(run.verdicts) == 1


# --- several objectives --------------------------------------------------------------------------

TRADED_TWICE = TRADE_OFF.replace("rounds: {count: 1}", "rounds: {count: 2}").replace(
    "trials: 12", "trials: 20"
)


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds, judged by score and seconds."""
    return inline_run(
        TRADED_TWICE, tmp_path_factory.mktemp("trd") / "run", runner=InlineRunner(clock=by_steps)
    )


def test_two_rounds_of_two_objectives_are_two_runs_of_one_round(
    traded: Path, tmp_path: Path
) -> None:
    one = TRADED_TWICE.replace("count: 2", "count: 1").replace("trials: 20", "trials: 10")
    first = inline_run(one, tmp_path / "first", runner=InlineRunner(clock=by_steps))
    text = (first / "method.yaml").read_text()
    assert "adapt_seconds" in text.partition("evidence:")[2]
    second = inline_run(text, tmp_path / "second", runner=InlineRunner(clock=by_steps))
    found = lasting(of_round(rows_of(second), 2))
    expected = lasting(of_round(rows_of(traded), 2))
    assert [{**row, "method": None} for row in found] == [
        {**row, "method": None} for row in expected
    ]


@pytest.mark.usefixtures("_no_sync")
@pytest.mark.long
def test_a_run_of_two_objectives_that_was_killed_ends_with_the_same_records(
    traded: Path, tmp_path: Path
) -> None:
    rows = rows_of(traded)
    for kept in range(0, len(rows), 13):
        copy = cut_copy(traded, tmp_path / str(kept) / "run", rows, kept)
        inline_resume(copy, runner=InlineRunner(clock=by_steps))
        assert lasting(rows_of(copy)) == lasting(rows), f"cut after {kept} rows"
        assert (copy / "method.yaml").read_text() == (traded / "method.yaml").read_text()
        told = [[(t.state, t.values) for t in study_of(run).trials] for run in (copy, traded)]
        assert told[0] == told[1]
        shutil.rmtree(copy)
