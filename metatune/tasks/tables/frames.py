"""Tables of the user's own, read from CSV and Parquet files, a column at a time.

pandas and pyarrow do the reading. CSV cells stay text here, so that a column means the same in
every file whatever a single file looks like; ``columns.py`` says what a column is. Files are copied
piece by piece into one Arrow file that is mapped into memory, so that no more than a column of the
rows is ever held.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metatune.errors import DataError, OptionError, first_of

CSV = (".csv", ".csv.gz", ".tsv", ".txt")
PARQUET = (".parquet", ".pq")
ALLOWED = f"files that end in {', '.join((*CSV, *PARQUET))}, globs or folders of them"
SEPARATORS = ",;\t|"
UNNAMED = "unnamed "
"""Begins the name of a column that has none, such as the row numbers that pandas writes."""
CELLS = 1 << 21
"""Held of a file at a time, while it is copied."""


class Rows(Protocol):
    """Rows by columns; a pandas frame is one."""

    @property
    def columns(self) -> Iterable[Any]:
        """Names."""

    def __len__(self) -> int: ...

    def __getitem__(self, name: str, /) -> pd.Series:
        """A column."""


@dataclass(frozen=True)
class MappedRows:
    """Rows that lie on the disk: a column is read when it is asked for.

    Attributes:
        parts: rows with the same columns of the same types, one below the other. A column that a
            part does not have is missing there.
    """

    parts: tuple[pa.Table, ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names, in the order in which they come up."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.column_names))

    def __len__(self) -> int:
        return sum(part.num_rows for part in self.parts)

    def __getitem__(self, name: str) -> pd.Series:
        """A column, of the type that pandas finds for all parts together."""
        held = [
            part.select([name]).to_pandas(date_as_object=False)
            if name in part.column_names
            else pd.DataFrame(index=pd.RangeIndex(part.num_rows))
            for part in self.parts
        ]
        return (held[0] if len(held) == 1 else pd.concat(held, ignore_index=True))[name]


@dataclass(frozen=True)
class Frame:
    """The rows of all files.

    Attributes:
        rows: ``R`` rows; columns by their names without surrounding spaces. A column that a file
            does not have is missing there.
        sizes: the number of rows of each file.
        files: paths.
        notes: what a person should know of the reading.
    """

    rows: Rows
    sizes: tuple[int, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...]

    def place(self, row: int) -> str:
        """Where a row stands, for messages; the first of a file is 1."""
        ends = np.cumsum(self.sizes)
        file = int(np.searchsorted(ends, row, "right"))
        return f"{self.files[file]}, row {row - ends[file] + self.sizes[file] + 1}"


def read_frame(
    files: Sequence[Path],
    scratch: Path,
    required: Sequence[tuple[str, str]] = (),
    text: Iterable[str] = (),
    family: str = "table",
) -> Frame:
    """Read all files.

    Args:
        files: as ``find_files`` finds them.
        scratch: a folder for a copy of them, which is to stay as long as the frame is used.
        required: pairs of option and column that every file must have.
        text: columns whose numbers are names, such as ids: read as text from Parquet, too.
        family: whose data they are, for messages.

    Raises:
        OptionError: a file lacks a required column.
        DataError: a file cannot be read, with its path and the reason.
    """
    try:
        rows, copied = _copied(files, frozenset(text), scratch / "rows.arrow")
    except DataError as error:
        raise DataError(f"{family}: {error}") from error.__cause__
    for one in copied:
        for option, column in required:
            if column not in one.columns:
                found = f"no column {column!r} in {one.path}"
                raise OptionError(family, option, found, listed(one.columns))
    sizes = tuple(one.rows for one in copied)
    return Frame(rows, sizes, tuple(files), tuple(_unequal(copied)))


def listed(names: Iterable[Any], most: int = 12) -> str:
    """Names of columns for messages."""
    return first_of([str(name) for name in names], most, 60) or "a file with columns"


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


# --- from files to rows --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Copied:
    """A file whose rows were copied: its columns and the number of its rows."""

    path: Path
    columns: tuple[str, ...]
    rows: int


def _copied(
    files: Sequence[Path], text: frozenset[str], path: Path
) -> tuple[MappedRows, list[_Copied]]:
    """Copy the rows of all files to a path: an Arrow stream for each run of equal columns."""
    copied: list[_Copied] = []
    starts: list[int] = []
    schema: pa.Schema | None = None
    writer: Any = None
    with pa.OSFile(str(path), "wb") as sink:
        for file in files:
            rows = 0
            for batch in _batches(file, text):
                if batch.schema != schema:
                    if writer is not None:
                        writer.close()
                    schema = batch.schema
                    starts.append(sink.tell())
                    writer = pa.ipc.new_stream(sink, schema)
                writer.write_batch(batch)
                rows += batch.num_rows
            copied.append(_Copied(file, tuple(batch.schema.names), rows))
        if writer is not None:
            writer.close()
    with pa.memory_map(str(path)) as mapped:
        whole = mapped.read_buffer()
    return MappedRows(tuple(pa.ipc.open_stream(whole[at:]).read_all() for at in starts)), copied


def _unequal(copied: Sequence[_Copied]) -> Iterator[str]:
    """A note for each column that some files do not have, and on files without rows."""
    for name in dict.fromkeys(name for one in copied for name in one.columns):
        lacking = [one.path for one in copied if name not in one.columns]
        if lacking:
            yield (
                f"{name} is not in {len(lacking)} of {len(copied)} files (first: "
                f"{lacking[0]}): counted as missing there."
            )
    empty = [one.path for one in copied if not one.rows]
    if empty:
        yield f"{len(empty)} of {len(copied)} files have no rows (first: {empty[0]})."


# --- one file ------------------------------------------------------------------------------------


def _batches(path: Path, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file, some at a time; at least one batch, of columns of the same types."""
    read: Callable[[Path, frozenset[str]], Iterator[pa.RecordBatch]] = (
        _parquet_batches if path.name.lower().endswith(PARQUET) else _csv_batches
    )
    batches = read(path, text)
    while True:
        try:
            with warnings.catch_warnings():
                # pandas only warns where it would lose cells of rows that are too long.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                batch = next(batches, None)
        except DataError:
            raise
        except (OSError, ValueError, EOFError, pd.errors.ParserWarning, pa.ArrowException) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{path} cannot be read: {reason[:200]}") from error
        if batch is None:
            return
        yield batch


def _names(path: Path, given: Iterable[object]) -> list[str]:
    """The names of a file's columns, from what stands there."""
    names = [_name(cell, place) for place, cell in enumerate(given)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: found the column {twice[0]!r} twice; allowed: each name once")
    return names


def _name(cell: object, place: int) -> str:
    name = "" if pd.isna(cell) else str(cell).strip()  # type: ignore[call-overload]
    return name or f"{UNNAMED}{place + 1}"


def _at_a_time(columns: int) -> int:
    return max(1, CELLS // max(1, columns))


def _csv_batches(path: Path, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
    del text  # all is text
    options: dict[str, Any] = {
        "sep": _separator(path),
        "dtype": str,
        "encoding": "utf-8-sig",
        "skipinitialspace": True,
        "index_col": False,
    }
    head = pd.read_csv(path, header=None, nrows=1, **options)
    names = _names(path, head.iloc[0])
    options |= {"header": 0, "names": range(len(names)), "chunksize": _at_a_time(len(names))}
    with pd.read_csv(path, **options) as chunks:
        for chunk in chunks:
            yield pa.record_batch([_text(chunk[place]) for place in chunk], names=names)


def _text(cells: pd.Series) -> pa.Array:
    text = pa.array(cells, pa.large_string(), from_pandas=True)
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def _separator(path: Path) -> str:
    """What the header's cells stand between: of ``, ; tab |`` the one that it has most of."""
    zipped = path.name.lower().endswith(".gz")
    with (gzip.open if zipped else open)(path, "rt", encoding="utf-8-sig", errors="replace") as f:
        line = next((line for line in f if line.strip()), "")
    return max(SEPARATORS, key=line.count)


def _parquet_batches(path: Path, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        # Else all that was read of the file, or a row group, would be kept while it is read.
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        schema = parquet.schema_arrow
        kinds = [_plain_kind(path, field, text) for field in schema]
        given = ["" if n.startswith("__index_level_") else n for n in schema.names]
        names = _names(path, given)
        yield pa.record_batch([pa.array([], kind) for kind in kinds], names=names)
        for batch in parquet.iter_batches(_at_a_time(len(names))):
            cells = [_plain(c, kind) for c, kind in zip(batch.columns, kinds, strict=True)]
            yield pa.record_batch(cells, names=names)


def _plain_kind(path: Path, field: pa.Field, text: frozenset[str]) -> pa.DataType:
    """What a column of Parquet is read as: numbers, text or points in time."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_time(kind):
        allowed = "numbers, text, booleans, dates"
        raise DataError(f"{path}: found {kind} in the column {field.name!r}; allowed: {allowed}")
    if pa.types.is_decimal(kind) or pa.types.is_null(kind) or pa.types.is_duration(kind):
        return pa.float64()
    return pa.string() if pa.types.is_boolean(kind) or field.name.strip() in text else kind


def _plain(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pa.types.is_duration(cells.type):  # in seconds
        cells = pc.divide(pc.cast(pc.cast(cells, pa.duration("us")), pa.int64()), 1e6)
    return pc.cast(cells, kind)
