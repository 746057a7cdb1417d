"""Omniglot: handwritten characters of 30 alphabets, each drawn once by each of 20 people.

Lake, Salakhutdinov, Tenenbaum (2015), "Human-level concept learning through probabilistic program
induction", Science 350(6266), 1332-1338. These are the *background* alphabets, which the authors
set aside for learning to learn. Tasks stay within one alphabet, the harder and official kind.

The two *minimal* settings (Lake, Salakhutdinov & Tenenbaum 2019, "The Omniglot challenge: a 3-year
progress report", arXiv 1902.03477) let learners learn from five alphabets only, ``small1`` or
``small2``, about as many as a grown-up has met. What is held out stays as many alphabets as ever.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError, OptionError
from metatune.tasks.base import Split
from metatune.tasks.cache import cached_arrays
from metatune.tasks.files import find_file
from metatune.tasks.images.characters import SIDE, CharacterData, CharacterFamily, joined

FILE = "omniglot_background.npz"
SMALL = 20
"""Alphabets with fewer characters cannot hold a 20-way task; they serve training only."""
TEST, SELECT, CONFIRM = 6, 4, 4
"""Alphabets of each split; the others are ``train``."""
_VERSION = "1"
"""Part of the cache's key: to be raised when the making of images changes."""

Background = Literal["full", "small1", "small2"]
MINIMAL: Mapping[str, tuple[str, ...]] = {
    "small1": ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"),
    "small2": ("Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog"),
}
"""The alphabets of the official small sets."""


def open_omniglot(
    data_dir: str | None = None,
    splits: Mapping[Split, tuple[str, ...]] | None = None,
    background: Background = "full",
) -> CharacterFamily:
    """The family; reads ``omniglot_background.npz`` and keeps the smaller images in the cache.

    Args:
        data_dir: folder with the file, or folder with a folder ``omniglot`` that has it; None
            takes the environment variable METATUNE_DATA.
        splits: the alphabets of each split; None takes ``split_alphabets``.
        background: what learners learn from. ``small1`` and ``small2`` read the five alphabets of
            ``train`` from ``images_background_<background>.zip``, and the others from the file.

    Raises:
        DataError: where a file is missing or not the one that is expected.
        OptionError: no such background.
    """
    if background not in ("full", *MINIMAL):
        raise OptionError("omniglot", "background", repr(background), "full, small1, small2")
    data = _cached(find_file("omniglot", FILE, "omniglot", data_dir))
    said: tuple[str, ...] = ()
    if background != "full" and splits is None:
        sizes = _sizes(data)
        splits = split_minimal(sizes, background)
        said = _minimal_note(sizes, splits, background)
        held_out = [name for split, names in splits.items() if split != "train" for name in names]
        archive = find_file("omniglot", f"images_background_{background}.zip", "omniglot", data_dir)
        small = _cached(archive)
        if sorted(small.group_names.tolist()) != sorted(splits["train"]):
            found, expected = ", ".join(small.group_names.tolist()), ", ".join(splits["train"])
            raise DataError(f"{archive} has the alphabets {found}; expected: {expected}")
        data = joined(small, data.only(held_out))
    return CharacterFamily(
        "omniglot",
        data,
        splits or split_alphabets(_sizes(data)),
        about="Handwritten characters of 30 alphabets by 20 drawers each (Lake et al. 2015).",
        group_word="alphabet",
        hand_word="drawers",
        said=said,
        licence="MIT, Copyright (c) 2015 Brenden Lake.",
    )


def _cached(path: Path) -> CharacterData:
    """What a file holds at 28x28, from the cache where it was read before."""
    key = hashlib.sha256(_VERSION.encode() + path.read_bytes()).hexdigest()
    read = _read_zip if path.suffix == ".zip" else _read
    return CharacterData(**cached_arrays("omniglot", key, lambda: read(path).arrays()))


def _sizes(data: CharacterData) -> dict[str, int]:
    counts = np.bincount(data.class_group, minlength=len(data.group_names))
    return {str(name): int(n) for name, n in zip(data.group_names, counts, strict=True)}


def split_alphabets(sizes: Mapping[str, int]) -> dict[Split, tuple[str, ...]]:
    """The alphabets of each split, by a rule that looks at names and sizes only.

    Alphabets with fewer than 20 characters go to ``train``. The others stand in the order of the
    sha256 of their names: the first 6 are ``test``, the next 4 ``select``, the next 4 ``confirm``,
    the rest ``train``.

    Args:
        sizes: number of characters of each alphabet.
    """
    large = _in_order(name for name, n in sizes.items() if n >= SMALL)
    ends = np.cumsum([TEST, SELECT, CONFIRM])
    small = [name for name, n in sizes.items() if n < SMALL]
    return {
        "train": tuple(sorted([*large[ends[2] :], *small])),
        "select": tuple(sorted(large[ends[0] : ends[1]])),
        "confirm": tuple(sorted(large[ends[1] : ends[2]])),
        "test": tuple(sorted(large[: ends[0]])),
    }


def split_minimal(sizes: Mapping[str, int], background: str) -> dict[Split, tuple[str, ...]]:
    """The alphabets of each split where learners learn from a small set only.

    ``train`` is the small set. The held-out splits are those of the full background, so that
    scores can be compared; an alphabet that stands in either small set is replaced by the next
    large one of the full ``train`` in the order of the sha256 of their names. So both small sets
    are judged on the same alphabets, as many as before, and neither learns from any of them.

    Args:
        sizes: number of characters of each alphabet of the full background.
        background: ``small1`` or ``small2``.
    """
    full, small = split_alphabets(sizes), {name for names in MINIMAL.values() for name in names}
    spare = iter(_in_order(n for n in full["train"] if sizes[n] >= SMALL and n not in small))
    splits: dict[Split, tuple[str, ...]] = {"train": MINIMAL[background]}
    held_out: tuple[Split, ...] = ("test", "select", "confirm")
    for split in held_out:
        kept = [name for name in full[split] if name not in small]
        splits[split] = tuple(sorted([*kept, *(next(spare) for _ in full[split][len(kept) :])]))
    return splits


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def _minimal_note(
    sizes: Mapping[str, int], splits: Mapping[Split, tuple[str, ...]], background: str
) -> tuple[str, ...]:
    full = split_alphabets(sizes)
    changes = [
        f"{split} has {', '.join(new)} instead of {', '.join(sorted(set(full[split]) - {*names}))}"
        for split, names in splits.items()
        if split != "train" and (new := sorted({*names} - set(full[split])))
    ]
    return (
        f"Learners learn from the five alphabets of {background} alone. What is held out are the "
        "alphabets of the full background's splits, where no small set has them: "
        f"{'; '.join(changes)}.",
    )


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


def _read_zip(path: Path) -> CharacterData:
    """The images of an official zip at 28x28: ``<set>/<alphabet>/characterNN/CCCC_DD.png``."""
    from PIL import Image

    images, classes, hands = [], [], []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(".png")):
                _, alphabet, character, drawing = name.split("/")
                with Image.open(io.BytesIO(archive.read(name))) as image:
                    images.append(np.asarray(image.convert("L")) == 0)  # ink is black on white
                classes.append(f"{alphabet}/{character}")
                hands.append(int(drawing.removesuffix(".png").rpartition("_")[2]) - 1)
            ink = np.stack(images).astype(np.float32)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not the Omniglot zip that is expected: {error}") from error
    class_names, image_class = np.unique(classes, return_inverse=True)
    of_class = [name.rpartition("/")[0] for name in class_names.tolist()]
    group_names, class_group = np.unique(of_class, return_inverse=True)
    return CharacterData(
        images=np.rint(255 * mean_pool(ink, SIDE)).astype(np.uint8),
        image_class=image_class,
        image_hand=np.array(hands),
        class_names=class_names,
        class_group=class_group,
        group_names=group_names,
    )
