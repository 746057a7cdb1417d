"""Folds: whole groups, as even as they allow, the same in every process."""

from __future__ import annotations

from dataclasses import replace

from families import MOLECULES, TABLES
from hypothesis import given
from hypothesis import strategies as st

from metatune.learners.cross_fit import fold_of_group
from metatune.strategy import GP, MLP, Meta, Strategy

GROUPS = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 50), min_size=2)


def strategy_of(folds: int) -> Strategy:
    return Strategy(backbone=MLP(), head=GP(), meta=Meta(folds=folds))


@given(groups=GROUPS, folds=st.integers(2, 6))
def test_every_group_has_its_fold_and_folds_differ_by_no_more_than_a_group(
    groups: dict[str, int], folds: int
) -> None:
    info = replace(MOLECULES, groups={**MOLECULES.groups, "train": groups})
    found = fold_of_group(strategy_of(folds), info)
    assert found.keys() == groups.keys()
    sizes = [0] * min(folds, len(groups))
    for group, fold in found.items():
        sizes[fold] += groups[group]
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= max(groups.values())


@given(groups=GROUPS)
def test_the_order_in_which_groups_are_named_does_not_matter(groups: dict[str, int]) -> None:
    backwards = dict(reversed(groups.items()))
    one, other = (
        fold_of_group(
            strategy_of(3), replace(MOLECULES, groups={**MOLECULES.groups, "train": named})
        )
        for named in (groups, backwards)
    )
    assert one == other


def test_without_cross_fitting_there_are_no_folds() -> None:
    assert fold_of_group(strategy_of(2), TABLES) == {}
    never = strategy_of(2).model_copy(update={"meta": Meta(cross_fit="none")})
    assert fold_of_group(never, MOLECULES) == {}
