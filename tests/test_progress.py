"""What a person sees while a run goes on: plain lines in a pipe, a live picture on a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from handmade import Story
from inline_runner import SPACE, inline_run, rows_of
from rich.console import Console

import metatune
from metatune.history import History
from metatune.progress import (
    Clock,
    Progress,
    Terms,
    show_gain,
    show_score,
    show_seconds,
    time_limit,
)
from metatune.records.rows import Asked, Concluded, Ended, Looked, Row, Scored, Turned


def terms(metric: str, trials: int, **limits: Any) -> Terms:
    """What a run of one round and three rungs set out to do."""
    return Terms(metric, trials, last_round=1, rungs=3, **limits)


def lines_of(rows: list[Row], sign: int = 1, metric: str = "accuracy") -> list[str]:
    """What is printed in a pipe when these rows are recorded."""
    out = io.StringIO()
    progress = Progress(Console(file=out, width=80), terms(metric, trials=5))
    history = History(sign)
    progress.follow(history, lambda: Clock(0.0))
    with progress:
        for row in rows:
            history.add(row)
            progress.watch(row, history)
            progress.tick()
    return out.getvalue().splitlines()


def picture_of(
    rows: list[Row], left: float | None = None, *, driven: float = 0.0, **limits: Any
) -> str:
    """What stands on a terminal once these rows were recorded."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None, markup=False)
    progress = Progress(console, terms("accuracy", trials=9, **limits))
    history = History(1)
    progress.follow(history, lambda: Clock(driven, left))
    with progress:
        for row in rows:
            history.add(row)
            progress.watch(row, history)
        progress.tick()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


# --- in a pipe -----------------------------------------------------------------------------------


def test_a_piped_run_prints_plain_lines_one_for_each_trial_and_each_score_of_the_verdict(
    tmp_path: Path,
) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80)
    run = metatune.read_run(inline_run(SPACE, tmp_path / "run", console=console, trials=6))
    text = out.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    lines = text.splitlines()
    ends = [line for line in lines if line.startswith("[")]
    assert [re.match(r"\[(\d)/6\] (\S+) (\S+)", line).groups() for line in ends] == [  # type: ignore[union-attr]
        (str(number), row["name"], row["state"])
        for number, (_, row) in enumerate(run.trials.iterrows(), start=1)
    ]
    for split in ("confirm", "test"):
        scores = run.curves.query("split == @split")["score"]
        shown = [line.split()[-1] for line in lines if line.startswith(f"  {split}: ")]
        assert shown == [f"{score:.4g}" for score in scores]
    assert f"confirming the leaders ({len(run.looks.iloc[0]['trials'])} on confirm)" in lines
    assert "Traceback" not in text


def test_a_line_stays_one_line_however_long_and_however_it_is_bracketed() -> None:
    story = Story()
    trial = story.trial("protonet", state=None)
    reason = f"Traceback ...\n  File ...\nOSError: [/data/x] :b: [bold] {'long ' * 40}end"
    story.rows.append(Ended(trial, "failed", reason, 1.0))
    (line,) = lines_of(story.rows)
    assert line.startswith("[1/5] protonet failed (OSError: [/data/x] :b: [bold] long long")
    assert line.endswith("end)")


def test_an_ended_trial_is_told_with_its_score_and_its_rung() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.6, 0.625)
    story.trial("new", 0.4, state="stopped")
    assert lines_of(story.rows) == [
        "[1/5] protonet completed 62.5 % at rung 3",
        "[2/5] new stopped 40.0 % at rung 1",
    ]


def test_phases_and_lost_trainings_are_told() -> None:
    story = Story()
    trial = story.trial("protonet", 0.5, 0.5, 0.5)
    story.rows += [
        Looked("confirm", 1, [trial]),
        Turned(1, [trial], [], 200.0),
        Looked("test", 1, [trial]),
        Ended(trial, "diverged", "at step 3", 0.0, replica=2),
        Concluded(trial, trial, "new tasks", "nothing beats it"),
    ]
    assert lines_of(story.rows)[1:] == [
        "confirming the leaders (1 on confirm)",
        "round 1 ended after 3.3 min",
        "verdict: training the entrants anew (1 on test)",
        "  r1-0000 training 2: diverged",
    ]


def test_a_rounds_end_names_its_front_before_what_moved() -> None:
    story = Story()
    best, fast = story.trial("new", 0.5, 0.5, 0.5), story.trial("protonet", 0.4, 0.4, 0.4)
    story.rows.append(Turned(1, [best], ["a moved"], 20.0, front=[best, fast]))
    assert lines_of(story.rows)[2:] == [
        "round 1 ended after 20 s",
        "  on the front, best first: new, protonet",
        "  a moved",
    ]


def test_an_ensemble_is_told_by_its_members_and_its_scores_by_its_name() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("new", 0.6, 0.6, 0.6)
    story.ensemble("ensemble", "new", "protonet")
    story.score("r1-e0", "confirm", 0.625)
    assert lines_of(story.rows)[-2:] == [
        "  ensemble: a blend of new, protonet",
        "  confirm: ensemble 62.5 %",
    ]


# --- on a terminal -------------------------------------------------------------------------------


def test_the_picture_counts_the_states(finished: Path) -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("a", 0.1, state="stopped")
    story.trial("b", 0.1, state="stopped")
    story.trial("c", state="diverged")
    story.trial("d", state=None)
    assert "1 running  1 completed  2 stopped  1 diverged  of 9" in picture_of(story.rows)


def test_the_counts_are_those_of_the_records(finished: Path) -> None:
    rows = rows_of(finished)
    counts = metatune.read_run(finished).trials["state"].value_counts()
    states = ("running", "completed", "stopped", "diverged", "failed")
    expected = "  ".join(f"{counts[s]} {s}" for s in states if counts[s])
    assert f"{expected}  of 9" in picture_of(rows)


def test_the_picture_names_the_best_with_its_gain_over_the_default() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    assert "none completed yet" in picture_of(story.rows[:1])
    assert "best so far" in picture_of(story.rows)
    assert "protonet 50.0 %" in picture_of(story.rows)
    assert "over the default" not in picture_of(story.rows)
    story.trial("new", 0.6, 0.6, 0.6)
    story.trial("fast", 0.9, state="stopped")  # not completed: not the best so far
    assert "new 60.0 %, +10 [+10, +10] over the default" in picture_of(story.rows)


def test_the_picture_says_which_phase_it_is_and_how_long_it_will_take() -> None:
    story = Story()
    trial = story.trial("protonet", 0.5, 0.5, 0.5)
    assert "trying strategies" in picture_of(story.rows)
    assert "about" not in picture_of(story.rows)
    assert "about 30 s" in picture_of(story.rows, left=30.4)
    assert "about 2.0 min" in picture_of(story.rows, left=120)
    story.rows.append(Looked("confirm", 1, [trial]))
    assert "confirming the leaders" in picture_of(story.rows)
    story.rows.append(Looked("test", 1, [trial]))
    assert "verdict: training the entrants anew" in picture_of(story.rows)


def test_the_best_is_the_newest_rounds_which_has_tasks_of_its_own() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("new", 0.9, 0.9, 0.9)
    again = Story()
    again.trial("protonet", 0.4, 0.4, 0.4)
    again.trial("newer", 0.6, 0.6, 0.6)
    rows = [*story.rows, Turned(1, ["r1-0001"], [], 1.0), *map(of_round_two, again.rows)]
    assert "newer 60.0 %, +20 [+20, +20] over the default" in picture_of(rows)
    # While its default alone is done, nothing is compared over rounds.
    assert re.search("best so far +protonet 40\\.0 % *\n", picture_of(rows[:16]))
    assert "new 90.0 %, +40 [+40, +40] over the default" in picture_of(rows[:15])


def of_round_two(row: Row) -> Row:
    trial = row.trial.replace("r1", "r2")  # type: ignore[union-attr]
    match row:
        case Scored():
            tasks = [f"later {task}" for task in row.tasks]
            return replace(row, trial=trial, round=2, tasks=tasks)
        case Asked():
            return replace(row, trial=trial, round=2)
    return replace(row, trial=trial)  # type: ignore[arg-type]


def test_trials_that_only_find_out_are_not_the_best() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("aside", 0.9, 0.9, 0.9)
    rows = [
        replace(row, origin="probe") if isinstance(row, Asked) and row.name == "aside" else row
        for row in story.rows
    ]
    assert re.search("best so far +protonet 50\\.0 % *\n", picture_of(rows))


def test_trials_under_way_are_listed_with_their_rung_and_their_time() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("a", 0.25, 0.375, state=None)
    story.trial("b", state=None)
    shown = picture_of(story.rows, driven=42)
    assert re.search(r"under way +r1-0001 +a +rung 2 of 3 +37\.5 % +for 42 s", shown)
    assert re.search(r"\n +r1-0002 +b +before its first rung +for 42 s", shown)
    for number in range(9):
        story.trial(f"more {number}", state=None)
    assert "and 3 more" in picture_of(story.rows)


def test_what_ended_last_and_what_failed_last_is_told_with_its_reason() -> None:
    story = Story()
    for number in range(8):
        trial = story.trial(f"n{number}", 0.5, state=None)
        state, reason = ("failed", "Traceback\nOSError: no [x]") if number == 1 else ("stopped", "")
        story.rows.append(Ended(trial, state, reason, 1.0, at=10.0 * (number + 1)))  # type: ignore[arg-type]
    shown = picture_of(story.rows)
    first, *others = [line for line in shown.splitlines() if " stopped 50.0 % at rung 1" in line]
    assert re.match(r"ended last +n7 stopped", first)
    assert [line.split()[0] for line in others] == ["n6", "n5", "n4", "n3"]
    assert re.search(r"last failure +n1 failed 50\.0 % at rung 1 \(OSError: no \[x\]\)", shown)
    assert "8 of 9" not in shown
    assert "1 failed  of 9, 360 an hour" in shown  # 8 in 80 s


def test_time_and_core_seconds_are_shown_with_their_limits() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    assert re.search(r"time +2\.0 min\s", picture_of(story.rows, driven=120))
    shown = picture_of(story.rows, 60, driven=120, minutes=30, core_seconds=3600)
    assert "2.0 min of 30.0 min, about 60 s left" in shown
    assert re.search(r"core seconds +1 of 3,600", shown)


def test_the_verdicts_trainings_are_counted() -> None:
    story = Story()
    trial, other = story.trial("protonet", 0.5, 0.5, 0.5), story.trial("new", 0.6, 0.6, 0.6)
    story.rows.append(Looked("test", 1, [trial, other], seeds=2))
    story.score(trial, "test", 0.5, replica=1)
    story.rows.append(Ended(other, "diverged", "", 0.0, replica=1))
    assert "verdict: training the entrants anew, 2 of 4 done" in picture_of(story.rows)
    story.rows.append(Concluded(trial, other, "new tasks", "No gain."))
    assert "the verdict is given" in picture_of(story.rows)


def test_terms_are_those_of_the_run(finished: Path) -> None:
    found = Terms.of(metatune.read_run(finished).info)
    assert found == Terms("mse", 9, last_round=1, rungs=3, minutes=None, core_seconds=None)


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "metric", "shown"),
    [(0.9375, "accuracy", "93.8 %"), (0.123456, "mse", "0.1235"), (1234567.0, "mse", "1.235e+06")],
)
def test_scores_are_shown_in_the_metrics_usual_form(value: float, metric: str, shown: str) -> None:
    assert show_score(value, metric) == shown


def test_gains_are_shown_with_their_sign_and_interval_where_there_is_one() -> None:
    assert show_gain(0.1, 0.05, 0.15, "accuracy") == "+10 [+5, +15]"
    assert show_gain(-0.5, -0.75, -0.25, "mse") == "-0.5 [-0.75, -0.25]"
    assert show_gain(0.1, float("-inf"), float("inf"), "mse") == "+0.1"
    assert show_gain(float("nan"), float("nan"), float("nan"), "mse") == ""


def test_times_to_go_are_in_seconds_or_minutes() -> None:
    assert [show_seconds(s) for s in (0, 89.4, 90, 3600)] == ["0 s", "89 s", "1.5 min", "60.0 min"]


@pytest.mark.parametrize(("minutes", "core_seconds", "told"), [
    (None, None, "no limit of time"),
    (2.5, None, "within 2.5 min"),
    (None, 90, "within 90 core seconds"),
    (2.5, 90, "within 2.5 min and within 90 core seconds"),
])  # fmt: skip
def test_what_a_run_may_take_names_every_limit(
    minutes: float | None, core_seconds: float | None, told: str
) -> None:
    assert time_limit(minutes, core_seconds) == told
