"""``metatune baselines``: whether something is shared, by trials as of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from user_tables import plain_series

from metatune.baselines import ALONE, CLASSES, NUMBERS, baselines, conclusion, shots_of, ways_of
from metatune.errors import DataError
from metatune.init import look, look_at_series
from metatune.tasks.tables.table import TableFamily


def tasks_of(tmp_path: Path, *, shared: bool, classes: bool = False) -> TableFamily:
    """60 tasks with the same weights, or each with weights of its own."""
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(60), 40)
    x = rng.normal(size=(len(task), 8))
    weights = rng.normal(size=(1 if shared else 60, 8))
    y = (x * weights[0 if shared else task]).sum(1) + 0.3 * rng.normal(size=len(task))
    frame = pd.DataFrame(x, columns=[f"x{n}" for n in range(8)])
    frame["task"], frame["y"] = (
        [f"t{n}" for n in task],
        np.where(y > 0, "up", "down") if classes else y,
    )
    frame.to_csv(tmp_path / "a.csv", index=False)
    return look([str(tmp_path / "a.csv")], "task", "y").family


def test_weights_that_all_tasks_share_are_found(tmp_path: Path) -> None:
    watched: list[tuple[str, int]] = []
    measured = baselines(
        tasks_of(tmp_path, shared=True), 8, shots=(4, 8), tasks=24, resource=20_000,
        watch=lambda *what: watched.append(what),
    )  # fmt: skip
    assert [(one.name, one.shot) for one in measured] == watched
    assert watched == [(name, shot) for shot in (4, 8) for name in NUMBERS]
    best = {one.name: one for one in measured if one.shot == 4}
    assert best["pooled_ridge"].score.mean > 0.8 > best["ridge"].score.mean
    assert best["pooled_ridge"].p < 0.01
    assert best["ridge"].gain.mean == 0
    assert best["ridge"].score.units == 12  # the groups of select
    assert conclusion(measured).startswith("Something is shared, and worth learning: pooled_")


def test_weights_of_its_own_of_each_task_are_not(tmp_path: Path) -> None:
    family = tasks_of(tmp_path, shared=False)
    measured = baselines(family, 8, shots=(4,), tasks=24, resource=20_000)
    assert all(one.p > 0.05 for one in measured)
    assert conclusion(measured).startswith("Nothing shared was found that is sure to help")


def test_classes_have_baselines_of_their_own(tmp_path: Path) -> None:
    family = tasks_of(tmp_path, shared=True, classes=True)
    measured = baselines(family, 8, shots=(4,), tasks=24, resource=20_000)
    assert [one.name for one in measured] == list(CLASSES)
    assert all(0 < one.score.mean <= 1 for one in measured)
    assert {one.kind for one in measured if one.name == "logistic"} == {ALONE}


def test_series_are_compared_at_parts_of_the_support_that_is_proposed(tmp_path: Path) -> None:
    plain_series(days=120).to_csv(tmp_path / "a.csv", index=False)
    found = look_at_series([str(tmp_path / "a.csv")], ["shop"], "day", "sold")
    assert shots_of(found.family.info, found.episode) == (14, 28, 56, 112)
    measured = baselines(found.family, 7, shots=(14, 112), tasks=6, resource=3_000)
    assert {one.shot for one in measured} == {14}  # with 112 no task fits
    assert [one.name for one in measured] == list(ways_of(found.family.info))
    kinds = {one.name: one.kind for one in measured}
    assert kinds["seasonal_naive"] == kinds["ridge"] == ALONE
    assert kinds["pooled_trees"] != ALONE
    assert "last_value" not in kinds  # a week ahead it is the season before


def test_the_same_seed_measures_the_same(tmp_path: Path) -> None:
    family = tasks_of(tmp_path, shared=True)
    one, two = (baselines(family, 8, shots=(4,), tasks=6, resource=3_000) for _ in range(2))
    assert one == two


def test_tasks_that_are_too_small_are_refused(tmp_path: Path) -> None:
    family = tasks_of(tmp_path, shared=True)
    with pytest.raises(DataError, match="with 42 rows, support and query together"):
        baselines(family, 38)


def test_tasks_of_their_own_classes_are_measured_by_rows_of_each_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kind = np.concatenate([rng.choice(30, 5, replace=False).repeat(6) for _ in range(24)])
    frame = pd.DataFrame({"site": np.repeat(np.arange(24), 30), "size": kind + 0.0})
    frame.assign(kind=[f"s{k}" for k in kind]).to_csv(tmp_path / "a.csv", index=False)
    found = look([str(tmp_path / "a.csv")], "site", "kind")
    measured = baselines(
        found.family, found.episode.query, way=found.episode.way, shots=(1, 2), tasks=4,
        resource=2_000,
    )  # fmt: skip
    ways = CLASSES.keys() - {"pooled_linear", "boosted_trees", "pooled_ridge"}
    assert {(one.name, one.shot) for one in measured} == {(n, s) for n in ways for s in (1, 2)}
    nearest = {one.name: one for one in measured}["nearest_neighbour"]
    assert nearest.score.mean == 1  # the size tells the species
