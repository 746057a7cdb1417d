"""Which groups belong to which split."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from metatune.tasks.base import SPLITS
from metatune.tasks.splits import SHARES, group_splits


@given(
    sizes=st.dictionaries(st.text(max_size=6), st.integers(1, 500), min_size=4, max_size=60),
    extra=st.text(min_size=7, max_size=9),
)
@example(  # two of twice the mean, and two more once another is there
    sizes={
        "": 1, ";": 381, ":": 210, "9": 240, "8": 10, "00": 121, "7": 499, "6": 31, "5": 465,
        "4": 228, "3": 235, "2": 261, "1": 53, "00000": 1, "000": 379, "0000": 1, "0": 293,
    },
    extra="00000000",
)  # fmt: skip
def test_splits_hold_every_group_once_in_about_the_declared_shares(sizes, extra) -> None:
    splits = group_splits("table", sizes, SHARES)
    listed = [group for members in splits.values() for group in members]
    assert sorted(listed) == sorted(sizes)
    for split, share in SHARES.items():
        assert len(splits[split]) >= 1
        assert abs(len(splits[split]) - share * len(sizes)) <= 3
    after = group_splits("table", {**sizes, extra: 1}, SHARES)
    before = {group: split for split, members in splits.items() for group in members}
    moved = [
        g for split, members in after.items() for g in members if g != extra and before[g] != split
    ]
    assert len(moved) <= 6


def test_the_largest_groups_stay_in_train() -> None:
    sizes = {f"g{n}": 1 for n in range(40)} | {f"large{n}": 50 for n in range(5)}
    assert {f"large{n}" for n in range(5)} <= set(group_splits("table", sizes, SHARES)["train"])


def test_the_shares_are_those_that_are_declared() -> None:
    shares = {"train": 0.25, "select": 0.25, "confirm": 0.25, "test": 0.25}
    splits = group_splits("table", {f"g{n}": 1 for n in range(40)}, shares)
    assert [len(splits[split]) for split in SPLITS] == [10] * 4
