from __future__ import annotations

import os
from pathlib import Path

import pytest

from metatune.records.folder import RunFolder, write_atomically

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
