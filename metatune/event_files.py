"""A run as event files, which TensorBoard opens. ::

    DIR/<run>/search              the best score so far, trial by trial
    DIR/<run>/<trial> <name>      a trial: its scores by resource, its knobs (tab HPARAMS)

They are a function of the records. So they can be made of a run that is over, or row by row while
it goes on, and a file that is there already is gone on with. TensorBoard follows files that grow.
"""

from __future__ import annotations

import json
import re
import struct
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

# tensorboardX looks for torch: this module is imported where event files are asked for.
from tensorboardX.proto import plugin_hparams_pb2 as hparams
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.record_writer import masked_crc32c

from metatune.errors import RunError
from metatune.history import History
from metatune.records.rows import FINDING_OUT, Asked, Ended, Row, Scored, State

NAME = "events.out.tfevents.0.metatune"
"""Of every file: TensorBoard looks for its middle."""
_LONGEST = 60  # characters of a strategy's name in that of a folder
_STATUS: Mapping[State, int] = {"completed": 1, "stopped": 1, "diverged": 2, "failed": 2}
"""TensorBoard's ``Status``: success or failure."""


class EventFiles:
    """The event files of one run.

    Args:
        folder: made where it is missing; other runs may be in it.
        info: the run's ``run.json``.
    """

    def __init__(self, folder: Path, info: Mapping[str, Any]) -> None:
        self._folder = folder / _part_of_path(info["run"])
        self._begin = datetime.fromisoformat(info["created"]).timestamp()
        self._best: dict[int, tuple[int, float]] = {}  # by round: completed trials, best score
        self._names: dict[str, str] = {}
        self._fresh: dict[str, list[bytes]] = defaultdict(list)
        self._opened: set[str] = set()

    def add(self, row: Row, history: History) -> None:
        """Take in a row that the history holds."""
        match row:
            case Asked():
                self._names[row.trial] = f"{row.trial} {_part_of_path(row.name)}"
                self._put(row.trial, row.at, 0, _session_start(row, self._begin + row.at))
            case Scored(split="select", replica=0):
                self._put(row.trial, row.at, row.resource, _scalar("select/score", row.mean))
                if row.train_loss is not None:
                    loss = _scalar("train/loss", row.train_loss)
                    self._put(row.trial, row.at, row.resource, loss)
            case Scored():
                score = _scalar(f"{row.split}/score", row.mean)
                self._put(row.trial, row.at, row.replica, score)
            case Ended(replica=0):
                self._put(row.trial, row.at, 0, _session_end(row, self._begin + row.at))
                self._take_best(row, history)

    def write(self) -> None:
        """Bring the files up to what was taken in.

        Raises:
            RunError: they cannot be written.
        """
        try:
            for name, records in self._fresh.items():
                self._extend(name, b"".join(records))
        except OSError as error:
            message = f"{self._folder} cannot be written: {error.strerror}"
            raise RunError(message) from error
        self._fresh.clear()

    def _take_best(self, row: Ended, history: History) -> None:
        """Each round for itself: rounds have other tasks."""
        trial = history.find(row.trial)
        latest, round_ = trial.latest(), trial.asked.round
        if not trial.completed or latest is None or trial.asked.origin in FINDING_OUT:
            return
        count, best = self._best.get(round_, (0, latest.mean))
        best = max(best, latest.mean, key=lambda score: history.sign * score)
        self._best[round_] = count + 1, best
        self._put("search", row.at, count + 1, _scalar(f"best/round {round_}", best))

    def _put(self, of: str, at: float, step: int, value: Any) -> None:
        event = Event(wall_time=self._begin + at, step=step, summary=Summary(value=[value]))
        self._fresh[self._names.get(of, of)].append(_record(event))

    def _extend(self, name: str, data: bytes) -> None:
        path = self._folder / name / NAME
        if name not in self._opened:
            first = _record(Event(wall_time=self._begin, file_version="brain.Event:2"))
            data = first + data
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.read_bytes() if path.exists() else b""
            if data.startswith(before):
                data = data[len(before) :]
            else:  # of another run
                path.unlink()
            self._opened.add(name)
        with path.open("ab") as file:
            file.write(data)


def _part_of_path(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)[:_LONGEST]


def _record(event: Any) -> bytes:
    """The event in TensorFlow's format of records: length, data, and the checksum of each."""
    data = event.SerializeToString(deterministic=True)
    length = struct.pack("<Q", len(data))
    sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
    return b"".join((length, next(sums), data, next(sums)))


def _scalar(tag: str, value: float) -> Any:
    return Summary.Value(tag=tag, simple_value=value)


def _session_start(row: Asked, at: float) -> Any:
    """The trial's knobs, for the tab HPARAMS."""
    start = hparams.SessionStartInfo(group_name=row.trial, start_time_secs=at)
    told = {"name": row.name, "origin": row.origin, "structure": row.structure}
    for name, value in {**told, **(row.params or {})}.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = (
                value if isinstance(value, str) else json.dumps(value)
            )
    return _hparams("session_start_info", hparams.HParamsPluginData(session_start_info=start))


def _session_end(row: Ended, at: float) -> Any:
    end = hparams.SessionEndInfo(status=_STATUS[row.state], end_time_secs=at)
    return _hparams("session_end_info", hparams.HParamsPluginData(session_end_info=end))


def _hparams(tag: str, data: Any) -> Any:
    content = data.SerializeToString(deterministic=True)
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content)
    metadata = SummaryMetadata(plugin_data=plugin)
    return Summary.Value(tag=f"_hparams_/{tag}", metadata=metadata)
