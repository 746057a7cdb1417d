"""Tables of the user's own, read from CSV and Parquet files into one frame.

pandas and pyarrow do the reading. CSV cells stay text here, so that a column means the same in
every file whatever a single file looks like; ``columns.py`` says what a column is.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from metatune.errors import DataError, OptionError

CSV = (".csv", ".csv.gz", ".tsv", ".txt")
PARQUET = (".parquet", ".pq")
ALLOWED = f"files that end in {', '.join((*CSV, *PARQUET))}, globs or folders of them"
SEPARATORS = ",;\t|"
UNNAMED = "unnamed "
"""Begins the name of a column that has none, such as the row numbers that pandas writes."""


@dataclass(frozen=True)
class Frame:
    """The rows of all files.

    Attributes:
        rows: ``R`` rows; columns by their names without surrounding spaces. A column that a file
            does not have is missing there.
        file: ``(R,)`` the number of each row's file.
        line: ``(R,)`` the number of each row within its file, the first is 1.
        files: paths.
        notes: what a person should know of the reading.
    """

    rows: pd.DataFrame
    file: NDArray[np.int64]
    line: NDArray[np.int64]
    files: tuple[Path, ...]
    notes: tuple[str, ...]

    def place(self, row: int) -> str:
        """Where a row stands, for messages."""
        return f"{self.files[self.file[row]]}, row {self.line[row]}"

    def kept(self, mask: NDArray[np.bool_]) -> Frame:
        """Some of the rows."""
        rows = self.rows[mask].reset_index(drop=True)
        return Frame(rows, self.file[mask], self.line[mask], self.files, self.notes)


def read_frame(
    data: Sequence[str],
    required: Sequence[tuple[str, str]] = (),
    text: Iterable[str] = (),
    family: str = "table",
) -> Frame:
    """Read all files.

    Args:
        data: files, globs or folders.
        required: pairs of option and column that every file must have.
        text: columns whose numbers are names, such as ids: read as text from Parquet, too.
        family: whose data they are, for messages.

    Raises:
        OptionError: no file is there, or one lacks a required column.
        DataError: a file cannot be read, with its path and the reason.
    """
    files, notes = find_files(data, family)
    wanted = frozenset(text)
    frames = [_read(path, wanted, family) for path in files]
    for path, frame in zip(files, frames, strict=True):
        for option, column in required:
            if column not in frame.columns:
                raise OptionError(family, option, f"no column {column!r} in {path}", listed(frame))
    notes += tuple(_unequal(files, frames))
    rows = pd.concat(frames, ignore_index=True, sort=False)
    sizes = [len(frame) for frame in frames]
    return Frame(
        rows,
        np.repeat(np.arange(len(files)), sizes),
        np.concatenate([np.arange(1, size + 1) for size in sizes]),
        files,
        notes,
    )


def listed(frame: pd.DataFrame, most: int = 12) -> str:
    """The columns of a frame for messages."""
    names = [str(name) for name in frame.columns]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}" or "a file with columns"


# --- which files ---------------------------------------------------------------------------------


def find_files(
    data: Sequence[str], family: str = "table"
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The files that paths, globs and folders stand for, sorted; with notes on those passed over.

    Raises:
        OptionError: a path stands for no file, or for one of another kind.
    """
    found: dict[Path, None] = {}
    passed_over = 0
    for text in data:
        path = Path(text).expanduser()
        try:
            single = path.is_file()
            inside = [path] if single else sorted(_inside(path))
        except (OSError, ValueError, NotImplementedError) as error:
            raise OptionError(family, "data", f"{text!r} ({error})", ALLOWED) from error
        known = [one for one in inside if one.name.lower().endswith((*CSV, *PARQUET))]
        passed_over += len(inside) - len(known)
        if not known:
            what = "a file of another kind" if single else "no CSV or Parquet file"
            raise OptionError(family, "data", f"{what} at {path}", ALLOWED)
        found |= dict.fromkeys(known)
    notes = [f"{passed_over} files of other kinds are not read."] if passed_over else []
    return tuple(sorted(found)), tuple(notes)


def _inside(path: Path) -> Iterator[Path]:
    """The files in a folder, or of a glob; hidden ones are none of ours."""
    folder = path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    pattern = "**/*" if folder == path else str(path.relative_to(folder))
    for found in folder.glob(pattern):
        hidden = any(part.startswith((".", "_")) for part in found.relative_to(folder).parts)
        if found.is_file() and not hidden:
            yield found
        elif found.is_dir() and pattern != "**/*":
            yield from _inside(found)


def task_names(files: Sequence[Path]) -> list[str]:
    """A name for each file: its path from the folder that all are in, without what it ends in."""
    folders = [path.parent.parts for path in files]
    shared = 0
    while all(len(f) > shared and f[shared] == folders[0][shared] for f in folders):
        shared += 1
    names = []
    for path in files:
        ends = [end for end in (*CSV, *PARQUET) if path.name.lower().endswith(end)]
        stem = path.name[: -max(map(len, ends))]
        names.append("/".join((*path.parent.parts[shared:], stem)))
    return names if len(set(names)) == len(names) else [str(path) for path in files]


# --- one file ------------------------------------------------------------------------------------


def _read(path: Path, text: frozenset[str], family: str) -> pd.DataFrame:
    read: Callable[[Path, frozenset[str]], pd.DataFrame] = (
        _read_parquet if path.name.lower().endswith(PARQUET) else _read_csv
    )
    try:
        with warnings.catch_warnings():
            # pandas only warns where it would lose cells of rows that are too long.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = read(path, text)
    except DataError as error:
        raise DataError(f"{family}: {error}") from None
    except (OSError, ValueError, EOFError, pd.errors.ParserWarning, pa.ArrowException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{family}: {path} cannot be read: {reason[:200]}") from error
    names = list(frame.columns)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{family}: {path}: found the column {twice[0]!r} twice; allowed: each name once"
        )
    return frame


def _read_csv(path: Path, text: frozenset[str]) -> pd.DataFrame:
    del text  # all is text
    options: dict[str, Any] = {
        "sep": _separator(path),
        "dtype": str,
        "encoding": "utf-8-sig",
        "skipinitialspace": True,
        "index_col": False,
    }
    head = pd.read_csv(path, header=None, nrows=1, **options)
    names = [_name(cell, place) for place, cell in enumerate(head.iloc[0])]
    frame: pd.DataFrame = pd.read_csv(path, header=0, names=range(len(names)), **options)
    return frame.set_axis(names, axis=1)


def _name(cell: object, place: int) -> str:
    name = "" if pd.isna(cell) else str(cell).strip()  # type: ignore[call-overload]
    return name or f"{UNNAMED}{place + 1}"


def _separator(path: Path) -> str:
    """What the header's cells stand between: of ``, ; tab |`` the one that it has most of."""
    zipped = path.name.lower().endswith(".gz")
    with (gzip.open if zipped else open)(path, "rt", encoding="utf-8-sig", errors="replace") as f:
        line = next((line for line in f if line.strip()), "")
    return max(SEPARATORS, key=line.count)


def _read_parquet(path: Path, text: frozenset[str]) -> pd.DataFrame:
    with path.open("rb") as file:
        table = pq.ParquetFile(file).read()
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = field.type
        if pa.types.is_dictionary(kind):
            kind, column = kind.value_type, pc.cast(column, kind.value_type)
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_time(kind):
            allowed = "numbers, text, booleans, dates"
            raise DataError(
                f"{path}: found {kind} in the column {field.name!r}; allowed: {allowed}"
            )
        if pa.types.is_decimal(kind) or pa.types.is_null(kind):
            column = pc.cast(column, pa.float64())
        elif pa.types.is_duration(kind):
            column = pc.divide(pc.cast(pc.cast(column, pa.duration("us")), pa.int64()), 1e6)
        elif pa.types.is_boolean(kind) or field.name.strip() in text:
            column = pc.cast(column, pa.string())
        columns.append(column)
    given = ["" if n.startswith("__index_level_") else n for n in table.schema.names]
    numbers = [str(place) for place in range(len(given))]
    plain = pa.table(columns, names=numbers).to_pandas(ignore_metadata=True, date_as_object=False)
    names = [_name(name, place) for place, name in enumerate(given)]
    frame: pd.DataFrame = plain.set_axis(names, axis=1)
    return frame


def _unequal(files: Sequence[Path], frames: Sequence[pd.DataFrame]) -> Iterator[str]:
    """A note for each column that some files do not have, and on files without rows."""
    lacking: dict[str, list[Path]] = {}
    every = dict.fromkeys(str(name) for frame in frames for name in frame.columns)
    for path, frame in zip(files, frames, strict=True):
        for name in every.keys() - set(frame.columns):
            lacking.setdefault(name, []).append(path)
    for name in every:
        if name in lacking:
            yield (
                f"{name} is not in {len(lacking[name])} of {len(files)} files (first: "
                f"{lacking[name][0]}): counted as missing there."
            )
    empty = [path for path, frame in zip(files, frames, strict=True) if frame.empty]
    if empty:
        yield f"{len(empty)} of {len(files)} files have no rows (first: {empty[0]})."
