"""Patience: storage that does not answer is waited for before anything is given up.

Shared storage goes away and comes back: a server restarts, a mount is made anew, somebody makes
room. A long search should not end for that. So what failed is tried again, with longer and longer
pauses, for a stated time; whoever watches is told once. What no waiting helps, such as storage that
may only be read, is given up at once.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TypeVar

from metatune.errors import StorageError

logger = logging.getLogger(__name__)

T = TypeVar("T")

SECONDS = 60.0
"""How long storage is waited for. A file server that restarts or fails over is back within half a
minute; twice that passes before a person has to see to it."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries; each pause is twice the one before."""

_FULL = ("ENOSPC", "EDQUOT")
_AWAY = (
    "ENOENT", "ENODEV", "ENXIO", "ESTALE", "ENOTCONN", "ENOLINK",
    "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH",
)  # fmt: skip
_SILENT = (
    "EIO", "EREMOTEIO", "ETIMEDOUT", "EAGAIN", "EBUSY", "EINTR", "ENOLCK", "ECONNREFUSED",
    "ECONNRESET", "ECONNABORTED", "EPIPE", "ESHUTDOWN",
)  # fmt: skip
_LOCKED = ("EROFS", "EACCES", "EPERM")


def _numbers(names: tuple[str, ...]) -> frozenset[int]:
    """Of those that this system has."""
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_PASSING = _numbers(_FULL + _AWAY + _SILENT)
_ADVICE = {
    _numbers(_FULL): "make room",
    _numbers(_AWAY): "bring it back",
    _numbers(_LOCKED): "make it writable",
}
_PASSING_ON_S3 = re.compile(
    r"AWS Error (NETWORK_CONNECTION|REQUEST_TIMEOUT|SLOW_DOWN|THROTTLING|INTERNAL_FAILURE"
    r"|SERVICE_UNAVAILABLE|UNKNOWN \(HTTP status 5)|curlCode"
)

_ON_S3 = {
    "NO_SUCH_BUCKET": "there is no such bucket",
    "NO_SUCH_KEY": "it is not there",
    "RESOURCE_NOT_FOUND": "it is not there",
    "ACCESS_DENIED": "access is denied: are there credentials in the environment, and do they "
    "allow it?",
    "INVALID_ACCESS_KEY_ID": "the access key in the environment is not known there",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key in the environment does not fit its access key",
    "INVALID_CLIENT_TOKEN_ID": "the access key in the environment is not known there",
    "NETWORK_CONNECTION": "the server cannot be reached",
    "REQUEST_TIMEOUT": "the server does not answer",
}
"""What the codes in the messages of pyarrow's file systems mean, which have no number."""


def passes(error: OSError) -> bool:
    """Whether another try may help: storage is silent, away or full, rather than refuses."""
    if error.errno is None:
        return _PASSING_ON_S3.search(str(error)) is not None
    return error.errno in _PASSING


@dataclass(frozen=True)
class Patience:
    """How storage is waited for.

    Attributes:
        seconds: for how long, from the first failure of an action on.
        notice: is told a sentence when the waiting begins.
        again: is called before each further try. What it raises counts as the action's own error:
            an ``OSError`` that passes as another failure, anything else as the end.
    """

    seconds: float = field(default_factory=lambda: SECONDS)
    notice: Callable[[str], None] = logger.warning
    again: Callable[[], None] = lambda: None

    def keep_trying(self, action: Callable[[], T], what: str) -> T:
        """The result of an action, tried again for as long as its failures may pass.

        Args:
            action: reads or writes; whole when it returns, and without a trace when it raises.
            what: what failed if it raises, in words: ``<place> could not be written``.

        Raises:
            StorageError: it failed, and another try cannot help or did not.
        """
        until: float | None = None
        pause = FIRST_PAUSE
        while True:
            try:
                if until is not None:
                    self.again()
                return action()
            except OSError as error:
                now = monotonic()
                if not passes(error) or (until is not None and now >= until):
                    raise given_up(error, what, 0.0 if until is None else self.seconds) from error
                if until is None:
                    until = now + self.seconds
                    self.notice(
                        f"{what}: {reason_of(error)}. Waiting up to {self.seconds:g} s for it."
                    )
                sleep(min(pause, max(0.0, until - now)))
                pause = min(2 * pause, LONGEST_PAUSE)


def given_up(error: OSError, what: str, waited: float = 0.0) -> StorageError:
    """The end of all patience, in two sentences.

    Args:
        error: of the last try.
        what: as of ``keep_trying``.
        waited: seconds.
    """
    advised = (advice for numbers, advice in _ADVICE.items() if error.errno in numbers)
    after = f" after {waited:g} s of waiting" if waited else ""
    return StorageError(
        f"{what}: {reason_of(error)}{after}. "
        f"What was recorded stands: {next(advised, 'see to the storage')}, then resume."
    )


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Storage that fails in here is waited for by nobody: what is only beginning may be refused.

    Args:
        what: as of ``keep_trying``.

    Raises:
        StorageError: it failed.
    """
    try:
        yield
    except OSError as error:
        raise given_up(error, what) from error


def reason_of(error: OSError) -> str:
    """What the system says of it."""
    if found := re.search(r"AWS Error ([A-Z_]+)", str(error)):
        return _ON_S3.get(found[1], f"the server says {found[1].lower().replace('_', ' ')}")
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))
