"""The presets' registry, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable

from metatune.errors import SpaceError
from metatune.strategy import MLP, Conv4, Strategy, problems
from metatune.tasks.base import Episode, FamilyInfo

Preset = Callable[[FamilyInfo], Strategy]

PRESETS: dict[str, Preset] = {}
"""Every preset by its name."""


def register(function: Preset) -> Preset:
    """Make a function of a family a preset by its name."""
    PRESETS[function.__name__] = function
    return function


def preset(name: str, info: FamilyInfo) -> Strategy:
    """The strategy of a preset's name for a family.

    Raises:
        SpaceError: there is no such preset, or it makes no sense for the family.
    """
    allowed = presets_for(info)
    if name not in allowed:
        known = f"{name} (senseless for {info.name}: a {info.kind})" if name in PRESETS else name
        raise SpaceError(f"preset: found {known}; allowed: {', '.join(allowed)}")
    return PRESETS[name](info)


def presets_for(info: FamilyInfo) -> tuple[str, ...]:
    """The names of the presets that make sense for a family."""
    episode = Episode(way=1 if info.kind == "regression" else 2, shot=2, query=1)
    return tuple(
        name for name, build in PRESETS.items() if not problems(build(info), info, episode)
    )


def has_images(info: FamilyInfo) -> bool:
    """True where inputs are images."""
    return len(info.input_shape) == 3


def backbone(info: FamilyInfo) -> Conv4 | MLP:
    """Four convolution blocks for images (fewer for tiny ones), else the MLP of MAML's sinusoid."""
    if not has_images(info):
        return MLP(width=40, depth=2)
    halvings = min(info.input_shape[1:]).bit_length() - 1
    return Conv4(depth=max(1, min(4, halvings)))
