"""Tables as pandas frames, with the dtypes of ``schema.FRAMES``; strategies as columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from metatune.records.schema import CODED, Column


def frame_of(table: pa.Table, columns: Sequence[Column], categories: bool = False) -> pd.DataFrame:
    """A table as a frame.

    Args:
        table: with these columns.
        columns: of a frame of ``schema.FRAMES``.
        categories: those of ``CODED`` as categories: that occur, in alphabetical order.
    """
    series = {column.name: _series(table[column.name], column, categories) for column in columns}
    return pd.DataFrame(series, index=pd.RangeIndex(len(table)))


def _series(values: pa.ChunkedArray[Any], column: Column, categories: bool) -> pd.Series:
    if column.choices or (categories and column.name in CODED):
        return _categories(values, column.choices)
    if column.type == "strings":
        return pd.Series(values.to_pylist(), dtype=object)
    if column.dtype == "Int64":
        missing = values.is_null().to_numpy()
        return pd.Series(pd.arrays.IntegerArray(values.fill_null(0).to_numpy().copy(), missing))
    if pa.types.is_dictionary(values.type):
        values = values.cast(pa.string())
    series: pd.Series = values.to_pandas()
    return series


def _categories(values: pa.ChunkedArray[Any], choices: Sequence[str]) -> pd.Series:
    """Texts as categories: these, or those that occur, in alphabetical order."""
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    coded = values.unify_dictionaries().combine_chunks()
    names: list[str] = coded.dictionary.to_pylist()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    used = np.zeros(len(names) + 1, dtype=bool)
    used[codes] = True  # what is missing, -1, marks the last
    allowed = choices or sorted(name for name, there in zip(names, used[:-1], strict=True) if there)
    place = {name: number for number, name in enumerate(allowed)}
    renumbered = np.array([*(place.get(name, -1) for name in names), -1], dtype=np.int32)
    dtype = pd.CategoricalDtype(list(allowed))
    return pd.Series(pd.Categorical.from_codes(renumbered[codes], dtype=dtype))


def settings_of(strategies: Sequence[str | None]) -> pd.DataFrame:
    """Strategies in JSON as columns with dotted names, in the order of their first appearance.

    A column has the narrowest dtype that holds all values; it is missing where a strategy has no
    such setting. Lists are JSON.
    """
    flat = [{} if text is None else flatten(json.loads(text)) for text in strategies]
    names = list(dict.fromkeys(name for row in flat for name in row))
    columns = {name: _typed([row.get(name) for row in flat]) for name in names}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(flat)))


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names; lists as JSON."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value) if isinstance(value, list) else value
    return flat


def _typed(values: Sequence[Any]) -> pd.Series:
    """A column of the narrowest type that holds all values; None where a strategy has no such."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean")
    if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):
        return pd.Series(values, dtype="Int64")
    if kinds and kinds <= {int, float}:
        return pd.Series(values, dtype="float64")
    return pd.Series(values, dtype="str" if kinds == {str} else object)
