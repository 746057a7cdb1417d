"""Day-ahead electricity demand: hourly load of 88 regions of the United States, 2020 to 2022.

Ruggles, Farnham, Tong et al. (2020), "Developing reliable hourly electricity demand data through
screening and imputation", Scientific Data 7, 155. Data CC BY 4.0; original figures by the U.S.
Energy Information Administration.

A *group* is a grid operator with its zones, which share weather and habits; a region that is a
balancing authority of its own is a group of its own. Times are UTC: the phase of the day differs
by region and has to be learned from the support.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from metatune.errors import DataError
from metatune.tasks.files import find_file
from metatune.tasks.timeseries.forecast import ForecastFamily, Setting
from metatune.tasks.timeseries.series import Series
from metatune.tasks.timeseries.steps import Step

FILE = "eia_load.npz"
OWN_OPERATOR = "BA"
SHARES = {"train": 0.4, "select": 0.2, "confirm": 0.2, "test": 0.2}
SETTING = Setting(
    ahead=24,
    season=24,
    lags=(24, 48, 168),
    calendar=("hour", "weekday"),
    splits=SHARES,
    periods=SHARES,
)
"""Forecasts of a day, from the same hour one, two and seven days before.

Of 39 groups 16 learn; time is cut in the same shares, and no two splits share any.
"""


def open_eia_load(data_dir: str | None = None) -> ForecastFamily:
    """The family; reads ``eia_load.npz`` in ``data_dir`` or its folder ``eia_load``.

    Raises:
        DataError: where the file is missing or not the one that is expected.
    """
    about = "Hourly electricity demand, day-ahead: a task a region and start (EIA, 2020-2022)."
    path = find_file("eia_load", FILE, "eia_load", data_dir)
    licence = (
        "CC BY 4.0: attribute Ruggles, Farnham, Tong et al. (2020); original figures by the U.S. "
        "Energy Information Administration."
    )
    return ForecastFamily("eia_load", _read(path), SETTING, about, licence=licence)


def _read(path: Path) -> Series:
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file) as stored:
            load = stored["load_mw"].astype(np.float64)
            names = tuple(str(name) for name in stored["region"])
            operators = tuple(str(group) for group in stored["group"])
            begins = pd.Series(pd.to_datetime([str(stored["start_utc"])], utc=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not the EIA file that is expected: {error}") from error
    pairs = zip(names, operators, strict=True)
    step = Step.of("h")
    (first,), _ = step.numbers(begins.dt.tz_localize(None))
    regions, hours = load.shape
    return Series(
        values=load.ravel(),
        start=np.arange(regions + 1) * hours,
        first=np.full(regions, first),
        names=names,
        groups=tuple(name if group == OWN_OPERATOR else group for name, group in pairs),
        step=step,
    )
