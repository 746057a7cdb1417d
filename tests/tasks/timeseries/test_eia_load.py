"""Electricity demand: operators apart, times apart, and yesterday's error as others found it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metatune.errors import DataError
from metatune.tasks.base import MAE, SPLITS, Episode
from metatune.tasks.timeseries.eia_load import open_eia_load
from metatune.testing import FamilyConformance

EPISODE = Episode(1, 336, 168)


def written(folder: Path) -> str:
    """A file of the form that is expected, with seven operators and a year."""
    rng = np.random.default_rng(0)
    np.savez(
        folder / "eia_load.npz",
        load_mw=rng.integers(100, 900, (8, 24 * 365)).astype(np.uint16),
        region=np.array([f"R{n}" for n in range(8)]),
        group=np.array(["BA"] * 6 + ["PJM"] * 2),
        start_utc=np.array("2021-01-01 00:00"),
    )
    return str(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    return open_eia_load(written(tmp_path_factory.mktemp("eia")))


class TestConformance(FamilyConformance):
    episode = Episode(1, 48, 24)

    @pytest.fixture
    def part(self, small):
        return small


def test_a_region_of_its_own_is_a_group_and_an_operators_zones_stay_together(small) -> None:
    sizes = {group: n for split in SPLITS for group, n in small.info.groups[split].items()}
    assert sizes == {**{f"R{n}": 1 for n in range(6)}, "PJM": 2}
    assert "PJM" in small.info.groups["train"]  # the largest


def test_forecasts_are_day_ahead(small) -> None:
    assert small.inputs[:5] == ("lag 24", "lag 48", "lag 168", "hour sin 1", "hour cos 1")
    assert small.info.forecasts == {"seasonal_naive": 0}
    assert small.info.metric == MAE


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "eia_load.npz", x=np.zeros(3))
    with pytest.raises(DataError, match=r"eia_load\.npz is not the EIA file that is expected"):
        open_eia_load(str(tmp_path))
    with pytest.raises(DataError, match=r"eia_load: no file eia_load\.npz in"):
        open_eia_load(str(tmp_path / "none"))


def test_the_real_data_hold_what_is_told_of_them(data_dir: str) -> None:
    """Same hour yesterday errs by 0.45 on average over operators and times, by its README."""
    family = open_eia_load(data_dir)
    assert sum(n for groups in family.info.groups.values() for n in groups.values()) == 88
    family.check(EPISODE)
    errors = []
    for split in ("train", "select", "confirm"):
        tasks = family.sample(split, EPISODE, range(80))
        errors.append(np.abs(tasks.query_x[..., 0] - tasks.query_y[..., 0]).mean())
    assert np.mean(errors) == pytest.approx(0.45, abs=0.05)
