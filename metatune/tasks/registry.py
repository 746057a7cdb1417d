"""Task families by name.

A family's module is imported when the family is opened, so naming families costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from metatune.errors import DataError
from metatune.tasks.base import TaskFamily

Opener = Callable[..., TaskFamily]
"""Opens a family, given the folder of its data or None; its options, if it has any, by keyword."""


def _sinusoid(data_dir: str | None) -> TaskFamily:
    from metatune.tasks.formulas.sinusoid import SinusoidFamily

    return SinusoidFamily()


def _linear(data_dir: str | None) -> TaskFamily:
    from metatune.tasks.formulas.linear import LinearFamily

    return LinearFamily()


def _quadratic(data_dir: str | None) -> TaskFamily:
    from metatune.tasks.formulas.quadratic import QuadraticFamily

    return QuadraticFamily()


def _noisy_quadratic(data_dir: str | None) -> TaskFamily:
    from metatune.tasks.formulas.noisy_quadratic import NoisyQuadraticFamily

    return NoisyQuadraticFamily()


def _chembl(data_dir: str | None, metric: str = "r2") -> TaskFamily:
    from metatune.tasks.tables.chembl import open_chembl

    return open_chembl(data_dir, metric)


def _table(data_dir: str | None, **options: Any) -> TaskFamily:
    from metatune.tasks.tables.options import TableOptions
    from metatune.tasks.tables.table import open_table

    return open_table(TableOptions.of(options))


def _image_folder(data_dir: str | None, **options: Any) -> TaskFamily:
    from metatune.tasks.images.image_folder import ImageFolderOptions, open_image_folder

    return open_image_folder(ImageFolderOptions.of(options))


def _forecast(data_dir: str | None, **options: Any) -> TaskFamily:
    from metatune.tasks.timeseries.forecast import ForecastOptions, open_forecast

    return open_forecast(ForecastOptions.of(options))


def _own(
    data_dir: str | None, use: str | None = None, options: Mapping[str, Any] | None = None
) -> TaskFamily:
    from metatune.tasks.own_family import open_own

    return open_own(use, options or {})


def _eia_load(data_dir: str | None) -> TaskFamily:
    from metatune.tasks.timeseries.eia_load import open_eia_load

    return open_eia_load(data_dir)


def _aus_retail(data_dir: str | None) -> TaskFamily:
    from metatune.tasks.timeseries.aus_retail import open_aus_retail

    return open_aus_retail(data_dir)


def _glyphs(data_dir: str | None) -> TaskFamily:
    from metatune.tasks.images.glyphs import open_glyphs

    return open_glyphs()


def _omniglot(data_dir: str | None, **options: Any) -> TaskFamily:
    from metatune.tasks.images.omniglot import open_omniglot

    return open_omniglot(data_dir, **options)


FAMILIES: dict[str, Opener] = {
    "sinusoid": _sinusoid,
    "linear": _linear,
    "quadratic": _quadratic,
    "noisy_quadratic": _noisy_quadratic,
    "glyphs": _glyphs,
    "omniglot": _omniglot,
    "chembl": _chembl,
    "eia_load": _eia_load,
    "aus_retail": _aus_retail,
    "table": _table,
    "image_folder": _image_folder,
    "forecast": _forecast,
    "own": _own,
}


def family_names() -> tuple[str, ...]:
    """The names that ``open_family`` knows."""
    return tuple(FAMILIES)


def open_family(
    name: str, data_dir: str | None = None, options: Mapping[str, Any] | None = None
) -> TaskFamily:
    """Open a family by name; the same one each time within a process.

    Args:
        name: one of ``family_names()``.
        data_dir: folder of the data, for families that are read from files; None takes the
            environment variable METATUNE_DATA.
        options: what the family has to be told besides, as plain data with absolute paths: see
            ``metatune.space.families``.

    Raises:
        DataError: where the name is unknown or the family's data cannot be had.
        OptionError: where an option does not fit the data.
    """
    if name not in FAMILIES:
        raise DataError(f"unknown task family {name!r}; allowed: {', '.join(family_names())}")
    return _opened(name, data_dir, json.dumps(options or {}, sort_keys=True))


@cache
def _opened(name: str, data_dir: str | None, options: str) -> TaskFamily:
    return FAMILIES[name](data_dir, **json.loads(options))
