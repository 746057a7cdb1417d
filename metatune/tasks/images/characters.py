"""Few-shot recognition of characters: what printed glyphs and handwriting have in common.

A *class* is a character, a *group* is the script or alphabet that it belongs to, and a *hand* is
what made one image of it: a typeface, a drawer. A task asks for ``way`` characters of one group;
its support images and its query images come from different hands, so that what is learned from
the support must carry over to hands not seen in it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError
from metatune.tasks.base import ACCURACY, SPLITS, Episode, FamilyInfo, Split, TaskBatch

SIDE = 28
"""Height and width of an image in pixels."""


@dataclass(frozen=True)
class CharacterData:
    """Images of characters: ``N`` images of ``C`` classes in ``G`` groups.

    Attributes:
        images: ``(N, 28, 28)`` uint8, ink 255 on 0.
        image_class: ``(N,)`` integers in [0, C).
        image_hand: ``(N,)`` integers from 0 on; the same number within a group is the same hand.
        class_names: ``(C,)`` strings.
        class_group: ``(C,)`` integers in [0, G).
        group_names: ``(G,)`` strings.

    Raises:
        DataError: where shapes or numbers do not fit together.
    """

    images: NDArray[np.uint8]
    image_class: NDArray[np.integer]
    image_hand: NDArray[np.integer]
    class_names: NDArray[np.str_]
    class_group: NDArray[np.integer]
    group_names: NDArray[np.str_]

    def __post_init__(self) -> None:
        n, c, g = len(self.images), len(self.class_names), len(self.group_names)
        if self.images.shape != (n, SIDE, SIDE) or self.images.dtype != np.uint8:
            found = f"{self.images.dtype} {self.images.shape}"
            raise DataError(f"images are {found}, expected uint8 (N, {SIDE}, {SIDE})")
        for name, length, below in (
            ("image_class", n, c),
            ("image_hand", n, np.inf),
            ("class_group", c, g),
        ):
            numbers = getattr(self, name)
            if numbers.shape != (length,):
                raise DataError(f"{name} has shape {numbers.shape}, expected ({length},)")
            if length and not (numbers.min() >= 0 and numbers.max() < below):
                raise DataError(f"{name} goes outside [0, {below})")

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name; ``CharacterData(**arrays)`` gives the same again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def index(self) -> NDArray[np.int64]:
        """``(C, hands)``: the image of a class by a hand, -1 where there is none."""
        hands = int(self.image_hand.max(initial=-1)) + 1
        table = np.full((len(self.class_names), hands), -1, np.int64)
        table[self.image_class, self.image_hand] = np.arange(len(self.images))
        return table

    def only(self, groups: Sequence[str]) -> CharacterData:
        """The images, classes and groups of some groups, in the order that they have here."""
        group = np.isin(self.group_names, groups)
        of_class = group[self.class_group]
        image = of_class[self.image_class]
        return CharacterData(
            images=self.images[image],
            image_class=(of_class.cumsum() - 1)[self.image_class[image]],
            image_hand=self.image_hand[image],
            class_names=self.class_names[of_class],
            class_group=(group.cumsum() - 1)[self.class_group[of_class]],
            group_names=self.group_names[group],
        )


def joined(first: CharacterData, second: CharacterData) -> CharacterData:
    """The images of both, which share no group."""
    return CharacterData(
        images=np.concatenate([first.images, second.images]),
        image_class=np.concatenate(
            [first.image_class, second.image_class + len(first.class_names)]
        ),
        image_hand=np.concatenate([first.image_hand, second.image_hand]),
        class_names=np.concatenate([first.class_names, second.class_names]),
        class_group=np.concatenate(
            [first.class_group, second.class_group + len(first.group_names)]
        ),
        group_names=np.concatenate([first.group_names, second.group_names]),
    )


@dataclass(frozen=True)
class HandSet:
    """Hands that some classes have in common.

    Attributes:
        bits: bit ``h`` is set where hand ``h`` belongs to it.
        hands: number of bits set.
        classes: number of classes that have all of these hands.
    """

    bits: int
    hands: int
    classes: int


@dataclass(frozen=True)
class Group:
    """The classes of one group and who has drawn them.

    Attributes:
        name: of the script or alphabet.
        classes: ``(n,)`` numbers of its classes in the data.
        bits: for each class, the hands that have drawn it, a bit each.
        hand_sets: every set of hands that is what some of the classes have in common.
    """

    name: str
    classes: NDArray[np.int64]
    bits: tuple[int, ...]
    hand_sets: tuple[HandSet, ...]

    def largest_way(self, hands: int) -> int:
        """The most classes that have ``hands`` hands in common."""
        return max((s.classes for s in self.hand_sets if s.hands >= hands), default=0)

    def most_hands(self, way: int) -> int:
        """The most hands that ``way`` classes have in common."""
        return max((s.hands for s in self.hand_sets if s.classes >= way), default=0)


def common_hand_sets(bits: Sequence[int]) -> tuple[HandSet, ...]:
    """All intersections of the classes' hands, with how many classes hold each.

    Whether ``way`` classes with enough common hands exist is decided exactly by these few sets:
    the common hands of any classes are one of them.
    """
    patterns = Counter(bits)
    closed: set[int] = set()
    for pattern in sorted(patterns):
        closed |= {pattern} | {known & pattern for known in closed}
    return tuple(
        HandSet(s, s.bit_count(), sum(n for p, n in patterns.items() if p & s == s))
        for s in sorted(closed)
    )


def draw_classes(
    group: Group, way: int, hands: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``way`` distinct classes in random order that have at least ``hands`` hands in common.

    Classes are taken in random order, each one only if the task can still be completed with it:
    if some set of enough hands, held by enough classes, is held by it and by all taken before.
    So one pass always ends with ``way`` classes, and no draw is thrown away.

    Returns:
        The classes, ``(way,)``, and their common hands.
    """
    open_sets = [s.bits for s in group.hand_sets if s.hands >= hands and s.classes >= way]
    chosen: list[int] = []
    common = -1  # all bits: no class taken yet
    for i in rng.permutation(len(group.classes)):
        still_open = [s for s in open_sets if s & group.bits[i] == s]
        if not still_open:
            continue
        open_sets = still_open
        common &= group.bits[i]
        chosen.append(int(i))
        if len(chosen) == way:
            break
    # The first ones taken have more of a say in the hands: labels must not tell who was first.
    classes = group.classes[rng.permutation(chosen)]
    return classes, np.array([h for h in range(common.bit_length()) if common >> h & 1], np.int64)


def split_hands(
    hands: NDArray[np.int64], shot: int, query: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hands at random for support and query: halves, but at least ``shot`` and ``query`` each."""
    shuffled = rng.permutation(hands)
    cut = min(max(len(hands) // 2, shot), len(hands) - query)
    return shuffled[:cut], shuffled[cut:]


def _pick(
    pool: NDArray[np.int64], rows: int, count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """``(rows, count)``: in each row ``count`` distinct members of ``pool``."""
    return pool[rng.random((rows, len(pool))).argsort(axis=1)[:, :count]]


class CharacterFamily:
    """Few-shot recognition of characters within one script or alphabet.

    Args:
        name: of the family.
        data: images, their classes, hands and groups.
        splits: the groups of each split; no group may be in two.
        about: one sentence for lists of families.
        group_word: what a group is called in messages, such as "script".
        hand_word: what hands are called in messages, such as "typefaces".
        said: sentences on the data for people.
        licence: of the data; empty where it is not known.

    Raises:
        DataError: where a group is unknown or in two splits.
    """

    def __init__(
        self,
        name: str,
        data: CharacterData,
        splits: Mapping[Split, Sequence[str]],
        about: str,
        group_word: str,
        hand_word: str,
        said: tuple[str, ...] = (),
        licence: str = "",
    ) -> None:
        self._data, self._said = data, said
        self._splits = {split: tuple(splits[split]) for split in SPLITS}
        self._check_splits(name)
        self._index = data.index()
        self._groups: dict[Split, dict[str, Group]] = {
            split: {group: self._group(group) for group in names}
            for split, names in self._splits.items()
        }
        self._number_in_split = self._number_classes()
        self._group_word, self._hand_word = group_word, hand_word
        sizes = {
            split: {g.name: len(g.classes) for g in groups.values()}
            for split, groups in self._groups.items()
        }
        self.info = FamilyInfo(
            name=name,
            kind="classification",
            input_shape=(1, SIDE, SIDE),
            outputs=0,
            metric=ACCURACY,
            train_classes=sum(sizes["train"].values()),
            groups=sizes,
            grouped=True,
            baselines=("nearest_neighbour",),
            about=about,
            licence=licence,
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of images, classes, hands, groups and splits, in hex digits."""
        digest = hashlib.sha256(repr(self._splits).encode())
        for name, array in self._data.arrays().items():
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def notes(self, episode: Episode) -> tuple[str, ...]:
        """What was said of the data."""
        return self._said

    def class_names(self, split: Split) -> tuple[str, ...]:
        """The name of each class of a split, by its number among the classes of the split."""
        names = self._data.class_names
        return tuple(str(names[c]) for g in self._groups[split].values() for c in g.classes)

    def usable_groups(self, split: Split, episode: Episode) -> tuple[str, ...]:
        """The groups of a split that can hold such a task, in a fixed order; may be empty."""
        hands = episode.shot + episode.query
        groups = self._groups[split].values()
        return tuple(g.name for g in groups if g.largest_way(hands) >= episode.way)

    def check(self, episode: Episode) -> None:
        """Raise DataError unless every split has a group that can hold such a task."""
        if episode.way < 2 or episode.shot < 1 or episode.query < 1:
            found = f"way {episode.way}, shot {episode.shot}, query {episode.query}"
            allowed = "allowed: way from 2, shot and query from 1"
            raise DataError(f"{self.info.name}: {found}; {allowed}")
        for split in SPLITS:
            if not self.usable_groups(split, episode):
                raise DataError(self._too_large(split, episode))

    def sample(
        self,
        split: Split,
        episode: Episode,
        seeds: Sequence[int],
        groups: Sequence[str] | None = None,
    ) -> TaskBatch:
        """Draw one task a seed; images are ``(T, S, 1, 28, 28)`` in [0, 1] with ink 1.

        Examples stand class by class: all of label 0, then all of label 1, and so on. Hands are
        divided into a support pool and a query pool once a task; each class draws its own from
        them. Without ``groups``, the group is drawn evenly among the usable ones.

        Raises:
            DataError: where no group, or a group asked for, can hold such a task.
        """
        usable = self._usable_or_raise(split, episode, seeds, groups)
        total, way = len(seeds), episode.way
        support = np.empty((total, way, episode.shot), np.int64)
        query = np.empty((total, way, episode.query), np.int64)
        names: list[str] = []
        for t, seed in enumerate(seeds):
            rng = np.random.default_rng(seed)
            # The group is drawn even where it is given: the rest of the draw does not shift.
            drawn = usable[rng.integers(len(usable))]
            names.append(drawn if groups is None else groups[t])
            support[t], query[t] = self._draw(self._groups[split][names[t]], episode, rng)
        labels = np.arange(way, dtype=np.int64)
        return TaskBatch(
            support_x=self._pixels(support),
            support_y=np.tile(labels.repeat(episode.shot), (total, 1)),
            query_x=self._pixels(query),
            query_y=np.tile(labels.repeat(episode.query), (total, 1)),
            # The seed in hex digits: unique, and enough to draw the task again.
            ids=tuple(f"{g}-{int(seed):012x}" for g, seed in zip(names, seeds, strict=True)),
            groups=tuple(names),
            support_class=self._class_numbers(support),
            query_class=self._class_numbers(query),
        )

    def _draw(
        self, group: Group, episode: Episode, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the images of one task: ``(way, shot)`` and ``(way, query)``."""
        shot, query = episode.shot, episode.query
        classes, hands = draw_classes(group, episode.way, shot + query, rng)
        support_pool, query_pool = split_hands(hands, shot, query, rng)
        support = self._index[classes[:, None], _pick(support_pool, episode.way, shot, rng)]
        return support, self._index[classes[:, None], _pick(query_pool, episode.way, query, rng)]

    def _pixels(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """``(T, way, n)`` rows -> ``(T, way * n, 1, 28, 28)``."""
        shape = (len(rows), rows.shape[1] * rows.shape[2], 1, SIDE, SIDE)
        pixels = self._data.images[rows.reshape(shape[:2])].astype(np.float32)
        pixels /= 255
        return pixels.reshape(shape)

    def _class_numbers(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """``(T, way, n)`` rows -> ``(T, way * n)`` numbers of their classes within the split."""
        flat = rows.reshape(len(rows), rows.shape[1] * rows.shape[2])
        numbers: NDArray[np.int64] = self._number_in_split[self._data.image_class[flat]]
        return numbers

    def _group(self, name: str) -> Group:
        at = self._data.group_names.tolist().index(name)
        classes = np.flatnonzero(self._data.class_group == at)
        drawn = self._index[classes] >= 0
        bits = tuple(sum(1 << int(h) for h in np.flatnonzero(row)) for row in drawn)
        return Group(name, classes, bits, common_hand_sets(bits))

    def _number_classes(self) -> NDArray[np.int64]:
        """``(C,)``: each class's number among the classes of its split, -1 if it is in none."""
        numbers = np.full(len(self._data.class_names), -1, np.int64)
        for groups in self._groups.values():
            members = [g.classes for g in groups.values()]
            classes = np.concatenate(members) if members else np.empty(0, np.int64)
            numbers[classes] = np.arange(len(classes))
        return numbers

    def _check_splits(self, name: str) -> None:
        listed = [group for names in self._splits.values() for group in names]
        known = set(self._data.group_names.tolist())
        for group, times in Counter(listed).items():
            if group not in known:
                raise DataError(f"{name}: group {group!r} of the splits has no images")
            if times > 1:
                raise DataError(f"{name}: group {group!r} is in the splits {times} times, not once")

    def _usable_or_raise(
        self, split: Split, episode: Episode, seeds: Sequence[int], groups: Sequence[str] | None
    ) -> tuple[str, ...]:
        usable = self.usable_groups(split, episode)
        if not usable:
            raise DataError(self._too_large(split, episode))
        if groups is None:
            return usable
        if len(groups) != len(seeds):
            raise DataError(f"{self.info.name}: {len(groups)} groups for {len(seeds)} seeds")
        for group in groups:
            if group not in usable:
                problem = f"{self._group_word} {group!r} cannot hold {_describe(episode)}"
                allowed = f"allowed in split {split!r}: {', '.join(usable)}"
                raise DataError(f"{self.info.name}: {problem}; {allowed}")
        return usable

    def _too_large(self, split: Split, episode: Episode) -> str:
        """Why no group of the split can hold the episode, and what every split can hold."""
        hands = episode.shot + episode.query
        groups = [list(self._groups[s].values()) for s in SPLITS]
        way = min(max((g.largest_way(hands) for g in of), default=0) for of in groups)
        most = min(max((g.most_hands(episode.way) for g in of), default=0) for of in groups)
        sizes = self.info.groups[split]
        largest = max(sizes, key=lambda name: sizes[name], default="none")
        ways = f"at most {way}" if way >= 2 else "none"
        sums = f"at most {most}" if most >= 2 else "none"
        return (
            f"{self.info.name}: no {self._group_word} of split {split!r} can hold "
            f"{_describe(episode)} (its largest: {largest}, {sizes.get(largest, 0)} characters). "
            f"Allowed in every split: way {ways} at shot + query {hands} (different "
            f"{self._hand_word}), shot + query {sums} at way {episode.way}."
        )


def _describe(episode: Episode) -> str:
    return f"way {episode.way} with shot {episode.shot} and query {episode.query}"
