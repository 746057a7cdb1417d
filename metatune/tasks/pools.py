"""What the groups of a split have to draw from, and draws from it for many tasks at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from metatune.errors import DataError, first_of
from metatune.tasks.base import Split
from metatune.tasks.draws import Seeds, Whole, below


@dataclass(frozen=True)
class Pool:
    """The members (tasks, classes, series) of a split that can be drawn, group by group.

    Attributes:
        groups: names of those that have any.
        first: ``(G + 1,)``: group g's members are ``members[first[g]:first[g + 1]]``.
        members: numbers that mean something to the family.
    """

    groups: tuple[str, ...]
    first: Whole
    members: Whole

    @staticmethod
    def of(members: Mapping[str, Sequence[int]]) -> Pool:
        """From the members of each group; groups without any are left out."""
        some = {group: own for group, own in members.items() if len(own)}
        return Pool(
            tuple(some),
            np.cumsum([0, *(len(own) for own in some.values())]),
            np.array([member for own in some.values() for member in own], np.int64),
        )

    @cached_property
    def place(self) -> Mapping[str, int]:
        """The number of each group."""
        return {group: number for number, group in enumerate(self.groups)}

    def draw_groups(
        self, family: str, split: Split, seeds: Seeds, groups: Sequence[str] | None
    ) -> Whole:
        """``(T,)`` numbers of groups: those that are named, else one drawn evenly for each seed.

        Raises:
            DataError: there is no group, one is named that is none, or not one a seed.
        """
        unknown = [group for group in groups or () if group not in self.place]
        if not self.groups or unknown or (groups is not None and len(groups) != len(seeds)):
            found = f"groups {first_of(unknown) or 'none'} for {len(seeds)} seeds"
            allowed = f"one of the split {split!r} a seed: {first_of(self.groups) or 'none'}"
            raise DataError(f"{family}: found {found}; allowed: {allowed}")
        if groups is None:
            return below(seeds, 1, len(self.groups))
        return np.array([self.place[name] for name in groups], np.int64)

    def draw(self, seeds: Seeds, purpose: int, group: Whole) -> Whole:
        """``(T,)`` places in ``members``: one of its group's, drawn evenly for each seed."""
        return self.first[group] + below(seeds, purpose, self.sizes(group))

    def sizes(self, group: Whole) -> Whole:
        """``(T,)``: how many members each of these groups has."""
        found: Whole = self.first[group + 1] - self.first[group]
        return found

    def names(self, group: Whole) -> tuple[str, ...]:
        """The names of groups by their numbers."""
        return tuple(self.groups[number] for number in group.tolist())
