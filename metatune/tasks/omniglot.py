"""Omniglot: handwritten characters of 30 alphabets, each drawn once by each of 20 people.

Lake, Salakhutdinov, Tenenbaum (2015), "Human-level concept learning through probabilistic program
induction", Science 350(6266), 1332-1338. These are the *background* alphabets, which the authors
set aside for learning to learn. Tasks stay within one alphabet, the harder and official kind.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError
from metatune.tasks.base import Split
from metatune.tasks.cache import cached_arrays
from metatune.tasks.characters import SIDE, CharacterData, CharacterFamily
from metatune.tasks.files import find_file

FILE = "omniglot_background.npz"
SMALL = 20
"""Alphabets with fewer characters cannot hold a 20-way task; they serve training only."""
TEST, SELECT, CONFIRM = 6, 4, 4
"""Alphabets of each split; the others are ``train``."""
_VERSION = "1"
"""Part of the cache's key: to be raised when the making of images changes."""


def open_omniglot(
    data_dir: str | None = None, splits: Mapping[Split, tuple[str, ...]] | None = None
) -> CharacterFamily:
    """The family; reads ``omniglot_background.npz`` and keeps the smaller images in the cache.

    Args:
        data_dir: folder with the file, or folder with a folder ``omniglot`` that has it; None
            takes the environment variable METATUNE_DATA.
        splits: the alphabets of each split; None takes ``split_alphabets``.

    Raises:
        DataError: where the file is missing or not the one that is expected.
    """
    path = find_file("omniglot", FILE, "omniglot", data_dir)
    content = path.read_bytes()
    key = hashlib.sha256(_VERSION.encode() + content).hexdigest()
    data = CharacterData(**cached_arrays("omniglot", key, lambda: _read(path).arrays()))
    counts = np.bincount(data.class_group)
    sizes = {str(name): int(n) for name, n in zip(data.group_names, counts, strict=True)}
    return CharacterFamily(
        "omniglot",
        data,
        splits or split_alphabets(sizes),
        about="Handwritten characters of 30 alphabets by 20 drawers each (Lake et al. 2015).",
        group_word="alphabet",
        hand_word="drawers",
    )


def split_alphabets(sizes: Mapping[str, int]) -> dict[Split, tuple[str, ...]]:
    """The alphabets of each split, by a rule that looks at names and sizes only.

    Alphabets with fewer than 20 characters go to ``train``. The others stand in the order of the
    sha256 of their names: the first 6 are ``test``, the next 4 ``select``, the next 4 ``confirm``,
    and the rest ``train``. No run and no seed changes it.

    Args:
        sizes: number of characters of each alphabet.
    """
    large = sorted(
        (name for name, n in sizes.items() if n >= SMALL),
        key=lambda name: hashlib.sha256(name.encode()).hexdigest(),
    )
    ends = np.cumsum([TEST, SELECT, CONFIRM])
    small = [name for name, n in sizes.items() if n < SMALL]
    return {
        "train": tuple(sorted([*large[ends[2] :], *small])),
        "select": tuple(sorted(large[ends[0] : ends[1]])),
        "confirm": tuple(sorted(large[ends[1] : ends[2]])),
        "test": tuple(sorted(large[: ends[0]])),
    }


def mean_pool(images: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Adaptive average pooling, ``(n, height, width)`` -> ``(n, side, side)``.

    Output cell i is the mean of the input cells from floor(i h / side) to ceil((i + 1) h / side),
    in both directions; cells overlap where h is no multiple of side.
    """
    rows, columns = (_pooling(size, side) for size in images.shape[1:])
    pooled: NDArray[np.float32] = np.matmul(np.matmul(rows, images), columns.T)
    return pooled


def _pooling(size: int, side: int) -> NDArray[np.float32]:
    """``(side, size)``: each row averages over the input cells of one output cell."""
    weights = np.zeros((side, size), np.float32)
    for i in range(side):
        start, end = i * size // side, -(-(i + 1) * size // side)
        weights[i, start:end] = 1 / (end - start)
    return weights


def _read(path: Path) -> CharacterData:
    """The file's images at 28x28 in 255 steps of grey, alphabet by alphabet to bound memory."""
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file) as stored:
            bits, alphabet = stored["bits"], stored["alphabet"]
            height, width = (int(n) for n in stored["image_shape"])
            images = np.empty((len(bits), SIDE, SIDE), np.uint8)
            for number in np.unique(alphabet):
                rows = np.flatnonzero(alphabet == number)
                ink = np.unpackbits(bits[rows], axis=1, count=height * width)
                pooled = mean_pool(ink.reshape(-1, height, width).astype(np.float32), SIDE)
                images[rows] = np.rint(255 * pooled)
            return CharacterData(
                images=images,
                image_class=stored["character"].astype(np.int64),
                image_hand=stored["drawer"].astype(np.int64) - 1,
                class_names=stored["character_names"],
                class_group=stored["character_alphabet"].astype(np.int64),
                group_names=stored["alphabet_names"],
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not the Omniglot file that is expected: {error}") from error
