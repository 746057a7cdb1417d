"""Few-shot recognition of the user's own images, from class folders.

A *class* is a folder of images, a *group* a folder of classes, where there is such a level: what
the classes of a task share and the next user will not have seen. Without one, splits are made by
whole classes and a task draws from all of its split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metatune.errors import OptionError, first_of
from metatune.tasks.base import ACCURACY, SPLITS, Episode, FamilyInfo, Split, TaskBatch
from metatune.tasks.images.image_files import Colour, ImageData, Levels, read_images
from metatune.tasks.pools import Pool, check_classes
from metatune.tasks.splits import few_groups, folds, group_splits

SIZE = 28
SHARES = {"train": 0.4, "select": 0.2, "confirm": 0.2, "test": 0.2}
CLASSES = "classes"
"""The one group of each split where there is no group level."""


@dataclass(frozen=True)
class ImageFolderOptions:
    """What ``metatune.space.families.ImageFolder`` says, as plain data; same names and meaning.

    Attributes:
        data: the folder, absolute.
        levels: ``class``, or ``group/class`` where class folders lie in group folders.
        size: height and width in pixels.
        colour: ``grey`` or ``rgb``.
        splits: share of each split, of the groups or of the classes.
        fold: which fold of the splits.
    """

    data: str
    levels: Levels = "class"
    size: int = SIZE
    colour: Colour = "grey"
    splits: Mapping[str, float] = field(default_factory=lambda: SHARES)
    fold: int = 0

    @staticmethod
    def of(plain: Mapping[str, Any]) -> ImageFolderOptions:
        """From plain data; what is left out takes its default."""
        if not plain:
            allowed = "a folder of class folders with images, named in a space file"
            raise OptionError("image_folder", "data", "nothing", allowed)
        return ImageFolderOptions(**plain)


def open_image_folder(options: ImageFolderOptions) -> ImageFolderFamily:
    """The family; errors as of ``read_images``, and DataError for fewer than four groups."""
    data = read_images(Path(options.data), options.levels, options.size, options.colour)
    grouped = options.levels == "group/class"
    return ImageFolderFamily(data, options.splits, grouped, options.fold)


class ImageFolderFamily:
    """N classes of one group, some images of each to learn from and others to be judged on.

    Args:
        data: the images.
        shares: of each split.
        grouped: whether the names of classes begin with that of a group.
        fold: which fold of the splits.
    """

    def __init__(
        self, data: ImageData, shares: Mapping[str, float], grouped: bool, fold: int = 0
    ) -> None:
        self._data, self._sizes = data, data.sizes
        self._shares, self._fold = shares, fold
        self._pools: dict[tuple[Split, int, int], Pool] = {}
        members: dict[str, list[int]] = {}
        for number, name in enumerate(data.classes):
            members.setdefault(name.partition("/")[0], []).append(number)
        one = "each class folder is a group, for levels: class"
        sizes = {name: len(classes) for name, classes in members.items()}
        splits = group_splits("image_folder", sizes, shares, one, fold)
        self.folds = folds(sizes, shares)
        self._classes: dict[Split, dict[str, list[int]]] = {
            split: {name: members[name] for name in names} for split, names in splits.items()
        }
        if not grouped:
            self._classes = {
                split: {CLASSES: [k for classes in own.values() for k in classes]}
                for split, own in self._classes.items()
            }
        # Each class's number among the classes of its split.
        self._number_in_split = np.empty(len(data.classes), np.int64)
        for own in self._classes.values():
            classes = [k for of_group in own.values() for k in of_group]
            self._number_in_split[classes] = np.arange(len(classes))
        self.info = FamilyInfo(
            name="image_folder",
            kind="classification",
            input_shape=data.images.shape[1:],
            outputs=0,
            metric=ACCURACY,
            train_classes=sum(len(classes) for classes in self._classes["train"].values()),
            groups={
                split: {name: len(classes) for name, classes in own.items()}
                for split, own in self._classes.items()
            },
            grouped=grouped,
            baselines=("nearest_neighbour", "frozen_features"),
            about="Your own images in class folders, see docs/own_images.md.",
        )

    @property
    def data(self) -> ImageData:
        """The images."""
        return self._data

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of images, classes and splits, in hex digits."""
        return hashlib.sha256(repr((self._data.content, self._classes)).encode()).hexdigest()

    def class_names(self, split: Split) -> tuple[str, ...]:
        """The name of each class of a split, by its number among the classes of the split."""
        own = self._classes[split].values()
        return tuple(self._data.classes[k] for classes in own for k in classes)

    def notes(self, episode: Episode) -> tuple[str, ...]:
        """What the images are, what was left out and why, and what the splits hang on."""
        return tuple(self._notes(episode))

    def _notes(self, episode: Episode) -> Iterator[str]:
        yield from self._data.notes
        needed = episode.shot + episode.query
        named = zip(self._data.classes, self._sizes.tolist(), strict=True)
        small = [f"{name} ({n})" for name, n in named if n < needed]
        if small:
            yield (
                f"{len(small)} of {len(self._data.classes)} classes have fewer than {needed} "
                f"images, shot and query together, and are never drawn: {first_of(small)}."
            )
        if not self.info.grouped:
            told = "; ".join(f"{s} has {first_of(self.class_names(s), 20)}" for s in SPLITS)
            yield (
                "Without a group level, splits are made by whole classes, and a task draws from "
                f"all of its split: {told}. Results are about new tasks of the classes of test."
            )
            return
        unused = [
            f"{name} of {split}"
            for split in SPLITS
            for name in self.info.groups[split]
            if name not in self.usable_groups(split, episode)
        ]
        if unused:
            yield (
                f"{len(unused)} groups have fewer than {episode.way} such classes and are never "
                f"drawn: {first_of(unused)}."
            )
        yield from few_groups(self.info, self._shares, self._fold)

    def usable_groups(self, split: Split, episode: Episode) -> tuple[str, ...]:
        """The groups of a split with enough classes of enough images."""
        return self._pool(split, episode).groups

    def check(self, episode: Episode) -> None:
        """Raise DataError unless every split has a group that can hold such a task."""
        usable = {split: bool(self.usable_groups(split, episode)) for split in SPLITS}
        sizes = {s: [self._sizes[own] for own in self._classes[s].values()] for s in SPLITS}
        check_classes("image_folder", episode, usable, sizes, "group", "images")

    def sample(
        self,
        split: Split,
        episode: Episode,
        seeds: Sequence[int],
        groups: Sequence[str] | None = None,
    ) -> TaskBatch:
        """Draw one task a seed; images are ``(T, S, channels, size, size)`` in [0, 1].

        A seed draws its group evenly, then classes, then images of each, without replacement.
        Examples stand class by class: all of label 0, then all of label 1, and so on.

        Raises:
            DataError: where no group, or a group asked for, can hold such a task.
        """
        data, pool = self._data, self._pool(split, episode)
        seeded = np.array([int(seed) for seed in seeds], np.uint64)
        group = pool.draw_groups("image_folder", split, seeded, groups)
        drawn = pool.draw_classes(seeded, group, data.start, episode)
        names = pool.names(group)
        return TaskBatch(
            support_x=self._pixels(data.rows[drawn.support]),
            query_x=self._pixels(data.rows[drawn.query]),
            ids=tuple(f"{g}-{s:012x}" for g, s in zip(names, seeded.tolist(), strict=True)),
            groups=names,
            **drawn.labelled(self._number_in_split[drawn.classes]),
        )

    def _pixels(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """``(T, n)`` rows -> ``(T, n, channels, size, size)``."""
        pixels = self._data.images[rows].astype(np.float32)
        pixels /= 255
        return pixels

    def _pool(self, split: Split, episode: Episode) -> Pool:
        """The classes with enough images, of groups with enough of them."""
        key = (split, episode.way, episode.shot + episode.query)
        if key not in self._pools:
            enough = {
                name: [k for k in classes if self._sizes[k] >= key[2]]
                for name, classes in self._classes[split].items()
            }
            usable = {name: own for name, own in enough.items() if len(own) >= episode.way}
            self._pools[key] = Pool.of(usable)
        return self._pools[key]
