"""What the page of a run holds, section by section: the verdict first, then how it came about.

A section says what is missing where the run has not come so far.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from math import isfinite

import pandas as pd

import metatune
from metatune import analysis
from metatune.objectives import SCORE
from metatune.progress import show_gain, show_score, show_seconds
from metatune.records.reading import Run
from metatune.report.blocks import Block, Board, Content, Fold, Section, Words
from metatune.report.figures import Question, course, knobs, question
from metatune.report.figures import verdict as judged
from metatune.report.figures.knobs import way
from metatune.report.setting import ORIGINS, again, setting
from metatune.tables import Sheet, select_sheet, test_sheet, winner_text

ROWS = 20  # of the leaderboard on select
EXAMPLES = 4  # of failures that are told in full
NO_VERDICT = "The run has not given its verdict, so nothing was measured on test."

TRANSDUCTIVE = (
    "Marked as transductive: those strategies looked at all query points of a task together. Where "
    "query points come one by one, as in most uses, these scores cannot be had: compare them with "
    "each other only."
)


def content_of(run: Run) -> Content:
    """Everything that the page of a run says."""
    given = not run.verdicts.empty
    parts = (
        ("setting", "Who competes, and how", setting(run)),
        ("test", "On unseen test tasks", _on_test(run)),
        ("differences", "Who gains, who loses", _differences(run)),
        ("drop", "What was left of the scores", _drop(run)),
        ("trade", "Score against time", _trade(run)),
        ("knobs", "Which parts and knobs matter", _knobs(run)),
        ("search", "How the search went", _search(run)),
        ("lineage", "Where the winner comes from", _lineage(run)),
        *((("prior", "What earlier runs brought", _prior(run)),) if _has_prior(run) else ()),
        ("endings", "How trials ended", _endings(run)),
        ("again", "How to run it again", again(run)),
    )
    better, family = "higher" if run.sign > 0 else "lower", run.info["family"]
    name = json.dumps(run.name)
    return Content(
        title=run.name,
        about=f"metatune on {family['name']}, judged by {run.metric} ({better} is better)",
        verdict=_verdict(run),
        numbers=tuple(_numbers(run)) if given else (),
        sections=tuple(Section(anchor, title, tuple(own)) for anchor, title, own in parts),
        code=f"import metatune\nfrom metatune import analysis\nrun = metatune.read_run({name})",
        made=made(),
        given=given,
    )


def made() -> str:
    """When the page was made, and by what."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"Written by metatune {metatune.__version__} on {now}, from the run's records."


# --- the verdict ----------------------------------------------------------------------------------


def _verdict(run: Run) -> tuple[str, str]:
    """The verdict's own sentences, or how far the run has come."""
    if not run.verdicts.empty:
        lead, _, rest = run.verdicts.iloc[-1]["sentence"].partition(". ")
        return f"{lead}.", f"{rest}." if rest else ""
    if run.trials.empty:
        return "No verdict yet.", "The run has not tried anything."
    counts = run.trials["state"].value_counts()
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    planned = f" of {run.info['trials']}" if "trials" in run.info else ""
    return "No verdict yet.", f"The run has tried {len(run.trials)}{planned} strategies: {told}."


def _numbers(run: Run) -> Iterator[tuple[str, str, str]]:
    final, metric = run.verdicts.iloc[-1], run.metric
    row = analysis.verdict_table(run).loc[final["winner"]]
    low, high = (show_score(row[end], metric) for end in ("low", "high"))
    between = f"95 % interval {low} to {high}" if isfinite(row["low"]) else "one unit, no interval"
    yield f"{metric} of the winner on test", show_score(row["score"], metric), between
    points = "points" if metric == "accuracy" else metric
    for label, over in (("over_rival", "rival"), ("gain", "default")):
        whole = show_gain(row[label], row[f"{label}_low"], row[f"{label}_high"], metric)
        mean, _, span = whole.partition(" ")
        itself = final["winner"] == final["rival"] if over == "rival" else row["origin"] == over
        told = f"95 % interval {span}" if span else "no interval"
        yield (
            f"gain over the {over}, in {points}",
            "-" if itself else mean,
            f"it is the {over} itself" if itself else told,
        )
    groups = f"{row['groups']} group{'s' if row['groups'] > 1 else ''}"
    yield "unseen test tasks", f"{row['tasks']}", f"{groups}, trained {row['trainings']} time(s)"


def _on_test(run: Run) -> Iterator[Block]:
    if run.verdicts.empty:
        yield Words(NO_VERDICT, missing=True)
        return
    final = run.verdicts.iloc[-1]
    yield Words(f"{winner_text(run)}.")
    yield Board(
        test_sheet(run),
        "Finalists, the default, presets and baselines, each trained anew. Gains are paired by "
        "task, with 95 % intervals; a dash stands where a strategy would be compared with itself. "
        "The rival is the preset or baseline that was best on select.",
        question(run, analysis.verdict_table),
        strong=str(final["winner"]),
    )
    if analysis.verdict_table(run)["transductive"].any():
        yield Words(TRANSDUCTIVE)
    yield judged.gains(run)
    yield judged.profiles(run)


def _differences(run: Run) -> Iterator[Block]:
    if run.verdicts.empty:
        yield Words(NO_VERDICT, missing=True)
    elif run.verdicts.iloc[-1]["winner"] == run.verdicts.iloc[-1]["rival"]:
        yield Words("The winner is the rival itself: there is nothing to compare.", missing=True)
    else:
        yield from judged.differences(run)


def _drop(run: Run) -> Iterator[Block]:
    if analysis.generalisation_gap(run).empty:
        yield Words("No leader has been compared on confirm yet.", missing=True)
    else:
        yield judged.drop(run)


def _trade(run: Run) -> Iterator[Block]:
    if not run.verdicts.empty:
        yield judged.trade_off(run)
    if len(analysis.candidates(run)) > 1:
        yield course.trade_off(run)
    elif run.verdicts.empty:
        yield Words("Fewer than two trials are complete.", missing=True)


# --- the search -----------------------------------------------------------------------------------


def _knobs(run: Run) -> Iterator[Block]:
    found = analysis.importance(run)
    if found.empty:
        yield Words("Too few trials with knobs were scored to say which of them matter.", True)
    else:
        yield knobs.importances(run)
    for objective in run.info.get("objectives", ())[1:]:
        if objective != SCORE and not analysis.importance(run, objective=objective).empty:
            yield knobs.importances(run, objective)
    if analysis.response(run, "structure").empty:
        yield Words("No trial has a gain over the default yet.", missing=True)
        return
    yield knobs.ways(run)
    yield from knobs.responses(run)


def _search(run: Run) -> Iterator[Block]:
    if run.trials.empty:
        yield Words("Nothing has been tried yet.", missing=True)
        return
    board = select_sheet(run, ROWS)
    yield Board(
        board,
        "Trials by their newest scores on select, completed ones of the newest round first. They "
        "were chosen by these scores, which so flatter them: no published number comes from here.",
        question(run, analysis.leaderboard),
    )
    if any("transductive" in row[1] for row in board.rows):
        yield Words(TRANSDUCTIVE)
    if analysis.best_over_time(run).empty:
        yield Words("No trial is complete yet.", missing=True)
    else:
        yield course.progress(run)
    if analysis.learning_curves(run).empty:
        yield Words("No leader has been scored yet.", missing=True)
    else:
        yield course.curves(run)
    if run.rounds.empty:
        yield Words("No round has ended yet.", missing=True)
    else:
        yield _rounds(run)


def _rounds(run: Run) -> Board:
    names = run.trials["name"]
    rows = [
        (
            str(row["round"]),
            ", ".join(str(names.get(trial, trial)) for trial in row["incumbents"]),
            "; ".join(row["moves"]) or "nothing",
            "yes" if row["borne_out"] else "no",
            show_seconds(row["seconds"]),
        )
        for _, row in run.rounds.iterrows()
    ]
    columns = ("round", "led by, best first", "what it changed", "borne out", "took")
    words = frozenset({"led by, best first", "what it changed", "borne out"})
    return Board(
        Sheet("What each round changed", columns, words, tuple(rows)),
        "Leaders as confirm ranked them. A change of a knob's range follows them: the next round "
        "looks there. A round that confirm does not bear out is the last.",
        Question("run.rounds", lambda: run.rounds),
    )


# --- origins and endings --------------------------------------------------------------------------


def _lineage(run: Run) -> Iterator[Block]:
    frame = analysis.lineage(run)
    if frame.empty:
        yield Words("There is no winner yet.", missing=True)
        return
    metric, names = run.metric, run.trials["name"]
    rows = []
    for _, row in frame.iterrows():
        before = row["made_from"]
        rows.append((
            str(row["round"]),
            row["name"],
            ORIGINS.get(str(row["origin"]), str(row["origin"])),
            "" if pd.isna(before) else f"{names.get(before, before)}, round "
            f"{run.trials.loc[before, 'round']}",
            _changed(row),
            "" if pd.isna(row["score"]) else show_score(row["score"], metric),
            show_gain(row["gain"], float("-inf"), float("inf"), metric),
        ))  # fmt: skip
    words = ("strategy", "why it was tried", "made from", "what changed")
    first = f"{winner} " if (winner := names.get(run.verdicts.iloc[-1]["winner"])) else ""
    yield Board(
        Sheet(
            f"How {first}came about",
            ("round", *words, f"{metric} on select", "gain over the default"),
            frozenset(words),
            tuple(rows),
            tuple(map(str, frame.index)),
        ),
        "From the top down, the oldest first. A strategy that is tried again in a later round has "
        "a larger resource and other tasks. A trial that follows the gradient or measures a slope "
        "leads nowhere itself: what it found is written into the child.",
        question(run, analysis.lineage),
        strong=str(run.verdicts.iloc[-1]["winner"]),
    )


def _changed(row: pd.Series) -> str:
    if pd.isna(row["made_from"]):
        return ""
    changes = json.loads(row["changed"])
    told = [f"{name}: {_short(old)} to {_short(new)}" for name, (old, new) in changes.items()]
    if pd.notna(row["learned"]):
        told += [f"learned {n} = {_short(v)}" for n, v in json.loads(row["learned"]).items()]
    return "; ".join(told) or "nothing: tried again"


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _has_prior(run: Run) -> bool:
    return bool(run.info.get("prior_sha256"))


def _prior(run: Run) -> Iterator[Block]:
    frame = analysis.from_prior(run)
    if frame.empty:
        yield Words("The prior brought no strategy that the space file does not name.")
        return
    metric = run.metric
    rows = [
        (
            str(row["round"]),
            row["name"],
            way(row["structure"]),
            str(row["state"]),
            "" if pd.isna(row["score"]) else show_score(row["score"], metric),
            show_gain(row["gain"], row["gain_low"], row["gain_high"], metric),
            "" if pd.isna(row["place"]) else f"{row['place']} of {row['completed']}",
        )
        for _, row in frame.iterrows()
    ]
    words = ("strategy", "way of learning", "state")
    yield Board(
        Sheet(
            "Strategies that came from the prior",
            ("round", *words, f"{metric} on select", "gain over the default", "place"),
            frozenset(words),
            tuple(rows),
            tuple(map(str, frame.index)),
        ),
        "What earlier runs recommended, tried here before anything was proposed, and its place "
        "among the completed trials of its round. What it means for the verdict stands there.",
        question(run, analysis.from_prior),
    )


def _endings(run: Run) -> Iterator[Block]:
    frame = analysis.endings(run)
    if frame.empty:
        yield Words("Nothing has been tried yet.", missing=True)
        return
    names = run.trials["name"]
    rows = tuple(
        (str(row["state"]), str(row["trials"]), row["reason"], str(names.get(row["example"])))
        for _, row in frame.iterrows()
    )
    words = frozenset({"state", "reason", "such as"})
    yield Board(
        Sheet("States and reasons", ("state", "trials", "reason", "such as"), words, rows),
        "Stopped: behind others at its rung. Diverged: its numbers left the finite ones. Failed: "
        "an error, or a worker that was lost. Numbers in reasons are written as #.",
        question(run, analysis.endings),
    )
    lost = frame[frame["state"].isin(["diverged", "failed"])].head(EXAMPLES)
    for _, row in lost.iterrows():
        trial = run.trials.loc[row["example"]]
        yield Fold(f"{trial['name']} {row['state']}: what was recorded", str(trial["reason"]))
