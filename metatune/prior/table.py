"""The prior as a table and as a file: what runs measured of the strategies that they completed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from metatune.durable import write_atomically
from metatune.errors import RunError, SpaceError
from metatune.records.newest import at_highest_rung, counted
from metatune.records.reading import Run
from metatune.space.source import Problem, Source
from metatune.statistics import claim_for, unit_means

VERSION = "1"
"""Version of the file's columns; raised when one changes its name, type or meaning."""

_VERSION_KEY = "metatune_prior"
_ALLOWED = "a file that `metatune prior RUN... -o FILE` wrote"


def _column(name: str, kind: Any, meaning: str, unit: str = "") -> Any:
    return pa.field(name, kind, nullable=False, metadata={"meaning": meaning, "unit": unit})


SCHEMA = pa.schema(
    [
        _column("run", pa.string(), "name of the run's folder, numbered where two are alike"),
        _column("family", pa.string(), "the run's task family"),
        _column("metric", pa.string(), "metric of the family"),
        _column("round", pa.int64(), "the run's newest round, from which the row is"),
        _column("default", pa.string(), "hash of the run's default strategy"),
        _column("digest", pa.string(), "hash of the strategy"),
        _column("name", pa.string(), "its name in the run"),
        _column("structure", pa.string(), "its structural family"),
        _column("strategy", pa.string(), "the strategy as JSON"),
        _column("gain", pa.float64(), "mean paired gain over the run's default", "metric"),
        _column("rank", pa.float64(), "by gain within the run; 1 is best, ties share their mean"),
        _column("ranked", pa.int64(), "strategies ranked in the run", "strategies"),
        _column("tasks", pa.list_(pa.string()), "names of the select tasks"),
        _column("groups", pa.list_(pa.string()), "group of each task"),
        _column("gains", pa.list_(pa.float64()), "paired gain on each task", "metric"),
    ],
    metadata={_VERSION_KEY: VERSION},
)
"""The file's columns: one row a strategy in a run. Gains are positive where it is better than the
run's default, whatever the metric; meanings and units stand in the columns' metadata."""


# --- learning -------------------------------------------------------------------------------------


def learn_prior(runs: Sequence[Run]) -> pa.Table:
    """What runs learned of strategies: those that each completed in its newest round.

    Args:
        runs: as ``metatune.read_run`` gives them, finished or going on.

    Returns:
        A table of ``SCHEMA``, run by run, the best of each first.

    Raises:
        RunError: no run was given, or one has not completed its default yet.
    """
    if not runs:
        raise RunError("found no run to learn from; allowed: one or more runs' folders")
    rows: list[dict[str, Any]] = []
    known: Counter[str] = Counter()
    for run in runs:
        name = run.name
        known[name] += 1
        if known[name] > 1:
            name = f"{name}-{known[name]}"
        rows += [{"run": name, **row} for row in _completed(run)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _completed(run: Run) -> list[dict[str, Any]]:
    """The rows of one run but for its name, best first."""
    # An ensemble is no strategy that a later run could try.
    completed = (ds.field("state") == "completed") & (ds.field("origin") != "ensemble")
    columns = ["round", "origin", "digest", "name", "structure", "strategy"]
    trials = run.read("trials", columns, completed)
    defaults = trials[trials["origin"] == "default"]
    if defaults.empty:
        raise RunError(
            f"{run.path} has not completed its default strategy, with which all others are "
            "compared: go on with `metatune resume` first"
        )
    newest = trials[trials["round"] == defaults["round"].max()]
    default = newest[newest["origin"] == "default"].iloc[0]
    scores = _last_scores(run)
    reference, family = scores[str(default.name)], run.info["family"]
    rows: dict[str, dict[str, Any]] = {}  # one a strategy: the first, where it was tried again
    for trial, known in newest.iterrows():
        own = scores[str(trial)]
        if own["task"].to_list() != reference["task"].to_list():
            continue  # nothing to pair
        gains = family["sign"] * (own["score"].to_numpy() - reference["score"].to_numpy())
        groups = own["group"].to_list()
        row = {
            "family": family["name"],
            "metric": family["metric"],
            "round": int(known["round"]),
            "default": default["digest"],
            **{column: known[column] for column in ("digest", "name", "structure", "strategy")},
            "gain": float(unit_means(gains.tolist(), groups, claim_for(groups)).mean()),
            "tasks": own["task"].to_list(),
            "groups": groups,
            "gains": gains.tolist(),
        }
        rows.setdefault(known["digest"], row)
    ranks = (-pd.Series([row["gain"] for row in rows.values()])).rank()
    for row, rank in zip(rows.values(), ranks, strict=True):
        row |= {"rank": float(rank), "ranked": len(rows)}
    return sorted(rows.values(), key=lambda row: float(row["rank"]))


def _last_scores(run: Run) -> dict[str, pd.DataFrame]:
    """By trial, its scores on ``select`` at its last rung."""
    columns = ["trial", "rung", "task", "group", "score"]
    last = at_highest_rung(run.read("scores", columns, counted(["select"]), categories=True))
    return {str(trial): own for trial, own in last.groupby("trial", observed=True)}


# --- the file -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prior:
    """What a file says.

    Attributes:
        table: one row a strategy in a run, see ``SCHEMA``.
        data: the file's bytes.
    """

    table: pa.Table = field(repr=False)
    data: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Hash of the file's bytes."""
        return sha256(self.data).hexdigest()

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table as a frame; ``tasks``, ``groups`` and ``gains`` hold arrays."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame


def prior_of(table: pa.Table) -> Prior:
    """The prior of a table of ``SCHEMA``, as a file will hold it."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return Prior(table, sink.getvalue().to_pybytes())


def write_prior(prior: Prior, path: Path) -> None:
    """Write the file, in place of an older prior.

    Raises:
        RunError: something else is there, or it cannot be written.
    """
    if path.exists():
        try:
            read_prior(path)
        except SpaceError:
            raise RunError(f"{path} exists and is no prior: name another file") from None
    try:
        write_atomically(path, prior.data)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None


def read_prior(path: Path, source: Source | None = None) -> Prior:
    """Read a file that ``metatune prior`` wrote.

    Args:
        path: the file.
        source: the space file that names it, for messages.

    Raises:
        SpaceError: the file is missing, is no prior, or is of another version.
    """

    def refused(found: str, allowed: str = _ALLOWED) -> SpaceError:
        problem = Problem(("prior",), found, allowed)
        return SpaceError((source or Source("<space>")).sentence(problem))

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise refused(f"{path}, which is missing") from None
    except OSError as error:
        raise refused(f"{path}, which cannot be read ({error.strerror})") from None
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError):
        raise refused(f"{path}, which is no whole Parquet file") from None
    version = (table.schema.metadata or {}).get(_VERSION_KEY.encode(), b"").decode(errors="replace")
    if version not in ("", VERSION):
        again = f"version {VERSION}: build it again with `metatune prior`"
        raise refused(f"{path}, a prior of version {version}", again)
    prior = Prior(table, data)
    if not version or not table.schema.equals(SCHEMA) or not _is_sound(prior.frame):
        raise refused(f"{path}, which is no prior")
    return prior


def _is_sound(frame: pd.DataFrame) -> bool:
    """Whether the strategies of each run were scored on the same tasks, with finite gains."""
    for _, run in frame.groupby("run"):
        tasks, groups = run["tasks"].iloc[0], run["groups"].iloc[0]
        if run["digest"].duplicated().any() or not len(tasks) or len(groups) != len(tasks):
            return False
        for other, gains in zip(run["tasks"], run["gains"], strict=True):
            same = len(gains) == len(tasks) and np.array_equal(other, tasks)
            if not same or not np.isfinite(gains).all():
                return False
    return bool(np.isfinite(frame[["gain", "rank", "ranked"]].to_numpy(dtype=float)).all())
