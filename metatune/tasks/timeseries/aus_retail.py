"""Monthly retail turnover in Australia: 115 series of six states and territories, 1982 to 2018.

Australian Bureau of Statistics, catalogue 8501.0, table 11, as in the R package tsibbledata.
Figures CC BY 2.5 Australia.

What is predicted is how the logarithm of turnover changes from a month to the next. A *group* is a
state: some industries are sums of others of the same state, so a split of anything smaller would
put a sum and its parts apart.
"""

from __future__ import annotations

from metatune.tasks.files import find_file
from metatune.tasks.timeseries.forecast import ForecastFamily, Setting
from metatune.tasks.timeseries.reading import Raw
from metatune.tasks.timeseries.series import Columns, read_series

FILE = "aus_retail.csv.gz"
SPLITS = {"train": 0.5, "select": 0.2, "confirm": 0.1, "test": 0.2}
PERIODS = {"train": 0.55, "select": 0.15, "confirm": 0.15, "test": 0.15}
SETTING = Setting(
    ahead=1,
    season=12,
    lags=(1, 2, 12, 13, 24),
    calendar=("month",),
    splits=SPLITS,
    periods=PERIODS,
    gap=12,
)
"""Forecasts of a month, from changes of the last two months and of one and two years before.

Half of the states and the first 20 years learn; the others are judged on later years, with a year
between two splits. Their history reaches back beyond it: six years of it at each border would leave
next to nothing to judge.
"""


def open_aus_retail(data_dir: str | None = None) -> ForecastFamily:
    """The family; reads ``aus_retail.csv.gz`` in ``data_dir`` or its folder ``aus_retail``.

    Raises:
        DataError: where the file is missing or not the one that is expected.
    """
    path = find_file("aus_retail", FILE, "aus_retail", data_dir)
    columns = Columns(
        data=(str(path),),
        series=("state", "industry"),
        time="month",
        value="turnover_million_aud",
        group="state",
        step="MS",
    )
    raw = Raw(columns.time, columns.value, log=True, change=1)
    series = raw.predicted(read_series(columns))
    about = (
        "Monthly change of retail turnover, a task a state, industry and start (ABS, 1982-2018)."
    )
    licence = "CC BY 2.5 Australia: attribute the Australian Bureau of Statistics."
    return ForecastFamily("aus_retail", series, SETTING, about, raw, licence)
