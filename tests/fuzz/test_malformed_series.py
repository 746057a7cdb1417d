"""Any long table is refused in a sentence, or each of its rows is a value or told of."""

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
from metatune.tasks.splits import SHARES
from metatune.tasks.timeseries.forecast import ForecastFamily, ForecastOptions, as_forecasts
from metatune.tasks.timeseries.series import read_series

TABLE = [
    ["shop", "region", "day", "x", "y"],
    *(
        [f"s{n % 5}", f"r{n % 5}", f"2024-01-{1 + n // 5:02d}", str(n * n % 7), str(n * 5 % 13 / 2)]
        for n in range(125)
    ),
]  # fmt: skip


OPTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.sampled_from([
            "D", "h", "W", "MS", "B", "2D", "YS", "x", "-1D", "us", "10000D",
        ])),
        st.tuples(st.just("time_format"), st.sampled_from([
            "%Y-%m-%d", "%d.%m.%Y", "%q", "ISO8601", "%Y",
        ])),
        st.sampled_from([
            ("transform", "log"), ("fill", 2), ("metric", "mase"), ("season", 1), ("season", 40),
            ("change", 2), ("change", 30), ("periods", SHARES), ("gap", 0),
        ]),
    ),
    min_size=1,
    max_size=2,
).map(dict)  # fmt: skip


@fuzzed
@given(
    found=files(TABLE),
    series=st.sampled_from([["shop"], ["shop"], ["shop", "region"], ["file"], ["x"]]),
    value=st.sampled_from(["y", "y", "y", "x", "region"]),
    time=st.sampled_from(["day", "day", "day", "x"]),
    group=st.sampled_from([None, None, "region"]),
    options=st.just({}) | OPTIONS,
)  # fmt: skip
def test_no_row_of_a_long_table_is_lost_in_silence(
    tmp_path_factory: pytest.TempPathFactory,
    found: dict[str, bytes],
    series: list[str],
    value: str,
    time: str,
    group: str | None,
    options: dict,
) -> None:
    said = judge(found, tmp_path_factory.mktemp("fuzz"), {
        "series": series, "time": time, "value": value, "group": group, "ahead": 2,
        "season": 3, "periods": None, **options,
    })  # fmt: skip
    event("refused" if said else "used")


def test_a_column_whose_name_breaks_a_line_does_not_break_the_message(tmp_path: Path) -> None:
    table = [['"a\nb"', "x"], ["s0", "1"]]
    asked = {"series": ["shop"], "time": "day", "value": "y", "ahead": 2}
    judge({"a.csv": "\n".join(map(",".join, table)).encode()}, tmp_path, asked)


def judge(found: dict[str, bytes], scratch: Path, options: dict) -> str:
    """Open the files, count what became of their rows, and use what is left; or the refusal."""
    folder, refused = written(found, scratch / "data"), ""
    asked = ForecastOptions.of({"data": [str(folder)], **options})
    try:
        read = read_series(asked.columns())
        lost = [
            *told(read.notes, r"(\d+) of \d+ rows are left out"),
            *told(read.notes, r"(\d+) of \d+ values are missing"),
            *told(read.notes, r"(\d+) rows repeat a series and time"),
        ]
        assert int(np.isfinite(read.values).sum()) + sum(lost) == rows_in(found)
        used(as_forecasts(read, asked))
    except MetatuneError as error:
        refused = str(error)
    assert not refused or is_clear(refused, str(folder), "forecast: ")
    return refused


def used(family: ForecastFamily) -> None:
    """Draw a task of each split and forecast it; finite numbers all the way."""
    episode = Episode(1, 3, 2)
    family.notes(episode)
    family.check(episode)
    learner = build_learner(preset("seasonal_naive", family.info), family.info, 1)
    for split in SPLITS:
        batch = family.sample(split, episode, [0, 1, 2])
        for array in (batch.support_x, batch.support_y, batch.query_x, batch.query_y):
            assert np.isfinite(array).all()
        assert bool(torch.isfinite(learner.predict(learner.init(0), to_tensors(batch))).all())
