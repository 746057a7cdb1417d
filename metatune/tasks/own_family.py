"""The family ``own``: a class of the user's own, found by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metatune.errors import MetatuneError, OptionError, SpaceError, one_line
from metatune.own import load_own
from metatune.tasks.base import FamilyInfo, TaskFamily

NEEDED = ("fingerprint", "check", "usable_groups", "sample")
"""What a family has beside ``info``."""


@dataclass(frozen=True)
class _Named:
    use: str
    options: Mapping[str, Any]


def open_own(use: str | None, options: Mapping[str, Any]) -> TaskFamily:
    """Make the family that is named.

    Args:
        use: ``module:Class``, or the name of an entry point of ``metatune.families``.
        options: keywords of the class.

    Raises:
        OptionError: there is no such class, it cannot be made, or it makes no task family.
    """
    if use is None:
        raise OptionError("own", "use", "nothing", "module:Class")
    try:
        maker = load_own(_Named(use, options), "families")
    except SpaceError as error:
        found, _, allowed = str(error).removeprefix("use: found ").partition("; allowed: ")
        raise OptionError("own", "use", found, allowed or "module:Class") from error
    try:
        family: TaskFamily = maker(**options)
    except MetatuneError:
        raise
    except Exception as error:
        said = one_line(f"{use}, which says {type(error).__name__}: {error}")
        raise OptionError("own", "options", said, "keywords that it can be made with") from error
    lacks = [name for name in NEEDED if not hasattr(family, name)]
    if not isinstance(getattr(family, "info", None), FamilyInfo):
        lacks.insert(0, "info (a FamilyInfo)")
    if lacks:
        found = f"{use}, which has no {', '.join(lacks)}"
        raise OptionError("own", "use", found, "a task family, see metatune/tasks/base.py")
    return family
