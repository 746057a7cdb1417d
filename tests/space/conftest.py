"""Two small families, as far as a space file needs to know them, and a way to read text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from metatune.space import ResolvedSpace, Space, load_yaml, parse_space, resolve
from metatune.space.source import Source
from metatune.tasks.base import ACCURACY, MSE, SPLITS, FamilyInfo

FAMILIES = ("glyphs", "image_folder", "omniglot", "sinusoid")
SPACES = Path(__file__).parents[2] / "search_spaces"

Read: TypeAlias = Callable[[str], Space]
Resolve: TypeAlias = Callable[[str], ResolvedSpace]


@pytest.fixture(scope="session")
def images() -> FamilyInfo:
    """A classification of 28x28 images."""
    return FamilyInfo(
        name="glyphs",
        kind="classification",
        input_shape=(1, 28, 28),
        outputs=0,
        metric=ACCURACY,
        train_classes=100,
        groups={split: {"a": 30, "b": 30} for split in SPLITS},
        grouped=True,
        baselines=("nearest_neighbour",),
        about="images",
    )


@pytest.fixture(scope="session")
def waves() -> FamilyInfo:
    """A regression from one number to one number."""
    return FamilyInfo(
        name="sinusoid",
        kind="regression",
        input_shape=(1,),
        outputs=1,
        metric=MSE,
        train_classes=0,
        groups={split: {"all": 1} for split in SPLITS},
        grouped=False,
        baselines=(),
        about="waves",
    )


@pytest.fixture(scope="session")
def read() -> Read:
    """Reads the text of a space file, called s.yaml in messages."""

    def read_text(text: str) -> Space:
        data, lines = load_yaml(text, "s.yaml")
        return parse_space(data, Source("s.yaml", lines), FAMILIES)

    return read_text


@pytest.fixture(scope="session")
def resolved(read: Read, images: FamilyInfo, waves: FamilyInfo) -> Resolve:
    """Reads the text of a space file and fits it to the family that it names."""

    def resolve_text(text: str) -> ResolvedSpace:
        space = read(text)
        return resolve(space, waves if space.family.name == "sinusoid" else images)

    return resolve_text


@pytest.fixture(scope="session")
def shipped() -> dict[str, str]:
    """The text of each shipped space file, by its name."""
    return {path.stem: path.read_text("utf-8") for path in sorted(SPACES.glob("*.yaml"))}
