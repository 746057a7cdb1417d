"""Tables for the terminal: what they say in which row, and that they hold no noise."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from handmade import SPACE, TWO, Story, plan_of
from inline_runner import rows_of
from rich.console import Console
from rich.table import Table

import metatune
from metatune import tables
from metatune.analysis import leaderboard, verdict_table
from metatune.records import folding
from metatune.records.reading import Run
from metatune.records.rows import Concluded


def cells(table: Table) -> list[list[str]]:
    """The table's rows as text."""
    columns = [list(column.cells) for column in table.columns]
    return [[str(cell) for cell in row] for row in zip(*columns, strict=True)]


def text_of(table: Table, width: int = 200) -> str:
    out = io.StringIO()
    Console(file=out, width=width, markup=False).print(table)
    return out.getvalue()


@pytest.fixture(scope="module")
def run(finished: Path) -> Run:
    return metatune.read_run(finished)


def decided(transductive: bool = False, text: str = SPACE) -> Story:
    """A verdict of hand-made scores: ``new`` wins against r2d2."""
    story = Story(plan_of(text))
    names = {"protonet": 0.5, "r2d2": 0.6, "nearest_neighbour": 0.3, "new": 0.7}
    trials = {
        name: story.trial(name, *([score] * (1 if "near" in name else 3)))
        for name, score in names.items()
    }
    for replica in (1, 2):
        for name, score in names.items():
            marked = transductive and name == "new"
            shift = 0.01 if replica == 2 else 0.0
            story.score(trials[name], "test", score + shift, replica=replica, transductive=marked)
    story.rows.append(Concluded(trials["new"], trials["r2d2"], "new groups", "new beats all"))
    return story


def test_each_trial_has_its_row_in_the_order_of_the_leaderboard(run: Run) -> None:
    rows, board = cells(tables.select_table(run, 20)), leaderboard(run)
    assert [row[0] for row in rows] == [str(place) for place in range(1, 10)]
    names = [row[1].removesuffix(" (default)") for row in rows]
    assert names == board["name"].to_list()
    assert [row[3] for row in rows] == board["state"].to_list()
    assert [row[6] for row in rows if row[6]] == [f"{s:.4g}" for s in board["score"].dropna()]


def test_the_first_rows_are_shown_and_the_title_says_how_many(run: Run) -> None:
    table = tables.select_table(run, 3)
    assert len(cells(table)) == 3
    assert table.title == "Trials by mse on select tasks (first 3)"
    assert tables.select_table(run, 50).title == "Trials by mse on select tasks (first 9)"


def test_the_default_is_marked_and_its_gain_over_itself_is_a_dash(run: Run) -> None:
    for table, gain in ((tables.select_table(run, 20), 7), (tables.test_table(run), 4)):
        (default,) = [row for row in cells(table) if "(default)" in row[1]]
        assert default[1].startswith("fomaml (default)")
        assert default[gain] == "-"
        assert [row[gain] for row in cells(table)].count("-") == 1


def test_only_what_is_compared_with_itself_has_a_dash() -> None:
    rows = {row[1].partition(" ")[0]: row for row in cells(tables.test_table(decided().run()))}
    assert {name for name, row in rows.items() if row[4] == "-"} == {"protonet"}
    assert {name for name, row in rows.items() if row[5] == "-"} == {"r2d2"}


def test_accuracies_are_in_percent_and_gains_in_points() -> None:
    rows = {row[1].partition(" ")[0]: row for row in cells(tables.test_table(decided().run()))}
    assert rows["new"][2] == "70.5 %"
    assert rows["new"][4].startswith("+20 [")
    assert rows["new"][5].startswith("+10 [")


def test_winner_and_rival_are_marked() -> None:
    names = [row[1] for row in cells(tables.test_table(decided().run()))]
    assert names == ["new (winner)", "r2d2 (rival)", "protonet (default)", "nearest_neighbour"]


def test_a_rival_that_wins_is_marked_as_both() -> None:
    story = decided()
    last = story.rows.pop()
    assert isinstance(last, Concluded)
    story.rows.append(Concluded(last.rival, last.rival, "new groups", "nothing beats r2d2"))
    names = [row[1] for row in cells(tables.test_table(story.run()))]
    assert "r2d2 (winner, rival)" in names
    assert "new" in names


def test_transductive_scores_say_so_in_both_tables() -> None:
    story = decided(transductive=True)
    assert [
        row[1] for row in cells(tables.test_table(story.run())) if "transductive" in row[1]
    ] == ["new, transductive (winner)"]
    trial = story.trial("joint", state=None)
    story.score(trial, "select", 0.9, rung=1, transductive=True)
    marked = [row[1] for row in cells(tables.select_table(story.run(), 20)) if "trans" in row[1]]
    assert marked == ["joint, transductive"]


def with_ensembles() -> Story:
    """The ensemble of ``new`` and protonet wins against two trainings of r2d2."""
    story = decided()
    story.rows.pop()
    own, other = story.ensemble("ensemble", "new", "protonet"), story.ensemble("r2d2 x 2", *TWICE)
    story.score(own, "select", 0.8)
    story.score(own, "test", 0.9, replica=1)
    story.score(other, "test", 0.65, replica=1)
    story.rows.append(Concluded(own, other, "new groups", "ensemble beats r2d2 x 2"))
    return story


TWICE = ("r2d2", "r2d2")


def test_ensembles_stand_in_the_verdict_and_the_chosen_one_in_the_leaderboard() -> None:
    run = with_ensembles().run()
    verdict = {row[1]: row for row in cells(tables.test_table(run))}
    assert next(iter(verdict)) == "ensemble (winner)"
    assert verdict["r2d2 x 2 (rival)"][2] == "65.0 %"
    assert verdict["ensemble (winner)"][5].startswith("+25 [")
    board = [row[:3] for row in cells(tables.select_table(run, 20))]
    assert board[0] == ["1", "ensemble", "2 members"]
    assert "r2d2 x 2" not in {name for _, name, _ in board}
    title = tables.test_table(run).title
    assert title == "Verdict: accuracy on unseen test tasks (new groups, 2 trainings each)"


def test_a_winner_that_is_an_ensemble_is_told_by_its_members() -> None:
    text = tables.winner_text(with_ensembles().run())
    assert text == "ensemble is a blend of 2: new, protonet"


def test_the_title_says_where_some_were_trained_more_often() -> None:
    story = decided()
    story.score("r1-0003", "test", 0.7, replica=3)
    title = tables.test_table(story.run()).title
    assert title == "Verdict: accuracy on unseen test tasks (new groups, 2 to 3 trainings each)"


def test_the_title_names_claim_metric_and_trainings(run: Run) -> None:
    assert tables.test_table(run).title == (
        "Verdict: mse on unseen test tasks (new tasks, 2 trainings each)"
    )
    story = decided()
    story.rows = [row for row in story.rows if getattr(row, "replica", 0) != 2]
    assert tables.test_table(story.run()).title == (
        "Verdict: accuracy on unseen test tasks (new groups, one training each)"
    )


def test_no_table_shows_a_missing_number(finished: Path) -> None:
    rows, info = rows_of(finished), metatune.read_run(finished).info
    for kept in (*range(0, len(rows), 9), len(rows)):
        run = Run(finished, info, folding.tables(rows[:kept]))
        shown = text_of(tables.select_table(run, 20))
        if not run.verdicts.empty:
            shown += text_of(tables.test_table(run))
        assert "nan" not in shown.lower().replace("transductive", "")
        assert "<NA>" not in shown
        assert "None" not in shown


def test_the_intervals_shown_are_those_of_the_verdict_table(run: Run) -> None:
    frame = verdict_table(run)
    shown = [row[3] for row in cells(tables.test_table(run))]
    assert shown == [f"{row.low:.4g} to {row.high:.4g}" for row in frame.itertuples()]


def test_the_winner_is_told_by_its_knobs_or_whole_where_it_lies_outside(run: Run) -> None:
    winner = run.verdicts.iloc[0]["winner"]
    params = json.loads(run.trials.loc[winner, "params"])
    text = tables.winner_text(run)
    assert text.startswith(f"{run.trials.loc[winner, 'name']} is ")
    for name in params:
        assert f"{name} = " in text
    story = decided()
    story.rows.pop()
    story.rows.append(Concluded("r1-0001", "r1-0001", "new groups", "nothing beats r2d2"))
    text = tables.winner_text(story.run())
    assert text.startswith("r2d2 is ridge, first_order: ")
    assert "backbone.width = 8" in text
    assert "{" not in text


# --- several objectives ---------------------------------------------------------------------------


def headings(table: Table) -> list[str]:
    return [str(column.header) for column in table.columns]


def test_with_costs_both_tables_mark_the_front_and_say_what_a_task_takes() -> None:
    story = decided(text=TWO)
    run = story.run()
    for table in (tables.select_table(run, 20), tables.test_table(run)):
        mark, took = headings(table).index("front"), headings(table).index("ms a task")
        rows = {row[1].partition(" ")[0]: row for row in cells(table)}
        assert {name for name, row in rows.items() if row[mark] == "*"} == {"new"}
        assert rows["new"][took] == "10"


def test_with_the_score_alone_no_front_is_shown(run: Run) -> None:
    for table in (tables.select_table(run, 20), tables.test_table(run)):
        assert "front" not in headings(table)
    assert "ms a task" not in headings(tables.select_table(run, 20))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(1.2345, "1234"), (0.0123, "12"), (0.00123, "1.2"), (0.0000123, "0.012")]
)
def test_what_a_task_takes_is_in_milliseconds(seconds: float, shown: str) -> None:
    story = Story(plan_of(TWO))
    story.trial("protonet", 0.5, 0.5, 0.5, seconds=seconds)
    table = tables.select_table(story.run(), 1)
    assert cells(table)[0][headings(table).index("ms a task")] == shown
