"""Class folders of image files, decoded once into one array that all processes share.

Pillow decodes. What cannot be used is told in a note, or refused where it makes the whole folder
doubtful; nothing is passed over in silence.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError, OptionError, first_of
from metatune.tasks.cache import mapped_arrays, stamp

Colour = Literal["grey", "rgb"]
Levels = Literal["class", "group/class"]
DEPTH: Mapping[Levels, int] = {"class": 1, "group/class": 2}
CHANNELS: Mapping[Colour, int] = {"grey": 1, "rgb": 3}
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm",
)  # fmt: skip
DEEPEST = 16  # folders within folders: more are a link to a folder above
LISTED = 3  # files that a note names
_VERSION = "1"
"""Part of the cache's key: to be raised when the making of images changes."""


@dataclass(frozen=True)
class ImageData:
    """``N`` images of ``K`` classes.

    Attributes:
        images: ``(M, channels, size, size)`` uint8, mapped into memory; some of them may not count.
        rows: ``(N,)`` those that count, class by class.
        start: ``(K + 1,)``: class k's images are ``rows[start[k]:start[k + 1]]``.
        classes: ``(K,)`` names, as ``class`` or ``group/class``.
        content: hash of the images that count and their classes, in hex digits.
        notes: what the images are, and what was left out and why.
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    start: NDArray[np.int64]
    classes: tuple[str, ...]
    content: str
    notes: tuple[str, ...]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """``(K,)`` images of each class."""
        return np.diff(self.start)


def read_images(folder: Path, levels: Levels, size: int, colour: Colour) -> ImageData:
    """The images of a folder, from the cache where the same files were read before.

    Files are the same where names, sizes and times of change are.

    Args:
        folder: holds class folders, or group folders of class folders.
        levels: which of the two.
        size: height and width that images are brought to, in pixels.
        colour: ``grey`` has one channel, ``rgb`` three.

    Raises:
        OptionError: no such folder, no image in it, or images at another depth.
        DataError: a folder cannot be listed, has no name that can be written, or no image is left.
    """
    found = find_images(folder, levels)
    key = hashlib.sha256(repr((_VERSION, _pillow(), size, colour, found.stamp)).encode())
    make = partial(_write, found, size, colour)
    arrays: Mapping[str, Any] = mapped_arrays("image_folder", key.hexdigest(), make)
    of_images = arrays["notes"].tolist()
    return ImageData(
        images=arrays["images"],
        rows=np.array(arrays["rows"]),
        start=np.array(arrays["start"]),
        classes=tuple(arrays["classes"].tolist()),
        content=str(arrays["content"][0]),
        notes=(of_images[0], *found.notes, *of_images[1:]),
    )


def _pillow() -> str:
    try:
        import PIL
    except ImportError as error:
        raise DataError("image_folder: images are read by Pillow: pip install pillow") from error
    return str(PIL.__version__)


# --- which files ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What lies in a folder.

    Attributes:
        folder: the folder.
        files: images, as paths within it, class by class.
        classes: names of the classes.
        class_of: the number of each image's class.
        stamp: hash of names, sizes and times of change.
        notes: what is passed over.
    """

    folder: Path
    files: tuple[PurePath, ...]
    classes: tuple[str, ...]
    class_of: tuple[int, ...]
    stamp: str
    notes: tuple[str, ...]


def find_images(folder: Path, levels: Levels) -> Found:
    """The image files of a folder, by the endings of their names; errors as of ``read_images``."""
    if not folder.is_dir():
        allowed = f"a folder of {levels} folders with images"
        raise OptionError("image_folder", "data", f"{folder}, which is no folder", allowed)
    depth = DEPTH[levels]
    files: list[PurePath] = []
    hidden: list[PurePath] = []
    other: list[PurePath] = []
    empty: list[PurePath] = []
    for place, folders, names in _walk(folder):
        hidden += [place / name for name in (*folders, *names) if name.startswith(".")]
        seen = [name for name in names if not name.startswith(".")]
        images = [place / name for name in seen if PurePath(name).suffix.lower() in SUFFIXES]
        if images and len(place.parts) != depth:
            found = f"the image {shown(images[0])}, {len(place.parts)} folders down in {folder}"
            raise OptionError("image_folder", "levels", found, _allowed(levels))
        other += [place / name for name in seen if place / name not in set(images)]
        if place.parts and not images and not folders:
            empty.append(place)
        files += images
    if not files:
        found = f"no image in {folder}"
        raise OptionError("image_folder", "data", found, f"files that end in {', '.join(SUFFIXES)}")
    places = [file.parent for file in files]
    classes = tuple(dict.fromkeys(_name(place) for place in places))
    number = {name: k for k, name in enumerate(classes)}
    notes = [
        _note(len(hidden), "hidden files and folders are passed over", _shown(hidden)),
        _note(len(other), "files are no images by the endings of their names", _shown(other)),
        _note(len(empty), "folders are without images", _shown(empty)),
    ]
    return Found(
        folder,
        tuple(files),
        classes,
        tuple(number[_name(place)] for place in places),
        stamp(folder / file for file in files),
        tuple(note for note in notes if note),
    )


def _walk(folder: Path) -> Iterator[tuple[PurePath, list[str], list[str]]]:
    """Each folder within, as seen from it, with the names of folders and files in it, sorted."""
    for here, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        place = PurePath(here).relative_to(folder)
        if len(place.parts) > DEEPEST:
            raise DataError(
                f"image_folder: {shown(PurePath(here))} lies more than {DEEPEST} folders deep; "
                "allowed: no links to a folder above"
            )
        yield place, sorted(folders), sorted(names)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise DataError(f"image_folder: {error.filename} cannot be listed: {error.strerror}")


def _allowed(levels: Levels) -> str:
    other: Levels = "group/class" if levels == "class" else "class"
    return (
        f"for levels: {levels} images as {levels}/*.png; for levels: {other} as {other}/*.png; "
        "none elsewhere"
    )


def _name(place: PurePath) -> str:
    """The name of a class, by the folder of its images."""
    name = place.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"image_folder: the folder {shown(place)} has a name that is no Unicode; rename it"
        ) from error
    return name


def shown(path: PurePath) -> str:
    """A path for messages, whatever bytes are in it."""
    return path.as_posix().encode(errors="backslashreplace").decode()


def _shown(paths: Sequence[PurePath]) -> list[str]:
    return [shown(path) for path in paths]


def _note(count: int, what: str, named: Sequence[str]) -> str:
    """``3 no images by their names (a.txt, b.txt and 1 more).``; empty for none."""
    return f"{count} {what} ({first_of(named, LISTED, None)})." if count else ""


# --- from files to pixels ------------------------------------------------------------------------


def decode(path: Path, size: int, colour: Colour) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """One image as ``(channels, size, size)`` uint8, and what was done to it beside scaling.

    It is turned as its EXIF data say, laid on white where it is transparent, its longer side is
    cut evenly, and it is scaled with anti-aliasing. Of an animation the first picture counts, and
    16 bits of grey become 8.

    Raises:
        Exception: whatever Pillow says of a file that it cannot read.
    """
    from PIL import Image, ImageOps

    done = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as opened:
            if getattr(opened, "n_frames", 1) > 1:
                done.append("animated or of many pages: the first picture counts")
            image = ImageOps.exif_transpose(opened)
            if image.mode == "F" or image.mode.startswith("I"):
                image = _eight_bits(np.asarray(image))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L" if colour == "grey" else "RGB")
    side = min(image.size)
    if max(image.size) > side:
        done.append("not square: the longer side is cut evenly at both ends")
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8).reshape(size, size, CHANNELS[colour])
    return pixels.transpose(2, 0, 1), tuple(done)


def _eight_bits(pixels: NDArray[Any]) -> Any:
    from PIL import Image

    if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("its numbers have no range that is known; allowed: 8 or 16 bits")
    return Image.fromarray((pixels.astype(np.uint32) // 257).astype(np.uint8))


def _write(found: Found, size: int, colour: Colour, folder: Path) -> None:
    """Decode all files into a folder, as the arrays of ``read_images``."""
    shape = (len(found.files), CHANNELS[colour], size, size)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    digests: list[bytes] = []  # empty where a file cannot be read
    broken: list[str] = []
    treated: dict[str, list[PurePath]] = {}
    for row, file in enumerate(found.files):
        try:
            pixels, done = decode(found.folder / file, size, colour)
        except Exception as error:  # Pillow's plugins raise whatever their formats bring
            broken.append(f"{shown(file)}: {_reason(error, found.folder / file)}")
            digests.append(b"")
            continue
        images[row] = pixels
        digests.append(hashlib.sha256(pixels.tobytes()).digest())
        for what in done:
            treated.setdefault(what, []).append(file)
    kept, again, torn = distinct(digests, found.class_of)
    if not len(kept):
        raise DataError(
            f"image_folder: none of {len(found.files)} images in {found.folder} can be used "
            f"(first: {(broken or ['the same image in every class'])[0]})"
        )
    class_of = np.array(found.class_of)[kept]
    content = hashlib.sha256(repr((found.classes, class_of.tolist())).encode())
    for row in kept:
        content.update(digests[row])
    of = f"of {len(found.files)} images"
    twice = [f"{shown(found.files[row])} = {shown(found.files[first])}" for first, row in again]
    same = [" = ".join(_shown([found.files[row] for row in rows])) for rows in torn]
    copies = sum(len(rows) for rows in torn)
    notes = [
        f"{len(kept)} images of {len(found.classes)} classes, {colour}, {size}x{size} pixels.",
        _note(len(broken), f"{of} cannot be read and are left out", broken),
        _note(len(again), f"{of} repeat another of their class and are left out", twice),
        _note(copies, f"{of} stand in two classes or more and are left out of all", same),
        *(_note(len(rows), f"{of} are {what}", _shown(rows)) for what, rows in treated.items()),
    ]
    images.flush()
    np.save(folder / "rows.npy", np.array(kept, np.int64))
    counts = np.bincount(class_of, minlength=len(found.classes))
    np.save(folder / "start.npy", np.concatenate([[0], np.cumsum(counts)]))
    np.save(folder / "classes.npy", np.array(found.classes))
    np.save(folder / "content.npy", np.array([content.hexdigest()]))
    np.save(folder / "notes.npy", np.array([note for note in notes if note]))


def _reason(error: Exception, path: Path) -> str:
    """What an exception says, without the path that stands before it anyway."""
    if not path.exists():
        return "a link to nothing"
    if path.stat().st_size == 0:
        return "an empty file"
    said = " ".join(str(error).replace(repr(str(path)), "").split())
    return said[:100] or type(error).__name__


def distinct(
    digests: Sequence[bytes], class_of: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]], list[list[int]]]:
    """Which images count, so that none stands in two places.

    Of the same images within a class the first counts: else a task could ask for an image that it
    has shown. The same image in two classes counts in neither: one label must be wrong, and the
    classes may lie in two splits.

    Args:
        digests: hash of each image; empty for one that cannot be read.
        class_of: the class of each.

    Returns:
        Rows that count; pairs of a row that counts and one that repeats it; rows of the same image
        in several classes, image by image.
    """
    same: dict[bytes, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest:
            same.setdefault(digest, []).append(row)
    torn = [rows for rows in same.values() if len({class_of[row] for row in rows}) > 1]
    whole = [rows for rows in same.values() if len({class_of[row] for row in rows}) == 1]
    again = [(rows[0], row) for rows in whole for row in rows[1:]]
    return sorted(rows[0] for rows in whole), again, torn
