"""Printed letters: which ones there are, how they look and which ones are left out."""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter

import numpy as np
import pytest

from metatune.errors import DataError
from metatune.tasks.base import SPLITS, Episode
from metatune.tasks.images import glyphs as module


@pytest.fixture(scope="module")
def letters(glyphs):
    return {split: glyphs.class_names(split) for split in SPLITS}


def test_every_split_has_its_scripts_and_enough_letters(glyphs):
    assert {s: tuple(g) for s, g in glyphs.info.groups.items()} == dict(module.SCRIPTS)
    assert glyphs.info.train_classes > 800
    assert all(n > 50 for groups in glyphs.info.groups.values() for n in groups.values())


def test_every_letter_is_of_the_script_of_its_split(letters):
    for split, names in letters.items():
        assert {module.script_of(name) for name in names} == set(module.SCRIPTS[split])


@pytest.mark.parametrize(
    "letter",
    ["CAPITAL LETTER ALPHA", "CAPITAL LETTER BETA", "CAPITAL LETTER TAU", "SMALL LETTER OMICRON"],
)
def test_greek_letters_that_look_latin_are_left_out(letters, letter):
    assert unicodedata.lookup(f"GREEK {letter}") not in letters["confirm"]


@pytest.mark.parametrize("letter", ["CAPITAL LETTER GAMMA", "CAPITAL LETTER PHI"])
def test_greek_letters_that_look_cyrillic_are_left_out(letters, letter):
    assert unicodedata.lookup(f"GREEK {letter}") not in letters["confirm"]


@pytest.mark.parametrize(
    "letter",
    ["CAPITAL LETTER A", "CAPITAL LETTER VE", "CAPITAL LETTER KA", "SMALL LETTER ES"],
)
def test_cyrillic_letters_that_look_latin_are_left_out(letters, letter):
    assert unicodedata.lookup(f"CYRILLIC {letter}") not in letters["select"]


@pytest.mark.parametrize("letter", ["CAPITAL LETTER OH", "SMALL LETTER OH", "SMALL LETTER HO"])
def test_armenian_letters_that_look_like_earlier_ones_are_left_out(letters, letter):
    assert unicodedata.lookup(f"ARMENIAN {letter}") not in letters["test"]


def test_letters_of_a_form_of_their_own_stay(letters):
    assert set("AaBbßÉ") <= set(letters["train"])
    assert set("ЖДЯюф") <= set(letters["select"])
    assert set("ΩΨξλβ") <= set(letters["confirm"])
    assert set("აბქԲՖժ") <= set(letters["test"])


def test_of_identical_letters_of_one_script_the_first_stays(letters):
    for split, first, second in (
        ("train", "LATIN CAPITAL LETTER ETH", "LATIN CAPITAL LETTER D WITH STROKE"),
        ("confirm", "GREEK SMALL LETTER ALPHA WITH TONOS", "GREEK SMALL LETTER ALPHA WITH OXIA"),
    ):
        assert unicodedata.lookup(first) in letters[split]
        assert unicodedata.lookup(second) not in letters[split]


def test_letters_of_two_splits_are_equal_in_a_few_faces_at_most(glyphs):
    data = glyphs._data
    classes: dict[bytes, set[int]] = {}
    for image, number in zip(data.images, data.image_class, strict=True):
        classes.setdefault(image.tobytes(), set()).add(int(number))
    split = {name: s for s in SPLITS for name in glyphs.class_names(s)}
    shared = Counter(
        (a, b)
        for found in classes.values()
        for a, b in itertools.combinations(sorted(data.class_names[list(found)]), 2)
        if split[a] != split[b]
    )
    assert all(count < 4 for count in shared.values())


def test_ink_is_one_on_zero_and_no_image_is_empty(glyphs):
    tasks = glyphs.sample("train", Episode(20, 1, 5), range(20))
    assert tasks.query_x.min() == 0
    assert tasks.query_x.max() == 1
    assert tasks.query_x.mean() < 0.4
    assert glyphs._data.images.any((1, 2)).all()


def test_letters_stand_on_one_baseline_and_in_the_middle(glyphs):
    data = glyphs._data
    names = list(data.class_names)
    for letter in "HE":
        for image in data.images[data.image_class == names.index(letter)]:
            rows, columns = (np.flatnonzero(image.any(axis)) for axis in (1, 0))
            assert rows[-1] in (module.BASELINE - 1, module.BASELINE)
            assert abs(columns[0] - (27 - columns[-1])) <= 2


def test_case_differs_by_size(glyphs):
    data = glyphs._data
    names = list(data.class_names)
    heights = {
        letter: np.median(
            [np.ptp(np.flatnonzero(i.any(1))) for i in data.images[data.image_class == c]]
        )
        for letter in "Xx"
        for c in [names.index(letter)]
    }
    assert heights["X"] >= heights["x"] + 3


def test_every_letter_is_there_in_eight_faces(glyphs):
    assert np.bincount(glyphs._data.image_class).min() >= module.MIN_FACES


def test_distance_is_zero_for_a_shifted_image_and_one_without_shared_ink():
    a = np.zeros((2, 28, 28), np.uint8)
    a[0, 5:9, 5:9] = 255
    a[1, 20:24, 20:24] = 255
    b = np.roll(a[:1], 1, axis=2)
    np.testing.assert_allclose(module._distances(a, b), [[0], [1]], atol=1e-6)


def test_way_above_the_letters_at_hand_is_refused_with_what_is_allowed(glyphs):
    with pytest.raises(DataError, match=r"glyphs: no script of split 'select'.*way at most \d+"):
        glyphs.check(Episode(400, 1, 5))
    glyphs.check(Episode(20, 5, 5))


def test_a_typeface_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(module, "FACES", ("NoSuchFace.ttf",))
    with pytest.raises(DataError, match=r"lacks the typefaces NoSuchFace\.ttf"):
        module.open_glyphs()
