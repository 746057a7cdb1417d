"""Which groups belong to which split, by a rule that looks at their names and sizes only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import pairwise

from metatune.errors import DataError
from metatune.statistics import MIN_GROUPS
from metatune.tasks.base import SPLITS, FamilyInfo, Split

FEW_GROUPS = 12  # fewer make each split hang on one or two of them
LARGEST = 8  # one group in so many, the largest, belongs into train
SHARES = {"train": 0.5, "select": 0.2, "confirm": 0.1, "test": 0.2}
"""Of each split, where nothing else is declared."""


def group_splits(
    family: str,
    sizes: Mapping[str, int],
    shares: Mapping[str, float],
    one: str = "without a group column each task is a group",
) -> dict[Split, tuple[str, ...]]:
    """The groups of each split.

    The largest eighth of the groups, one at least, stays in ``train``: no held-out split should
    hang on one of them. They are told by their rank, for one more group hardly changes it, while a
    bound on their size would let many pass at once. The others stand in the order of the
    sha256 of their names; the first are ``test``, then ``select``, then ``confirm``, then
    ``train``: borders lie where the shares, added up, put them, with at least one group each. So a
    further group moves at most two across each border.

    Args:
        family: its name, for the error.
        sizes: number of tasks (or classes) of each group.
        shares: of each split; together 1.
        one: what a group is without a level or column of groups, for the error.

    Raises:
        DataError: fewer than four groups.
    """
    if len(sizes) < len(SPLITS):
        names = ", ".join(sorted(sizes)) or "none"
        raise DataError(
            f"{family}: found {len(sizes)} groups ({names[:200]}); allowed: 4 or more, one a split "
            f"({one})"
        )
    held_out: tuple[Split, ...] = ("test", "select", "confirm")
    ends, share = [0], 0.0
    for behind, split in zip((3, 2, 1), held_out, strict=True):
        share += shares[split]
        # At least one group for this split, and for each of those behind it.
        ends.append(min(max(ends[-1] + 1, round(share * len(sizes))), len(sizes) - behind))
    by_size = sorted(sizes, key=lambda group: (-sizes[group], _hash(group)))
    large = by_size[: min(len(sizes) - ends[-1], max(1, len(sizes) // LARGEST))]
    others = sorted(set(sizes) - set(large), key=_hash)
    found = {
        split: others[start:end]
        for split, (start, end) in zip(held_out, pairwise(ends), strict=True)
    } | {"train": [*large, *others[ends[-1] :]]}
    return {split: tuple(sorted(found[split])) for split in SPLITS}


def few_groups(info: FamilyInfo) -> Iterator[str]:
    """A note where splits hang on one or two groups each."""
    groups = sum(len(of_split) for of_split in info.groups.values())
    if groups < FEW_GROUPS:
        told = "; ".join(f"{s} has {', '.join(info.groups[s])}" for s in SPLITS)
        yield (
            f"With {groups} groups, fewer than {FEW_GROUPS}, results hang on how they fall: "
            f"{told}. A claim about new groups takes {MIN_GROUPS} in test."
        )


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
