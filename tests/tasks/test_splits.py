"""Which groups belong to which split, and how splits rotate."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from families import family
from hypothesis import example, given
from hypothesis import strategies as st

from metatune.errors import OptionError
from metatune.tasks.base import SPLITS
from metatune.tasks.splits import SHARES, few_groups, folds, group_splits

SIZES = st.dictionaries(st.text(max_size=6), st.integers(1, 500), min_size=4, max_size=60)
EVEN = {"train": 0.25, "select": 0.25, "confirm": 0.25, "test": 0.25}
HELD_OUT = {"train": 0.1, "select": 0.1, "confirm": 0.1, "test": 0.7}
DECLARED = st.sampled_from([SHARES, EVEN, HELD_OUT])


def all_folds(sizes, shares):
    return [group_splits("table", sizes, shares, fold=f) for f in range(folds(sizes, shares))]


def over_a_quarter(sizes):
    return {group for group, size in sizes.items() if 4 * size > sum(sizes.values())}


@given(sizes=SIZES, extra=st.text(min_size=7, max_size=9))
@example(  # two of twice the mean, and two more once another is there
    sizes={
        "": 1, ";": 381, ":": 210, "9": 240, "8": 10, "00": 121, "7": 499, "6": 31, "5": 465,
        "4": 228, "3": 235, "2": 261, "1": 53, "00000": 1, "000": 379, "0000": 1, "0": 293,
    },
    extra="00000000",
)  # fmt: skip
@example(sizes={"a": 100, "b": 100, "c": 100, "d": 50, "e": 49}, extra="f")  # a quarter, and not
def test_splits_hold_every_group_once_in_about_the_declared_shares(sizes, extra) -> None:
    splits = group_splits("table", sizes, SHARES)
    listed = [group for members in splits.values() for group in members]
    assert sorted(listed) == sorted(sizes)
    for split, share in SHARES.items():
        assert len(splits[split]) >= 1
        assert abs(len(splits[split]) - share * len(sizes)) <= 3
    after = {**sizes, extra: 1}
    shrunk = len(over_a_quarter(sizes) - over_a_quarter(after))
    assert moved(splits, group_splits("table", after, SHARES)) <= 6 + 6 * shrunk


def moved(before, after) -> int:
    """How many groups are in another split than before."""
    of = {group: split for split, members in before.items() for group in members}
    return sum(of.get(g, split) != split for split, members in after.items() for g in members)


def test_the_largest_groups_stay_in_train() -> None:
    sizes = {f"g{n}": 1 for n in range(40)} | {f"large{n}": 50 for n in range(5)}
    assert {f"large{n}" for n in range(5)} <= set(group_splits("table", sizes, SHARES)["train"])


@given(small=st.integers(3, 12), large=st.integers(1, 3), shares=DECLARED)
def test_so_does_any_group_with_over_a_quarter_of_the_tasks(small, large, shares) -> None:
    sizes = {f"g{n}": 1 for n in range(small)} | {f"large{n}": 100 for n in range(large)}
    for splits in all_folds(sizes, shares):
        assert {f"large{n}" for n in range(large)} <= set(splits["train"])


def test_the_shares_are_those_that_are_declared() -> None:
    splits = group_splits("table", {f"g{n}": 1 for n in range(40)}, EVEN)
    assert [len(splits[split]) for split in SPLITS] == [10] * 4


# --- folds ---------------------------------------------------------------------------------------


@given(sizes=SIZES, shares=DECLARED)
def test_over_the_folds_each_group_is_in_test_once_or_always_in_train(sizes, shares) -> None:
    rotated = all_folds(sizes, shares)
    assert len(rotated) >= 2
    for splits in rotated:
        assert all(splits.values())
        assert sorted(g for members in splits.values() for g in members) == sorted(sizes)
    tested = [group for splits in rotated for group in splits["test"]]
    assert len(set(tested)) == len(tested)
    always = set.intersection(*(set(splits["train"]) for splits in rotated))
    never = set(sizes) - set(tested)
    assert never <= always
    assert max(sizes.values()) in {sizes[group] for group in never}
    assert len(never) <= max(1, len(sizes) // 8, len(over_a_quarter(sizes)))


@given(sizes=SIZES, shares=DECLARED)
def test_folds_are_as_large_as_the_first_but_for_the_last_ones_test(sizes, shares) -> None:
    first, *others = all_folds(sizes, shares)
    assert first == group_splits("table", sizes, shares)
    for splits in others:
        for split in ("select", "confirm"):
            assert len(splits[split]) == len(first[split])
        assert len(splits["test"]) <= len(first["test"])
    for splits in others[:-1]:
        assert len(splits["test"]) == len(first["test"])


def test_the_first_fold_is_what_it_has_always_been() -> None:
    splits = group_splits("table", {f"g{n:02d}": 1 + n % 3 for n in range(13)}, SHARES)
    assert splits == {
        "train": ("g02", "g04", "g06", "g07", "g09", "g10", "g11"),
        "select": ("g08", "g12"),
        "confirm": ("g05",),
        "test": ("g00", "g01", "g03"),
    }


@given(sizes=SIZES, extra=st.text(min_size=7, max_size=9), data=st.data())
def test_a_further_group_moves_few_groups_of_any_fold(sizes, extra, data) -> None:
    after = {**sizes, extra: 1}
    both = min(folds(sizes, SHARES), folds(after, SHARES))
    fold = data.draw(st.integers(0, both - 1))
    before, then = (group_splits("table", own, SHARES, fold=fold) for own in (sizes, after))
    shrunk = len(over_a_quarter(sizes) - over_a_quarter(after))
    # Each fold before it may have one more in test, at the beginning and at the end of four splits.
    assert moved(before, then) <= (6 + 6 * shrunk) * (fold + 1)


@pytest.mark.parametrize("fold", [-1, 5, 99])
def test_a_fold_that_is_not_there_is_refused(fold: int) -> None:
    told = f"table: fold: found {fold}; allowed: 0 to 4 (9 groups rotate, 2 at a time in test)"
    with pytest.raises(OptionError, match=re.escape(told)):
        group_splits("table", {f"g{n}": 1 for n in range(10)}, SHARES, fold=fold)


def info(sizes, fold=0):
    splits = group_splits("table", sizes, SHARES, fold=fold)
    groups = {split: {group: sizes[group] for group in splits[split]} for split in SPLITS}
    return replace(family("regression", (3,), grouped=True), groups=groups)


def test_a_note_says_that_few_groups_rotate_and_how_to_run_all_folds() -> None:
    few = {f"g{n}": 1 for n in range(9)} | {"big": 2}
    told = " ".join(few_groups(info(few, fold=3), SHARES, 3))
    assert told.startswith("With 10 groups, fewer than 12, results hang on how they fall: train")
    assert "Splits rotate over 5 folds, of which this is fold 3" in told
    assert "but for the largest, big, in train." in told
    assert "metatune run SPACE.yaml --folds" in told
    assert "rotate" not in " ".join(few_groups(info(few), SHARES))  # where there is one fold only


def test_a_note_names_a_group_with_over_a_quarter_of_the_tasks() -> None:
    even = {f"g{n:02d}": 3 for n in range(15)}
    assert not list(few_groups(info({**even, "large": 15}), SHARES, 0))
    first, second = few_groups(info({**even, "large": 16}), SHARES, 0)
    assert first == "Over a quarter of the tasks are of one group: large (26 %)."
    assert "Splits rotate over 5 folds" in second
