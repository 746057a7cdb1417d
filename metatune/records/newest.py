"""What a trial's scores are: those at its highest rung."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from numpy.typing import NDArray


def counted(splits: Sequence[str], round_: int | None = None) -> ds.Expression:
    """A filter on scores or curves: on ``test`` the verdict's trainings, elsewhere the trials'.

    What was trained anew says more than the one trial, and stands alone on ``test``.

    Args:
        splits: which.
        round_: which; by default all.
    """
    verdict = (ds.field("split") == "test") == (ds.field("replica") > 0)
    found = ds.field("split").isin(list(splits)) & verdict
    return found if round_ is None else found & (ds.field("round") == round_)


def at_highest_rung(frame: pd.DataFrame, by: Sequence[str] = ("trial",)) -> pd.DataFrame:
    """The rows of scores or curves at the highest rung of each trial.

    Args:
        frame: with ``rung``, and what it is taken ``by``, all as numbers or categories.
        by: trials, or trials in a round or on a split.
    """
    rung = frame["rung"].to_numpy()
    owner = np.zeros(len(frame), np.int64)
    for name in by:
        codes, known = _coded(frame[name])
        owner = owner * max(1, known) + codes
    if len(by) > 1:
        owner = pd.factorize(owner)[0]
    highest = np.zeros(owner.max(initial=-1) + 1, rung.dtype)
    np.maximum.at(highest, owner, rung)
    kept: pd.DataFrame = frame[rung == highest[owner]]
    return kept


def _coded(column: pd.Series) -> tuple[NDArray[np.int64], int]:
    """A number for each value, from 0, and how many there may be."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return np.asarray(column.cat.codes, np.int64), len(column.cat.categories)
    codes, known = pd.factorize(column)
    numbers: NDArray[np.int64] = codes.astype(np.int64)
    return numbers, len(known)
