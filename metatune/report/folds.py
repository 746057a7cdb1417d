"""The page of a search over folds: what they say together, and the way to each fold's own page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from metatune.errors import RunError
from metatune.folds import Rotated, rotated
from metatune.place import Place
from metatune.progress import show_gain
from metatune.records.reading import Run, read_run
from metatune.records.several import folders_of
from metatune.report.blocks import Block, Board, Content, Links, Section, Words
from metatune.report.figures import Plot, Question
from metatune.report.figures.verdict import draw_by_group
from metatune.report.sections import made
from metatune.tables import rotation_sheet, rotation_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def begun(path: str | Path) -> list[Run]:
    """The runs of the folds that have one, fold by fold."""
    return [read_run(folder) for folder in folders_of(path) if Place.at(folder).has("run.json")]


def content_of_folds(
    name: str, runs: Sequence[Run], count: int, out: Path, pages: Sequence[Path]
) -> Content:
    """What the page of all folds says.

    Args:
        name: of the folder that holds them.
        runs: of the folds that have begun.
        count: how many folds there are.
        out: where the page will be.
        pages: those of the folds.

    Raises:
        RunError: no fold has begun.
    """
    if not runs:
        raise RunError(f"{name}: none of its {count} folds has begun")
    finished = [run for run in runs if not run.verdicts.empty]
    family = runs[0].info["family"]
    metric = family["metric"]
    found = rotated(finished) if len(finished) > 1 else None
    done = len(finished) == count
    lead, rest = "No verdict over folds yet.", "It needs two folds with their verdicts."
    if found is not None:
        lead, _, rest = rotation_text(found, metric).partition(". ")
        lead, rest = f"{lead}.", f"{rest}."
    return Content(
        title=name,
        about=f"metatune on {count} folds of {family['name']}, judged by {metric}",
        verdict=(lead, rest),
        numbers=() if found is None else tuple(_numbers(found, metric)),
        sections=(
            Section("groups", "Group by group", tuple(_groups(found, done, metric))),
            Section("folds", "Fold by fold", tuple(_folds(runs, count, out, pages))),
        ),
        code=(
            "import metatune\nfrom metatune.folds import rotated\n"
            f"runs = metatune.read_runs({name!r})"
        ),
        made=made(),
        given=found is not None,
    )


def _numbers(found: Rotated, metric: str) -> Iterator[tuple[str, str, str]]:
    points = "points" if metric == "accuracy" else metric
    for over, own in (("rivals", found.over_rival), ("defaults", found.gain)):
        mean, _, span = show_gain(own.mean, own.low, own.high, metric).partition(" ")
        told = f"95 % interval {span}" if span else "no interval"
        yield f"gain over the {over} of the folds, in {points}", mean, told
    groups = found.frame["group"].nunique()
    yield (
        "unseen test tasks",
        str(found.tasks),
        f"{groups} groups, trained {found.trainings} time(s)",
    )


def _groups(found: Rotated | None, all_done: bool, metric: str) -> Iterator[Block]:
    if found is None:
        yield Words("Fewer than two folds have their verdict.", missing=True)
        return
    code = "rotated(runs).frame"
    if not all_done:
        code = "rotated([run for run in runs if not run.verdicts.empty]).frame"
    asked = Question(code, lambda: found.frame)
    yield Plot(
        name="folds-by-group",
        title="Winner against rival, group by group",
        caption=(
            "Each row is a group, in the fold that had it in test: the mean difference of that "
            "fold's winner and rival on its tasks (blue square), and of winner and default (open "
            "circle). Right of zero what the search found is better."
        ),
        question=asked,
        drawn=("over_rival", "gain"),
        draw=partial(_draw, metric=metric),
    )
    yield Board(
        rotation_sheet(found, metric),
        "Each fold has its own winner and rival; none has seen the groups of its test.",
        asked,
    )


def _draw(frame: pd.DataFrame, metric: str) -> Figure:
    frame = frame.sort_values("over_rival", ascending=False, kind="stable")
    return draw_by_group(frame, frame["group"].to_list(), metric)


def _folds(runs: Sequence[Run], count: int, out: Path, pages: Sequence[Path]) -> Iterator[Block]:
    yield Words(f"{sum(not run.verdicts.empty for run in runs)} of {count} folds have a verdict.")
    for run in runs:
        told = "no verdict yet" if run.verdicts.empty else run.verdicts.iloc[-1]["sentence"]
        yield Words(f"{run.name}: {told}.")
    start = out.resolve().parent
    yield Links(
        tuple(
            (f"The page of {page.parent.name}", Path(os.path.relpath(page, start)).as_posix())
            for page in pages
        )
    )
