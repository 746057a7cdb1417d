"""Files as nobody should write them: CSV and Parquet with whatever goes wrong in practice."""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("METATUNE_FUZZ", "100"))
"""Examples of each test; ``make verify`` asks for 2,000."""

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

Table = list[list[str]]
"""A header and rows of cells."""

CELLS = st.sampled_from([
    "", " ", "nan", "NA", "inf", "-inf", "1e400", "1e308", "-1e308", "1e-320", "1e101", "9" * 40,
    "0", "-0.0", "1,5", "1_000", "0x10", "\uff11\uff12", "\u0663", "+5", "1e", "e5", "--", "True",
    "yes", '"', 'a"b', '""', '"a\nb"', "a,b;c\td|e", "'", "\\", "#", "ü", "日本", "e\u0301",
    "\u200b",
    "\ufeff1", "\x00", "\x1a", "2024-13-45", "31/02/2020", "2024-01-01",
    "2024-01-01T00:00:00+02:00",
    "0000-00-00", "9999-12-31", "1677-01-01", "0001-01-01", "31.12.2024", "24:00", "1704067200",
    "x" * 5000, "t0", "NaT", "None",
])  # fmt: skip
MOSTLY = st.sampled_from([True] * 5 + [False])


# --- CSV ------------------------------------------------------------------------------------------


@st.composite
def csv_bytes(draw: st.DrawFn, table: Table) -> bytes:
    """A table as the bytes of a CSV file, with up to four things wrong."""
    table = [list(row) for row in table]
    for _ in range(draw(st.integers(0, 3))):
        draw(st.sampled_from(CELL_FAULTS))(draw, table)
    separator = draw(st.sampled_from([",", ",", ",", ";", "\t", "|", ":"]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    lines = [separator.join(row) for row in table]
    if draw(st.integers(0, 3)) == 0:
        draw(st.sampled_from(LINE_FAULTS))(draw, lines)
    text = end.join(lines) + (end if draw(st.booleans()) else "")
    encoding = draw(st.sampled_from(["utf-8"] * 5 + ["utf-8-sig", "utf-16", "latin-1", "cp1252"]))
    data = text.encode(encoding, "replace")
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(data)))
        cut = draw(st.sampled_from([0, 1, len(data)]))
        data = data[:at] + draw(st.binary(max_size=4)) + data[at + cut :]
    return data


def _cells(draw: st.DrawFn, table: Table) -> None:
    """Some cells hold something strange."""
    for _ in range(draw(st.integers(1, 5))):
        row = table[draw(st.integers(1, len(table) - 1))] if len(table) > 1 else table[0]
        if row:
            row[draw(st.integers(0, len(row) - 1))] = draw(CELLS)


def _column(draw: st.DrawFn, table: Table) -> None:
    """A whole column holds one strange thing, or two."""
    place = draw(st.integers(0, len(table[0]) - 1)) if table[0] else 0
    values = draw(st.lists(CELLS, min_size=1, max_size=2))
    for number, row in enumerate(table[1:]):
        if place < len(row):
            row[place] = values[number % len(values)]


def _dropped_column(draw: st.DrawFn, table: Table) -> None:
    if table[0]:
        place = draw(st.integers(0, len(table[0]) - 1))
        for row in table:
            del row[place : place + 1]


def _header(draw: st.DrawFn, table: Table) -> None:
    """A name that is missing, stands twice, or is another."""
    if table[0]:
        names = [*table[0], "", " ", "x ", '"', "ü", "file", "1", "nan"]
        table[0][draw(st.integers(0, len(table[0]) - 1))] = draw(st.sampled_from(names))


def _no_header(draw: st.DrawFn, table: Table) -> None:
    del table[0]
    if not table:
        table.append([])


def _torn(draw: st.DrawFn, table: Table) -> None:
    """A row with too few cells, or too many."""
    row = table[draw(st.integers(0, len(table) - 1))]
    if draw(st.booleans()):
        del row[draw(st.integers(0, len(row))) :]
    else:
        row += draw(st.lists(CELLS, min_size=1, max_size=3))


def _few_rows(draw: st.DrawFn, table: Table) -> None:
    del table[draw(st.integers(1, len(table))) :]


def _repeated(draw: st.DrawFn, table: Table) -> None:
    table.insert(draw(st.integers(1, len(table))), list(table[-1]))


CELL_FAULTS: list[Callable[[st.DrawFn, Table], None]] = [
    _cells, _cells, _column, _dropped_column, _header, _no_header, _torn, _few_rows, _repeated,
]  # fmt: skip


def _blank(draw: st.DrawFn, lines: list[str]) -> None:
    lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(["", " ", ",", "\t", "#"])))


def _cut(draw: st.DrawFn, lines: list[str]) -> None:
    place = draw(st.integers(0, len(lines) - 1))
    lines[place] = lines[place][: draw(st.integers(0, len(lines[place])))]


def _quote(draw: st.DrawFn, lines: list[str]) -> None:
    place = draw(st.integers(0, len(lines) - 1))
    at = draw(st.integers(0, len(lines[place])))
    lines[place] = lines[place][:at] + '"' + lines[place][at:]


def _nothing(draw: st.DrawFn, lines: list[str]) -> None:
    lines.clear()


LINE_FAULTS: list[Callable[[st.DrawFn, list[str]], None]] = [_blank, _blank, _cut, _quote, _nothing]


# --- Parquet --------------------------------------------------------------------------------------

DAY = datetime.date(2024, 1, 1)
COLUMNS: list[Callable[[int], pa.Array]] = [
    lambda n: pa.array([None] * n),
    lambda n: pa.array([f"t{k % 6}" for k in range(n)]),
    lambda n: pa.array([f"t{k % 6}" for k in range(n)]).dictionary_encode(),
    lambda n: pa.array([float(k % 5) if k % 4 else float("nan") for k in range(n)]),
    lambda n: pa.array([float("inf") if k % 3 else 1e300 for k in range(n)]),
    lambda n: pa.array([k % 7 for k in range(n)], pa.int8()),
    lambda n: pa.array([2**63 + k for k in range(n)], pa.uint64()),
    lambda n: pa.array([k % 2 == 0 if k % 5 else None for k in range(n)]),
    lambda n: pa.array([decimal.Decimal(k) / 4 for k in range(n)], pa.decimal128(20, 2)),
    lambda n: pa.array([decimal.Decimal(10) ** 60 for _ in range(n)], pa.decimal256(70, 2)),
    lambda n: pa.array([DAY + datetime.timedelta(days=k) for k in range(n)]),
    lambda n: pa.array([k * 10**9 for k in range(n)], pa.timestamp("ns", "Europe/Berlin")),
    lambda n: pa.array([(k - 3) * 10**13 for k in range(n)], pa.timestamp("s")),
    lambda n: pa.array([k * 10**15 for k in range(n)], pa.duration("s")),
    lambda n: pa.array(list(range(n)), pa.time32("s")),
    lambda n: pa.array([bytes([k % 256]) for k in range(n)]),
    lambda n: pa.array([[k] * (k % 3) for k in range(n)], pa.list_(pa.int64())),
    lambda n: pa.array([{"a": k} for k in range(n)], pa.struct([("a", pa.int64())])),
    lambda n: pa.array([k / 3 for k in range(n)], pa.float16()),
    lambda n: pa.array([f"{'' if k % 2 else ' '}" for k in range(n)], pa.large_string()),
]
"""Columns of so many rows, each of another type."""


@st.composite
def parquet_bytes(draw: st.DrawFn, table: Table) -> bytes:
    """A table as the bytes of a Parquet file, in which some columns are of other types."""
    names, rows = table[0], table[1:]
    columns: dict[str, pa.Array] = {}
    for place, name in enumerate(names):
        cells = [row[place] for row in rows]
        numbers = name in ("x", "y")
        columns[name] = pa.array([float(c) for c in cells] if numbers else cells)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from([*names, "more", " x", "ü", "__index_level_0__"]))
        columns[name] = draw(st.sampled_from(COLUMNS))(len(rows))
    for name in draw(st.lists(st.sampled_from(sorted(columns)), max_size=1)):
        if not draw(MOSTLY):
            del columns[name]
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    data = sink.getvalue()
    if draw(st.integers(0, 9)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    return data


# --- files ----------------------------------------------------------------------------------------


@st.composite
def files(draw: st.DrawFn, table: Table) -> dict[str, bytes]:
    """One to three files by their names, each with rows of the table."""
    count = draw(st.sampled_from([1, 1, 1, 2, 3]))
    found = {}
    for number in range(count):
        part = [table[0], *table[1 + number :: count]]
        if draw(MOSTLY):
            data = draw(csv_bytes(part))
            zipped = draw(st.integers(0, 19))
            found[f"{number}.csv.gz" if zipped < 2 else f"{number}.csv"] = (
                gzip.compress(data) if zipped == 0 else data
            )
        else:
            found[f"{number}.parquet"] = draw(parquet_bytes(part))
    return found


def written(found: dict[str, bytes], folder: Path) -> Path:
    """The files in a new folder."""
    folder.mkdir()
    for name, data in found.items():
        (folder / name).write_bytes(data)
    return folder


def rows_in(found: dict[str, bytes]) -> int:
    """The rows that stand in files that can be read, counted by other means than metatune's."""
    return sum(_rows_in(name, data) for name, data in found.items())


def _rows_in(name: str, data: bytes) -> int:
    if name.endswith(".parquet"):
        count: int = pq.read_metadata(io.BytesIO(data)).num_rows
        return count
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode("utf-8-sig")
    first = next(line for line in text.splitlines() if line.strip())
    separator = max(",;\t|", key=first.count)
    csv.field_size_limit(1 << 20)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    # A blank line is no row, nor is one of spaces; one of separators has cells that are missing.
    return sum(1 for line in lines if len(line) > 1 or "".join(line).strip()) - 1


def told(notes: tuple[str, ...] | list[str], pattern: str) -> list[int]:
    """The first number of each note that a pattern finds."""
    found = (re.match(pattern, note) for note in notes)
    return [int(match[1]) for match in found if match]


def is_clear(said: str, *places: str) -> bool:
    """One or two sentences that name a place, and what is allowed or why not."""
    return (
        "\n" not in said
        and "Traceback" not in said
        and len(said) < 2000
        and any(place in said for place in places)
        and ("allowed" in said or "cannot be read" in said)
    )
