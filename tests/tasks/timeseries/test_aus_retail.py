"""Retail turnover: states apart, later years for later splits, changes of logarithms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metatune.errors import DataError
from metatune.tasks.base import SPLITS, Episode
from metatune.tasks.timeseries.aus_retail import open_aus_retail
from metatune.testing import FamilyConformance

EPISODE = Episode(1, 48, 12)


def written(folder: Path) -> str:
    """A file of the form that is expected: six states with two industries each, over 37 years."""
    rng = np.random.default_rng(0)
    months = pd.date_range("1982-04", periods=441, freq="MS").strftime("%Y-%m")
    rows = [
        pd.DataFrame({
            "state": f"S{state}", "industry": f"I{industry}", "series_id": "x", "month": months,
            "turnover_million_aud": rng.lognormal(2, 0.1, 441).round(3),
        })
        for state in range(6) for industry in range(2)
    ]  # fmt: skip
    pd.concat(rows).to_csv(folder / "aus_retail.csv.gz", index=False)
    return str(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    return open_aus_retail(written(tmp_path_factory.mktemp("retail")))


class TestConformance(FamilyConformance):
    episode = EPISODE

    @pytest.fixture
    def part(self, small):
        return small


def test_what_is_predicted_is_the_monthly_change_of_a_states_industry(small) -> None:
    assert small.series.names[:2] == ("S0 / I0", "S0 / I1")
    assert small.inputs[:5] == ("lag 1", "lag 2", "lag 12", "lag 13", "lag 24")
    assert small.info.forecasts == {"seasonal_naive": 2, "last_value": 0}
    assert len(small.series.values) == 12 * 440


def test_a_state_is_in_one_split(small) -> None:
    states = [state for split in SPLITS for state in small.info.groups[split]]
    assert sorted(states) == [f"S{n}" for n in range(6)]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"aus_retail: no file aus_retail\.csv\.gz in"):
        open_aus_retail(str(tmp_path))


def test_the_real_data_hold_what_is_told_of_them(data_dir: str) -> None:
    family = open_aus_retail(data_dir)
    assert len(family.series.names) == 115
    assert sum(n for groups in family.info.groups.values() for n in groups.values()) == 115
    family.check(EPISODE)
    tasks = family.sample("select", EPISODE, range(100))
    naive = family.info.forecasts["seasonal_naive"]
    same_change = np.abs(tasks.query_x[..., naive] - tasks.query_y[..., 0]).mean()
    assert same_change < 0.6 * np.abs(tasks.query_y).mean()  # the season is most of it
