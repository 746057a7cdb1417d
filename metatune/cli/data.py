"""Commands that look at data of the user's own: `init` and `baselines`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from metatune.cli.shared import console
from metatune.errors import SpaceError, first_of

if TYPE_CHECKING:
    from metatune.baselines import Measured
    from metatune.tasks.base import FamilyInfo

Data = Annotated[
    list[str],
    typer.Argument(metavar="DATA...", help="CSV or Parquet files, globs or folders of them."),
]
TaskColumn = Annotated[
    str | None,
    typer.Option("--task", help="The column that tells tasks apart; `file`: each file is a task."),
]
SeriesColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--series",
        help="Time series: the column that tells them apart, or several; `file`: each file is one.",
    ),
]
TimeColumn = Annotated[str | None, typer.Option("--time", help="Of series: the points in time.")]
TimeFormat = Annotated[
    str | None, typer.Option(help="Of series: such as %d.%m.%Y. Default: as times look.")
]
TimeStep = Annotated[
    str | None,
    typer.Option("--step", help="Of series: such as h, D, W, MS. Default: as their times look."),
]
TargetColumn = Annotated[str, typer.Option("--target", "--value", help="The column to predict.")]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        "--group",
        help="The column of what tasks share and the next user will not have seen, such as a "
        "region. Default: each task by itself.",
    ),
]
Predict = Annotated[
    Literal["number", "class"] | None, typer.Option(help="Default: as the target looks.")
]


def init(
    data: Data,
    target: TargetColumn,
    task: TaskColumn = None,
    series: SeriesColumns = None,
    time: TimeColumn = None,
    group: GroupColumn = None,
    predict: Predict = None,
    step: TimeStep = None,
    time_format: TimeFormat = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path(
        "space.yaml"
    ),
    minutes: Annotated[float, typer.Option(min=0.1, help="The run's budget of time.")] = 10,
) -> None:
    """Look at your data and write a space file for them, which runs as it is."""
    from metatune.init import init as write
    from metatune.init import init_series
    from metatune.space.families import Table as TableOptions

    _one_kind(task, series, time, predict, step, time_format)
    if task is not None:
        found = write(data, task, target, group=group, predict=predict, out=out, minutes=minutes)
    else:
        assert series is not None
        assert time is not None
        found = init_series(
            data,
            series,
            time,
            target,
            group=group,
            step=step,
            time_format=time_format,
            out=out,
            minutes=minutes,
        )
    console.print("Assumed:", highlight=False)
    for sentence in found.said:
        console.print(f"  {sentence}", soft_wrap=True, highlight=False)
    if isinstance(found.options, TableOptions):
        console.print(_kinds_table(found.options.columns))
    console.print(f"Written: {out}", soft_wrap=True, highlight=False)
    console.print(f"Next: metatune run {out}", soft_wrap=True, highlight=False)


def baselines(
    data: Data,
    target: TargetColumn,
    task: TaskColumn = None,
    series: SeriesColumns = None,
    time: TimeColumn = None,
    group: GroupColumn = None,
    predict: Predict = None,
    step: TimeStep = None,
    time_format: TimeFormat = None,
    tasks: Annotated[int, typer.Option(min=2, help="Tasks that each is judged on.")] = 120,
) -> None:
    """Is anything shared across these tasks worth learning? A minute, before a search."""
    from metatune.baselines import baselines as measure
    from metatune.baselines import conclusion, shots_of
    from metatune.init import look, look_at_series

    _one_kind(task, series, time, predict, step, time_format)
    if task is not None:
        found = look(data, task, target, group=group, predict=predict)
    else:
        assert series is not None
        assert time is not None
        found = look_at_series(
            data, series, time, target, group=group, step=step, time_format=time_format
        )
    for sentence in found.said:
        console.print(sentence, soft_wrap=True, highlight=False)
    with console.status("") as status:
        measured = measure(
            found.family,
            found.episode.query,
            way=found.episode.way,
            shots=shots_of(found.family.info, found.episode),
            tasks=tasks,
            watch=lambda name, shot: status.update(f"{name}, {shot} shots"),
        )
    console.print(_baselines_table(measured, found.family.info))
    console.print(conclusion(measured), soft_wrap=True, highlight=False)


def _one_kind(
    task: str | None,
    series: Sequence[str] | None,
    time: str | None,
    predict: str | None,
    step: str | None,
    time_format: str | None,
) -> None:
    """Raise where the flags name neither tables nor series, or some of both."""
    of_series = {"--series": series, "--time": time, "--step": step, "--time-format": time_format}
    of_tables = {"--task": task, "--predict": predict}
    given = [[flag for flag, v in flags.items() if v] for flags in (of_tables, of_series)]
    wanted = "--task of the rows of a table, or --series and --time of time series"
    if all(given):
        raise SpaceError(f"found {given[0][0]} and {given[1][0]}; allowed: {wanted}")
    if not task and not (series and time):
        found = ", ".join([*given[0], *given[1]]) or "neither"
        raise SpaceError(f"found {found}; allowed: {wanted}")


def _kinds_table(kinds: Mapping[str, str]) -> Table:
    table = Table("kind", "columns", title="Columns")
    for kind in dict.fromkeys(kinds.values()):
        names = [name for name, own in kinds.items() if own == kind]
        table.add_row(kind, first_of(names, 20, None))
    return table


def _baselines_table(measured: Sequence[Measured], info: FamilyInfo) -> Table:
    from metatune.progress import show_score

    shots = sorted({one.shot for one in measured})
    table = Table("shared", "way of learning", title=f"{info.metric.name} on select tasks")
    for shot in shots:
        table.add_column(f"{shot} shots", justify="right")
    for name in dict.fromkeys(one.name for one in measured):
        own = {one.shot: one for one in measured if one.name == name}
        cells = []
        for shot in shots:
            mean, low, high = (
                show_score(value, info.metric.name)
                for value in (own[shot].score.mean, own[shot].score.low, own[shot].score.high)
            )
            cells.append(f"{mean} [{low}, {high}]")
        table.add_row(next(iter(own.values())).kind, name, *cells)
    return table
