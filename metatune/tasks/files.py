"""Where a family's data files lie."""

from __future__ import annotations

import os
from pathlib import Path

from metatune.errors import DataError


def find_file(family: str, file: str, folder: str, data_dir: str | None) -> Path:
    """A family's file in ``data_dir`` (else the folder that METATUNE_DATA names) or in ``folder``
    within it.

    Raises:
        DataError: no folder was named, or the file is not there.
    """
    named = data_dir if data_dir is not None else os.environ.get("METATUNE_DATA")
    ways = "name the folder by data_dir or by the environment variable METATUNE_DATA"
    if not named:
        raise DataError(f"{family} needs the file {file}, and no folder was named: {ways}")
    base = Path(named).expanduser()
    for path in (base / file, base / folder / file):
        if path.is_file():
            return path
    raise DataError(f"{family}: no file {file} in {base} or {base / folder}: {ways}")
