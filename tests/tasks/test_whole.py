"""All groups as one split, for a refit: the same tasks, and every class a class of its own."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import CLASSES, GROUPS, TinyImages

from metatune.errors import DataError
from metatune.tasks.base import SPLITS, Episode
from metatune.tasks.registry import open_family
from metatune.tasks.whole import WholeFamily

EPISODE = Episode(3, 2, 2)


def test_train_has_all_groups_and_nothing_else_is_left():
    whole, everybody = (
        WholeFamily(TinyImages()),
        {name for names in GROUPS.values() for name in names},
    )
    assert (
        set(whole.info.groups["train"]) == everybody == set(whole.usable_groups("train", EPISODE))
    )
    assert whole.info.train_classes == CLASSES * len(everybody)
    batch = whole.sample("train", EPISODE, range(200))
    assert set(batch.groups) == everybody
    with pytest.raises(DataError, match=r"found split 'test'; allowed: train"):
        whole.usable_groups("test", EPISODE)


def test_a_task_is_the_one_that_its_own_split_draws():
    family = TinyImages()
    whole = WholeFamily(family)
    groups = [GROUPS[split][n % 3] for n, split in enumerate([*SPLITS, *reversed(SPLITS)])]
    batch = whole.sample("train", EPISODE, range(8), groups)
    for place, group in enumerate(groups):
        (split,) = (s for s in SPLITS if group in GROUPS[s])
        alone = family.sample(split, EPISODE, [place], [group])
        np.testing.assert_array_equal(batch.support_x[place], alone.support_x[0])
        np.testing.assert_array_equal(batch.query_y[place], alone.query_y[0])
        assert (batch.ids[place], batch.groups[place]) == (alone.ids[0], group)


def test_classes_of_different_splits_have_different_numbers():
    batch = WholeFamily(TinyImages()).sample("train", EPISODE, range(400))
    of_group = {}
    for group, numbers in zip(batch.groups, batch.support_class, strict=True):
        of_group.setdefault(group, set()).update(numbers.tolist())
    numbers = [number for own in of_group.values() for number in own]
    assert sorted(numbers) == list(range(CLASSES * len(of_group)))


def test_groups_of_one_name_in_two_splits_stay_apart():
    family = open_family("sinusoid")
    names = {group for split in SPLITS for group in family.info.groups[split]}
    whole = WholeFamily(family)
    assert len(whole.info.groups["train"]) == sum(len(family.info.groups[s]) for s in SPLITS)
    assert len(names) <= len(whole.info.groups["train"])
    assert whole.sample("train", Episode(1, 5, 5), range(9)).support_x.shape == (9, 5, 1)
