"""Pools: what the groups of a split have to draw from."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.errors import DataError, first_of
from metatune.tasks.pools import Pool

POOL = Pool.of({"a": [4, 7], "empty": [], "b": [1], "c": [2, 3, 9]})
SEEDS = np.arange(3_000, dtype=np.uint64)


def test_groups_without_members_are_left_out() -> None:
    assert POOL.groups == ("a", "b", "c")
    assert POOL.members.tolist() == [4, 7, 1, 2, 3, 9]
    assert POOL.sizes(np.arange(3)).tolist() == [2, 1, 3]


def test_groups_are_drawn_evenly_and_then_their_members() -> None:
    group = POOL.draw_groups("family", "train", SEEDS, None)
    assert all(900 < n < 1100 for n in Counter(group.tolist()).values())
    members = POOL.members[POOL.draw(SEEDS, 2, group)]
    of_c = Counter(members[group == 2].tolist())
    assert of_c.keys() == {2, 3, 9}
    assert all(280 < n < 390 for n in of_c.values())


@given(seeds=st.lists(st.integers(0, 2**63), min_size=1, max_size=6), place=st.integers(0, 5))
def test_a_draw_follows_from_its_own_seed_alone(seeds: list[int], place: int) -> None:
    place %= len(seeds)
    beside, alone = np.array(seeds, np.uint64), np.array(seeds[place : place + 1], np.uint64)
    for groups in (None, ["c"] * len(seeds)):
        group = POOL.draw_groups("family", "train", beside, groups)
        own = POOL.draw_groups("family", "train", alone, groups and groups[:1])
        assert group[place] == own[0]
        assert POOL.draw(beside, 2, group)[place] == POOL.draw(alone, 2, own)[0]


def test_named_groups_are_taken_in_their_order() -> None:
    group = POOL.draw_groups("family", "train", SEEDS[:3], ["b", "c", "b"])
    assert POOL.names(group) == ("b", "c", "b")


@pytest.mark.parametrize(("pool", "groups", "told"), [
    (POOL, ["a", "empty"], "found groups empty for 2 seeds"),
    (POOL, ["a"], "found groups none for 2 seeds"),
    (Pool.of({"a": []}), None, "allowed: one of the split 'select' a seed: none"),
])  # fmt: skip
def test_groups_that_cannot_be_drawn_from_are_refused(
    pool: Pool, groups: list[str] | None, told: str
) -> None:
    with pytest.raises(DataError, match=f"family: .*{told}"):
        pool.draw_groups("family", "select", SEEDS[:2], groups)


def test_long_lists_of_names_are_cut_in_messages() -> None:
    assert first_of(["a", "b"]) == "a, b"
    assert first_of([str(n) for n in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    assert first_of(["x" * 50]) == "x" * 40
