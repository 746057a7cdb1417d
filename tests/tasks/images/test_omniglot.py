"""Omniglot: where it is found, how images are made smaller, how alphabets are divided."""

from __future__ import annotations

import shutil
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.errors import DataError, OptionError
from metatune.tasks import files
from metatune.tasks.base import SPLITS, Episode, notes_of
from metatune.tasks.images import omniglot as module
from metatune.testing import FamilyConformance


def find_file(folder):
    return files.find_file("omniglot", module.FILE, "omniglot", folder)


@settings(max_examples=25)
@given(
    height=st.integers(28, 110),
    width=st.integers(28, 110),
    side=st.integers(1, 28),
    seed=st.integers(0, 99),
)
def test_mean_pooling_equals_adaptive_average_pooling_of_torch(height, width, side, seed):
    images = np.random.default_rng(seed).random((2, height, width), dtype=np.float32)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(images)[:, None], side)
    np.testing.assert_allclose(module.mean_pool(images, side), expected[:, 0], atol=1e-6)


def test_alphabets_are_divided_by_size_and_hash_of_the_name():
    sizes = {f"alphabet {i}": 20 + i for i in range(26)} | {f"small {i}": 16 + i for i in range(4)}
    splits = module.split_alphabets(sizes)
    assert {split: len(names) for split, names in splits.items()} == {
        "train": 16,
        "select": 4,
        "confirm": 4,
        "test": 6,
    }
    assert {f"small {i}" for i in range(4)} <= set(splits["train"])
    assert sorted(sum(splits.values(), ())) == sorted(sizes)
    backwards = module.split_alphabets(dict(reversed(sizes.items())))
    assert backwards == splits


def test_a_missing_file_is_named_with_the_ways_to_name_its_folder(tmp_path):
    with pytest.raises(
        DataError, match=r"no file omniglot_background\.npz in .*data_dir.*METATUNE_DATA"
    ):
        module.open_omniglot(str(tmp_path))


def test_no_folder_named_at_all_is_said(monkeypatch):
    monkeypatch.delenv("METATUNE_DATA", raising=False)
    with pytest.raises(DataError, match=r"no folder was named: .*data_dir.*METATUNE_DATA"):
        module.open_omniglot()


def test_the_file_is_found_in_the_folder_or_in_its_omniglot_folder(tmp_path, monkeypatch):
    inner = tmp_path / "omniglot"
    inner.mkdir()
    (inner / module.FILE).write_bytes(b"")
    assert find_file(str(tmp_path)) == find_file(str(inner)) == inner / module.FILE
    monkeypatch.setenv("METATUNE_DATA", str(tmp_path))
    assert find_file(None) == inner / module.FILE


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / module.FILE).write_bytes(b"not an archive")
    with pytest.raises(DataError, match="is not the Omniglot file"):
        module.open_omniglot(str(tmp_path))
    with (tmp_path / module.FILE).open("wb") as file:
        np.savez(file, bits=np.zeros(1))
    with pytest.raises(DataError, match=r"is not the Omniglot file.*alphabet"):
        module.open_omniglot(str(tmp_path))


@pytest.fixture(scope="module")
def omniglot(data_dir):
    try:
        find_file(data_dir)
    except DataError as error:
        pytest.skip(str(error))
    return module.open_omniglot(data_dir)


def test_the_splits_of_the_background_alphabets_are_fixed(omniglot):
    groups = omniglot.info.groups
    assert {split: tuple(groups[split]) for split in ("select", "confirm", "test")} == {
        "select": ("Burmese_(Myanmar)", "Futurama", "Hebrew", "Latin"),
        "confirm": ("Armenian", "Asomtavruli_(Georgian)", "Balinese", "Greek"),
        "test": (
            "Alphabet_of_the_Magi",
            "Arcadian",
            "Korean",
            "Malay_(Jawi_-_Arabic)",
            "Syriac_(Estrangelo)",
            "Tifinagh",
        ),
    }
    assert sum(len(names) for names in groups.values()) == 30
    assert sum(n for names in groups.values() for n in names.values()) == 964


def test_every_character_has_twenty_drawers(omniglot):
    assert (omniglot._index >= 0).all()
    assert omniglot._index.shape == (964, 20)


def test_images_are_the_pooled_originals_within_half_a_step_of_grey(omniglot, data_dir):
    with np.load(find_file(data_dir)) as stored:
        rows = np.arange(0, len(stored["bits"]), 997)
        ink = np.unpackbits(stored["bits"][rows], axis=1, count=105 * 105).reshape(-1, 1, 105, 105)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(ink).float(), 28)[:, 0]
    found = omniglot._data.images[rows] / 255
    np.testing.assert_allclose(found, expected, atol=0.5 / 255 + 1e-6)


def test_twenty_way_tasks_can_be_had_from_every_split(omniglot):
    omniglot.check(Episode(20, 5, 15))
    for split in SPLITS:
        tasks = omniglot.sample(split, Episode(20, 5, 15), range(3))
        assert tasks.support_x.max() <= 1
    assert len(omniglot.usable_groups("train", Episode(20, 1, 5))) == 12


def test_opening_again_reads_the_cache_and_gives_the_same(omniglot, data_dir, monkeypatch):
    monkeypatch.setattr(module, "_read", None)
    assert module.open_omniglot(data_dir).fingerprint == omniglot.fingerprint


def test_a_copy_of_the_file_elsewhere_is_the_same_data(omniglot, data_dir, tmp_path, monkeypatch):
    shutil.copyfile(find_file(data_dir), tmp_path / module.FILE)
    monkeypatch.setenv("METATUNE_DATA", str(tmp_path))
    assert module.open_omniglot().fingerprint == omniglot.fingerprint


# --- the minimal settings -------------------------------------------------------------------------

SMALL_SETS = sorted(module.MINIMAL)


@pytest.fixture(scope="module", params=SMALL_SETS)
def minimal(omniglot, data_dir, request):
    return module.open_omniglot(data_dir, background=request.param)


class TestMinimal(FamilyConformance):
    episode = Episode(5, 1, 3)

    @pytest.fixture
    def part(self, minimal):
        return minimal


def test_both_small_sets_are_judged_on_the_same_alphabets_which_neither_learns_from(omniglot):
    full = omniglot.info.groups
    sizes = {name: n for groups in full.values() for name, n in groups.items()}
    first, second = (module.split_minimal(sizes, name) for name in SMALL_SETS)
    assert first["train"] == module.MINIMAL["small1"]
    assert second["train"] == module.MINIMAL["small2"]
    learned = {*first["train"], *second["train"]}
    for split in SPLITS[1:]:
        assert first[split] == second[split]
        assert not learned & {*first[split]}
        assert len(first[split]) == len(full[split])
        assert {*full[split]} - learned <= {*first[split]}
    held_out = [name for split in SPLITS[1:] for name in first[split]]
    assert len(held_out) == len({*held_out}) == 14
    assert sorted({*full["test"]} - {*first["test"]}) == ["Korean"]


def test_images_of_the_zips_are_those_of_the_full_background(omniglot, minimal):
    full, small = omniglot._data, minimal._data
    assert set(minimal.info.groups["train"]) <= set(small.group_names.tolist())

    def by_name(data):
        names = data.class_names[data.image_class]
        return np.lexsort((data.image_hand, names)), names

    kept = full.only(small.group_names.tolist())
    (order, names), (expected_order, expected_names) = by_name(small), by_name(kept)
    assert (names[order] == expected_names[expected_order]).all()
    np.testing.assert_array_equal(small.image_hand[order], kept.image_hand[expected_order])
    np.testing.assert_array_equal(small.images[order], kept.images[expected_order])
    assert minimal.fingerprint != omniglot.fingerprint


def test_twenty_way_tasks_can_be_had_from_a_minimal_setting(minimal):
    minimal.check(Episode(20, 1, 3))
    assert len(minimal.usable_groups("test", Episode(20, 1, 3))) == 6


def test_what_is_learned_from_and_how_the_splits_differ_is_said(omniglot, minimal):
    assert notes_of(omniglot, Episode(5, 1, 3)) == ()
    (told,) = notes_of(minimal, Episode(5, 1, 3))
    assert "five alphabets of small" in told
    assert "test has Grantha instead of Korean" in told


def test_a_missing_zip_is_named(data_dir, tmp_path):
    shutil.copyfile(find_file(data_dir), tmp_path / module.FILE)
    with pytest.raises(DataError, match=r"no file images_background_small2\.zip in "):
        module.open_omniglot(str(tmp_path), background="small2")


@pytest.mark.parametrize("content", [b"not an archive", None])
def test_a_zip_of_another_kind_is_refused(data_dir, tmp_path, content):
    shutil.copyfile(find_file(data_dir), tmp_path / module.FILE)
    path = tmp_path / "images_background_small1.zip"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/b/c.png", b"")
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match="is not the Omniglot zip"):
        module.open_omniglot(str(tmp_path), background="small1")


def test_the_zip_of_the_other_set_is_refused(data_dir, tmp_path):
    shutil.copyfile(find_file(data_dir), tmp_path / module.FILE)
    other = files.find_file("omniglot", "images_background_small2.zip", "omniglot", data_dir)
    shutil.copyfile(other, tmp_path / "images_background_small1.zip")
    with pytest.raises(DataError, match=r"has the alphabets Greek, .*; expected: Balinese, "):
        module.open_omniglot(str(tmp_path), background="small1")


def test_an_unknown_background_is_refused_with_the_known_ones():
    with pytest.raises(
        OptionError, match="background: found 'tiny'; allowed: full, small1, small2"
    ):
        module.open_omniglot(background="tiny")
