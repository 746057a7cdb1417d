from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from metatune.durable import write_atomically
from metatune.place import Place
from metatune.records.folder import RunFolder
from metatune.records.log import Log
from metatune.records.rows import Row
from metatune.records.snapshot import Snapshot, snapshot

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
"""For processes that a test starts in ``HERE``."""


def make_run(path: Path) -> RunFolder:
    folder = RunFolder.create(path)
    write_atomically(folder.info, '{"seed": 7}\n')
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run")


def append(folder: RunFolder, *rows: Row, driver: str = "0000000a") -> None:
    with Log.open(folder, driver) as log:
        log.append(*rows)


def generations(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.records.glob("parquet-*"))


def now(folder: RunFolder) -> Snapshot:
    """The run's tables as they are now."""
    return snapshot(Place.at(folder.path))


def with_family(path: Path) -> RunFolder:
    """An empty run that knows its family."""
    folder = RunFolder.create(path)
    told = {"family": {"name": "glyphs", "metric": "accuracy", "sign": 1}}
    write_atomically(folder.info, json.dumps(told))
    return folder


@pytest.fixture
def about(tmp_path: Path) -> RunFolder:
    return with_family(tmp_path / "run")
