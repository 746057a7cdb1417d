"""The user's own images: tasks without leaks, splits by whole groups or classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from user_images import class_folders, save_image

from metatune.errors import DataError, OptionError
from metatune.tasks.base import ACCURACY, SPLITS, Episode
from metatune.tasks.images.image_folder import CLASSES, ImageFolderOptions, open_image_folder
from metatune.tasks.registry import open_family
from metatune.testing import FamilyConformance

EPISODE = Episode(3, 2, 3)


def opened(folder: Path, **options):
    return open_image_folder(ImageFolderOptions.of({"data": str(folder), "size": 8, **options}))


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """12 groups of 5 classes of 6 images."""
    folder = class_folders(tmp_path_factory.mktemp("grouped"), groups=12)
    return opened(folder, levels="group/class")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """20 classes of 6 images."""
    return opened(class_folders(tmp_path_factory.mktemp("plain"), classes=20))


@pytest.fixture(params=["grouped", "plain"])
def family(request):
    return request.getfixturevalue(request.param)


class TestGroups(FamilyConformance):
    episode = EPISODE

    @pytest.fixture
    def part(self, grouped):
        return grouped


class TestClasses(FamilyConformance):
    episode = EPISODE

    @pytest.fixture
    def part(self, plain):
        return plain


# --- what a family says of itself -----------------------------------------------------------------


def test_it_is_judged_by_accuracy_against_pixels_and_frozen_features(grouped, plain) -> None:
    for family in (grouped, plain):
        info = family.info
        assert (info.kind, info.metric, info.input_shape) == ("classification", ACCURACY, (1, 8, 8))
        assert info.baselines == ("nearest_neighbour", "frozen_features")
    assert grouped.info.grouped
    assert {split: len(own) for split, own in grouped.info.groups.items()} == {
        "train": 5, "select": 3, "confirm": 2, "test": 2,
    }  # fmt: skip
    assert grouped.info.train_classes == 25
    assert not plain.info.grouped
    assert {split: dict(own) for split, own in plain.info.groups.items()} == {
        "train": {CLASSES: 8}, "select": {CLASSES: 4}, "confirm": {CLASSES: 4},
        "test": {CLASSES: 4},
    }  # fmt: skip


def test_colour_and_size_are_as_asked(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "d", classes=4, images=2)
    tasks = opened(folder, colour="rgb", size=12).sample("train", Episode(1, 1, 1), [3])
    assert tasks.support_x.shape == (1, 1, 3, 12, 12)
    assert 0 <= tasks.support_x.min() <= tasks.support_x.max() <= 1


def test_shares_of_the_splits_can_be_given(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "d", classes=10, images=2)
    shares = {"train": 0.7, "select": 0.1, "confirm": 0.1, "test": 0.1}
    family = opened(folder, splits=shares)
    assert [len(family.class_names(split)) for split in SPLITS] == [7, 1, 1, 1]


# --- no leak --------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(split=st.sampled_from(SPLITS), seed=st.integers(0, 2**63 - 1))
def test_no_image_is_in_support_and_query_and_labels_are_classes_of_one_group(
    grouped, plain, split, seed
) -> None:
    for family in (grouped, plain):
        data = family.data
        known = {data.images[row].tobytes(): n for n, row in enumerate(data.rows)}
        tasks = family.sample(split, EPISODE, [seed])
        x = np.concatenate([tasks.support_x, tasks.query_x], 1)[0]
        numbers = [known[np.rint(255 * image).astype(np.uint8).tobytes()] for image in x]
        assert len(set(numbers)) == len(numbers)
        y = np.concatenate([tasks.support_y, tasks.query_y], 1)[0]
        names = [data.classes[np.searchsorted(data.start, n, "right") - 1] for n in numbers]
        assert len(set(zip(names, y.tolist(), strict=True))) == 3
        told = np.concatenate([tasks.support_class, tasks.query_class], 1)[0]
        assert [family.class_names(split)[k] for k in told] == names
        if family.info.grouped:
            assert {name.partition("/")[0] for name in names} == {*tasks.groups}


def test_no_class_is_in_two_splits_and_none_is_lost(family) -> None:
    names = [name for split in SPLITS for name in family.class_names(split)]
    assert sorted(names) == sorted(family.data.classes)
    assert len(names) == len(set(names))


def test_what_stands_in_other_splits_changes_no_tensor_of_train(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "d", groups=8, classes=3)
    family = opened(folder, levels="group/class")
    before = family.sample("train", EPISODE, range(20))
    for split in SPLITS[1:]:
        for number, name in enumerate(family.class_names(split)):
            save_image(folder / name / "0.png", 10_000 + number, side=9)
            save_image(folder / name / "new.png", 20_000 + number)
    other = opened(folder, levels="group/class")
    after = other.sample("train", EPISODE, range(20))
    for name in ("support_x", "query_x", "support_y", "support_class"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name), err_msg=name)
    assert before.ids == after.ids
    assert other.fingerprint != family.fingerprint


def test_every_image_of_a_class_can_be_drawn(grouped) -> None:
    tasks = grouped.sample("train", EPISODE, range(400))
    seen = {
        image.tobytes()
        for image in np.concatenate([tasks.support_x, tasks.query_x], 1)[:, :, 0].reshape(-1, 64)
    }
    assert len(seen) == 25 * 6


# --- nothing is left out in silence ---------------------------------------------------------------


def test_classes_with_too_few_images_and_groups_with_too_few_classes_are_told(
    tmp_path: Path,
) -> None:
    folder = class_folders(tmp_path / "d", groups=12, classes=3)
    family = opened(folder, levels="group/class")
    victim = next(iter(family.info.groups["train"]))
    for n in range(3):
        (folder / victim / "c00" / f"{n}.png").unlink()
    family = opened(folder, levels="group/class")
    told = family.notes(EPISODE)
    assert (
        f"1 of 36 classes have fewer than 5 images, shot and query together, and are never drawn: "
        f"{victim}/c00 (3)." in told
    )
    assert (
        f"1 groups have fewer than 3 such classes and are never drawn: {victim} of train." in told
    )
    assert victim not in family.usable_groups("train", EPISODE)
    assert victim in family.usable_groups("train", Episode(2, 2, 3))
    assert victim not in {*family.sample("train", EPISODE, range(200)).groups}
    assert not [note for note in opened(folder, levels="group/class").notes(Episode(3, 1, 1))
                if "never drawn" in note]  # fmt: skip


def test_few_groups_and_splits_by_classes_are_told(plain, tmp_path: Path) -> None:
    (told,) = [note for note in plain.notes(EPISODE) if "Without a group level" in note]
    assert all(name in told for split in SPLITS for name in plain.class_names(split))
    few = opened(class_folders(tmp_path / "d", groups=4, classes=3), levels="group/class")
    assert any("With 4 groups, fewer than 12, results hang on" in n for n in few.notes(EPISODE))


@pytest.mark.parametrize("levels", ["class", "group/class"])
def test_over_the_folds_each_class_is_in_test_once_or_always_in_train(levels, tmp_path) -> None:
    folder = class_folders(tmp_path / "d", groups=6 if levels == "group/class" else 0, classes=6)
    folds = [opened(folder, levels=levels, fold=fold) for fold in range(5)]
    assert all(family.folds == 5 for family in folds)
    tested = [name for family in folds for name in family.class_names("test")]
    always = set.intersection(*(set(family.class_names("train")) for family in folds))
    assert sorted([*tested, *always]) == sorted(folds[0].data.classes)
    with pytest.raises(OptionError, match=r"image_folder: fold: found 5; allowed: 0 to 4"):
        opened(folder, levels=levels, fold=5)


def test_too_few_groups_for_four_splits_are_refused(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "d", classes=3)
    with pytest.raises(DataError, match=r"image_folder: found 3 groups \(c00, c01, c02\); allowed"):
        opened(folder)


@pytest.mark.parametrize(("episode", "told"), [
    (Episode(1, 1, 1), "found way 1, shot 1, query 1; allowed: way from 2"),
    (Episode(6, 2, 3), "no group of split 'train' has 6 classes of 5 images"),
    (Episode(5, 4, 3), "way at most 0 .*, or shot \\+ query at most 6 at way 5"),
])  # fmt: skip
def test_tasks_that_no_group_can_hold_are_refused_with_what_fits(grouped, episode, told) -> None:
    with pytest.raises(DataError, match=told):
        grouped.check(episode)
    grouped.check(Episode(5, 3, 3))


def test_a_group_of_another_split_cannot_be_asked_for(grouped) -> None:
    other = grouped.usable_groups("test", EPISODE)[0]
    with pytest.raises(DataError, match=f"found groups {other} for 1 seeds; allowed: one of the"):
        grouped.sample("train", EPISODE, [1], [other])


def test_without_a_folder_it_is_told_what_is_needed() -> None:
    with pytest.raises(OptionError, match="data: found nothing; allowed: a folder of class"):
        open_family("image_folder")
