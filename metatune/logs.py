"""The log of a driver: a JSON object a line, each with the trial that it is about. ::

    RUN/logs/driver-<id>.jsonl

In it are the acts of the run (each row, in words), and what Python's ``logging`` and ``warnings``
are told: in the driver, and in the workers, from which a ``WorkerLog`` brings it here. It is for
whoever looks for what went wrong, and no record: nothing is decided by it, and where it cannot be
written, the run goes on.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from metatune.errors import hide_password
from metatune.history import History
from metatune.records.rows import (
    Asked,
    Concluded,
    Ended,
    Looked,
    Retried,
    Row,
    Scored,
    Turned,
    last_line,
)

ABOUT = ("trial", "rung", "replica", "node")
"""What a line is about, where that is known: keys of a line, and attributes of a ``LogRecord``."""
MOST = 50
"""Lines that a worker sends between two reports; of what is more, the number is told."""
LONGEST = 4_000
"""Characters of a worker's message or traceback."""


class JsonLines(logging.Formatter):
    """A record as a JSON object: every line has the same keys, null where there is nothing."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; passwords in URLs are hidden."""
        time = datetime.fromtimestamp(record.created, UTC)
        exception = _exception_of(record)
        plain = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": hide_password(record.getMessage()),
            **{key: getattr(record, key, None) for key in ABOUT},
            "process": record.process,
            "exception": None if exception is None else hide_password(exception),
        }
        return json.dumps(plain, default=str)


def _exception_of(record: logging.LogRecord) -> str | None:
    if record.exc_info and record.exc_info[0] is not None:
        return logging.Formatter().formatException(record.exc_info)
    return record.exc_text


# --- the driver -----------------------------------------------------------------------------------


class RunLog:
    """The log of one driver, and a context in which Python's logging and warnings go there, too.

    Args:
        path: the file, made with its folder where that is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _File(path)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
        self._stack.enter_context(_listening(self._file))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            self.say(f"the driver ends: {error}", logging.ERROR, exc_info=(kind, error, trace))
        elif kind is not None:
            self.say(f"the driver ends: {kind.__name__}")
        self._stack.close()

    def say(self, message: str, level: int = logging.INFO, **more: Any) -> None:
        """Write a line; ``more`` is about what, and other attributes of a ``LogRecord``."""
        self._file.handle(_record("metatune.run", message, level, **more))

    def watch(self, row: Row, history: History) -> None:
        """Write a recorded row, in words."""
        level, message = told(row)
        about = {
            key: value for key in ABOUT if (value := getattr(row, key, None)) not in (None, "")
        }
        text = (
            row.reason if isinstance(row, Ended | Retried) and "\n" in row.reason.strip() else None
        )
        self.say(message, level, exc_text=text, **about)


def told(row: Row) -> tuple[int, str]:
    """The level of a row, and its words."""
    match row:
        case Asked():
            return logging.INFO, f"asked: {row.name} ({row.origin}, {row.structure})"
        case Scored():
            seconds = f"{row.train_seconds:.3g} s of training, {row.score_seconds:.3g} s of scoring"
            return logging.INFO, f"scored {row.mean:.6g} on {row.split} after {seconds}"
        case Ended():
            level = logging.WARNING if row.state in ("diverged", "failed") else logging.INFO
            return level, ": ".join(filter(None, ["ended", row.state, last_line(row.reason)]))
        case Retried():
            level = logging.WARNING
            return level, f"tried again from rung {row.rung}: {last_line(row.reason)}"
        case Looked():
            return logging.INFO, f"looked at {row.split}: {', '.join(row.trials)}"
        case Turned():
            moves = "; ".join(row.moves) or "nothing was moved"
            return logging.INFO, f"round {row.round} ended after {row.seconds:.0f} s: {moves}"
        case Concluded():
            return logging.INFO, f"concluded: {row.sentence}"


def pass_on(lines: str, rung: int, node: str) -> None:
    """Log what a worker was told, in the driver.

    Args:
        lines: as ``WorkerLog.take`` gives them.
        rung: at which that was; 0 where it is not known.
        node: address of the node that the worker is on.
    """
    for plain in json.loads(lines) if lines else []:
        record = logging.makeLogRecord({**plain, "rung": rung or None, "node": node})
        logging.getLogger("metatune.worker").handle(record)


# --- a worker -------------------------------------------------------------------------------------


class WorkerLog(logging.Handler):
    """Keeps what Python's logging and warnings are told in a worker, till it is taken away."""

    def __init__(self) -> None:
        super().__init__()
        self._about: Mapping[str, Any] = {}
        self._kept: list[dict[str, Any]] = []
        self._more = 0
        self._listening = _listening(self)
        self._listening.__enter__()  # for as long as this process lives

    def begin(self, trial: str, replica: int) -> None:
        """From now on it is about this trial."""
        self._about = {"trial": trial, "replica": replica}
        with warnings.catch_warnings():  # what was shown in another trial is shown anew
            pass

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, or count it."""
        if len(self._kept) >= MOST:
            self._more += 1
            return
        try:
            self._kept.append(self._plain(record))
        except Exception:
            self.handleError(record)

    def _plain(self, record: logging.LogRecord) -> dict[str, Any]:
        exception = _exception_of(record)
        return {
            "name": record.name,
            "levelno": record.levelno,
            "levelname": record.levelname,
            "msg": record.getMessage()[:LONGEST],
            "created": record.created,
            "process": record.process,
            "exc_text": None if exception is None else exception[-LONGEST:],
            **self._about,
        }

    def take(self) -> str:
        """What was kept, as JSON, and is kept no more; empty where there is nothing."""
        self.acquire()
        kept, more, self._kept, self._more = self._kept, self._more, [], 0
        self.release()
        if more:
            last = kept[-1]
            kept.append({**last, "msg": f"and {more} more", "exc_text": None})
        return json.dumps(kept) if kept else ""


# --- what both listen to --------------------------------------------------------------------------


class _File(logging.Handler):
    """A file that is of no great matter, opened for each line: its disk may come and go."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.setFormatter(JsonLines())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._append(self.format(record).encode() + b"\n")
        except OSError:
            pass  # what a disk lacks is told of where the records are written
        except Exception:
            self.handleError(record)

    def _append(self, line: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            written = 0
            try:
                written = file.write(line)
            finally:
                if written < len(line):  # a reader expects whole lines
                    file.truncate(end)


class _Shown(logging.Handler):
    """Standard error, as without any handler; what workers were told was shown where they are."""

    def emit(self, record: logging.LogRecord) -> None:
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and not hasattr(record, "trial"):
            last.handle(record)


@contextmanager
def _listening(handler: logging.Handler) -> Iterator[None]:
    """Python's logging and warnings go to a handler, and still to where they went before."""
    root, shown = logging.getLogger(), _Shown()
    added = [handler] if root.handlers else [handler, shown]
    show_before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        show_before(message, category, filename, lineno, file, line)
        text = f"{filename}:{lineno}: {category.__name__}: {message}"
        handler.handle(_record("py.warnings", text, logging.WARNING))

    for each in added:
        root.addHandler(each)
    warnings.showwarning = show
    try:
        yield
    finally:
        if warnings.showwarning is show:
            warnings.showwarning = show_before
        for each in added:
            root.removeHandler(each)


def _record(name: str, message: str, level: int, **more: Any) -> logging.LogRecord:
    made = {
        "name": name,
        "msg": message,
        "levelno": level,
        "levelname": logging.getLevelName(level),
    }
    return logging.makeLogRecord({**made, **more})
