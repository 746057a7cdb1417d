"""The same files, read without metatune."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest

import metatune
from metatune.records.schema import COLUMNS


@pytest.fixture(scope="module")
def scores(finished: Path) -> Path:
    return next(finished.glob("records/parquet-*")) / "scores.parquet"


@pytest.fixture(scope="module")
def means(finished: Path) -> pd.Series:
    """The mean score of each trial on ``test``."""
    test = metatune.read_run(finished).scores.query("split == 'test' and replica > 0")
    return test.groupby("trial")["score"].mean().sort_index()


ON_TEST = (ds.field("split") == "test") & (ds.field("replica") > 0)


def test_pyarrow_reads_them_with_units_and_meanings(scores: Path, means: pd.Series) -> None:
    table = ds.dataset(scores).to_table(columns=["trial", "score"], filter=ON_TEST)
    found = table.group_by("trial").aggregate([("score", "mean")]).to_pandas()
    found = found.set_index("trial")["score_mean"].sort_index()
    assert found.to_dict() == pytest.approx(means.to_dict())
    for column in COLUMNS["scores"]:
        told = ds.dataset(scores).schema.field(column.name).metadata
        assert told[b"meaning"].decode() == column.meaning
        assert told[b"unit"].decode() == column.unit


def test_duckdb_reads_them(scores: Path, means: pd.Series) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    found = duckdb.sql(
        f"SELECT trial, avg(score) FROM '{scores}' WHERE split = 'test' AND replica > 0 "
        "GROUP BY trial ORDER BY trial"
    ).fetchall()
    assert dict(found) == pytest.approx(means.to_dict())


def test_polars_reads_them(scores: Path, means: pd.Series) -> None:
    pl = pytest.importorskip("polars", reason="polars is not installed")
    found = (
        pl.scan_parquet(scores)
        .filter((pl.col("split") == "test") & (pl.col("replica") > 0))
        .group_by("trial")
        .agg(pl.col("score").mean())
        .collect()
    )
    assert dict(found.iter_rows()) == pytest.approx(means.to_dict())
