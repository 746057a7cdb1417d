"""Runs and artifacts made once, for the tests of this folder. Not to be changed: copy them."""

from __future__ import annotations

from pathlib import Path

import pytest
from inline_runner import inline_run
from user_tables import messy_folder

from metatune import export

TABLE = """\
family: {name: table, data: DATA, task: file, target: " y", shot: 12, query: 8}
resource: {full: 4000, rungs: 1}
tasks: {select: 12, confirm: 12, test: 12}
budget: {trials: 4}
rounds: {count: 1}
default: pooled
initial:
  - {name: pooled, prior: {kind: pooled, model: trees, tasks: 60, options: {max_iter: 5}},
     head: {kind: ridge}, inner: {kind: none}, meta: {rule: first_order}}
  - {name: alone, head: {kind: ridge, penalty: 3.0}, inner: {kind: none}, meta: {rule: none}}
  - {name: dull, head: {kind: ridge, penalty: 1.0e+6, intercept: free, learn: false},
     inner: {kind: none}, meta: {rule: none}}
strategy:
  head: {kind: ridge, penalty: {float: [0.1, 10.0], log: true}}
  inner: {kind: none}
  meta: {rule: none}
verdict: {seeds: 1, best_seeds: 1, finalists: 1}
"""


@pytest.fixture(scope="session")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a user's files, with a pooled model and a ridge for each task alone."""
    folder = tmp_path_factory.mktemp("table")
    data = messy_folder(folder / "data", tasks=60)
    return inline_run(TABLE.replace("DATA", str(data)).replace('" y"', "y"), folder / "run")


@pytest.fixture(scope="session")
def table_artifact(table_run: Path) -> Path:
    """Its pooled strategy, refitted."""
    return export(table_run, table_run.parent / "artifact", trial="r1-0000", licence="CC0")


@pytest.fixture(scope="session")
def dull_artifact(table_run: Path) -> Path:
    """Its strategy that predicts the support mean: nearly any baseline does better."""
    return export(table_run, table_run.parent / "dull", trial="r1-0002")


@pytest.fixture(scope="session")
def sine(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The winner of the run that all tests share."""
    return export(finished, tmp_path_factory.mktemp("sine") / "artifact")
