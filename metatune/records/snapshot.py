"""A run's tables at one instant, read when they are asked for.

The log is what counts. Parquet is its beginning, written out by ``compaction``::

    records/parquet-<n>/<table>.parquet     whole-run tables
    records/parquet-<n>/manifest.json       which bytes of which segment they cover; written last

A generation counts only with its manifest, and only where the log still has what is covered: the
last ``CHECKED`` bytes of it have the checksum noted there. A snapshot is the newest generation and
the log's rows beyond it, up to where the log ended. A reader holds the generation's files open, so
on this machine it reads on when they are removed; where that fails, or they turn out to be damaged,
it folds the log up to the same bytes. So what was measured later is never seen.
"""

from __future__ import annotations

import json
import logging
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from metatune.errors import RunError
from metatune.place import Place
from metatune.records.folding import (
    KEY,
    SCORED,
    Key,
    Tables,
    chosen,
    extend_trials,
    fresh,
    keys_of,
    tables,
    without,
)
from metatune.records.log import Scan, scan, segment_names
from metatune.records.rows import Row
from metatune.records.schema import CODED, COLUMNS, SCHEMA, schema

logger = logging.getLogger(__name__)

CHECKED = 1 << 16
"""Bytes before the end of what is covered of a segment that are compared with the log's."""

_GENERATION = re.compile(r"parquet-(\d+)")
_CHECKING = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
_PLAIN = ds.ParquetFileFormat(default_fragment_scan_options=_CHECKING)
_CODING = ds.ParquetFileFormat(
    read_options=ds.ParquetReadOptions(dictionary_columns=CODED),
    default_fragment_scan_options=_CHECKING,
)


class _Damaged(Exception):  # noqa: N818 - never seen by a user
    """Parquet cannot be read."""


@dataclass(frozen=True)
class Covered:
    """What a generation holds of one segment.

    Attributes:
        bytes: from the segment's beginning, up to the end of a line.
        lines: in these.
        checksum: CRC-32 of the last ``CHECKED`` of these bytes, or of all where they are fewer.
    """

    bytes: int
    lines: int
    checksum: int


@dataclass(frozen=True)
class Manifest:
    """What a generation holds.

    Attributes:
        generation: its number, from 1.
        segments: by name, what it covers of the log.
    """

    generation: int
    segments: dict[str, Covered]


class Snapshot:
    """A run's tables at one instant.

    Attributes:
        manifest: the generation that they extend; None where they come from the log alone.
        segments: by name, what the tables cover of the log.
        rows: of the log beyond the generation.
    """

    def __init__(
        self,
        place: Place,
        manifest: Manifest | None,
        files: Mapping[str, ds.Fragment],
        segments: dict[str, Covered],
        rows: list[Row],
    ) -> None:
        self.manifest = manifest
        self.segments = segments
        self.rows = rows
        self._place = place
        self._files = files

    def read(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        where: ds.Expression | None = None,
    ) -> pa.Table:
        """Some columns of the rows that pass a filter; only these are read from Parquet.

        Args:
            name: of the table.
            columns: of these, by default all; of ``SCORED`` the ``CODED`` ones come as
                dictionaries.
            where: on any columns.

        Raises:
            RunError: Parquet and log are both damaged, or cannot be read.
        """
        if self.manifest is not None:
            try:
                return self._extended(name, columns, where)
            except _Damaged as error:
                logger.warning(
                    "%s: the log is read in place of generation %d: %s",
                    self._place.name, self.manifest.generation, error,
                )  # fmt: skip
                self.manifest = None
        return chosen(self._from_log[name], columns, where)

    @property
    def tables(self) -> Tables:
        """All of them, whole."""
        return Tables({name: self.read(name).cast(schema(name)) for name in COLUMNS})

    def _extended(
        self, name: str, columns: Sequence[str] | None, where: ds.Expression | None
    ) -> pa.Table:
        """The rows of the generation and of the log beyond it."""
        if not self.rows:
            return self._stored(name, columns, where)
        if name == "trials":
            return chosen(self._trials, columns, where)
        more = chosen(self._fresh[name], columns, where)
        if name in SCORED and self._again:
            wanted = list(more.column_names)
            found = self._stored(name, list(dict.fromkeys([*wanted, *KEY])), where)
            found = without(found, self._again).select(wanted)
        else:
            found = self._stored(name, columns, where)
        return pa.concat_tables([found, more]).unify_dictionaries()

    def _stored(
        self, name: str, columns: Sequence[str] | None, where: ds.Expression | None
    ) -> pa.Table:
        try:
            table: pa.Table = self._files[name].to_table(
                columns=None if columns is None else list(columns), filter=where
            )
        except (OSError, pa.ArrowException) as error:
            raise _Damaged(str(error)) from error
        return table.unify_dictionaries()

    @cached_property
    def _fresh(self) -> Tables:
        return Tables({name: _coded(name, table) for name, table in fresh(self.rows).items()})

    @cached_property
    def _trials(self) -> pa.Table:
        return extend_trials(self._stored("trials", None, None), self.rows)

    @cached_property
    def _again(self) -> set[Key]:
        """Rungs of the generation that the log's rows replace; ``curves`` has a row for each."""
        keys = keys_of(self.rows)
        touched = ds.field("trial").isin(sorted({key[0] for key in keys}))
        stored = self._stored("curves", KEY, touched)
        return keys & set(zip(*(stored[name].to_pylist() for name in KEY), strict=True))

    @cached_property
    def _from_log(self) -> Tables:
        """The tables of the log, as far as it went then."""
        refuse_missing(self._place)
        rows: list[Row] = []
        for name, covered in self.segments.items():
            data = self._place.read(f"records/{name}")[: covered.bytes]
            if len(data) < covered.bytes:
                shown = self._place.shown(f"records/{name}")
                raise RunError(f"{shown} was cut since it was read: read the run again")
            rows += scan(data, self._place.shown(f"records/{name}")).rows
        return Tables({name: _coded(name, table) for name, table in tables(rows).items()})


def snapshot(place: Place) -> Snapshot:
    """A run's tables now; safe while it goes on.

    Raises:
        RunError: the log is damaged before its end, or cannot be read.
    """
    while (manifest := newest(place)) is not None:
        try:
            files = {name: _open(place, manifest, name) for name in COLUMNS}
        except (OSError, ValueError) as error:  # pyarrow's are either
            if newest(place) != manifest:
                continue  # A newer generation took its place meanwhile.
            logger.warning(
                "%s: generation %d is damaged: %s", place.name, manifest.generation, error
            )
            break
        tail = _tail(place, manifest.segments)
        if tail is None:
            break
        return Snapshot(place, manifest, files, *tail)
    refuse_missing(place)
    whole = _tail(place, {})
    assert whole is not None  # Nothing is covered, so nothing can contradict it.
    return Snapshot(place, None, {}, *whole)


def newest(place: Place) -> Manifest | None:
    """The manifest of the newest complete generation of this schema; None where there is none."""
    for number in sorted(generations(place), reverse=True):
        try:
            data = json.loads(place.read(f"{generation_name(number)}/manifest.json"))
            if data["metatune_schema"] == SCHEMA:
                covered = {name: Covered(**each) for name, each in data["segments"].items()}
                return Manifest(number, covered)
        except (RunError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def generation_name(number: int) -> str:
    """A generation's folder below the run's."""
    return f"records/parquet-{number}"


def generations(place: Place) -> list[int]:
    """The numbers of all generations, complete or not.

    Raises:
        RunError: the records cannot be looked at.
    """
    return [int(match[1]) for name in _records(place) if (match := _GENERATION.fullmatch(name))]


def refuse_missing(place: Place) -> None:
    """Refuses a log that lacks a segment known to a generation, of whichever schema.

    Raises:
        RunError: a segment is missing.
    """
    there = _records(place)
    for number in sorted(generations(place)):
        try:
            data = json.loads(place.read(f"{generation_name(number)}/manifest.json"))
            known, version = sorted(data["segments"]), data["metatune_schema"]
        except (RunError, ValueError, KeyError, TypeError):
            continue
        for name in known:
            if name not in there:
                other = f", and its Parquet is of schema {version}, not {SCHEMA}"
                raise RunError(
                    f"{place.shown(f'records/{name}')} is missing"
                    f"{'' if version == SCHEMA else other}: the run cannot go on without this part "
                    "of its log; restore it from a copy"
                )


def _records(place: Place) -> dict[str, int | None]:
    try:
        return place.listed("records")
    except (pa.ArrowException, OSError) as error:
        raise place.refused("records", error) from None


def _open(place: Place, manifest: Manifest, name: str) -> ds.Fragment:
    file = place.open(f"{generation_name(manifest.generation)}/{name}.parquet")
    if not pq.read_schema(file).equals(schema(name)):
        raise ValueError(f"{name} has other columns")
    return (_CODING if name in SCORED else _PLAIN).make_fragment(file)


def _tail(
    place: Place, covered: Mapping[str, Covered]
) -> tuple[dict[str, Covered], list[Row]] | None:
    """What the log covers with the rows beyond what is covered before, and these.

    None where the covered part is not what the log says, or rows would come out of order.
    """
    rows: list[Row] = []
    after = dict(covered)
    for name in segment_names(_records(place)):
        known = covered.get(name, Covered(0, 0, 0))
        start = max(0, known.bytes - CHECKED)  # of what is read
        data = place.read(f"records/{name}", start)
        before = data[: known.bytes - start]
        if len(before) < known.bytes - start or zlib.crc32(before) != known.checksum:
            return None
        if rows and known.bytes:
            return None  # An earlier segment grew after this one was compacted.
        found = scan(data, place.shown(f"records/{name}"), len(before), known.lines)
        rows += found.rows
        after[name] = _covered(data, start, known, found)
    return after, rows


def _covered(data: bytes, start: int, known: Covered, found: Scan) -> Covered:
    last = memoryview(data)[max(0, found.end - CHECKED) : found.end]
    return Covered(start + found.end, known.lines + len(found.rows), zlib.crc32(last))


def _coded(name: str, table: pa.Table) -> pa.Table:
    """The table with its ``CODED`` columns as dictionaries, where it is one of ``SCORED``."""
    for place, column in enumerate(table.column_names if name in SCORED else ()):
        if column in CODED:
            coded = table[column].dictionary_encode()
            known = pa.field(column, coded.type, table.schema.field(column).nullable)
            table = table.set_column(place, known, coded)
    return table
