"""All groups of a family as one split: what a strategy is refitted on once its score is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from metatune.errors import DataError
from metatune.tasks.base import SPLITS, Episode, FamilyInfo, Split, TaskBatch, TaskFamily
from metatune.tasks.draws import below


class WholeFamily:
    """A family whose ``train`` has the groups of all splits; it has no other split.

    Each group's tasks are those that its own split draws: of time series, in that split's time.

    Args:
        family: whose.
    """

    def __init__(self, family: TaskFamily) -> None:
        self._family = family
        info = family.info
        home = [(split, group) for split in SPLITS for group in info.groups[split]]
        names = [group for _, group in home]
        self._home: dict[str, tuple[Split, str]] = {
            group if names.count(group) == 1 else f"{split}: {group}": (split, group)
            for split, group in home
        }
        sizes = {name: info.groups[split][group] for name, (split, group) in self._home.items()}
        self._first_class = _first_classes(info)
        self.info = replace(
            info,
            groups={"train": sizes, "select": {}, "confirm": {}, "test": {}},
            train_classes=self._first_class["end"] or info.train_classes,
        )

    @property
    def fingerprint(self) -> str:
        """The family's: its data are the same."""
        return self._family.fingerprint

    def check(self, episode: Episode) -> None:
        """Raise DataError unless every split of the family can draw such tasks."""
        self._family.check(episode)

    def usable_groups(self, split: Split, episode: Episode) -> tuple[str, ...]:
        """The groups of all splits that can hold such a task."""
        if split != "train":
            raise DataError(
                f"{self.info.name}: found split {split!r}; allowed: train, which is all"
            )
        usable = {s: set(self._family.usable_groups(s, episode)) for s in SPLITS}
        return tuple(name for name, (s, group) in self._home.items() if group in usable[s])

    def sample(
        self,
        split: Split,
        episode: Episode,
        seeds: Sequence[int],
        groups: Sequence[str] | None = None,
    ) -> TaskBatch:
        """Draw one task a seed; each draws its group evenly where none is given."""
        if groups is None:
            usable = self.usable_groups(split, episode)
            drawn = below(np.array([int(seed) for seed in seeds], np.uint64), 1, len(usable))
            groups = [usable[number] for number in drawn.tolist()]
        homes = [self._home[name] for name in groups]
        parts: list[tuple[list[int], TaskBatch]] = []
        for own in SPLITS:
            places = [place for place, (home, _) in enumerate(homes) if home == own]
            if places:
                of_split = [homes[place][1] for place in places]
                part = self._family.sample(own, episode, [seeds[p] for p in places], of_split)
                parts.append((places, _counted_on(part, self._first_class[own])))
        return _merged(parts, tuple(groups))


def _first_classes(info: FamilyInfo) -> Mapping[str, int]:
    """The number of each split's first class among the classes of all; at the ``end``, of all."""
    own = info.kind == "classification" and not info.shared_classes
    counts = [sum(info.groups[split].values()) if own else 0 for split in SPLITS]
    return dict(zip((*SPLITS, "end"), np.cumsum([0, *counts]).tolist(), strict=True))


def _counted_on(batch: TaskBatch, first: int) -> TaskBatch:
    if batch.support_class is None or batch.query_class is None:
        return batch
    return replace(
        batch, support_class=batch.support_class + first, query_class=batch.query_class + first
    )


def _merged(parts: Sequence[tuple[list[int], TaskBatch]], groups: tuple[str, ...]) -> TaskBatch:
    """One batch of tasks that were drawn apart, each at its place."""
    order = np.argsort([place for places, _ in parts for place in places])
    whole: dict[str, Any] = {}
    for field in fields(TaskBatch):
        each = [getattr(batch, field.name) for _, batch in parts]
        if isinstance(each[0], np.ndarray):
            whole[field.name] = np.concatenate(each)[order]
        elif isinstance(each[0], tuple):
            named = [name for own in each for name in own]
            whole[field.name] = tuple(named[place] for place in order.tolist())
        else:
            whole[field.name] = each[0]
    return TaskBatch(**{**whole, "groups": groups})
