"""Tables and phrases about tasks that several commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from metatune.errors import first_of

if TYPE_CHECKING:
    from metatune.tasks.base import Episode, FamilyInfo

NAMED = 30  # groups of a split that are listed by name


def groups_table(info: FamilyInfo) -> Table:
    from metatune.tasks.base import SPLITS

    table = Table("split", "groups", "effective groups", "names", title=f"Family {info.name}")
    for split in SPLITS:
        listed = [f"{group} ({size})" for group, size in info.groups[split].items()]
        names = first_of(listed, NAMED, None)
        count = len(info.groups[split])
        table.add_row(split, str(count), f"{info.effective_groups(split):.1f}", names)
    return table


def shape(episode: Episode) -> str:
    if not episode.per_class:
        fewer = "" if episode.fewest is None else f", fewer from {episode.least_examples} rows on"
        return f"{episode.shot} support and {episode.query} query rows{fewer}"
    return f"{episode.way}-way {episode.shot}-shot, {episode.query} query"
