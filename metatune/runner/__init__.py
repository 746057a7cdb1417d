"""The one package that imports Ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from metatune.errors import RunError

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
ANSWER_SECONDS = 5.0


def prepare_ray(address: str | None) -> None:
    """Settings that Ray reads when it is first imported; call this before.

    No usage statistics are sent. A Ray that is started here, or joined on loopback, stays on
    loopback: Ray would otherwise listen on the machine's outer address. (The switch's name is
    that of the systems on which this is Ray's default.)
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None or urlsplit(f"//{address}").hostname in _LOOPBACK:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def check_address(address: str | None) -> None:
    """Refuse an address at which nothing answers. Ray itself would try for minutes.

    Args:
        address: ``host:port`` of a cluster; ``auto``, None and ``ray://`` are Ray's to look up.

    Raises:
        RunError: nothing listens there, or the file that is to hold the token cannot be read, at
            which Ray would end this process.
    """
    _check_token_file()
    if address is None or address == "auto" or "://" in address:
        return
    try:
        where = urlsplit(f"//{address}")
        if where.hostname is None or where.port is None:
            raise ValueError("it is not host:port")
        socket.create_connection((where.hostname, where.port), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise RunError(f"no Ray cluster answers at {address}: {error}") from None


def _check_token_file() -> None:
    name = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if not name or os.environ.get("RAY_AUTH_TOKEN"):
        return
    allowed = "allowed: a file that holds the token of the Ray cluster"
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RunError(f"RAY_AUTH_TOKEN_PATH: found {name}: {error}; {allowed}") from None
    if not text.strip():
        raise RunError(f"RAY_AUTH_TOKEN_PATH: found {name}, which is empty; {allowed}")


def own_modules(named: Sequence[str | Path]) -> list[str]:
    """Modules of the user's own, as they are sent to every worker: absolute paths.

    Args:
        named: folders (packages) and ``.py`` files.

    Raises:
        RunError: one is neither.
    """
    found = []
    for name in named:
        path = Path(name).expanduser().resolve()
        if not (path.is_dir() or (path.is_file() and path.suffix == ".py")):
            raise RunError(f"--py-module: found {name}; allowed: a package's folder or a .py file")
        if not path.stem.isidentifier():
            raise RunError(
                f"--py-module: found {name}; allowed: a name that Python can import, of letters, "
                "digits and underscores"
            )
        found.append(str(path))
    return found
