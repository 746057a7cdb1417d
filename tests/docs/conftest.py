"""A folder as a reader of the documentation has it: data, finished runs, the repository's files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from inline_runner import inline_run
from pages import ROOT
from user_images import class_folders
from user_tables import plain_series

GLYPHS = """\
family: {name: glyphs, way: 5, shot: 1, query: 2}
resource: {full: 800, rungs: 2, reduction: 2}
tasks: {select: 8, confirm: 8, test: 8}
budget: {trials: 6}
common: {backbone: {kind: conv4, width: 2, depth: 2}}
default: protonet
initial: [protonet, r2d2]
strategy:
  choose:
    prototypes: {head: {kind: prototypes, scale: {float: [0.1, 30.0], log: true}}}
    ridge: {head: {kind: ridge, penalty: {float: [0.01, 100.0], log: true}}}
  meta: {rule: first_order}
verdict: {seeds: 1, best_seeds: 1, finalists: 2, baselines: [nearest_neighbour]}
"""
CUSTOMERS = """\
family:
  name: table
  data: data/*.csv
  task: customer_id
  target: demand
  group: region
  columns: {note: skip}
  shot: 16
  query: 16
  splits: {train: 0.3, select: 0.2, confirm: 0.25, test: 0.25}
resource: {full: 3000, rungs: 2, reduction: 3}
tasks: {select: 8, confirm: 8, test: 12}
budget: {trials: 8}
default: ridge
initial:
  - ridge
  - {name: trees, prior: {kind: pooled, model: trees, tasks: 30, options: {max_iter: 5}},
     head: {kind: ridge}, meta: {rule: first_order}}
strategy:
  head: {kind: ridge, intercept: free, penalty: {float: [0.1, 100.0], log: true}}
  meta: {rule: first_order}
  outer: {lr: {float: [0.001, 0.1], log: true}}
verdict: {seeds: 1, best_seeds: 1, finalists: 1}
"""

SHOPS = """\
family:
  name: forecast
  data: sales.csv
  series: shop
  time: day
  value: sold
  shot: 28
  query: 7
  gap: 7
  splits: {train: 0.3, select: 0.2, confirm: 0.3, test: 0.2}
resource: {full: 1000, rungs: 1}
tasks: {select: 8, confirm: 8, test: 8}
budget: {trials: 3}
default: seasonal_naive
initial: [seasonal_naive, seasonal_ridge]
strategy:
  prior: {kind: forecast, name: seasonal_naive}
  head: {kind: ridge, intercept: free, penalty: {float: [0.1, 1000.0], log: true}}
  meta: {rule: first_order}
verdict: {seeds: 1, best_seeds: 1, finalists: 1}
"""


def customers(first: int, count: int, rows: int = 40) -> pd.DataFrame:
    """Rows of customers: demand falls with the price, by a slope of the region and the customer."""
    parts = []
    for number in range(first, first + count):
        rng = np.random.default_rng([7, number])
        region = number % 40
        day = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 365, rows), unit="D")
        price = rng.uniform(1, 9, rows)
        slope = 3 + 0.1 * region + rng.normal(0, 0.5)
        parts.append(
            pd.DataFrame(
                {
                    "customer_id": f"c{number:03d}",
                    "region": f"r{region:02d}",
                    "day": day.strftime("%Y-%m-%d"),
                    "code": rng.choice(["a", "b", "c"], rows),
                    "price": price.round(2),
                    "note": [f"order {number}-{row}" for row in range(rows)],
                    "demand": (60 + 5 * rng.normal() - slope * price + rng.normal(0, 1, rows)),
                }
            )
        )
    return pd.concat(parts, ignore_index=True).round({"demand": 2})


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder; not to be changed: copy it."""
    folder = tmp_path_factory.mktemp("docs") / "work"
    for name in ("search_spaces", "examples", "cluster"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    customers(0, 40).to_csv(folder / "data" / "north.csv", index=False)
    customers(40, 40).to_csv(folder / "data" / "south.csv", index=False)
    new = customers(80, 1)
    new[:16].to_csv(folder / "support.csv", index=False)
    new[16:].drop(columns="demand").to_csv(folder / "query.csv", index=False)
    series = plain_series(shops=16, days=1000, regions=8)
    for place in (folder, folder / "examples"):
        series.to_csv(place / "sales.csv", index=False)
    images = class_folders(folder.parent / "images", groups=10, classes=6, images=6, side=8)
    for place in (folder, folder / "search_spaces"):
        (place / "images").symlink_to(images)
    (folder / "runs").mkdir()
    one = series[series["shop"] == "s03"]
    one[["day", "sold"]].tail(60).to_csv(folder / "history.csv", index=False)
    for name, space in (("glyphs", GLYPHS), ("customers", CUSTOMERS), ("shops", SHOPS)):
        inline_run(space.replace("data: ", f"data: {folder}/"), folder / "runs" / name)
    return folder
