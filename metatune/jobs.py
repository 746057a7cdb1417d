"""What goes to a worker and what comes back: plain data, so that drivers need no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from metatune.place import below
from metatune.tasks.base import Episode, Split

if TYPE_CHECKING:
    from metatune.history import History
    from metatune.records.rows import Row


@dataclass(frozen=True)
class TrialJob:
    """All that a worker needs to run a trial: plain data.

    Attributes:
        trial: our id.
        round: round of the loop.
        replica: 0 for the trial itself; 1, 2, .. train the strategy anew with other seeds.
        strategy: the strategy as plain data.
        family: name of the task family.
        data_dir: where its data lie, if said.
        hang_seconds: seconds without progress (a meta-step, a batch of tasks) after which it hangs;
            None: it never does.
        options: what else the family has to be told, as plain data; its paths are absolute.
        episode: way, shot and query of the tasks that it is judged on.
        run_seed: the run's seed.
        rungs: resource at each rung, in forward-equivalents, ascending.
        recorded: rungs that are recorded already and need no report (0: none).
        split: where the tasks to be judged on come from.
        tasks: how many.
        train: False only scores what was trained up to rung ``recorded``, on ``split``.
        folder: where checkpoints go, a path or URI; None keeps none.
        code: folder that parts of the user's own are imported from; None where there are none.
        looks: the trial reports on the way, after each batch of tasks.
        seed_of: the trial of the same round whose seed it is trained with, so that differences
            between the two are the strategies'; None: its own.
        parts: folders of rungs whose kept predictions on ``split`` are judged as one; then nothing
            is trained, and there is no strategy. Empty for a trial.
        most: how many of the parts may be chosen, greedily, for the best blend; 0 takes all.
    """

    trial: str
    round: int
    replica: int
    strategy: dict[str, Any]
    family: str
    data_dir: str | None
    episode: Episode
    run_seed: int
    rungs: tuple[int, ...]
    recorded: int
    split: Split
    tasks: int
    train: bool
    folder: str | None
    code: str | None = None
    looks: bool = False
    seed_of: str | None = None
    parts: tuple[str, ...] = ()
    most: int = 0
    hang_seconds: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RungResult:
    """What a trial reports at a rung.

    Attributes:
        rung: 1 is the first.
        outcome: ``running`` if more rungs follow.
        reason: for ``diverged`` where and what, for ``failed`` the traceback.
        resource: forward-equivalents used so far.
        train_seconds: seconds of training so far.
        score_seconds: seconds of scoring at this rung.
        train_loss: mean training loss since the rung before; None where nothing was trained.
        tasks, groups, scores: of the tasks judged; empty where it did not come to that.
        transductive: query points were scored jointly.
        whole: False for a look on the way, after some of the rung's tasks: nothing is recorded of
            it unless the trial is stopped by it.
        learned: what the meta-parameters say, as values of knobs by their paths (see
            ``gradient.learned_knobs``); empty where no such number is learned.
        chosen: which of the job's parts the scores are of, in the order of their choice; empty for
            a trial.
        node: address of the node that it was measured on; empty where the runner does not say.
    """

    rung: int
    outcome: Literal["running", "completed", "diverged", "failed"]
    reason: str
    resource: int
    train_seconds: float
    score_seconds: float
    train_loss: float | None
    tasks: tuple[str, ...]
    groups: tuple[str, ...]
    scores: tuple[float, ...]
    transductive: bool
    whole: bool = True
    # Not hashed, as a dictionary cannot be; results that are equal still have equal hashes.
    learned: dict[str, float] = field(default_factory=dict, hash=False)
    chosen: tuple[int, ...] = ()
    node: str = ""


def cut_short(
    rung: int, outcome: Literal["diverged", "failed"], reason: str, resource: int = 0
) -> RungResult:
    """The report of a job that did not reach ``rung``."""
    return RungResult(rung, outcome, reason, resource, 0.0, 0.0, None, (), (), (), False)


def rung_folder(folder: str | Path, rung: int) -> str:
    """Where the checkpoint and the predictions of a rung lie in a trial's folder."""
    return below(folder, f"rung-{rung}")


class JobSource(Protocol):
    """Where jobs come from, and where their results go. Called from one thread at a time."""

    def next_job(self) -> TrialJob | None:
        """The next job to start now; None if there is none at present."""
        ...

    def on_result(self, job: TrialJob, result: RungResult) -> bool:
        """Take a rung's result; True if the job should go on."""
        ...

    def on_lost(self, job: TrialJob, reason: str) -> None:
        """The worker was lost, and the job with it."""
        ...

    @property
    def exhausted(self) -> bool:
        """No further job will come, given that none is running."""
        ...


class Runner(Protocol):
    """What runs jobs; a context around it makes it ready. Ray Tune's is ``TuneRunner``."""

    @property
    def workers(self) -> int:
        """Jobs at a time."""
        ...

    def drain(self, source: JobSource, tick: Callable[[], None]) -> None:
        """Run every job of a source to its end; ``tick`` is called some times a second."""
        ...

    def watch(self, row: Row, history: History) -> None:
        """Is shown every row once it is recorded, for what watches the machines that it runs on."""
        ...


def job_to_json(job: TrialJob) -> str:
    """The job as text."""
    return json.dumps(asdict(job))


def job_from_json(text: str) -> TrialJob:
    """The inverse of ``job_to_json``."""
    data = json.loads(text)
    data["episode"] = Episode(**data["episode"])
    lists = {key: tuple(data[key]) for key in ("rungs", "parts") if key in data}
    return TrialJob(**{**data, **lists})


def result_to_json(result: RungResult) -> str:
    """The result as text."""
    return json.dumps(asdict(result))


def result_from_json(text: str) -> RungResult:
    """The inverse of ``result_to_json``."""
    data = json.loads(text)
    lists = {key: tuple(data[key]) for key in ("tasks", "groups", "scores", "chosen")}
    return RungResult(**{**data, **lists})
