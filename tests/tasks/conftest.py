"""Fixtures of the task tests: a cache folder of their own, and families made once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from metatune.tasks.images.characters import SIDE, CharacterData, CharacterFamily
from metatune.tasks.images.glyphs import open_glyphs


@pytest.fixture(scope="session")
def data_dir() -> str:
    """METATUNE_DATA, else the folder shared/data beside the repository: Omniglot and ChEMBL."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("METATUNE_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} (METATUNE_DATA, else shared/data) is no folder")
    return str(folder)


@pytest.fixture(scope="session")
def glyphs() -> CharacterFamily:
    return open_glyphs()


@pytest.fixture(scope="session")
def ragged() -> CharacterFamily:
    """Four splits of two groups, where classes have different hands.

    ``large`` has 12 classes by 6 to 10 of 10 hands, ``small`` 3 classes by 5 hands. Pixel (0, 0)
    holds the class and pixel (0, 1) the hand, so that a test can read both from an image.
    """
    rng = np.random.default_rng(0)
    splits = ("train", "select", "confirm", "test")
    images, image_class, image_hand, class_group = [], [], [], []
    names = [f"{size}-{split}" for split in splits for size in ("large", "small")]
    for group, name in enumerate(names):
        for number in range(12 if name.startswith("large") else 3):
            hands = rng.permutation(10)[: 6 + number % 5] if number % 2 else np.arange(10)
            for hand in np.arange(5) if name.startswith("small") else hands:
                image = np.zeros((SIDE, SIDE), np.uint8)
                image[0, :2] = len(class_group), hand
                images.append(image)
                image_class.append(len(class_group))
                image_hand.append(hand)
            class_group.append(group)
    data = CharacterData(
        images=np.array(images),
        image_class=np.array(image_class),
        image_hand=np.array(image_hand),
        class_names=np.array([f"c{c}" for c in range(len(class_group))]),
        class_group=np.array(class_group),
        group_names=np.array(names),
    )
    of = {split: (f"large-{split}", f"small-{split}") for split in splits}
    return CharacterFamily("ragged", data, of, "For tests.", "script", "typefaces")
