"""What is the user's own, found by name: parts of strategies, and task families.

It is named ``module:name``, or by an entry point of one of the groups ``metatune.backbones``,
``metatune.heads``, ``metatune.learners``, ``metatune.models`` (regressors and classifiers as
scikit-learn has them) and ``metatune.families``, as an installed package declares it::

    [project.entry-points."metatune.backbones"]
    wavelets = "my_package.networks:Wavelets"
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol

from metatune.errors import SpaceError

Room = Literal["backbones", "heads", "learners", "models", "families"]


class Own(Protocol):
    """What names something of the user's own: ``OwnPart`` of a strategy, ``OwnFamily``."""

    @property
    def use(self) -> str:
        """``module:name``, or the name of an entry point."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """Keywords that it is made with."""
        ...


def look_in(folder: str) -> None:
    """Let modules be imported from a folder, after all other places."""
    if folder not in sys.path:
        sys.path.append(folder)


def load_own(part: Own, room: Room) -> Callable[..., Any]:
    """The class (or function) that makes the part.

    Raises:
        SpaceError: there is no such module or name; an error inside the module is named.
    """
    module, separator, name = part.use.partition(":")
    if not separator:
        known = {entry.name: entry for entry in entry_points(group=f"metatune.{room}")}
        if part.use not in known:
            names = ", ".join(["module:name", *sorted(known)])
            raise SpaceError(f"use: found {part.use}; allowed: {names}")
        module, _, name = known[part.use].value.partition(":")
    try:
        found: Any = import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
    except ImportError as error:
        raise SpaceError(f"use: found {part.use}, but importing {module} says: {error}") from error
    except AttributeError:
        raise SpaceError(f"use: found {part.use}; the module {module} has no {name}") from None
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise SpaceError(f"use: found {part.use}, but importing {module} ends in {said}") from error
    if not callable(found):
        raise SpaceError(f"use: found {part.use}, which is no class or function")
    maker: Callable[..., Any] = found
    return maker


def own_problem(part: Own, room: Room, *keywords: str) -> str | None:
    """Why a part cannot be made, in one sentence; None where it can.

    Args:
        part: which.
        room: what it is to be.
        keywords: what metatune passes beside the part's options.
    """
    try:
        maker = load_own(part, room)
    except SpaceError as error:
        return f"{room.removesuffix('s')}.{error}"
    try:
        inspect.signature(maker).bind(**dict.fromkeys(keywords), **part.options)
    except TypeError as error:
        return f"{room.removesuffix('s')}.options: {part.use} says: {error}"
    except ValueError:  # builtins may have no signature
        return None
    return None
