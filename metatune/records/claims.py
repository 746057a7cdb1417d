"""Taking turns at a run: one driver at a time opens, repairs or takes over a run.

On this machine's file systems a lock does it (``metatune.records.folder``). An object store has no
locks, but lists what was put before: whoever wants a turn puts a claim, an object of its own name
below ``claims/``, and then lists them all. Who sees no other has the turn; who sees one takes its
own away, and tries again after a random pause. Of two claims one was put first, and whoever put
the other sees it: so no two have the turn at once. A claim that a crash left behind is overlooked
once it is ``OLD_SECONDS`` older than one's own, by the store's clock.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from time import monotonic, sleep

from metatune.errors import RunError
from metatune.place import Place
from metatune.records.folder import OPENING_SECONDS, RunFolder, opening

OLD_SECONDS = 30.0
"""Age of a claim whose process is taken for dead, in seconds; a turn takes less than one."""

_CLAIMS = "claims"


def alone(folder: RunFolder, wait: float = OPENING_SECONDS) -> AbstractContextManager[None]:
    """Has the turn at a run, wherever it lies.

    Args:
        folder: the run.
        wait: seconds to wait for others that have it.

    Raises:
        RunError: it stayed taken.
        OSError: the store does not answer.
    """
    return opening(folder, wait) if folder.place.is_local else claimed(folder.place, wait)


@contextmanager
def claimed(place: Place, wait: float) -> Iterator[None]:
    """Has the turn at what lies in an object store; arguments and errors as of ``alone``."""
    name = f"{_CLAIMS}/{secrets.token_hex(8)}"
    deadline = monotonic() + wait
    while True:
        began = monotonic()
        try:
            place.write(name, "")
            if _is_first(place, name):
                break
        except BaseException:
            with suppress(OSError):
                place.remove(name)
            raise
        place.remove(name)
        if monotonic() >= deadline:
            raise RunError(
                f"run {place.name} is being opened by another process: it stayed claimed for "
                f"{wait:.0f} s"
            )
        sleep(random.uniform(0.05, 0.5))
    try:
        yield
        if monotonic() - began >= OLD_SECONDS:
            raise RunError(
                f"run {place.name} may be another driver's: taking it took over {OLD_SECONDS:.0f} s"
            )
    finally:
        with suppress(OSError):
            place.remove(name)


def _is_first(place: Place, name: str) -> bool:
    """Whether no other claim is there that a living process may have put."""
    there = [each for each in place.contents(_CLAIMS) if each.is_file]
    put = {f"{_CLAIMS}/{each.base_name}": each.mtime for each in there}
    mine = put.pop(name, None)
    # Not to see one's own: the store does not list what was put, and nothing can be told from it.
    return mine is not None and all(
        (mine - other).total_seconds() >= OLD_SECONDS for other in put.values()
    )
