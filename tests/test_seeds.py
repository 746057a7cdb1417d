"""Seeds: the same in every process, and different for different purposes."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from metatune.seeds import derive_seed

PURPOSES = st.lists(st.integers() | st.text(max_size=5), max_size=4).map(tuple)


def test_seeds_are_those_of_every_earlier_run() -> None:
    """Written down: another derivation would change the tasks and starts of all recorded runs."""
    assert derive_seed(0) == 3_456_079_177_858_693_020
    assert derive_seed(0, "select", 1, 7) == 3_068_228_396_260_720_819
    assert derive_seed(2**40, "trial", 1, "r1-0007", 0) == 2_401_066_107_263_629_302


@given(seed=st.integers(), purpose=PURPOSES)
def test_a_seed_fits_into_63_bits(seed: int, purpose: tuple[int | str, ...]) -> None:
    assert 0 <= derive_seed(seed, *purpose) < 2**63


@given(
    one=st.tuples(st.integers(), PURPOSES),
    other=st.tuples(st.integers(), PURPOSES),
)
def test_different_purposes_and_no_others_have_different_seeds(
    one: tuple[int, tuple[int | str, ...]], other: tuple[int, tuple[int | str, ...]]
) -> None:
    assert (derive_seed(one[0], *one[1]) == derive_seed(other[0], *other[1])) == (one == other)


def test_parts_are_kept_apart() -> None:
    purposes: list[tuple[int | str, ...]] = [
        ("ab",), ("a", "b"), ("a\x1fb",), ("a'\x1f'b",), (1,), ("1",), (1, 2), (12,), (),
    ]  # fmt: skip
    assert len({derive_seed(0, *purpose) for purpose in purposes}) == len(purposes)


def test_seeds_of_neighbouring_tasks_have_nothing_in_common() -> None:
    seeds = [derive_seed(0, "select", 1, task) for task in range(2000)]
    assert len(set(seeds)) == 2000
    assert 0.47 < sum(seed >> 62 for seed in seeds) / 2000 < 0.53
    assert 30 < sum((a ^ b).bit_count() for a, b in pairwise(seeds)) / 1999 < 33  # of 63 bits


def test_another_process_derives_the_same_seed() -> None:
    code = "from metatune.seeds import derive_seed; print(derive_seed(3, 'train', 5))"
    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        there = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(there.stdout) == derive_seed(3, "train", 5)
