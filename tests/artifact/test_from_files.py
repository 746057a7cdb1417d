"""From the shell: a run is exported, a task in a file is learned, another file is predicted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import metatune
from metatune.artifact.from_files import adapt_files
from metatune.cli import app
from metatune.errors import DataError, MetatuneError


@pytest.fixture
def halves(table_run, tmp_path):
    """Support and query of a customer, in files."""
    source = sorted((table_run.parent / "data").iterdir())[0]
    lines = source.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    for name, rows in (("support", lines[1:31]), ("query", lines[31:39])):
        (tmp_path / f"{name}.csv").write_text(lines[0] + "".join(rows))
    return tmp_path


def test_a_run_becomes_predictions_by_two_commands(table_run, halves):
    def shell(*words):
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    said = shell("export", table_run, "-o", halves / "a", "--trial", "r1-0000", "--as-trained")
    assert "Written: " in said
    assert "metatune adapt" in said
    support, query, out = (halves / f"{name}.csv" for name in ("support", "query", "predictions"))
    said = shell("adapt", halves / "a", support, "--query", query, "-o", out, "--level", "0.5")
    assert f"Written: {out} (8 predictions, learned from 30 rows)" in " ".join(said.split())
    found = pd.read_csv(out)
    assert list(found.columns) == ["prediction", "low", "high"]
    read = [
        pd.read_csv(p, skipinitialspace=True).rename(columns=str.strip) for p in (support, query)
    ]
    learner = metatune.load(halves / "a").adapt(read[0].drop(columns="y"), read[0]["y"])
    np.testing.assert_allclose(found["prediction"], learner.predict(read[1]), rtol=1e-5)


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda f: f.drop(columns="y"), r"adapt: target: found no column 'y' in .*support.csv"),
    (lambda f: f.drop(columns="age"), r"x: found no column 'age'"),
    (lambda f: f.assign(y=None), r"y: found \[nan\] in row 0; allowed: finite numbers"),
    (lambda f: f[:0], r"x: found no rows; allowed: one or more"),
])  # fmt: skip
def test_files_that_do_not_fit_are_told_in_a_sentence(table_artifact, halves, spoil, said):
    path = halves / "support.csv"
    frame = pd.read_csv(path, skipinitialspace=True).rename(columns=str.strip)
    spoil(frame).to_csv(path, index=False)
    with pytest.raises(MetatuneError, match=said):
        adapt_files(table_artifact, path, halves / "query.csv", halves / "out.csv")
    assert not (halves / "out.csv").exists()


@pytest.mark.parametrize(("options", "said"), [
    ({"query": "nowhere.csv"}, r"nowhere.csv: found no such file; allowed: a CSV or Parquet file"),
    ({"out": "nowhere/out.csv"}, r"cannot be written"),
    ({"level": 1.5}, r"level: found 1.5; allowed: above 0, up to"),
    ({"parts": "no_such_module"}, r"parts: importing 'no_such_module' says"),
    ({"target": "cost"}, r"target: found no column 'cost'"),
])  # fmt: skip
def test_options_that_do_not_fit_are_told_in_a_sentence(table_artifact, halves, options, said):
    query, out = (halves / options.pop(n, f"{n}.csv") for n in ("query", "out"))
    with pytest.raises((MetatuneError, DataError), match=said):
        adapt_files(table_artifact, halves / "support.csv", query, out, **options)


def test_inputs_without_columns_of_their_own_are_taken_in_their_order(sine, tmp_path):
    x = np.linspace(-3, 3, 9)
    pd.DataFrame({"x": x, "y": np.sin(x)}).to_csv(tmp_path / "s.csv", index=False)
    pd.DataFrame({"x": x}).to_csv(tmp_path / "q.csv", index=False)
    done = adapt_files(sine, tmp_path / "s.csv", tmp_path / "q.csv", tmp_path / "p.csv", target="y")
    assert (done.support, done.query) == (9, 9)
    expected = metatune.load(sine).adapt(x[:, None], np.sin(x)).predict(x[:, None])
    np.testing.assert_allclose(pd.read_csv(tmp_path / "p.csv")["prediction"], expected, rtol=1e-5)
    with pytest.raises(MetatuneError, match=r"target: the artifact names no column"):
        adapt_files(sine, tmp_path / "s.csv", tmp_path / "q.csv", tmp_path / "p.csv")
