"""Ray's token: who has it may run code on the cluster, so nobody else gets in.

On a cluster the operator makes one and gives it to every node and driver, by
``RAY_AUTH_MODE=token`` and ``RAY_AUTH_TOKEN_PATH`` (a file) or ``RAY_AUTH_TOKEN``. A Ray that is
started for one run has one of its own, which never leaves its processes.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from ray._private.authentication.authentication_token_setup import (
    ensure_token_if_auth_enabled,
    maybe_enable_token_auth_if_token_available,
)
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import (  # type: ignore[attr-defined]  # its stub lacks them
    AuthenticationTokenLoader,
    Config,
    GcsClient,
)
from ray.exceptions import AuthenticationError, RayError

from metatune.errors import RunError

_NAMES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")


@contextmanager
def of_our_own() -> Iterator[None]:
    """A new token in the environment of the Ray that is started inside.

    Ray itself would write one to the home folder, readable by everybody on the machine. What the
    user has set counts: a token, or ``RAY_AUTH_MODE=disabled``.
    """
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given or os.environ.get("RAY_AUTH_MODE", "token") != "token":
        yield
        return
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    _read_again()
    try:
        yield
    finally:
        for name in _NAMES:
            os.environ.pop(name, None)
        _read_again()


def _read_again() -> None:
    """Ray keeps what it has read of the environment."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def check(address: str) -> None:
    """Ask the cluster whether it takes our token. Ray's connecting would try for 20 seconds.

    Raises:
        RunError: it does not.
    """
    if "://" in address:
        return
    if address == "auto":  # as Ray does it
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        ensure_token_if_auth_enabled(create_token_if_missing=False)  # or Ray ends this process
        GcsClient(address=canonicalize_bootstrap_address_or_die(address))
    except AuthenticationError:
        raise refused(address) from None
    except (RayError, ConnectionError, RuntimeError, ValueError):
        return  # what else is wrong connecting will tell


def refused(address: str) -> RunError:
    """The error of a driver without the cluster's token."""
    token = os.environ.get("RAY_AUTH_MODE") == "token"
    return RunError(
        f"the Ray cluster at {address} {'does not take this token' if token else 'wants a token'}: "
        "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file that holds the cluster's"
    )
