"""The search: what is asked in which order, what Optuna is told, who is stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import GROUPS, TWO, Story, family, kind_of, plan_of, prototypes
from handmade import SPACE as BY_HAND
from inline_runner import (
    SPACE,
    TRADE_OFF,
    InlineRunner,
    by_steps,
    inline_run,
    rows_of,
    study_of,
)

import metatune
from metatune.errors import RunError
from metatune.jobs import RungResult, TrialJob
from metatune.observations import Observation
from metatune.proposer import propose
from metatune.records.rows import Asked, Ended, Scored
from metatune.search import FIRST, Search, spent, why_hopeless
from metatune.space import KnobTree, Method, Seen
from metatune.space.knobs import Params
from metatune.strategy import Meta


def result(job: TrialJob, rung: int, score: float = 0.5, outcome: str = "running") -> RungResult:
    lost = outcome in ("diverged", "failed")
    return RungResult(
        rung=rung,
        outcome=outcome,  # type: ignore[arg-type]
        reason="boom" if lost else "",
        resource=100,
        train_seconds=2.0 * rung,
        score_seconds=0.25,
        train_loss=0.1,
        tasks=() if lost else tuple(f"select-{t}" for t in range(16)),
        groups=() if lost else tuple("abcdefgh"[t % 8] for t in range(16)),
        scores=() if lost else (score,) * 16,
        transductive=False,
    )


def next_of(search: Search) -> TrialJob:
    job = search.next_job()
    assert job is not None
    return job


# --- what is asked -------------------------------------------------------------------------------


def test_named_strategies_are_asked_first_with_their_roles_and_then_proposals(
    finished: Path,
) -> None:
    trials = metatune.read_run(finished).trials
    assert list(zip(trials["name"], trials["origin"], strict=True)) == [
        ("fomaml", "default"),
        ("wild", "initial"),
        ("singular", "initial"),
        ("maml", "preset"),
        ("scratch", "baseline"),
        *((f"proposed-1-{number}", "proposed") for number in range(5, 9)),
    ]


def test_a_trial_inside_the_space_has_its_knobs_recorded_and_one_outside_has_none(
    finished: Path,
) -> None:
    params = metatune.read_run(finished).trials.set_index("name")["params"]
    assert json.loads(params["maml"]) == {
        "choose": "gradient",
        "choose.gradient.inner.steps": 1,
        "choose.gradient.inner.lr": 0.01,
        "choose.gradient.meta.rule": "second_order",
        "outer.lr": 0.001,
        "outer.tasks_per_batch": 4,
    }
    assert params[["singular", "scratch"]].isna().all()


def test_a_proposal_is_the_strategy_that_its_knobs_make(finished: Path) -> None:
    proposed = metatune.read_run(finished).trials.query("origin == 'proposed'")
    assert len(proposed) == 4
    for _, trial in proposed.iterrows():
        params, strategy = json.loads(trial["params"]), json.loads(trial["strategy"])
        assert strategy["outer"]["lr"] == params["outer.lr"]
        assert strategy["outer"]["tasks_per_batch"] == params["outer.tasks_per_batch"]
        assert strategy["head"]["kind"] == {"ridge": "ridge"}.get(params["choose"], "linear")
        assert strategy["backbone"]["width"] == 8
        assert 1e-3 <= params["outer.lr"] <= 1e-2  # the range, inside its wider limits
        assert 2 <= params["outer.tasks_per_batch"] <= 4


def test_a_decision_is_recorded_before_its_job_is_given_out() -> None:
    story = Story()
    search = Search(story.driver(), Method())
    assert story.rows == []
    job = next_of(search)
    (asked,) = kind_of(story.rows, Asked)
    assert (asked.trial, asked.name) == (job.trial, "protonet")
    assert (job.split, job.recorded, job.replica, job.train) == ("select", 0, 0, True)


def test_the_search_is_over_when_the_budget_is_asked_and_nothing_runs() -> None:
    story = Story(plan_of(BY_HAND.replace("trials: 20", "trials: 4")))
    search = Search(story.driver(), Method())
    jobs = [next_of(search) for _ in range(4)]
    assert len({job.trial for job in jobs}) == 4
    assert search.next_job() is None
    for job in jobs:
        assert not search.exhausted
        for rung in (1, 2, 3):
            if not search.on_result(job, result(job, rung)):
                break
    assert search.exhausted


def test_without_the_default_the_search_is_refused() -> None:
    story = Story()
    job = next_of(search := Search(story.driver(), Method()))
    with pytest.raises(RunError, match="default strategy protonet failed"):
        search.on_lost(job, "the worker was lost")
    assert kind_of(story.rows, Ended)[-1].reason == "the worker was lost"
    with pytest.raises(RunError, match="default strategy protonet failed"):
        Search(story.driver(), Method())


def test_a_lost_worker_fails_its_trial_with_the_reason() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    job = next_of(search := Search(story.driver(), Method()))
    search.on_lost(job, "the worker was lost: OOM")
    end = story.rows[-1]
    assert isinstance(end, Ended)
    assert (end.trial, end.state, end.reason) == (job.trial, "failed", "the worker was lost: OOM")


FINITE = (
    SPACE.partition("strategy:")[0].replace("trials: 9", "trials: 13")
    + """\
strategy:
  head: {kind: linear, start: learned}
  inner: {kind: sgd, scope: all, steps: {choice: [1, 2, 3]}, lr: 0.01}
  meta: {rule: {choice: [first_order, second_order]}}
  outer: {kind: adam, schedule: constant, lr: 1.0e-3, tasks_per_batch: 4}
verdict: {seeds: 1, best_seeds: 1, finalists: 2, presets: [maml], baselines: []}
"""
)
"""Six strategies, of which the default and the preset are two."""


@pytest.fixture(scope="module")
def exhausted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 13 trials in a space of six strategies."""
    text = FINITE.replace("full: 1800", "full: 900")
    return inline_run(text, tmp_path_factory.mktemp("finite") / "run")


def test_nothing_is_tried_twice_while_something_was_not_tried(exhausted: Path) -> None:
    trials = metatune.read_run(exhausted).trials
    inside = trials[trials["params"].notna() & (trials["name"] != "wild")]
    first_six = inside["digest"].head(6)
    assert first_six.nunique() == 6
    assert inside["digest"].nunique() == 6


def test_a_space_that_is_tried_out_is_tried_again_up_to_the_budget(exhausted: Path) -> None:
    run = metatune.read_run(exhausted)
    assert len(run.trials) == 13
    assert len(run.verdicts) == 1
    entrants = run.trials.loc[run.looks.iloc[-1]["trials"]]
    assert entrants["digest"].is_unique
    assert {"fomaml", "maml"} <= set(entrants["name"])


# --- what Optuna is told -------------------------------------------------------------------------


def gains_by_hand(run: metatune.Run, trial: str, rung: int, at: int) -> float:
    """Mean paired difference to the default, whose errors are those of rung ``at``."""
    select = run.scores.query("split == 'select' and replica == 0")

    def errors(who: str, where: int) -> dict[str, float]:
        own = select[(select["trial"] == who) & (select["rung"] == where)]
        return dict(zip(own["task"], own["score"], strict=True))

    own, default = errors(trial, rung), errors("r1-0000", at)
    assert own.keys() == default.keys()
    return float(np.mean([default[task] - own[task] for task in own]))  # of errors: lower is better


def test_a_completed_trial_is_told_with_its_gain_over_the_completed_default(
    finished: Path,
) -> None:
    run = metatune.read_run(finished)
    told = {t.user_attrs["trial"]: t for t in study_of(finished).trials}
    completed = run.trials.query("state == 'completed'")
    assert len(completed) >= 4
    for trial, row in completed.iterrows():
        expected = gains_by_hand(run, str(trial), int(row["rung"]), at=3)
        assert told[str(trial)].value == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert told["r1-0000"].value == 0
    assert completed.loc["r1-0004", "rung"] == 1  # the baseline: no training, against rung 3
    assert gains_by_hand(run, "r1-0004", 1, at=1) != gains_by_hand(run, "r1-0004", 1, at=3)


def test_trials_that_end_before_the_default_are_told_once_it_was_there(tmp_path: Path) -> None:
    path = inline_run(SPACE, tmp_path / "run", runner=InlineRunner(workers=3))
    run = metatune.read_run(path)
    ends = [row.trial for row in rows_of(path) if isinstance(row, Ended) and not row.replica]
    assert ends.index("r1-0000") > 5
    for trial in study_of(path).trials:
        name = trial.user_attrs["trial"]
        state, rung = run.trials.loc[name, ["state", "rung"]]
        if state == "completed":
            expected = gains_by_hand(run, name, int(rung), at=3)
            assert trial.value == pytest.approx(expected, rel=1e-12, abs=1e-12)
        elif state == "stopped":
            expected = gains_by_hand(run, name, int(rung), at=int(rung))
            assert trial.intermediate_values[int(rung)] == pytest.approx(expected, rel=1e-12)
            assert trial.state.name == "PRUNED"
        else:
            assert trial.state.name == "FAIL"
    assert len(run.verdicts) == 1


def test_each_rung_on_the_way_is_told_with_the_gain_over_the_default_at_that_rung(
    finished: Path,
) -> None:
    run = metatune.read_run(finished)
    found = 0
    for trial in study_of(finished).trials:
        name = trial.user_attrs["trial"]
        for rung, value in trial.intermediate_values.items():
            if run.trials.loc[name, "state"] == "completed" and rung == max(
                trial.intermediate_values
            ):
                continue  # told above
            expected = gains_by_hand(run, name, rung, at=rung)
            assert value == pytest.approx(expected, rel=1e-12, abs=1e-12)
            found += 1
    assert found >= 6


def test_a_stopped_trial_is_pruned_with_what_it_had_reached(finished: Path) -> None:
    run = metatune.read_run(finished)
    told = {t.user_attrs["trial"]: t for t in study_of(finished).trials}
    stopped = run.trials.query("state == 'stopped'")
    assert len(stopped)
    for trial, row in stopped.iterrows():
        rung = int(row["rung"])
        assert rung < 3
        assert told[str(trial)].state.name == "PRUNED"
        assert sorted(told[str(trial)].intermediate_values) == list(range(1, rung + 1))


def test_records_and_study_agree_on_every_trials_state(finished: Path) -> None:
    names = {"completed": "COMPLETE", "stopped": "PRUNED", "diverged": "FAIL", "failed": "FAIL"}
    run = metatune.read_run(finished)
    told = {t.user_attrs["trial"]: t for t in study_of(finished).trials}
    assert list(told) == list(run.trials.index)
    for trial, row in run.trials.iterrows():
        assert told[str(trial)].state.name == names[row["state"]]
        assert told[str(trial)].user_attrs["state"] == row["state"]
        assert told[str(trial)].user_attrs["name"] == row["name"]
        assert told[str(trial)].user_attrs["reason"] == row["reason"][-2000:]  # a traceback's end
    assert {t.state.name for t in told.values()} == {"COMPLETE", "PRUNED", "FAIL"}


def test_the_study_holds_the_knobs_that_were_recorded(finished: Path) -> None:
    trials = metatune.read_run(finished).trials
    for trial in study_of(finished).trials:
        params = trials.loc[trial.user_attrs["trial"], "params"]
        assert trial.params == (json.loads(params) if isinstance(params, str) else {})


# --- who goes on ---------------------------------------------------------------------------------


def test_a_trial_that_falls_behind_is_stopped_and_told_against_how_many() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("r2d2", 0.6, 0.6, 0.6)
    story.trial("nearest_neighbour", 0.3)
    search = Search(story.driver(), Method())
    job = next_of(search)
    assert search.on_result(job, result(job, 1, score=0.4)) is False
    end = story.rows[-1]
    assert isinstance(end, Ended)
    assert (end.state, end.seconds) == ("stopped", 2.25)
    assert end.reason == "ranked 3 of 3 at its rung, 1 went on"


def test_a_baseline_that_is_done_at_the_first_rung_is_no_measure_for_who_has_only_begun() -> None:
    story = Story()
    story.trial("protonet", 0.3, 0.6, 0.8)
    story.trial("r2d2", 0.2, 0.6, 0.8)
    story.trial("nearest_neighbour", 0.7)
    search = Search(story.driver(), Method())
    job = next_of(search)
    assert search.on_result(job, result(job, 1, score=0.4)) is True


def test_a_trial_that_leads_goes_on_to_its_last_rung_and_is_completed() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("r2d2", 0.6, 0.6, 0.6)
    story.trial("nearest_neighbour", 0.3)
    search = Search(story.driver(), Method())
    job = next_of(search)
    went_on = [search.on_result(job, result(job, rung, score=0.9)) for rung in (1, 2, 3)]
    assert went_on == [True, True, False]
    end = story.rows[-1]
    assert isinstance(end, Ended)
    assert (end.state, end.reason, end.seconds) == ("completed", "", 6.75)


def test_who_meets_at_the_verdict_is_never_stopped_however_it_scores() -> None:
    story = Story()
    story.trial("protonet", 0.9, 0.9, 0.9)
    search = Search(story.driver(), Method())
    preset, baseline = next_of(search), next_of(search)
    assert [search.on_result(preset, result(preset, rung, 0.0)) for rung in (1, 2, 3)] == [
        True,
        True,
        False,
    ]
    assert search.on_result(baseline, result(baseline, 1, 0.0)) is False
    ends = kind_of(story.rows, Ended)
    assert [end.state for end in ends] == ["completed"] * 3


def test_in_a_whole_run_only_those_that_are_free_to_lose_are_stopped(tmp_path: Path) -> None:
    slow = "preset: fomaml, outer: {lr: 1.0e-3}, inner: {lr: 0.5}"
    text = SPACE.replace("  - fomaml\n", f"  - fomaml\n  - {{name: kept, {slow}}}\n")
    text = text.replace("  - {name: wild, preset: fomaml, inner: {steps: 9, lr: 1.0e9}}",
                        f"  - {{name: free, {slow.replace('0.5', '0.6')}}}")  # fmt: skip
    text = text.replace("presets: [maml]", "presets: [maml, kept]")
    run = metatune.read_run(inline_run(text, tmp_path / "run", trials=6))
    state = run.trials.set_index("name")["state"]
    assert state["kept"] == "completed"
    assert state["free"] == "stopped"
    assert (state[["fomaml", "maml", "scratch"]] == "completed").all()


def test_one_of_each_structure_passes_a_rung() -> None:
    story = Story()
    story.trial("protonet", 0.9, 0.9, 0.9)
    story.trial("r2d2", 0.8, 0.8, 0.8)
    story.trial("nearest_neighbour", 0.3)
    joint = [
        prototypes(scale).model_copy(update={"meta": Meta(rule="joint")}) for scale in (1.0, 2.0)
    ]
    first = story.trial("joint-1", 0.1, state=None, strategy=joint[0])
    second = story.trial("joint-2", state=None, strategy=joint[1])
    search = Search(story.driver(), Method())
    one, other = next_of(search), next_of(search)
    assert (one.trial, one.recorded) == (first, 1)
    assert other.trial == second
    assert search.on_result(other, result(other, 1, score=0.1)) is False
    assert [e.trial for e in kind_of(story.rows, Ended)[3:]] == [second]


# --- several objectives --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trade_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run judged by score and seconds, in which more steps are better and slower."""
    runner = InlineRunner(clock=by_steps)
    return inline_run(TRADE_OFF, tmp_path_factory.mktemp("trade") / "run", runner=runner)


def by_hand(run: metatune.Run) -> list[str]:
    """The front of a run's completed trials, the best first: a lower error, or fewer steps."""
    done = run.trials.query("state == 'completed'")
    points = {
        str(trial): (row["score"], row["score_seconds"] / 8) for trial, row in done.iterrows()
    }
    front = [
        trial
        for trial, own in points.items()
        if not any(
            other[0] <= own[0] and other[1] <= own[1] and other != own for other in points.values()
        )
    ]
    return sorted(front, key=lambda trial: points[trial])


def test_a_better_and_a_faster_strategy_both_come_through_and_what_is_neither_does_not(
    trade_off: Path, tmp_path: Path
) -> None:
    run = metatune.read_run(trade_off)
    state = run.trials.set_index("name")["state"]
    assert (state[["best", "good", "middle", "fastest"]] == "completed").all()
    assert state["dull"] == "stopped"  # as slow as the good one, and worse
    alone = TRADE_OFF.replace("objectives: [score, adapt_seconds]", "objectives: [score]")
    other = metatune.read_run(inline_run(alone, tmp_path / "run"))
    state = other.trials.set_index("name")["state"]
    assert (state[["best", "middle"]] == "completed").all()
    assert (state[["good", "fastest", "dull"]] == "stopped").all()


def test_the_front_of_a_round_is_recorded_best_first(trade_off: Path) -> None:
    run = metatune.read_run(trade_off)
    (front,) = run.rounds["front"]
    assert front == by_hand(run)
    names = list(run.trials.loc[front, "name"])
    assert (names[0], names[-1]) == ("best", "fastest")
    looked = run.trials.loc[run.looks.iloc[-1]["trials"], "name"]
    assert list(looked) == ["best", "fastest", "middle"]
    assert run.verdicts.iloc[0]["winner"] == front[0]


def test_optuna_finds_the_recorded_front_in_the_study(trade_off: Path) -> None:
    run, study = metatune.read_run(trade_off), study_of(trade_off)
    assert study.metric_names == ["gain", "adapt_seconds"]
    best = {trial.user_attrs["trial"] for trial in study.best_trials}
    assert best == set(run.rounds.iloc[0]["front"])
    middle = run.trials.loc["r1-0000"]
    for trial in study.trials:
        row = run.trials.loc[trial.user_attrs["trial"]]
        assert trial.intermediate_values == {}
        if row["state"] == "completed":
            ratio = row["score_seconds"] / middle["score_seconds"]
            assert trial.values[0] == pytest.approx(middle["score"] - row["score"])
            assert trial.values[1] == pytest.approx(np.log(ratio))
        else:
            assert (trial.state.name, trial.values) == ("PRUNED", None)


def heard(text: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the proposer is asked with, after a round before and some trials of this one."""
    told: dict[str, Any] = {}

    def listening(
        tree: KnobTree, observations: list[Observation], seed: int, **more: Any
    ) -> Params:
        told.update(more, observations=observations)
        return propose(tree, observations, seed, **more)

    monkeypatch.setattr("metatune.search.propose", listening)
    story = Story(plan_of(text))
    story.trial("protonet", 0.5, 0.5, 0.5, seconds=0.2)
    story.trial("r2d2", 0.6, 0.6, 0.6)
    story.trial("nearest_neighbour", 0.3)
    story.trial("fast", 0.4, 0.4, 0.4, seconds=0.1)
    for number in range(3):  # better than the fast one, and no slower than the default
        story.trial(f"t{number}", *[0.5 + number / 100] * 3, seconds=0.2)
    costs = {"adapt_seconds": ((1, -0.5),)}
    seen = Seen(params={"head.scale": 0.5}, state="stopped", gains=((1, 0.25),), costs=costs)
    next_of(Search(story.driver(), Method(evidence=(seen,))))
    return told


def test_the_proposer_hears_of_costs_in_this_round_and_in_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = heard(TWO, monkeypatch)
    assert told["costs"] == ("adapt_seconds",)
    before, default, fast = told["observations"][:3]
    assert before == Observation(
        {"head.scale": 0.5}, "stopped", {1: 0.25}, {"adapt_seconds": {1: -0.5}}
    )
    assert default.costs == {"adapt_seconds": {1: 0.0, 2: 0.0, 3: 0.0}}
    half = pytest.approx(float(np.log(0.5)))
    assert fast.costs == {"adapt_seconds": {1: half, 2: half, 3: half}}


def test_the_fastest_is_mutated_beside_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    both, alone = (heard(text, monkeypatch) for text in (TWO, BY_HAND))
    fast = both["observations"][2].params
    assert both["bases"][:2] == [both["observations"][5].params, fast]
    assert fast not in alone["bases"]
    assert alone["costs"] == ()
    assert all(o.costs == {} for o in alone["observations"][1:])


def looked_at(job: TrialJob, score: float, seconds: float, tasks: int = 12) -> RungResult:
    """A look at the first tasks of the first rung."""
    whole = result(job, 1, score)
    return replace(
        whole,
        whole=False,
        score_seconds=seconds * tasks,
        tasks=whole.tasks[:tasks],
        groups=whole.groups[:tasks],
        scores=tuple(score + 0.001 * (task % 3) for task in range(tasks)),
    )


@pytest.mark.parametrize(
    ("text", "seconds", "goes_on"),
    [(TWO, 0.5, True), (TWO, 1.0, False), (TWO, 2.0, False), (BY_HAND, 0.5, False)],
)
def test_with_costs_a_race_is_lost_to_a_leader_that_is_no_slower_only(
    text: str, seconds: float, goes_on: bool
) -> None:
    one_group = plan_of(text, family(GROUPS[:1]))
    story = Story(one_group, groups=GROUPS[:1])
    story.trial("protonet", 0.9, 0.9, 0.9, seconds=1.0)
    story.trial("r2d2", 0.2, 0.2, 0.2, seconds=0.1)  # faster, and no better
    story.trial("nearest_neighbour", 0.2, seconds=0.1)
    search = Search(story.driver(), Method())
    job = next_of(search)
    assert search.on_result(job, looked_at(job, 0.3, seconds)) is goes_on
    ends = [end for end in kind_of(story.rows, Ended) if end.trial == job.trial]
    assert [end.reason.partition(" by ")[0] for end in ends] == (
        [] if goes_on else ["behind the leader"]
    )


def test_nobody_races_a_baseline_that_is_done_at_the_first_rung() -> None:
    one_group = plan_of(BY_HAND, family(GROUPS[:1]))
    goes_on = []
    for baseline, presets in ((0.9, 0.2), (0.2, 0.9)):
        story = Story(one_group, groups=GROUPS[:1])
        story.trial("protonet", presets, 0.9, 0.9)
        story.trial("r2d2", 0.2, 0.2, 0.2)
        story.trial("nearest_neighbour", baseline)
        job = next_of(search := Search(story.driver(), Method()))
        goes_on.append(search.on_result(job, looked_at(job, 0.3, 0.5)))
    assert goes_on == [True, False]


# --- what comes back -----------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["diverged", "failed"])
def test_a_trial_that_is_lost_after_a_rung_keeps_its_scores_and_its_seconds(outcome: str) -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    search = Search(story.driver(), Method())
    job = next_of(search)
    assert search.on_result(job, result(job, 1)) is True
    assert search.on_result(job, result(job, 2, outcome=outcome)) is False
    end = story.rows[-1]
    assert isinstance(end, Ended)
    assert (end.state, end.reason, end.seconds) == (outcome, "boom", 2.25)
    assert [row.rung for row in kind_of(story.rows, Scored) if row.trial == job.trial] == [1]


def test_what_was_learned_of_knobs_is_recorded_with_the_rung() -> None:
    story = Story()
    search = Search(story.driver(), Method())
    job = next_of(search)
    learned = {"head.scale": 2.5}
    search.on_result(job, replace(result(job, 1), learned=learned))
    (row,) = kind_of(story.rows, Scored)
    assert row.learned == learned


def test_seconds_are_those_of_all_training_and_of_scoring_at_every_rung() -> None:
    story = Story()
    trial = story.trial("protonet", 0.5, 0.5, 0.5)
    assert spent(story.driver().history.trials[trial]) == pytest.approx(3.0 + 3 * 0.16)


def test_trials_left_behind_go_on_first_in_the_order_of_their_asking() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("r2d2", 0.6, state=None)
    story.trial("nearest_neighbour", 0.3)
    story.trial("never-started", state=None)
    search = Search(story.driver(), Method())
    assert [(job.trial, job.recorded) for job in (next_of(search), next_of(search))] == [
        ("r1-0001", 1),
        ("r1-0003", 0),
    ]
    assert next_of(search).trial == "r1-0004"


def test_a_decision_that_was_lost_with_its_driver_is_taken_again() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("r2d2", 0.6, 0.6, 0.6, state=None)  # had completed
    story.trial("nearest_neighbour", 0.3)
    story.trial("behind", 0.1, state=None)  # had been stopped
    Search(story.driver(), Method())
    assert [(e.trial, e.state) for e in kind_of(story.rows, Ended)[-2:]] == [
        ("r1-0001", "completed"),
        ("r1-0003", "stopped"),
    ]


# --- failures from the start ----------------------------------------------------------------------

TRACE = """Traceback (most recent call last):
  File "net.py", line 7, in forward
ValueError: no such unit
"""


def failed(count: int, reason: str = TRACE) -> list[Ended]:
    return [Ended(f"r1-{number:04d}", "failed", reason, 0.0) for number in range(count)]


def test_when_the_first_trials_all_fail_the_common_reason_is_told_with_its_place() -> None:
    why = why_hopeless([*failed(1, "killed"), *failed(FIRST)[1:]])
    assert why == (
        "the first 5 trials all failed, 4 of them with: ValueError: no such unit (such as r1-0001, "
        'File "net.py", line 7, in forward). The records stand: once the cause is gone, resume.'
    )


def test_there_is_hope_before_and_after_the_first_trials_and_where_one_did_not_fail() -> None:
    diverged = Ended("r1-0009", "diverged", "at step 3", 0.0)
    assert why_hopeless([]) is None
    assert why_hopeless(failed(FIRST - 1)) is None
    assert why_hopeless([*failed(FIRST - 1), diverged]) is None
    assert why_hopeless([*failed(FIRST), diverged]) is None


def test_a_search_stops_at_its_first_failures_and_a_resumed_one_counts_anew() -> None:
    told = Story()
    told.trial("protonet", 0.5, 0.5, 0.5)

    def fail(search: Search) -> None:
        job = next_of(search)
        search.on_result(job, result(job, 1, outcome="failed"))

    for _ in range(2):
        search = Search(told.driver(), Method())
        for _ in range(FIRST - 1):
            fail(search)
        with pytest.raises(RunError, match="the first 5 trials all failed, 5 of them with: boom"):
            fail(search)
    assert len(kind_of(told.rows, Ended)) == 1 + 2 * FIRST
