"""The task diet: training tasks have the test's shape but for what the diet names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.strategy import Diet
from metatune.tasks.base import Episode

FIVE_WAY = Episode(5, 1, 5)


def test_a_diet_changes_only_what_it_names() -> None:
    assert Diet().episode(FIVE_WAY) == FIVE_WAY
    assert Diet(way=20).episode(FIVE_WAY) == Episode(20, 1, 5)
    assert Diet(shot=3, query=2).episode(FIVE_WAY) == Episode(5, 3, 2)


@pytest.mark.parametrize(("progress", "expected"), [
    (0.0, Episode(2, 9, 5)), (0.25, Episode(11, 5, 5)), (0.5, Episode(20, 1, 5)),
    (1.0, Episode(20, 1, 5)),
])  # fmt: skip
def test_a_curriculum_moves_to_its_end_over_the_first_half(
    progress: float, expected: Episode
) -> None:
    assert Diet(way=20, start_way=2, start_shot=9).episode(FIVE_WAY, progress) == expected


@given(
    diet=st.builds(
        Diet,
        way=st.none() | st.integers(1, 50),
        start_way=st.none() | st.integers(1, 50),
        start_shot=st.none() | st.integers(1, 50),
    ),
    progress=st.floats(0, 1),
)
def test_the_ends_that_are_checked_bound_every_episode_between(diet: Diet, progress: float) -> None:
    found, ends = diet.episode(FIVE_WAY, progress), diet.episodes(FIVE_WAY)
    for size in ("way", "shot", "query"):
        low, high = sorted(getattr(end, size) for end in ends)
        assert low <= getattr(found, size) <= high


def test_without_a_curriculum_all_training_tasks_are_alike() -> None:
    assert set(Diet(way=20).episodes(FIVE_WAY)) == {Episode(20, 1, 5)}
