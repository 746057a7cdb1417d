"""All groups as one split, for a refit: the same tasks, and every class a class of its own."""

from __future__ import annotations

import numpy as np
import pytest

from metatune.errors import DataError
from metatune.tasks.base import SPLITS, Episode
from metatune.tasks.registry import open_family
from metatune.tasks.whole import WholeFamily

EPISODE = Episode(3, 2, 2)


def groups_of(family):
    return {split: tuple(family.info.groups[split]) for split in SPLITS}


def test_train_has_all_groups_and_nothing_else_is_left(tiny):
    whole = WholeFamily(tiny)
    everybody = {name for names in groups_of(tiny).values() for name in names}
    assert set(whole.info.groups["train"]) == everybody
    assert set(whole.usable_groups("train", EPISODE)) == everybody
    assert whole.info.train_classes == 6 * 12  # six classes in each of 12 groups
    assert set(whole.sample("train", EPISODE, range(200)).groups) == everybody
    with pytest.raises(DataError, match=r"found split 'test'; allowed: train"):
        whole.usable_groups("test", EPISODE)


def test_a_task_is_the_one_that_its_own_split_draws(tiny):
    whole, found = WholeFamily(tiny), groups_of(tiny)
    splits = [*SPLITS, *reversed(SPLITS)]
    groups = [found[split][n % 3] for n, split in enumerate(splits)]
    batch = whole.sample("train", EPISODE, range(8), groups)
    for place, (split, group) in enumerate(zip(splits, groups, strict=True)):
        alone = tiny.sample(split, EPISODE, [place], [group])
        np.testing.assert_array_equal(batch.support_x[place], alone.support_x[0])
        np.testing.assert_array_equal(batch.query_y[place], alone.query_y[0])
        assert (batch.ids[place], batch.groups[place]) == (alone.ids[0], group)


def test_classes_of_different_splits_have_different_numbers(tiny):
    batch = WholeFamily(tiny).sample("train", EPISODE, range(400))
    of_group = {}
    for group, numbers in zip(batch.groups, batch.support_class, strict=True):
        of_group.setdefault(group, set()).update(numbers.tolist())
    numbers = [number for own in of_group.values() for number in own]
    assert sorted(numbers) == list(range(6 * 12))


def test_splits_of_a_formula_stay_apart():
    family = open_family("sinusoid")
    whole = WholeFamily(family)
    assert len(whole.info.groups["train"]) == sum(len(family.info.groups[s]) for s in SPLITS)
    assert whole.sample("train", Episode(1, 5, 5), range(9)).support_x.shape == (9, 5, 1)
