"""What the groups of a split have to draw from, and draws from it for many tasks at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np

from metatune.errors import DataError, first_of
from metatune.tasks.base import SPLITS, Episode, Split
from metatune.tasks.draws import Seeds, Whole, below, hashed, without_replacement


class Labels(TypedDict):
    """What a ``TaskBatch`` says of labels and classes, each ``(T, examples)``."""

    support_y: Whole
    query_y: Whole
    support_class: Whole
    query_class: Whole


@dataclass(frozen=True)
class DrawnClasses:
    """``T`` N-way tasks; examples stand class by class: all of label 0, then all of label 1.

    Attributes:
        classes: ``(T, way)``, in the order of their labels.
        examples: ``(T, way, shot + query)``, those of the support set first.
        shot: of each class.
    """

    classes: Whole
    examples: Whole
    shot: int

    @property
    def support(self) -> Whole:
        """``(T, way * shot)`` examples."""
        return self.examples[:, :, : self.shot].reshape(len(self.examples), -1)

    @property
    def query(self) -> Whole:
        """``(T, way * query)`` examples."""
        return self.examples[:, :, self.shot :].reshape(len(self.examples), -1)

    def labelled(self, numbers: Whole) -> Labels:
        """The labels of a batch, and which classes they are.

        Args:
            numbers: ``(T, way)``: the number of each class among all that there are.
        """
        total, way, count = self.examples.shape
        labels = np.tile(np.arange(way), (total, 1))
        shot, query = self.shot, count - self.shot
        return {
            "support_y": labels.repeat(shot, axis=1),
            "query_y": labels.repeat(query, axis=1),
            "support_class": numbers.repeat(shot, axis=1),
            "query_class": numbers.repeat(query, axis=1),
        }


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

    def draw_classes(
        self, seeds: Seeds, group: Whole, start: Whole, episode: Episode
    ) -> DrawnClasses:
        """For each seed ``way`` members of its group, which are classes, and examples of each.

        Nothing is drawn twice. Uses up the purposes 2 to 4.

        Args:
            seeds: ``(T,)``.
            group: ``(T,)`` numbers; each has ``way`` members.
            start: the examples of class k are ``start[k]`` up to ``start[k + 1]``, as many as shot
                and query ask for.
            episode: the shape, by class.
        """
        way, count = episode.way, episode.shot + episode.query
        picked = without_replacement(seeds, 2, self.sizes(group), way)
        classes = self.members[self.first[group][:, None] + picked].ravel()
        each = hashed(seeds, 3, np.arange(way, dtype=np.uint64)).ravel()
        picked = without_replacement(each, 4, start[classes + 1] - start[classes], count)
        examples = start[classes][:, None] + picked
        shape = (len(seeds), way)
        return DrawnClasses(classes.reshape(shape), examples.reshape(*shape, count), episode.shot)

    def sizes(self, group: Whole) -> Whole:
        """``(T,)``: how many members each of these groups has."""
        found: Whole = self.first[group + 1] - self.first[group]
        return found

    def names(self, group: Whole) -> tuple[str, ...]:
        """The names of groups by their numbers."""
        return tuple(self.groups[number] for number in group.tolist())


def check_classes(
    family: str,
    episode: Episode,
    usable: Mapping[Split, bool],
    sizes: Mapping[Split, Sequence[Whole]],
    place: str,
    example: str,
) -> None:
    """Raise DataError, with what is at hand, unless every split can draw such N-way tasks.

    Args:
        family: its name, for the error.
        episode: the shape, by class.
        usable: whether the split has a place to draw from.
        sizes: of each split, the number of examples of each class of each place.
        place: what the classes of a task have in common: a group, a task.
        example: what classes are made of, in the plural.
    """
    way, count = episode.way, episode.shot + episode.query
    if way < 2 or episode.shot < 1 or episode.query < 1:
        raise DataError(
            f"{family}: found way {way}, shot {episode.shot}, query {episode.query}; "
            "allowed: way from 2, shot and query from 1"
        )
    for split in SPLITS:
        if not usable[split]:
            ways = {s: max(int((own >= count).sum()) for own in sizes[s]) for s in SPLITS}
            most = {s: max(_nth_largest(own, way) for own in sizes[s]) for s in SPLITS}
            raise DataError(
                f"{family}: no {place} of split {split!r} has {way} classes of {count} {example}, "
                f"shot and query together; allowed: way at most {min(ways.values())} "
                f"({_told(ways)}), or shot + query at most {min(most.values())} at way {way} "
                f"({_told(most)}), or other shares in splits"
            )


def _nth_largest(sizes: Whole, n: int) -> int:
    """0 where there are fewer."""
    return int(np.sort(sizes)[-n]) if len(sizes) >= n else 0


def _told(numbers: Mapping[Split, int]) -> str:
    return ", ".join(f"{split} {n}" for split, n in numbers.items())
