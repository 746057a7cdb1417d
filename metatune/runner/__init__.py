"""The one package that imports Ray."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def prepare_ray(address: str | None) -> None:
    """Settings that Ray reads when it is first imported; call this before.

    No usage statistics are sent. A Ray that is started here, or joined on loopback, stays on
    loopback: Ray would otherwise listen on the machine's outer address. (The switch's name is
    that of the systems on which this is Ray's default.)
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None or urlsplit(f"//{address}").hostname in _LOOPBACK:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
