"""Printed characters in the typefaces that come with matplotlib: few-shot recognition, no download.

A class is a letter, a hand is a typeface, a group is a script: learned on Latin, selected on
Cyrillic, confirmed on Greek, tested on Georgian and Armenian. What looks alike is one class: of
letters of one script that are identical the first stays, and of letters that look like one of an
earlier split (Latin A, Greek Alpha) none, so that no split is seen in another's disguise.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError
from metatune.tasks.base import SPLITS, Split
from metatune.tasks.cache import cached_arrays
from metatune.tasks.images.characters import SIDE, CharacterData, CharacterFamily

SCRIPTS: Mapping[Split, tuple[str, ...]] = {
    "train": ("Latin",),
    "select": ("Cyrillic",),
    "confirm": ("Greek",),
    "test": ("Georgian", "Armenian"),
}
FACES = (
    *(f"DejaVuSans{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}.ttf" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic", "BolIta")),
)
MIN_FACES = 8
"""A letter that fewer typefaces have is left out."""
FONT_SIZE = 18
"""Pixels an em: all but the widest three letters fit, so nothing has to be scaled down."""
BASELINE = 21
"""Row of the baseline; only letters that would be cut off are moved from it."""
SHARED_BY = 4
"""Two letters count as one where they agree in at least one of so many faces: a quarter, which is
one typeface in its four styles. A task may draw its hands from just these."""
ALIKE = 0.035
"""Letters of two splits agree in a face below this distance, see ``_distances``.

Equal outlines come out below 0.02, nearly all at 0.00. From there to 0.04 stand forms of one
letter (small Cyrillic ka and Latin kra) beside letters that differ by a few pixels of an accent;
above, letters that differ by more. A letter lost costs little and one that was seen in training
costs honesty, so the bound stands near the upper end.
"""
_VERSION = "1"
"""Part of the cache's key: to be raised when the making of images changes."""


def open_glyphs() -> CharacterFamily:
    """The family; images are rendered once, in seconds, and kept in the cache.

    Raises:
        DataError: where matplotlib or its typefaces are not installed.
    """
    folder = _font_folder()
    contents = {face: (folder / face).read_bytes() for face in FACES}
    data = CharacterData(**cached_arrays("glyphs", _key(contents), lambda: _make(folder).arrays()))
    return CharacterFamily(
        "glyphs",
        data,
        SCRIPTS,
        about="Printed letters of five scripts in the 16 text typefaces of matplotlib.",
        group_word="script",
        hand_word="typefaces",
    )


def _font_folder() -> Path:
    try:
        import matplotlib
    except ImportError as error:
        raise DataError("glyphs are rendered from matplotlib's typefaces: install it") from error
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    missing = [face for face in FACES if not (folder / face).is_file()]
    if missing:
        raise DataError(f"glyphs: {folder} lacks the typefaces {', '.join(missing)}")
    return folder


def _key(contents: Mapping[str, bytes]) -> str:
    """Hash of what images depend on: typefaces, renderer, names of letters, and this module."""
    import PIL
    from PIL import features

    versions = (PIL.__version__, features.version("freetype2"), unicodedata.unidata_version)
    digest = hashlib.sha256(repr((_VERSION, versions)).encode())
    for face, content in contents.items():
        digest.update(face.encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class Letters:
    """``C`` letters in all faces.

    Attributes:
        names: the letters, in order of code points.
        scripts: ``(C,)`` the script of each.
        images: ``(C, faces, 28, 28)`` uint8, empty where a face lacks the letter.
        there: ``(C, faces)`` whether a face has the letter.
    """

    names: tuple[str, ...]
    scripts: NDArray[np.str_]
    images: NDArray[np.uint8]
    there: NDArray[np.bool_]

    def only(self, keep: NDArray[np.bool_]) -> Letters:
        names = tuple(n for n, kept in zip(self.names, keep, strict=True) if kept)
        return Letters(names, self.scripts[keep], self.images[keep], self.there[keep])


def _make(folder: Path) -> CharacterData:
    """Render all letters and leave out what cannot be told apart."""
    letters = render(folder)
    kept = letters.only(~(repeated(letters) | alike_to_earlier(letters)))
    groups = [script for split in SPLITS for script in SCRIPTS[split]]
    classes, faces = np.nonzero(kept.there)
    return CharacterData(
        images=kept.images[classes, faces],
        image_class=classes,
        image_hand=faces,
        class_names=np.array(kept.names),
        class_group=np.array([groups.index(script) for script in kept.scripts]),
        group_names=np.array(groups),
    )


def script_of(letter: str) -> str | None:
    """The script of a letter by its Unicode name; None if it is no letter of our scripts."""
    if not unicodedata.category(letter).startswith("L"):
        return None
    script = unicodedata.name(letter, "").partition(" ")[0].capitalize()
    return script if any(script in scripts for scripts in SCRIPTS.values()) else None


def render(folder: Path) -> Letters:
    """Images of every letter of our scripts that at least ``MIN_FACES`` faces have."""
    from fontTools.ttLib import TTFont

    has: dict[str, set[int]] = {}
    for f, face in enumerate(FACES):
        with TTFont(folder / face, lazy=True) as font:
            for code in font.getBestCmap():
                has.setdefault(chr(code), set()).add(f)
    scripts = {
        letter: script
        for letter in sorted(has)
        if len(has[letter]) >= MIN_FACES and (script := script_of(letter)) is not None
    }
    names = tuple(scripts)
    images = np.zeros((len(names), len(FACES), SIDE, SIDE), np.uint8)
    for f, face in enumerate(FACES):
        wanted = {letter: c for c, letter in enumerate(names) if f in has[letter]}
        for letter, image in _render_face(folder / face, tuple(wanted)):
            images[wanted[letter], f] = image
    there: NDArray[np.bool_] = np.any(images, axis=(2, 3))
    letters = Letters(names, np.array(list(scripts.values())), images, there)
    return letters.only(there.sum(1) >= MIN_FACES)


def _render_face(path: Path, letters: tuple[str, ...]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Each letter with its image; none for empty ones, placeholders and those that do not fit."""
    from PIL import ImageFont

    # The basic layout puts one glyph a letter, without shaping that depends on other libraries.
    font = ImageFont.truetype(str(path), FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    placeholder = bytes(font.getmask2("\uffff", mode="L", anchor="ls")[0])
    for letter in letters:
        mask, (_, above) = font.getmask2(letter, mode="L", anchor="ls")
        width, height = mask.size
        ink = bytes(mask)
        if width > SIDE or height > SIDE or not any(ink) or ink == placeholder:
            continue
        top = min(max(BASELINE + above, 0), SIDE - height)
        left = (SIDE - width) // 2
        image = np.zeros((SIDE, SIDE), np.uint8)
        image[top : top + height, left : left + width] = np.frombuffer(ink, np.uint8).reshape(
            height, width
        )
        yield letter, image


def repeated(letters: Letters) -> NDArray[np.bool_]:
    """``(C,)``: whether a letter is identical to an earlier one of its script.

    Identical means: equal in every pixel in a quarter or more of the faces that have both.
    """
    numbers = np.empty(letters.there.shape, np.int64)
    for face in range(letters.there.shape[1]):
        known: dict[bytes, int] = {}
        pixels = [image.tobytes() for image in letters.images[:, face]]
        numbers[:, face] = [known.setdefault(p, len(known)) for p in pixels]
    result = np.zeros(len(letters.names), np.bool_)
    for c, script in enumerate(letters.scripts):
        earlier = np.flatnonzero((letters.scripts[:c] == script) & ~result[:c])
        common = letters.there[earlier] & letters.there[c]
        equal = (numbers[earlier] == numbers[c]) & common
        result[c] = _in_enough(equal.sum(1), common.sum(1)).any()
    return result


def alike_to_earlier(letters: Letters, alike: float = ALIKE) -> NDArray[np.bool_]:
    """``(C,)``: whether a letter looks like one of a script of an earlier split.

    Looking alike means: closer than ``alike`` in a quarter or more of the faces that have both.
    """
    result = np.zeros(len(letters.names), np.bool_)
    for s, split in enumerate(SPLITS[1:], start=1):
        before = [script for earlier in SPLITS[:s] for script in SCRIPTS[earlier]]
        late = np.flatnonzero(np.isin(letters.scripts, SCRIPTS[split]))
        early = np.flatnonzero(np.isin(letters.scripts, before))
        close = np.zeros((len(late), len(early)), np.int64)
        common = np.zeros_like(close)
        for face in range(letters.there.shape[1]):
            a = late[letters.there[late, face]]
            b = early[letters.there[early, face]]
            at = np.ix_(np.searchsorted(late, a), np.searchsorted(early, b))
            close[at] += _distances(letters.images[a, face], letters.images[b, face]) < alike
            common[at] += 1
        result[late] = _in_enough(close, common).any(1)
    return result


def _in_enough(found: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a pair that agrees in ``found`` of ``of`` faces counts as one letter."""
    return (of > 0) & (SHARED_BY * found >= of)


def _distances(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(n, 28, 28)`` and ``(m, 28, 28)`` -> ``(n, m)`` distances of ink, in [0, 1].

    The squared distance over the sum of squares, 0 where equal and 1 where no ink is shared; the
    least of three horizontal positions, as centring rounds to whole pixels.
    """
    first = a.astype(np.float32) / 255
    second = b.reshape(len(b), SIDE * SIDE).astype(np.float32) / 255
    shifted = np.stack([np.roll(first, by, axis=2) for by in (-1, 0, 1)])
    products = shifted.reshape(3 * len(a), SIDE * SIDE) @ second.T
    shared = products.reshape(3, len(a), len(b)).max(axis=0)
    squares = np.square(first).sum((1, 2))[:, None] + np.square(second).sum(1)
    distances: NDArray[np.float32] = 1 - 2 * shared / squares
    return distances
