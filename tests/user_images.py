"""Folders of images as users have them, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image


def save_image(path: Path, seed: int, side: int = 8, mode: str = "L") -> Path:
    """A file of random pixels, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (side, side) if mode == "L" else (side, side, len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path)
    return path


def class_folders(
    folder: Path, groups: int = 0, classes: int = 5, images: int = 6, side: int = 8
) -> Path:
    """``classes`` class folders (in each of ``groups`` group folders) of ``images`` each."""
    above = [folder / f"g{g:02d}" for g in range(groups)] or [folder]
    number = 0
    for group in above:
        for k in range(classes):
            for n in range(images):
                save_image(group / f"c{k:02d}" / f"{n}.png", number, side)
                number += 1
    return folder


NAMES = st.sampled_from(["a", "b", "c d", "ü", ".hidden", "__MACOSX", "x.png", "g/h", "$a_b$", "["])
FILES = st.sampled_from(
    [
        "1.png",
        "2.PNG",
        "3.jpg",
        "4.gif",
        "Thumbs.db",
        ".DS_Store",
        "notes.txt",
        "no ending",
        "é.bmp",
    ]
)
CONTENTS = st.one_of(
    st.sampled_from([b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + bytes(40)]),
    st.integers(0, 6),  # seed of an image: few, so that some stand twice
)


@st.composite
def folders(draw: st.DrawFn) -> dict[str, bytes | int]:
    """Paths within a folder with what they hold: bytes, or the seed of an image."""
    found: dict[str, bytes | int] = {}
    depth = draw(st.sampled_from([1, 1, 1, 2, 2, 0, 3]))
    for _ in range(draw(st.integers(0, 12))):
        levels = depth if draw(st.sampled_from([True] * 15 + [False])) else draw(st.integers(0, 3))
        parts = [draw(NAMES) for _ in range(levels)]
        found["/".join([*parts, draw(FILES)])] = draw(CONTENTS)
    return found


def write_folder(folder: Path, files: dict[str, bytes | int]) -> Path:
    """The folder with these files, as far as no file is in the way of a folder."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                continue
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                pixels = np.random.default_rng(content).integers(0, 256, (8, 8), dtype=np.uint8)
                with path.open("wb") as file:
                    Image.fromarray(pixels).save(file, "PNG")
        except (FileExistsError, NotADirectoryError):
            continue
    return folder
