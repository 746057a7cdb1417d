"""Files: all that users export is read, and what cannot be is told with its path."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metatune.errors import DataError, OptionError
from metatune.tasks.tables import frames
from metatune.tasks.tables.frames import Frame, find_files, read_frame, task_names


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Path, *args: Any, **options: Any) -> Frame:
    files, _ = find_files([str(path)])
    return read_frame(files, Path(tempfile.mkdtemp(dir=path.parent)), *args, **options)


def cells(path: Path) -> list[list[object]]:
    stored = read(path).rows
    rows = pd.DataFrame({name: stored[name] for name in stored.columns})
    return [list(rows.columns), *rows.astype(object).where(rows.notna(), None).to_numpy().tolist()]


EXPECTED = [["a", "b"], ["1", "x y"], ["007", None]]


@pytest.mark.parametrize("text", [
    "a,b\n1,x y\n007,\n",
    "\ufeffa,b\r\n1,x y\r\n007,\r\n",
    " a , b \n1, x y\n007, \n",
    "a;b\n1;x y\n007;NA\n",
    "a\tb\n1\tx y\n007\t\n",
    "a|b\n1|x y\n007|\n",
    '"a","b"\n"1","x y"\n"007",""\n',
    "\n\na,b\n1,x y\n\n007,\n\n",
    "a,b\n1,x y\n007,",
    "a,b\n1,x y\n007\n",
])  # fmt: skip
def test_csv_files_of_all_dialects_are_the_same_table(tmp_path: Path, text: str) -> None:
    assert cells(write(tmp_path / "a.csv", text)) == EXPECTED


def test_a_compressed_file_and_a_file_of_tabs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,x y\n007,\n"))
    assert cells(path) == EXPECTED
    assert cells(write(tmp_path / "a.tsv", "a\tb\n1\tx y\n007\t\n")) == EXPECTED


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("a.csv", b"", "cannot be read"),
    ("a.csv", b"\xff\xfe\x00", "cannot be read"),
    ("a.csv", "a,b\né,1\n".encode("latin-1"), "cannot be read"),
    ("a.csv", b"a,b\n1,2\n1,2,3\n", "cannot be read"),
    ("a.csv", b"a,b\n1,2,3\n1,2,3\n", "cannot be read"),
    ("a.csv", b'a,b\n"1,2\n', "cannot be read"),
    ("a.csv", b"a,a \n1,2\n", "'a' twice"),
    ("a.csv.gz", b"a,b\n", "cannot be read"),
    ("a.parquet", b"PAR1", "cannot be read"),
    ("a.parquet", b"", "cannot be read"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_with_its_path(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as refused:
        read(path)
    assert str(path) in str(refused.value)


def test_parquet_keeps_types_and_loses_no_index(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": pd.array([7, None, 9], dtype="Int64"),
            "flag": [True, False, None],
            "when": pd.to_datetime(["2024-01-01", None, "2024-03-01"]),
            "level": pd.Categorical(["a", "b", None]),
            "x": np.array([1.5, np.nan, 3], np.float32),
        },
        index=pd.Index(["p", "q", "r"], name="shop"),
    )
    frame.to_parquet(tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet", text=["id"]).rows
    assert list(rows.columns) == ["id", "flag", "when", "level", "x", "shop"]
    assert rows["id"].tolist()[::2] == ["7", "9"]
    assert rows["flag"].tolist()[:2] == ["true", "false"]
    assert rows["level"].tolist()[:2] == ["a", "b"]
    assert pd.api.types.is_datetime64_any_dtype(rows["when"])
    frame.reset_index(drop=True).iloc[[0, 2, 1]].to_parquet(tmp_path / "b.parquet")
    assert "unnamed 6" in read(tmp_path / "b.parquet").rows.columns


def test_nested_columns_are_refused_and_decimals_are_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [[1, 2]]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"list<.*in the column 'x'; allowed: numbers"):
        read(tmp_path / "a.parquet")
    table = pa.table({"x": pa.array([1, 2], pa.decimal128(5, 2))})
    pq.write_table(table, tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet").rows["x"].tolist() == [1.0, 2.0]


def test_paths_globs_and_folders_name_files_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "sub/c.parquet", ".hidden.csv", "_SUCCESS", "readme.md"):
        write(tmp_path / name, "")
    three = tuple(tmp_path / name for name in ("a.csv", "b.csv", "sub/c.parquet"))
    found, notes = find_files([str(tmp_path), str(tmp_path / "a.csv")])
    assert found == three
    assert notes == ("1 files of other kinds are not read.",)
    assert find_files([str(tmp_path / "*.csv")])[0] == three[:2]
    assert find_files([str(tmp_path / "*")])[0] == three
    assert find_files([str(tmp_path / "**/*.parquet")])[0] == three[2:]


def test_folders_with_the_signs_of_globs_are_folders(tmp_path: Path) -> None:
    path = write(tmp_path / "data [1]" / "a.csv", "a\n1\n")
    assert find_files([str(tmp_path / "data [1]" / "*.csv")])[0] == (path,)
    assert find_files([str(tmp_path / "data [1]")])[0] == (path,)


@pytest.mark.parametrize("name", ["nothing.csv", "*.csv", "a.xlsx", "empty", "", "a\0b", "a/../*"])
def test_a_path_that_stands_for_no_file_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a.xlsx", "")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match=r"^table: data: found .*; allowed: files that end in"):
        find_files([str(tmp_path / "empty" / name) if not name else f"{tmp_path}/{name}"])


def test_a_column_that_some_files_lack_is_missing_there_and_told(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "y,x\n1,2\n")
    write(tmp_path / "b.csv", "z,y\n3,4\n")
    write(tmp_path / "c.csv", "y,x,z\n")
    frame = read(tmp_path, [("target", "y")])
    assert frame.rows["x"].notna().tolist() == [True, False]
    assert frame.notes == (
        f"x is not in 1 of 3 files (first: {tmp_path}/b.csv): counted as missing there.",
        f"z is not in 1 of 3 files (first: {tmp_path}/a.csv): counted as missing there.",
        f"1 of 3 files have no rows (first: {tmp_path}/c.csv).",
    )
    assert frame.place(1) == f"{tmp_path}/b.csv, row 1"
    with pytest.raises(OptionError, match=r"target: found no column 'x' in .*b.csv; allowed: z, y"):
        read(tmp_path, [("target", "x")])


def test_tasks_are_named_by_their_files() -> None:
    def names(*paths: str) -> list[str]:
        return task_names([Path(path) for path in paths])

    assert names("/d/a.csv", "/d/b.csv.gz") == ["a", "b"]
    assert names("/d/x/a.csv", "/d/y/a.csv") == ["x/a", "y/a"]
    assert names("/d/a.csv", "/d/a.parquet") == ["/d/a.csv", "/d/a.parquet"]
    assert names("/d/a.csv") == ["a"]


@pytest.mark.parametrize("row", range(9))
def test_a_row_that_is_too_long_is_refused_wherever_a_piece_of_the_file_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    monkeypatch.setattr(frames, "CELLS", 6)
    lines = ["1,2"] * 9
    lines[row] = "1,2,3"
    with pytest.raises(DataError, match="cannot be read"):
        read(write(tmp_path / "a.csv", "\n".join(["a,b", *lines])))


def test_many_pieces_of_a_file_are_one_table(tmp_path: Path) -> None:
    rows = frames.CELLS // 2 + 5
    write(tmp_path / "a.csv", "a,b\n" + "1,x\n" * rows)
    stored = read(tmp_path / "a.csv").rows
    assert len(stored) == rows
    assert (stored["b"] == "x").all()
