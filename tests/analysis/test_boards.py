"""Questions to a run: leaderboard and verdict table equal what numpy gets from the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from handmade import GROUPS, SPACE, TASKS, TWO, Story, family, plan_of
from inline_runner import rows_of
from scipy import stats

import metatune
from metatune.analysis.boards import SELECT_COLUMNS, leaderboard, pareto
from metatune.analysis.verdicts import TEST_COLUMNS, verdict_table
from metatune.records.folding import tables
from metatune.records.reading import Run
from metatune.records.rows import Asked, Concluded, Ended, Scored
from metatune.statistics import holm, mean_ranks, sign_flip_p


def interval(
    units: Sequence[float], trainings: Sequence[Sequence[float]] = ()
) -> tuple[float, float, float]:
    """Mean and 95 % t interval of some units, with Welch's degrees of freedom for trainings."""
    samples = [np.asarray(sample, dtype=float) for sample in (units, *trainings)]
    errors = np.array([sample.var(ddof=1) / len(sample) for sample in samples])
    freedom = errors.sum() ** 2 / sum(errors**2 / [len(sample) - 1 for sample in samples])
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(errors.sum())
    mean = float(samples[0].mean())
    return mean, float(mean - reach), float(mean + reach)


def found(row: pd.Series, label: str) -> tuple[float, float, float]:
    """A mean with its interval, from a row of a table."""
    prefix = "" if label == "score" else f"{label}_"
    return row[label], row[f"{prefix}low"], row[f"{prefix}high"]


def scores_of(run: Run, split: str, trial: object, rung: int, replica: int = 0) -> list[float]:
    own = run.scores.query(
        "split == @split and trial == @trial and rung == @rung and replica == @replica"
    )
    assert len(own) == 8
    return own.sort_values("task")["score"].to_list()


@pytest.fixture(scope="module")
def run(finished: Path) -> Run:
    return metatune.read_run(finished)


# --- the leaderboard -----------------------------------------------------------------------------


def test_a_score_is_the_mean_over_tasks_of_the_highest_rung_with_its_interval(run: Run) -> None:
    board = leaderboard(run)
    scored = board[board["rung"].notna()]
    assert len(scored) == 7
    for trial, row in scored.iterrows():
        own = scores_of(run, "select", trial, int(row["rung"]))
        assert found(row, "score") == pytest.approx(interval(own), rel=1e-9)
        assert row["tasks"] == 8


def test_a_gain_is_paired_with_the_default_at_the_same_rung_or_completed_with_completed(
    run: Run,
) -> None:
    board = leaderboard(run)
    seen = set()
    for trial, row in board[board["rung"].notna() & (board["origin"] != "default")].iterrows():
        at = 3 if row["state"] == "completed" else int(row["rung"])
        own = np.array(scores_of(run, "select", trial, int(row["rung"])))
        default = np.array(scores_of(run, "select", "r1-0000", at))
        assert found(row, "gain") == pytest.approx(interval(default - own), rel=1e-9)
        seen.add((row["state"], int(row["rung"])))
    assert seen >= {("completed", 3), ("completed", 1), ("stopped", 1)}


def test_the_default_gains_exactly_nothing_over_itself(run: Run) -> None:
    assert found(leaderboard(run).loc["r1-0000"], "gain") == (0, 0, 0)


def test_completed_trials_come_first_then_by_rung_then_by_score(run: Run) -> None:
    board = leaderboard(run)
    keys = [
        (
            row["state"] != "completed",
            0 if row["state"] == "completed" else -(0 if pd.isna(row["rung"]) else row["rung"]),
            float("inf") if pd.isna(row["score"]) else row["score"],  # an error: lower is better
        )
        for _, row in board.iterrows()
    ]
    assert keys == sorted(keys)
    assert len(board) == len(run.trials) == 9


def test_where_higher_is_better_the_highest_comes_first() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("low", 0.4, 0.4, 0.4)
    story.trial("high", 0.6, 0.6, 0.6)
    story.trial("promising", 0.9, state="stopped")
    story.trial("nearest_neighbour", 0.55)  # needs no training: done at the first rung
    board = leaderboard(story.run())
    assert board["name"].to_list() == ["high", "nearest_neighbour", "protonet", "low", "promising"]
    assert board["gain"].to_list() == pytest.approx([0.1, 0.05, 0.0, -0.1, 0.4])


def test_lost_trials_stand_at_the_end_without_a_score(run: Run) -> None:
    last = leaderboard(run).tail(2)
    assert set(last["state"]) == {"diverged", "failed"}
    assert last[["score", "low", "gain", "rung"]].isna().all(axis=None)


def test_a_row_says_what_the_trial_was_and_took(run: Run) -> None:
    board = leaderboard(run)
    assert tuple(board.columns) == SELECT_COLUMNS
    for trial, row in board.iterrows():
        known = run.trials.loc[trial]
        for column in ("name", "structure", "origin", "state"):
            assert row[column] == known[column]
        if pd.notna(row["rung"]):
            assert row["resource"] == known["resource"]
            assert row["seconds"] == known["seconds"]


@pytest.mark.parametrize("groups", [GROUPS, GROUPS[:6]])
def test_with_six_groups_or_more_the_units_are_groups(groups: Sequence[str]) -> None:
    story = Story(plan_of(info=family(groups)), groups=groups)
    rng = np.random.default_rng(0)
    default, own = rng.uniform(size=(2, TASKS))
    story.trial("protonet", *[list(default)] * 3)
    trial = story.trial("new", *[list(own)] * 3)

    def by_group(values: Sequence[float]) -> list[float]:
        return [np.mean(values[start :: len(groups)]) for start in range(len(groups))]

    row = leaderboard(story.run()).loc[trial]
    assert found(row, "score") == pytest.approx(interval(by_group(own)))
    assert found(row, "gain") == pytest.approx(interval(by_group(own - default)))


def test_with_fewer_groups_the_units_are_tasks() -> None:
    story = Story(plan_of(info=family(GROUPS[:5])), groups=GROUPS[:5])
    own = np.random.default_rng(0).uniform(size=TASKS)
    trial = story.trial("protonet", *[list(own)] * 3)
    assert found(leaderboard(story.run()).loc[trial], "score") == pytest.approx(interval(own))


def test_transductive_scores_are_marked() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    trial = story.trial("joint", state=None)
    story.score(trial, "select", 0.9, rung=1, transductive=True)
    assert leaderboard(story.run())["transductive"].to_dict() == {"r1-0000": False, trial: True}


# --- fronts --------------------------------------------------------------------------------------


def traded(text: str = TWO) -> Story:
    """Three on the front, one behind it, and one that is better than all and was stopped."""
    story = Story(plan_of(text))
    story.trial("protonet", 0.5, 0.5, 0.5, seconds=0.04)
    story.trial("best", 0.7, 0.7, 0.7, seconds=0.08)
    story.trial("behind", 0.45, 0.45, 0.45, seconds=0.05)
    story.trial("fast", 0.4, 0.4, 0.4, seconds=0.01)
    story.trial("stopped", 0.9, seconds=0.001, state="stopped")
    return story


@pytest.mark.parametrize("text", [TWO, SPACE])
def test_the_front_is_whom_no_completed_trial_of_the_round_dominates(text: str) -> None:
    board = leaderboard(traded(text).run())
    marks = dict(zip(board["name"], board["pareto"], strict=True))
    assert marks == {
        "best": True, "protonet": True, "fast": True, "behind": False, "stopped": False,
    }  # fmt: skip
    assert board["pareto"].dtype == bool
    seconds = dict(zip(board["name"], board["adapt_seconds"], strict=True))
    assert seconds == pytest.approx(
        {"best": 0.08, "protonet": 0.04, "fast": 0.01, "behind": 0.05, "stopped": 0.001}
    )


def test_pareto_gives_the_front_from_the_best_to_the_fastest() -> None:
    run = traded().run()
    front = pareto(run)
    assert front["name"].to_list() == ["best", "protonet", "fast"]
    assert tuple(front.columns) == SELECT_COLUMNS
    assert pareto(run, 1).equals(front)
    assert pareto(run, 2).empty
    assert pareto(Story().run()).empty


def test_where_lower_is_better_the_front_has_the_lower_errors(run: Run) -> None:
    front = pareto(run)
    assert front["score"].is_monotonic_increasing
    assert front["adapt_seconds"].is_monotonic_decreasing
    assert front["score"].iloc[0] == leaderboard(run).query("state == 'completed'")["score"].min()


def test_a_front_is_of_one_round(run: Run) -> None:
    story = traded()
    later = [replace(row, round=2, trial=row.trial.replace("r1", "r2")) for row in story.rows
             if isinstance(row, Asked | Scored)]  # fmt: skip
    ends = [replace(row, trial=row.trial.replace("r1", "r2")) for row in story.rows
            if isinstance(row, Ended)]  # fmt: skip
    worse = [replace(row, scores=[score - 0.3 for score in row.scores])
             if isinstance(row, Scored) else row for row in later]  # fmt: skip
    story.rows += [*worse, *ends]
    both = story.run()
    assert pareto(both).index.to_list() == ["r2-0001", "r2-0000", "r2-0003"]
    assert pareto(both, 1).index.to_list() == ["r1-0001", "r1-0000", "r1-0003"]
    assert leaderboard(both)["pareto"].sum() == 6


def test_what_only_finds_out_is_not_on_the_front() -> None:
    story = traded()
    at = next(i for i, row in enumerate(story.rows) if getattr(row, "name", "") == "best")
    story.rows[at] = replace(story.rows[at], origin="probe")  # type: ignore[call-arg]
    assert pareto(story.run())["name"].to_list() == ["protonet", "fast"]


def test_a_verdicts_front_is_of_what_was_measured_on_test() -> None:
    story = traded()
    on_test = {"r1-0000": (0.6, 0.04), "r1-0001": (0.5, 0.08), "r1-0003": (0.3, 0.02)}
    for trial, (score, seconds) in on_test.items():
        story.score(trial, "test", score, replica=1, seconds=seconds)
    story.rows.append(Concluded("r1-0001", "r1-0000", "new groups", "so it is"))
    table = verdict_table(story.run())
    assert table["pareto"].to_dict() == {"r1-0000": True, "r1-0001": False, "r1-0003": True}


# --- while the run goes on -----------------------------------------------------------------------


def test_a_run_can_be_looked_at_while_it_goes_on(finished: Path) -> None:
    rows, info = rows_of(finished), metatune.read_run(finished).info
    for kept in (*range(0, len(rows), 3), len(rows)):
        run = Run(finished, info, tables(rows[:kept]))
        board, final = leaderboard(run), verdict_table(run)
        assert tuple(board.columns) == SELECT_COLUMNS
        assert set(board.index) == set(run.trials.index)
        ended = {row.trial for row in rows[:kept] if isinstance(row, Ended) and not row.replica}
        assert set(board.index[board["state"] != "running"]) == ended
        assert len(final) == (4 if any(isinstance(r, Concluded) for r in rows[:kept]) else 0)


def test_an_empty_run_has_empty_tables_with_all_columns() -> None:
    run = Story().run()
    assert leaderboard(run).empty
    assert tuple(leaderboard(run).columns) == SELECT_COLUMNS
    assert verdict_table(run).empty
    assert tuple(verdict_table(run).columns) == TEST_COLUMNS


def test_a_gain_is_unknown_until_the_default_was_at_that_rung() -> None:
    story = Story()
    default = story.trial("protonet", 0.5, state=None)
    trial = story.trial("new", 0.6, 0.7, state=None)
    assert pd.isna(leaderboard(story.run()).loc[trial, "gain"])
    story.score(default, "select", 0.5, rung=2)
    assert leaderboard(story.run()).loc[trial, "gain"] == pytest.approx(0.2)


def test_a_default_that_needs_no_training_stands_at_its_score_once_it_has_ended() -> None:
    story = Story()
    default = story.trial("protonet", 0.5, state=None)
    trial = story.trial("new", 0.6, 0.7, state=None)
    story.rows.append(Ended(default, "completed", "", 1.0))
    assert leaderboard(story.run()).loc[trial, "gain"] == pytest.approx(0.2)


# --- the verdict ---------------------------------------------------------------------------------


def test_a_verdicts_score_is_the_mean_over_trainings_with_the_seeds_in_its_interval(
    run: Run,
) -> None:
    table = verdict_table(run)
    assert len(table) == len(run.looks.iloc[-1]["trials"]) == 4
    for trial, row in table.iterrows():
        rung = 1 if row["name"] == "scratch" else 3
        each = np.array([scores_of(run, "test", trial, rung, replica) for replica in (1, 2)])
        expected = interval(each.mean(axis=0), [each.mean(axis=1)])
        assert found(row, "score") == pytest.approx(expected)
        assert (row["trainings"], row["tasks"], row["groups"]) == (2, 8, 1)


@pytest.mark.parametrize("label", ["gain", "over_rival"])
def test_a_verdicts_gains_are_paired_by_task_and_include_both_sides_seeds(
    run: Run, label: str
) -> None:
    table = verdict_table(run)
    other = "r1-0000" if label == "gain" else run.verdicts.iloc[0]["rival"]

    def of(trial: object) -> np.ndarray:
        rung = 1 if run.trials.loc[trial, "name"] == "scratch" else 3
        return np.array([scores_of(run, "test", trial, rung, replica) for replica in (1, 2)])

    for trial, row in table.iterrows():
        if trial == other:
            continue
        a, b = of(trial), of(other)
        trainings = [a.mean(axis=1), b.mean(axis=1)]
        expected = interval(b.mean(axis=0) - a.mean(axis=0), trainings)
        assert found(row, label) == pytest.approx(expected)


def test_a_trial_gains_exactly_nothing_over_itself_however_often_it_was_trained(run: Run) -> None:
    table, rival = verdict_table(run), run.verdicts.iloc[0]["rival"]
    assert found(table.loc["r1-0000"], "gain") == (0, 0, 0)
    assert found(table.loc[rival], "over_rival") == (0, 0, 0)
    others = table.drop(index=["r1-0000", rival])
    for label in ("gain", "over_rival"):
        assert (others[f"{label}_low"] < others[f"{label}_high"]).all()


def test_entrants_are_ranked_by_their_score_on_test(run: Run) -> None:
    table = verdict_table(run)
    assert table["score"].is_monotonic_increasing  # an error: lower is better
    assert table["score"].nunique() > 1
    assert tuple(table.columns) == TEST_COLUMNS


def test_costs_are_those_of_one_training_and_of_one_task(run: Run) -> None:
    curves = run.curves.query("split == 'test'")
    for trial, row in verdict_table(run).iterrows():
        own = curves[curves["trial"] == trial]
        assert row["train_seconds"] == pytest.approx(own["train_seconds"].sum() / 2)
        assert row["adapt_seconds"] == pytest.approx(own["score_seconds"].sum() / 2 / 8)


def test_the_table_and_the_sentence_speak_of_the_same_numbers(run: Run) -> None:
    final = run.verdicts.iloc[0]
    row = verdict_table(run).loc[final["winner"]]
    assert final["winner"] not in (final["rival"], "r1-0000")
    for label in ("gain", "over_rival"):
        mean, low, high = found(row, label)
        assert f"{mean:+.3g} [{low:+.3g}, {high:+.3g}]" in final["sentence"]


def test_ranks_shares_and_p_values_are_those_of_the_statistics(run: Run) -> None:
    table, final = verdict_table(run), run.verdicts.iloc[0]
    means = {
        trial: np.mean([scores_of(run, "test", trial, 1 if row["name"] == "scratch" else 3, r)
                        for r in (1, 2)], axis=0)
        for trial, row in table.iterrows()
    }  # fmt: skip
    groups = ["sinusoid"] * 8
    ranks = mean_ranks({t: list(m) for t, m in means.items()}, groups, "new tasks", -1)
    assert table["rank"].to_dict() == pytest.approx(ranks)
    winner = means[final["winner"]]
    opponents = [
        t for t in run.looks.iloc[-1]["trials"]
        if t != final["winner"] and table.loc[t, "origin"] in ("default", "preset", "baseline")
    ]  # fmt: skip
    p_values = holm([sign_flip_p(list(means[t] - winner), groups, "new tasks") for t in opponents])
    by_trial = dict(zip(opponents, p_values, strict=True))
    for trial, row in table.iterrows():
        if trial == final["winner"]:
            assert np.isnan(row["beaten_p"])
            assert np.isnan(row["beaten_share"])
            continue
        assert row["beaten_share"] == np.mean(winner < means[trial])
        if trial in by_trial:
            assert row["beaten_p"] == pytest.approx(by_trial[trial])
        assert row["worse_share"] == np.mean(means[trial] > means["r1-0000"])


def test_the_way_from_select_over_confirm_to_test_is_told(run: Run) -> None:
    for trial, row in verdict_table(run).iterrows():
        rung = 1 if row["name"] == "scratch" else 3
        assert row["select"] == pytest.approx(np.mean(scores_of(run, "select", trial, rung, 0)))
        looked = trial in run.looks.iloc[0]["trials"]
        assert np.isnan(row["confirm"]) != looked


# --- ensembles -----------------------------------------------------------------------------------


def blended() -> Story:
    """An ensemble won against two trainings of the rival."""
    story = Story()
    for name in ("protonet", "r2d2", "new"):
        trial = story.trial(name, 0.5, 0.5, 0.5)
        for replica in (1, 2):
            story.score(trial, "test", 0.5, replica=replica)
    own = story.ensemble("ensemble", "new", "protonet")
    other = story.ensemble("r2d2 x 2", "r2d2", "r2d2")
    story.score(own, "select", 0.6)
    story.score(own, "confirm", 0.7)
    story.score(own, "test", [0.8 + task / 100 for task in range(TASKS)], replica=1)
    story.score(other, "test", 0.55, replica=1)
    story.rows.append(Concluded(own, other, "new groups", "ensemble beats r2d2 x 2"))
    return story


def test_an_ensemble_is_a_row_of_the_verdict_with_what_it_scored_before() -> None:
    table = verdict_table(blended().run())
    own, other = table.loc["r1-e0"], table.loc["r1-e1"]
    assert own["members"] == ["r1-0002", "r1-0000"]
    assert (own["trainings"], other["trainings"]) == (1, 1)
    assert (own["select"], own["confirm"]) == pytest.approx((0.6, 0.7))
    assert np.isnan(other["select"])
    assert own["over_rival"] == pytest.approx(own["score"] - 0.55)


def test_the_rivals_ensemble_is_tested_against_a_winner_that_is_one() -> None:
    table = verdict_table(blended().run())
    assert table.loc["r1-e1", "beaten_p"] > 0
    assert table.loc["r1-0001", "beaten_p"] > 0
    assert np.isnan(table.loc["r1-0002", "beaten_p"])  # a proposal is no opponent


def test_an_ensemble_leads_the_board_at_its_members_seconds_and_the_rivals_is_not_on_it() -> None:
    board = leaderboard(blended().run())
    assert board.index[0] == "r1-e0"
    assert board.loc["r1-e0", "seconds"] == 2.0
    assert board.loc["r1-e0", "gain"] == pytest.approx(0.1)
    assert "r1-e1" not in board.index
