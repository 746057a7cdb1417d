"""The errors that metatune raises on purpose.

Each message is one or two sentences with the place, what was found and what is allowed; the
command line prints it without a traceback and exits with code 2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class MetatuneError(Exception):
    """Base of every error that metatune raises on purpose."""


class SpaceError(MetatuneError, ValueError):
    """A space file or strategy says something that cannot be run."""


class DataError(MetatuneError, ValueError):
    """A task family's data are missing, malformed or too small for what is asked of them."""

    def __init__(self, told: str) -> None:
        super().__init__(one_line(told))


class OptionError(DataError):
    """An option of a family asks for what its data do not have.

    Args:
        family: its name.
        key: the option.
        found: what it says, or what the data have instead.
        allowed: what would do.
    """

    def __init__(self, family: str, key: str, found: str, allowed: str) -> None:
        super().__init__(f"{family}: {key}: found {found}; allowed: {allowed}")
        self.key = key
        self.found = found
        self.allowed = allowed


class RunError(MetatuneError, RuntimeError):
    """A run folder, its driver or its cluster is not in a state to go on."""


class StorageError(RunError):
    """A run's storage does not take what is written, or does not give it back."""


class ArtifactError(MetatuneError, ValueError):
    """An artifact cannot be made, is no artifact, or is asked for what it does not do."""


class Diverged(MetatuneError, ArithmeticError):  # noqa: N818 - a result, not an error
    """Training or scoring left the finite numbers; a result, not a crash.

    Args:
        step: meta-step (0-based) at which it was noticed.
        what: what was not finite, in words.
    """

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"{what} at meta-step {step}")
        self.step = step
        self.what = what


def one_line(text: str) -> str:
    """Text that stands in one line, whatever names are in it."""
    return "".join(c if c.isprintable() else "?" for c in text)


def first_of(names: Sequence[str], most: int = 8, longest: int | None = 40) -> str:
    """Names for a message: the first ones, each cut to so many characters, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:longest] for name in names[:most]) + more


_SECRETS = re.compile(r"([?&]\w*(?:password|passwd|pwd|secret|token)=)[^&\s]*", re.IGNORECASE)


def hide_password(text: str) -> str:
    """A URL, or a message with one in it, as it may be shown and kept."""
    return _SECRETS.sub(r"\1***", re.sub(r"(://[^:/\s]*):.*@", r"\1:***@", text))
