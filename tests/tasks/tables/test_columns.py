"""Columns: what they are taken for, and inputs whose statistics come from train alone."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metatune.tasks.tables import columns
from metatune.tasks.tables.columns import as_text, guess_kind, guess_target, is_given
from metatune.tasks.tables.frames import Frame


def text(*cells: str | None) -> pd.Series:
    return pd.Series(cells, dtype="str")


@pytest.mark.parametrize(("values", "kind"), [
    (text("1", "2.5", "-3e4", None), "number"),
    (text(*["1"] * 95, *["?"] * 5), "number"),
    (text(*["1"] * 50, *["?"] * 50), "category"),
    (pd.Series([1, 2]), "number"),
    (pd.Series([True, False]), "category"),
    (text("true", "false"), "category"),
    (text("2024-01-31", None, "2024-02-01"), "date"),
    (text("2024-01-31T10:00:00Z", "2024-01-31 11:00"), "date"),
    (text("31.01.2024", "1.2.2024"), "date %d.%m.%Y"),
    (text("31/01/2024", "01/02/2024"), "date %d/%m/%Y"),
    (text("01/31/2024", "01/02/2024"), "date %m/%d/%Y"),
    (pd.Series(pd.to_datetime(["2024-01-31"])), "date"),
    (text("a", "b"), "category"),
    (text("inf", "1", "nan"), "category"),
    (text(None, None), "skip"),
    (pd.Series([np.nan, np.nan]), "skip"),
])  # fmt: skip
def test_columns_are_taken_for_what_they_look_like(values: pd.Series, kind: str) -> None:
    assert guess_kind("x", values) == kind


def test_a_column_without_a_name_is_left_out() -> None:
    assert guess_kind("unnamed 1", pd.Series([0, 1, 2])) == "skip"


@pytest.mark.parametrize(("values", "kind"), [
    (text("0", "1", "1"), "class"), (text("1.0", "2.0"), "class"), (text("0.5", "1"), "number"),
    (pd.Series(range(50)), "number"), (text("yes", "no"), "class"), (text("3", "3"), "number"),
    (pd.Series([True, False]), "class"), (text("2024-01-01", "2024-01-02"), "class"),
])  # fmt: skip
def test_a_few_whole_numbers_are_classes(values: pd.Series, kind: str) -> None:
    assert guess_target(values) == kind


def test_text_is_the_same_whatever_it_was_stored_as() -> None:
    assert as_text(pd.Series([1.0, None, 3.0])).tolist()[::2] == ["1", "3"]
    assert as_text(text(" a ", "", None)).tolist() == ["a", None, None]


def test_cells_of_spaces_are_not_given() -> None:
    assert is_given(text(" ", "", None, "a", "0")).tolist() == [False, False, False, True, True]
    assert is_given(pd.Series([1.5, np.nan])).tolist() == [True, False]


def frame(**cells: object) -> Frame:
    rows = pd.DataFrame(cells)
    return Frame(rows, (len(rows),), (Path("f.csv"),), ())


@dataclass(frozen=True)
class Found:
    """Inputs, with all rows in memory."""

    x: np.ndarray
    names: tuple[str, ...]
    numbers: int
    notes: tuple[str, ...]


def encode(frame: Frame, kinds: dict[str, str], train: np.ndarray, levels: int) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        order = np.arange(len(frame.rows))
        made = columns.encode(frame, kinds, order, train, levels, Path(folder))
        x = np.concatenate([np.empty((0, len(made.names))), *made.blocks()])
    return Found(x, made.names, made.numbers, made.notes)


def train(rows: int, of: int) -> np.ndarray:
    return np.arange(of) < rows


def test_numbers_are_in_standard_units_of_train_and_missing_ones_are_told() -> None:
    values = ["1", "3", None, "5", "1000000"]
    found = encode(frame(x=values), {"x": "number"}, train(4, 5), 16)
    assert found.names == ("x", "x is missing")
    assert found.numbers == 1
    spread = np.std([1, 3, 5])
    np.testing.assert_allclose(found.x[:4, 0], [-2 / spread, 0, 0, 2 / spread], rtol=1e-6)
    assert found.x[4, 0] == 100  # cut: nothing of a train row is so far away
    assert found.x[:, 1].tolist() == [0, 0, 1, 0, 0]


def test_cells_that_are_no_numbers_count_as_missing_and_are_told_with_their_place() -> None:
    values = ["1", "?", "3", "1e999", None]
    found = encode(frame(x=values), {"x": "number"}, train(5, 5), 16)
    assert found.x[:, 1].tolist() == [0, 1, 0, 1, 1]
    assert found.notes == (
        "x: 2 cells are no numbers (first: '?' in f.csv, row 2): counted as missing.",
    )


def test_dates_become_year_month_weekday_hour_and_days_since_the_first_of_train() -> None:
    days = ["2024-01-01", "2024-01-03T12:00", "2025-02-03", "2023-12-31", None]
    found = encode(frame(d=days), {"d": "date"}, train(3, 5), 16)
    assert found.names == ("d year", "d month", "d weekday", "d hour", "d days")
    parts = np.array([[2024, 1, 0, 0, 0], [2024, 1, 2, 12, 2.5], [2025, 2, 0, 0, 399]])
    expected = (parts - parts.mean(0)) / parts.std(0)
    np.testing.assert_allclose(found.x[:3], expected, rtol=1e-5, atol=1e-6)
    before = (np.array([2023, 12, 6, 0, -1]) - parts.mean(0)) / parts.std(0)
    np.testing.assert_allclose(found.x[3], before, rtol=1e-5, atol=1e-6)
    assert (found.x[4] == 0).all()


def test_categories_have_an_input_for_each_frequent_level_of_train() -> None:
    values = ["a"] * 9 + ["b"] * 6 + ["rare"] * 2 + [None] + ["new", "new", "a"]
    found = encode(frame(c=values), {"c": "category"}, train(18, 21), 16)
    assert found.names == ("c = a", "c = b", "c = other", "c is missing")
    assert found.numbers == 0
    assert found.x[18:].tolist() == [[0, 0, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    assert found.x[17].tolist() == [0, 0, 0, 1]
    fewer = encode(frame(c=values), {"c": "category"}, train(18, 21), 1)
    assert fewer.names == ("c = a", "c = other", "c is missing")


def test_what_is_constant_in_train_is_left_out_with_a_note() -> None:
    cells = {"x": ["7", "7", "8"], "c": ["a", "a", "b"], "d": [None, None, "2024-01-01"]}
    kinds = {"x": "number", "c": "category", "d": "date"}
    found = encode(frame(**cells), kinds, train(2, 3), 16)
    assert found.names == ()
    assert found.notes == tuple(f"{name} is constant in train: left out." for name in "xcd")
