"""Tables as users have them, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import strategies as st


def plain_rows(tasks: int = 24, rows: int = 20, groups: int | None = None) -> pd.DataFrame:
    """Rows of ``tasks`` tasks in ``groups`` groups.

    ``number`` is different in every row, ``y`` its linear function with the task's own slope.
    """
    rng = np.random.default_rng(3)
    task = np.repeat(np.arange(tasks), rows)
    frame = pd.DataFrame(
        {
            "task": [f"t{n:02d}" for n in task],
            "number": np.arange(len(task)) / 10 + rng.normal(0, 0.01, len(task)),
            "kind": rng.choice(["a", "b", "c"], len(task)),
            "y": np.zeros(len(task)),
            "label": rng.choice(["no", "yes", "maybe"], len(task)),
        }
    )
    frame["y"] = (1 + task % 3) * frame["number"] + rng.normal(0, 0.1, len(task))
    if groups is not None:
        frame["region"] = [f"g{n % groups:02d}" for n in task]
    return frame


FOLDS = """\
family:
  name: table
  data: own.csv
  task: task
  target: label
  group: region
  way: 3
  shot: 4
  query: 4
  splits: {train: 0.2, select: 0.2, confirm: 0.2, test: 0.4}
resource: {full: 300, rungs: 2, reduction: 3}
tasks: {select: 6, confirm: 6, test: 6}
budget: {trials: 3, minutes: 5}
rounds: {count: 1}
common: {backbone: {kind: none}}
default: ridge
initial: [ridge]
strategy:
  head: {kind: ridge, penalty: {float: [0.01, 10.0], log: true}}
  inner: {kind: none}
  meta: {rule: none}
verdict: {seeds: 1, best_seeds: 1, finalists: 1, baselines: []}
"""
"""Of 7 regions one stays in train, and 3 each of the other 6 are in test: two folds."""


def folds_space(folder: Path) -> Path:
    """The space file, beside its data."""
    plain_rows(tasks=14, groups=7).drop(columns="y").to_csv(folder / "own.csv", index=False)
    (folder / "space.yaml").write_text(FOLDS)
    return folder / "space.yaml"


def uneven_rows(groups: int | None = None) -> pd.DataFrame:
    """The same for 38 tasks of 3, 4, ... 40 rows: task ``t00`` is the smallest."""
    frame = plain_rows(tasks=38, rows=40, groups=groups)
    return frame[frame.groupby("task").cumcount() < 3 + frame["task"].str[1:].astype(int)]


def messy_folder(folder: Path, tasks: int = 200, target: str = "number") -> Path:
    """A folder of CSV files, one a customer, as somebody exports them.

    A BOM, spaces around the header's names, a date, a category whose levels are partly new in each
    file, 3 % missing cells, a constant, row numbers without a name.
    """
    rng = np.random.default_rng(11)
    folder.mkdir(parents=True)
    for task in range(tasks):
        n = int(rng.integers(40, 80))
        age, price = rng.normal(40, 10, n), rng.lognormal(3, 1, n)
        kinds = ["a", "b", "c", f"only in {task}"]
        kind = rng.choice(kinds, n, p=[0.4, 0.3, 0.2, 0.1])
        day = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 400, n), unit="D")
        slope = np.array([2.0, -1.0]) + rng.normal(0, 0.5, 2)
        y = 50 * rng.normal() + 10 * (
            slope[0] * (age - 40) / 10
            + slope[1] * (np.log(price) - 3)
            + (kind == "a")
            + 0.3 * day.month
            + rng.normal(0, 0.7, n)
        )
        if target == "class":
            y = np.where(y > np.median(y), "high", "low")
        frame = pd.DataFrame(
            {" age": age.round(2), "price ": price.round(3), "kind": kind,
             "day": day.strftime("%Y-%m-%d"), "version": 1, " y ": y}
        )  # fmt: skip
        for column in frame.columns[:4]:
            frame[column] = frame[column].astype(object).where(rng.random(n) > 0.03, None)
        frame.to_csv(folder / f"customer-{task:03d}.csv", encoding="utf-8-sig")
    return folder


# --- whatever a table holds -----------------------------------------------------------------------

CELLS = st.one_of(
    st.none(), st.integers(-5, 5), st.floats(allow_nan=True), st.booleans(), st.text(max_size=5),
    st.sampled_from(["1", "a", "2024-01-01", "?", "NA", " 3 ", "1e400", "31.12.2024"]),
)  # fmt: skip
COLUMNS = st.sampled_from(["task", "y", "x", "z", "region", "file", " x", "", "ü"])


MOSTLY = st.sampled_from([True] * 7 + [False])


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A table as it may come: mostly with tasks and numbers to predict, not always."""
    known_roles = draw(MOSTLY)
    rows = draw(st.integers(30 if known_roles else 0, 60))
    names = draw(st.lists(COLUMNS, min_size=1, max_size=6, unique=draw(MOSTLY)))
    few = st.lists(CELLS, min_size=1, max_size=6)
    cells = [draw(few) for _ in names]
    columns = [[own[(row * 7 + row // 3) % len(own)] for row in range(rows)] for own in cells]
    if known_roles:
        known = {
            "task": [f"t{row % 6}" for row in range(rows)],
            "region": [f"r{row % 6 % 5}" for row in range(rows)],
            "y": [None if row % 11 == 5 else row * 0.5 for row in range(rows)],
        }
        columns = [known.get(name, own) for name, own in zip(names, columns, strict=True)]
        for name in known.keys() - set(names):
            names, columns = [*names, name], [*columns, known[name]]
    frame = pd.DataFrame(dict(enumerate(columns)), dtype=object)
    return frame.set_axis(names, axis=1)


def plain_series(shops: int = 16, days: int = 200, regions: int | None = None) -> pd.DataFrame:
    """A long table: daily sales above 0, with a week's rhythm of each shop's own size.

    Left out, each shop is a region of its own; else shops are dealt out to ``regions``.
    """
    rng = np.random.default_rng(5)
    day = pd.date_range("2023-01-01", periods=days, freq="D")
    rows = []
    for shop in range(shops):
        rhythm = rng.uniform(0.2, 0.6) * np.sin(2 * np.pi * (np.arange(days) + shop) / 7)
        sold = (10 + shop) * np.exp(rhythm + rng.normal(0, 0.05, days))
        region = f"r{shop if regions is None else shop % regions}"
        rows.append(pd.DataFrame({"shop": f"s{shop:02d}", "region": region, "day": day}))
        rows[-1]["sold"] = sold.round(6)
    frame = pd.concat(rows, ignore_index=True)
    return frame.assign(day=frame["day"].dt.strftime("%Y-%m-%d"))
