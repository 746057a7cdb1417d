"""Folds of whole groups, for what must not have seen an episode's group."""

from __future__ import annotations

from metatune.strategy import Strategy
from metatune.tasks.base import FamilyInfo


def fold_of_group(strategy: Strategy, info: FamilyInfo) -> dict[str, int]:
    """The fold of each train group; empty where the strategy does not cross-fit.

    Largest group first, each to the fold that has the fewest tasks (or classes) so far: folds are
    as even as whole groups allow, and the same in every process.
    """
    sizes = [0] * strategy.folds(info)
    found: dict[str, int] = {}
    if not sizes:
        return found
    for group, size in sorted(info.groups["train"].items(), key=lambda item: (-item[1], item[0])):
        fold = sizes.index(min(sizes))
        found[group] = fold
        sizes[fold] += size
    return found
