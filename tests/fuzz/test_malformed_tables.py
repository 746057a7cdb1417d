"""Any file of rows is refused in a sentence, or each of its rows is used or told of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from malformed import files, fuzzed, is_clear, rows_in, told, written

from metatune.errors import MetatuneError
from metatune.learners.interface import to_tensors
from metatune.learners.learner import build_learner
from metatune.presets import preset
from metatune.tasks.base import SPLITS, Episode
from metatune.tasks.tables.options import TableOptions
from metatune.tasks.tables.table import TableFamily, open_table

TABLE = [
    ["task", "region", "x", "kind", "day", "y", "label"],
    *(
        [
            f"t{n % 6}", f"r{n % 6 % 5}", str(n * 7 % 11), "abc"[n % 3],
            f"2024-01-{1 + n % 28:02d}", str(n * 5 % 13 / 2), ("no", "yes", "maybe")[n * n % 5 % 3],
        ]
        for n in range(42)
    ),
]  # fmt: skip


def used(family: TableFamily) -> None:
    """Draw a task of each split and learn it; finite numbers all the way."""
    info = family.info
    episode = Episode(info.train_classes or 1, 2, 2, per_class=False)
    family.notes(episode)
    family.check(episode)
    learner = build_learner(preset("ridge", info), info, episode.way)
    for split in SPLITS:
        batch = family.sample(split, episode, [0, 1, 2])
        for array in (batch.support_x, batch.support_y, batch.query_x, batch.query_y):
            assert np.isfinite(array).all()
        assert bool(torch.isfinite(learner.predict(learner.init(0), to_tensors(batch))).all())


@fuzzed
@given(
    found=files(TABLE),
    target=st.sampled_from(["y", "y", "label", "x", "day"]),
    task=st.sampled_from(["task", "task", "task", "file", "kind"]),
    group=st.sampled_from([None, None, "region"]),
    predict=st.sampled_from([None, None, "number", "class"]),
    metric=st.sampled_from(["r2", "mse"]),
)
def test_no_row_of_a_table_is_lost_in_silence(
    tmp_path_factory: pytest.TempPathFactory,
    found: dict[str, bytes],
    target: str,
    task: str,
    group: str | None,
    predict: str | None,
    metric: str,
) -> None:
    said = judge(found, tmp_path_factory.mktemp("fuzz"), {
        "task": task, "target": target, "group": group, "predict": predict, "metric": metric,
    })  # fmt: skip
    event("refused" if said else "used")


def test_a_table_without_a_column_that_varies_is_told_what_would_do(tmp_path: Path) -> None:
    table = [["task", "x", "y"], *([f"t{n % 6}", "1", str(n)] for n in range(42))]
    judge({"a.csv": "\n".join(map(",".join, table)).encode()}, tmp_path, {
        "task": "task", "target": "y",
    })  # fmt: skip


def test_a_long_name_does_not_fill_the_message(tmp_path: Path) -> None:
    rows = [["t0", "g" * 5000, "1", "2"], ["t0", "h", "2", "3"], ["t1", "h", "3", "4"]]
    text = "\n".join(map(",".join, [["task", "region", "x", "y"], *rows])).encode()
    said = judge({"a.csv": text}, tmp_path, {"task": "task", "target": "y", "group": "region"})
    assert "one group a task" in said


def test_a_target_too_large_for_a_tensor_is_cut_and_told_of(tmp_path: Path) -> None:
    rows = [[f"t{n % 6}", str(n * 7 % 11), str(n * 5 % 13)] for n in range(42)]
    rows[7][2] = "1e60"  # of t1, a test task: in train it would be the spread
    text = "\n".join(map(",".join, [["task", "x", "y"], *rows])).encode()
    asked = {"task": "task", "target": "y", "predict": "number"}
    judge({"a.csv": text}, tmp_path, asked)
    family = open_table(TableOptions.of({"data": [str(tmp_path / "data")], **asked}))
    assert family.data.splits["test"] == ("t1",)
    assert np.abs(family.data.y).max() == 1e6
    assert any(note.startswith("1 values of y, the target, lie more") for note in family.data.notes)


def judge(found: dict[str, bytes], scratch: Path, options: dict) -> str:
    """Open the files, count what became of their rows, and use what is left; or the refusal."""
    folder, refused = written(found, scratch / "data"), ""
    try:
        family = open_table(TableOptions.of({"data": [str(folder)], **options}))
        left_out = told(family.data.notes, r"(\d+) of \d+ rows are left out")
        assert len(family.data.x) + sum(left_out) == rows_in(found)
        assert np.isfinite(family.data.x).all()
        used(family)
    except MetatuneError as error:
        refused = str(error)
    assert not refused or is_clear(refused, str(folder), "table: ")
    return refused
