"""Commands that say what there is: `families` and `strategies`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from metatune.cli.shared import console
from metatune.cli.tables import groups_table, shape

if TYPE_CHECKING:
    from metatune.tasks.base import Episode, TaskFamily


def families(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME | SPACE.yaml]",
            help="The family whose tasks are shown; a space file for one that has to be told more.",
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Draw some tasks of `train` to this PNG file.")
    ] = None,
) -> None:
    """List the task families, or show the tasks of one."""
    if what is None and png is not None:
        raise typer.BadParameter("name the family to draw from", param_hint="--png")
    _show_tasks(what, png) if what is not None else _list_families()


def strategies() -> None:
    """List the published strategies, the presets."""
    from metatune.presets import PRESETS

    table = Table("preset", "what it is")
    for name, function in PRESETS.items():
        table.add_row(name, (function.__doc__ or "").strip().partition("\n\n")[0])
    console.print(table)


def _show_tasks(what: str, png: Path | None) -> None:
    from metatune.samples import draw_samples
    from metatune.session import tasks_of
    from metatune.tasks.base import notes_of

    family, episode = tasks_of(what)
    console.print(family.info.about, soft_wrap=True, highlight=False)
    console.print(_tasks_table(family, episode))
    console.print(groups_table(family.info))
    for sentence in notes_of(family, episode):
        console.print(f"Note: {sentence}", soft_wrap=True, highlight=False)
    if png is not None:
        shown = draw_samples(family, episode, png)
        console.print(f"Written: {png} ({shown})", soft_wrap=True, highlight=False)


def _list_families() -> None:
    from metatune.errors import DataError, OptionError
    from metatune.space.families import OWN
    from metatune.tasks.registry import family_names, open_family

    table = Table("family", "predicts", "judged by", "tasks")
    for name in family_names():
        try:
            info = open_family(name).info
        except OptionError:
            table.add_row(name, *OWN[name].unopened)
            continue
        except DataError as error:
            table.add_row(name, "", "", f"data not found: {error}")
            continue
        table.add_row(name, info.kind, info.metric.name, info.about)
    console.print(table)


def _tasks_table(family: TaskFamily, episode: Episode) -> Table:
    from metatune.tasks.base import SPLITS

    info = family.info
    table = Table("what", "value", title="Tasks")
    better = "higher" if info.metric.sign > 0 else "lower"
    table.add_row("predicts", info.kind)
    table.add_row("inputs", "x".join(str(size) for size in info.input_shape))
    table.add_row("judged by", f"{info.metric.name}, {better} is better")
    table.add_row("baselines", ", ".join(info.baselines) or "none")
    table.add_row("tasks", shape(episode))
    if not info.grouped:
        table.add_row("groups", "none of their own")
    of_images = info.kind == "classification" and len(info.input_shape) == 3
    counted = "classes" if of_images else "tasks"
    for split in SPLITS:
        sizes = sorted(info.groups[split].values())
        usable = len(family.usable_groups(split, episode))
        table.add_row(
            f"{counted} of {split}",
            f"{sum(sizes)}, {sizes[0]} to {sizes[-1]} a group; {usable} of {len(sizes)} groups "
            "have such tasks",
        )
    return table
