"""What a task of characters promises, on a family whose images tell their class and hand."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.errors import DataError
from metatune.tasks.base import SPLITS, Episode, TaskBatch
from metatune.tasks.images.characters import CharacterData, CharacterFamily, common_hand_sets

PROPERTY = settings(max_examples=50)
EPISODES = st.builds(
    Episode, way=st.integers(2, 6), shot=st.integers(1, 3), query=st.integers(1, 3)
)
SEEDS = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4)
SPLIT = st.sampled_from(SPLITS)


def class_and_hand(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.rint(x[:, :, 0, 0, :2] * 255).astype(int)
    return pixels[..., 0], pixels[..., 1]


def assert_same(a: TaskBatch, b: TaskBatch) -> None:
    for name, value in vars(a).items():
        np.testing.assert_array_equal(value, getattr(b, name), err_msg=name)


@PROPERTY
@given(episode=EPISODES, seeds=SEEDS, split=SPLIT)
def test_a_batch_has_the_shapes_and_types_that_base_promises(ragged, episode, seeds, split):
    tasks = ragged.sample(split, episode, seeds)
    total = len(seeds)
    assert len(tasks) == total == len(tasks.groups)
    for x, y, number, n in (
        (tasks.support_x, tasks.support_y, tasks.support_class, episode.n_support),
        (tasks.query_x, tasks.query_y, tasks.query_class, episode.n_query),
    ):
        assert x.shape == (total, n, 1, 28, 28)
        assert x.dtype == np.float32
        assert y.shape == number.shape == (total, n)
        assert y.dtype == number.dtype == np.int64


@PROPERTY
@given(episode=EPISODES, seeds=SEEDS, split=SPLIT)
def test_support_and_query_come_from_different_hands_for_the_whole_task(
    ragged, episode, seeds, split
):
    tasks = ragged.sample(split, episode, seeds)
    for support, query in zip(
        class_and_hand(tasks.support_x)[1], class_and_hand(tasks.query_x)[1], strict=True
    ):
        assert not set(support) & set(query)


@PROPERTY
@given(episode=EPISODES, seeds=SEEDS, split=SPLIT)
def test_no_image_is_twice_in_a_task(ragged, episode, seeds, split):
    tasks = ragged.sample(split, episode, seeds)
    for x in (tasks.support_x, tasks.query_x):
        for of_task in np.stack(class_and_hand(x), axis=-1):
            assert len({tuple(pair) for pair in of_task}) == len(of_task)


@PROPERTY
@given(episode=EPISODES, seeds=SEEDS, split=SPLIT)
def test_labels_stand_class_by_class_and_name_the_same_classes_in_support_and_query(
    ragged, episode, seeds, split
):
    tasks = ragged.sample(split, episode, seeds)
    np.testing.assert_array_equal(
        tasks.support_y, [np.repeat(np.arange(episode.way), episode.shot)] * len(seeds)
    )
    np.testing.assert_array_equal(
        tasks.query_y, [np.repeat(np.arange(episode.way), episode.query)] * len(seeds)
    )
    support = class_and_hand(tasks.support_x)[0].reshape(len(seeds), episode.way, -1)
    query = class_and_hand(tasks.query_x)[0].reshape(len(seeds), episode.way, -1)
    assert (support == support[..., :1]).all()
    assert (query == support[..., :1]).all()
    assert all(len(set(row)) == episode.way for row in support[..., 0])


@PROPERTY
@given(episode=EPISODES, seeds=SEEDS, split=SPLIT)
def test_a_task_stays_within_one_group_of_its_split(ragged, episode, seeds, split):
    tasks = ragged.sample(split, episode, seeds)
    names = ragged.class_names(split)
    sizes = ragged.info.groups[split]
    first = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    for t, group in enumerate(tasks.groups):
        assert group in ragged.usable_groups(split, episode)
        numbers = {*tasks.support_class[t], *tasks.query_class[t]}
        assert all(first[group] <= n < first[group] + sizes[group] for n in numbers)
        drawn = class_and_hand(tasks.support_x)[0][t]
        assert [names[n] for n in tasks.support_class[t]] == [f"c{c}" for c in drawn]


@PROPERTY
@given(episode=EPISODES, seeds=SEEDS, split=SPLIT, data=st.data())
def test_a_task_depends_on_its_own_seed_only(ragged, episode, seeds, split, data):
    order = data.draw(st.permutations(range(len(seeds))))
    tasks = ragged.sample(split, episode, seeds)
    shuffled = ragged.sample(split, episode, [seeds[i] for i in order])
    for t, i in enumerate(order):
        assert shuffled.ids[t] == tasks.ids[i]
        np.testing.assert_array_equal(shuffled.support_x[t], tasks.support_x[i])
        np.testing.assert_array_equal(shuffled.query_x[t], tasks.query_x[i])


@PROPERTY
@given(episode=EPISODES, seeds=SEEDS, split=SPLIT)
def test_naming_the_group_that_a_seed_draws_changes_nothing(ragged, episode, seeds, split):
    tasks = ragged.sample(split, episode, seeds)
    assert_same(tasks, ragged.sample(split, episode, seeds, groups=tasks.groups))


@PROPERTY
@given(bits=st.lists(st.integers(1, 255), min_size=1, max_size=9), data=st.data())
def test_every_task_that_a_group_can_hold_is_found_however_ragged_its_hands(bits, data):
    sets = common_hand_sets(bits)
    held = [s for s in sets if s.hands >= 2 and s.classes >= 2]
    if not held:
        return
    chosen = data.draw(st.sampled_from(held))
    family = of_patterns(bits)
    hands = chosen.hands - 1
    tasks = family.sample("train", Episode(chosen.classes, 1, hands), range(20))
    assert tasks.query_x.shape[1] == chosen.classes * hands
    more = max(s.classes for s in sets if s.hands >= chosen.hands) + 1
    assert family.usable_groups("train", Episode(more, 1, hands)) == ()


def of_patterns(bits: list[int]) -> CharacterFamily:
    """One group in ``train`` whose classes have the hands that ``bits`` say."""
    pairs = [(c, h) for c, pattern in enumerate(bits) for h in range(8) if pattern >> h & 1]
    classes, hands = np.array(pairs).T
    data = CharacterData(
        images=np.zeros((len(pairs), 28, 28), np.uint8),
        image_class=classes,
        image_hand=hands,
        class_names=np.array([str(c) for c in range(len(bits))]),
        class_group=np.zeros(len(bits), np.int64),
        group_names=np.array(["one"]),
    )
    splits = {"train": ("one",), "select": (), "confirm": (), "test": ()}
    return CharacterFamily("patterns", data, splits, "For tests.", "script", "typefaces")


def test_different_seeds_give_different_tasks_and_ids(ragged):
    tasks = ragged.sample("train", Episode(5, 1, 3), range(50))
    assert len(set(tasks.ids)) == 50
    assert len({x.tobytes() for x in tasks.support_x}) > 45


def test_class_order_and_groups_are_drawn_evenly(ragged):
    tasks = ragged.sample("train", Episode(2, 1, 1), range(600))
    assert 240 < tasks.groups.count("small-train") < 360
    small = tasks.support_class[[g == "small-train" for g in tasks.groups]]
    assert 0.4 < (small[:, 0] < small[:, 1]).mean() < 0.6


def test_a_batch_without_seeds_is_empty(ragged):
    assert ragged.sample("train", Episode(5, 2, 3), []).support_x.shape == (0, 10, 1, 28, 28)


def test_groups_too_small_for_the_episode_are_not_drawn_from(ragged):
    episode = Episode(5, 1, 4)
    assert ragged.usable_groups("test", episode) == ("large-test",)
    assert set(ragged.sample("test", episode, range(40)).groups) == {"large-test"}
    with pytest.raises(DataError, match=r"'small-test' cannot hold way 5.*allowed.*large-test"):
        ragged.sample("test", episode, [0], groups=["small-test"])


def test_the_largest_allowed_episode_is_accepted_and_the_next_one_refused(ragged):
    ragged.check(Episode(6, 5, 5))
    with pytest.raises(DataError, match=r"way at most \d+ at shot \+ query 2"):
        ragged.check(Episode(13, 1, 1))
    with pytest.raises(DataError, match=r"shot \+ query at most 10 at way 6"):
        ragged.check(Episode(6, 5, 6))


@pytest.mark.parametrize("episode", [Episode(1, 1, 1), Episode(5, 0, 1), Episode(5, 1, 0)])
def test_episodes_without_sense_are_refused(ragged, episode):
    with pytest.raises(DataError, match="allowed: way from 2"):
        ragged.check(episode)


def test_groups_must_be_as_many_as_seeds(ragged):
    with pytest.raises(DataError, match="1 groups for 2 seeds"):
        ragged.sample("train", Episode(5, 1, 1), [0, 1], groups=["large-train"])


def test_a_group_in_two_splits_is_refused(ragged):
    splits = {"train": ("large-train",), "select": ("large-train",), "confirm": (), "test": ()}
    with pytest.raises(DataError, match="in the splits 2 times"):
        CharacterFamily("twice", ragged._data, splits, "For tests.", "script", "typefaces")


def test_numbers_of_classes_that_do_not_exist_are_refused(ragged):
    arrays = ragged._data.arrays()
    with pytest.raises(DataError, match="image_class goes outside"):
        CharacterData(**{**arrays, "image_class": arrays["image_class"] + 1})


def test_equal_seeds_give_equal_tasks_in_another_process(glyphs):
    program = (
        "import hashlib; from metatune.tasks.base import Episode;"
        "from metatune.tasks.registry import open_family; f = open_family('glyphs');"
        "b = f.sample('test', Episode(5, 1, 2), [3, 2**62]);"
        "print(f.fingerprint, *b.ids, hashlib.sha256(b.query_x.tobytes()).hexdigest())"
    )
    here = glyphs.sample("test", Episode(5, 1, 2), [3, 2**62])
    expected = [
        glyphs.fingerprint,
        *here.ids,
        hashlib.sha256(here.query_x.tobytes()).hexdigest(),
    ]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected
