"""A worker in a process of its own, whose part of the run's folder fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from metatune import session
from metatune.errors import StorageError
from metatune.records.folder import RunFolder
from metatune.records.reading import read_rows
from metatune.records.rows import Asked


@pytest.mark.long
def test_a_worker_that_cannot_keep_a_checkpoint_ends_the_run_and_no_trial(
    cluster: str, space_file: Path, tmp_path: Path
) -> None:
    folder, plan = session.create(space_file, out=tmp_path / "run", trials=3)
    folder.trials.rmdir()
    folder.trials.touch()  # no waiting helps where a file is in a folder's place
    with pytest.raises(StorageError) as told:
        session.drive(folder, plan, None, session.on_ray(None, 1, folder))
    assert str(told.value).startswith(f"On node 127.0.0.1, {folder.trials}/r1-0000/rung-1/state.")
    assert "could not be written: Not a directory. What was recorded stands" in str(told.value)
    rows = read_rows(RunFolder.open(folder.path))
    assert [row.trial for row in rows if isinstance(row, Asked)] == ["r1-0000"]
    assert len(rows) == 1  # no end among them: a resume takes it up
