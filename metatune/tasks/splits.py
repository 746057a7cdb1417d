"""Which groups belong to which split, by a rule that looks at their names and sizes only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from metatune.errors import DataError, OptionError, first_of
from metatune.statistics import MIN_GROUPS
from metatune.tasks.base import SPLITS, FamilyInfo, Split

FEW_GROUPS = 12  # fewer make each split hang on one or two of them
LARGEST = 8  # one group in so many, the largest, belongs into train
GIANT = 0.25  # and so does whatever group has more than this share of the tasks
HELD_OUT: tuple[Split, ...] = ("test", "select", "confirm")  # in the order in which they are dealt
SHARES = {"train": 0.5, "select": 0.2, "confirm": 0.1, "test": 0.2}
"""Of each split, where nothing else is declared."""


def group_splits(
    family: str,
    sizes: Mapping[str, int],
    shares: Mapping[str, float],
    one: str = "without a group column each task is a group",
    fold: int = 0,
) -> dict[Split, tuple[str, ...]]:
    """The groups of each split.

    The largest groups stay in ``train``, for no held-out split should hang on one of them: an
    eighth of the groups, one at least, and each that has over a quarter of the tasks. An eighth is
    told by rank, for one more group hardly changes it, while a bound on sizes alone would let many
    pass at once; over a quarter are three at most. The others *rotate*. They stand in the order of
    the sha256 of their names; the first are ``test``, then ``select``, then ``confirm``, then
    ``train``: borders lie where the shares, added up, put them, with at least one group each. So a
    further group moves at most two across each border (and two more for each group that has no
    longer over a quarter of the tasks).

    Another fold begins elsewhere in that order and goes on from its end to its beginning: fold 1
    where the ``test`` of fold 0 ends, and so on. The last fold's ``test`` is what is left, so each
    rotating group is in ``test`` of exactly one fold; see ``folds``.

    Args:
        family: its name, for the error.
        sizes: number of tasks (or classes) of each group.
        shares: of each split; together 1.
        one: what a group is without a level or column of groups, for the error.
        fold: from 0 to ``folds(sizes, shares) - 1``.

    Raises:
        DataError: fewer than four groups.
        OptionError: there is no such fold.
    """
    if len(sizes) < len(SPLITS):
        names = ", ".join(sorted(sizes)) or "none"
        raise DataError(
            f"{family}: found {len(sizes)} groups ({names[:200]}); allowed: 4 or more, one a split "
            f"({one})"
        )
    order = _order(sizes, shares)
    if not 0 <= fold < order.folds:
        told = f"{len(order.rotating)} groups rotate, {order.ends[0]} at a time in test"
        raise OptionError(family, "fold", str(fold), f"0 to {order.folds - 1} ({told})")
    begin = fold * order.ends[0]
    turned = order.rotating[begin:] + order.rotating[:begin]
    # The last fold may have fewer groups left to test; the others keep their numbers.
    fewer = max(0, begin + order.ends[0] - len(turned))
    borders = [0, *(end - fewer for end in order.ends)]
    found = {
        split: turned[start:end]
        for split, (start, end) in zip(HELD_OUT, pairwise(borders), strict=True)
    } | {"train": order.largest + turned[borders[-1] :]}
    return {split: tuple(sorted(found[split])) for split in SPLITS}


def folds(sizes: Mapping[str, int], shares: Mapping[str, float]) -> int:
    """How many folds there are: the rotating groups by those in ``test``, rounded up; 2 or more.

    Args:
        sizes: number of tasks (or classes) of each group, four groups or more.
        shares: of each split; together 1.
    """
    return _order(sizes, shares).folds


def few_groups(
    info: FamilyInfo, shares: Mapping[str, float], fold: int | None = None
) -> Iterator[str]:
    """A note where splits hang on a few groups, or tasks on one: what the splits are, and that they
    rotate.

    Args:
        info: whose groups they are.
        shares: of each split.
        fold: the one at hand; None: they do not rotate.
    """
    sizes = {group: size for split in SPLITS for group, size in info.groups[split].items()}
    giants = _giants(sizes)
    if len(sizes) < FEW_GROUPS:
        told = "; ".join(f"{s} has {', '.join(info.groups[s])}" for s in SPLITS)
        yield (
            f"With {len(sizes)} groups, fewer than {FEW_GROUPS}, results hang on how they fall: "
            f"{told}. A claim about new groups takes {MIN_GROUPS} in test."
        )
    if giants:
        total = sum(sizes.values())
        told = ", ".join(f"{name:.40} ({100 * sizes[name] / total:.0f} %)" for name in giants)
        yield f"Over a quarter of the tasks are of one group: {told}."
    if fold is not None and (giants or len(sizes) < FEW_GROUPS):
        order = _order(sizes, shares)
        yield (
            f"Splits rotate over {order.folds} folds, of which this is fold {fold}: each group is "
            f"in test once, but for the largest, {first_of(order.largest)}, in train. "
            "All of them: metatune run SPACE.yaml --folds."
        )


@dataclass(frozen=True)
class _Order:
    """Groups as they are dealt out.

    Attributes:
        largest: those that stay in ``train``.
        rotating: the others, by the hashes of their names.
        ends: how many of these are in ``test``; in ``test`` and ``select``; in all three held-out
            splits.
    """

    largest: tuple[str, ...]
    rotating: tuple[str, ...]
    ends: tuple[int, ...]

    @property
    def folds(self) -> int:
        return -(-len(self.rotating) // self.ends[0])


def _order(sizes: Mapping[str, int], shares: Mapping[str, float]) -> _Order:
    count, giants = len(sizes), len(_giants(sizes))
    # Room for one group of each held-out split, and for as many as there have to be in train.
    room = max(len(HELD_OUT), count - max(1, giants))
    ends, share = [0], 0.0
    for behind, split in zip((2, 1, 0), HELD_OUT, strict=True):
        share += shares[split]
        # At least one group for this split, and for each of those behind it.
        ends.append(min(max(ends[-1] + 1, round(share * count)), room - behind))
    by_size = sorted(sizes, key=lambda group: (-sizes[group], _hash(group)))
    largest = by_size[: min(count - ends[-1], max(1, count // LARGEST, giants))]
    rotating = sorted(set(sizes) - set(largest), key=_hash)
    return _Order(tuple(largest), tuple(rotating), tuple(ends[1:]))


def _giants(sizes: Mapping[str, int]) -> list[str]:
    """The groups with over a quarter of the tasks, three at most."""
    total = sum(sizes.values())
    return [group for group, size in sizes.items() if size > GIANT * total]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
