"""Watching a run that is driven elsewhere, by its folder alone.

What is read each time: the log's bytes since the time before, and the driver's lease. Nothing in
the run's folder is written or locked, and no data, Ray or Optuna are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any

from rich.console import Console

from metatune.errors import RunError
from metatune.history import History
from metatune.place import Place
from metatune.progress import Clock, Progress, Terms, picture, show_seconds
from metatune.records.folder import RunFolder
from metatune.records.following import Follower
from metatune.records.lease import Holder, is_live, read_lease, who
from metatune.records.reading import read_info
from metatune.records.rows import Row
from metatune.records.several import folders_of, is_rotation

if TYPE_CHECKING:
    from metatune.event_files import EventFiles

EVERY = 2.0
"""Seconds between two looks."""
PATIENCE = 5.0
"""Seconds that a run may be without a driver, as while one is starting."""
BETWEEN_FOLDS = 60.0
"""The same of a rotation, which opens the data of its next fold first."""


def watch(
    path: str | Path,
    *,
    every: float = EVERY,
    once: bool = False,
    tensorboard: str | Path | None = None,
    console: Console,
    patience: float | None = None,
) -> bool:
    """Show where a run stands until it has its verdict, or nobody drives it any more.

    On a terminal a picture, drawn anew at each look; elsewhere one at first, and then a line for
    each change. At the end the verdict, or how to go on. Of a rotation, fold by fold.

    Args:
        path: the run's folder, or a rotation's.
        every: seconds between two looks.
        once: look once.
        tensorboard: a folder to write event files to, see ``metatune.event_files``.
        console: where to print.
        patience: seconds without a driver until it is given up; by default ``PATIENCE`` or
            ``BETWEEN_FOLDS``. A driver that is known to be gone is not waited for.

    Returns:
        Whether it has its verdict.

    Raises:
        RunError: it is no run's folder, its records cannot be read, or ``tensorboard`` cannot be
            written.
    """
    rotating = is_rotation(path)
    folders = folders_of(path) if rotating else [str(path)]
    if patience is None:
        patience = BETWEEN_FOLDS if rotating else PATIENCE
    for number, folder in enumerate(folders):
        if rotating:
            shown = Place.at(folder).name
            console.print(f"Fold {number} of 0 to {len(folders) - 1}: {shown}", soft_wrap=True)
        run = _Watched(RunFolder.open(folder), console, tensorboard)
        run.show(every, once, patience)
        verdict = run.history.verdict
        if verdict is None:
            if not run.driven():
                console.print(_left_alone(run.holder, path), soft_wrap=True, highlight=False)
            return False
        console.print(verdict.sentence, style="bold", soft_wrap=True, highlight=False)
    return True


def stand_by(folder: RunFolder, console: Console, every: float = 1.0) -> bool:
    """Show where a run stands for as long as another process drives it.

    Args:
        folder: the run's.
        console: where to print.
        every: seconds between two looks.

    Returns:
        Whether it has its verdict; otherwise its driver has given it back, or is dead.

    Raises:
        RunError: its records cannot be read.
    """
    run = _Watched(folder, console, None)
    holder = read_lease(folder)
    if holder is not None and is_live(holder, time()):
        console.print(f"Standing by: {who(holder)} drives this run.", soft_wrap=True)
        run.show(every, once=False, patience=0.0)
        if run.history.verdict is None:
            console.print("Nobody drives this run any more: taking over.", soft_wrap=True)
    return run.history.verdict is not None


class _Watched:
    """One run, seen from outside."""

    def __init__(self, folder: RunFolder, console: Console, tensorboard: str | Path | None) -> None:
        self._folder = folder
        self._console = console
        info = read_info(folder)
        try:
            self._terms, sign = Terms.of(info), info["family"]["sign"]
            self._events = None if tensorboard is None else _event_files(tensorboard, info)
        except KeyError as error:
            raise RunError(
                f"{folder.shown(folder.info)} is incomplete: it lacks {error}"
            ) from error
        self._follower = Follower(folder)
        self._driven_at = monotonic()
        self.history = History(sign)
        self.holder: Holder | None = None

    def show(self, every: float, once: bool, patience: float) -> None:
        """Look, and look again until there is nothing more to come."""
        self._look(lambda row: None)
        if self.history.verdict is not None:
            return
        over = once or self._over(patience)
        if over or not self._console.is_terminal:
            self._console.print(picture(self.history, self._terms, self._clock()))
        if over:
            return
        with Progress(self._console, self._terms) as progress:
            progress.follow(self.history, self._clock)
            while not self._over(patience):
                progress.tick()
                sleep(every)
                self._look(lambda row: progress.watch(row, self.history))

    def driven(self) -> bool:
        """Whether its driver is to be taken for alive."""
        return self.holder is not None and is_live(self.holder, time())

    def _look(self, tell: Callable[[Row], None]) -> None:
        # The lease first: a run whose driver has just left has its last rows in the log.
        try:
            self.holder = read_lease(self._folder)
        except OSError as error:
            raise self._folder.place.refused(self._folder.driver.name, error) from error
        for row in self._follower.news():
            self.history.add(row)
            tell(row)
            if self._events is not None:
                self._events.add(row, self.history)
        if self._events is not None:
            self._events.write()
        if self.driven():
            self._driven_at = monotonic()

    def _over(self, patience: float) -> bool:
        """True with the verdict, with a driver that is gone, and without one for too long."""
        if self.history.verdict is not None:
            return True
        if self.holder is not None:
            return not self.driven()
        return monotonic() - self._driven_at >= patience

    def _clock(self) -> Clock:
        """As the driver told when it renewed its lease, and the time since."""
        holder = self.holder
        if holder is None or not holder.driven or not self.driven():
            return Clock(self.history.at)
        age = max(0.0, time() - holder.renewed_at)
        left = None if holder.left is None else max(0.0, holder.left - age)
        return Clock(max(self.history.at, holder.driven + age), left)


def _event_files(folder: str | Path, info: Mapping[str, Any]) -> EventFiles:
    from metatune.event_files import EventFiles  # takes seconds where torch is installed

    return EventFiles(Path(folder), info)


def _left_alone(holder: Holder | None, path: str | Path) -> str:
    """Why there is nothing to wait for, and what to do."""
    if holder is None:
        why = "it was interrupted, or has not been started"
    else:
        age = show_seconds(max(0.0, time() - holder.renewed_at))
        why = f"{who(holder)} was killed or lost; its lease was renewed {age} ago for the last time"
    return f"Nobody drives this run: {why}. Go on with: metatune resume {quote(str(path))}"
