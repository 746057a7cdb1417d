"""Ray Tune as the engine: one Tune run for a whole session, fed from our side job by job.

Tune runs in a thread of its own and asks for the next job; the loop in the main thread hands in
one source of jobs after the other (``drain``). So workers, with torch imported, stay alive from
the first trial to the verdict.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from types import TracebackType
from typing import Any, Self

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from metatune.errors import RunError, StorageError
from metatune.jobs import JobSource, TrialJob, job_to_json, result_from_json
from metatune.logs import pass_on
from metatune.runner.carrier import BEAT
from metatune.runner.cluster import Joined
from metatune.runner.head import Head
from metatune.runner.late_nodes import LateNodes
from metatune.runner.logged import LoggedCarrier
from metatune.runner.losses import why_hung, why_lost, why_silent
from metatune.runner.metrics import Metrics

logger = logging.getLogger(__name__)

# Tune's own files are of no use here: records are ours, and a resume never reads Tune's state.
_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "RAY_AIR_NEW_OUTPUT": "0",
}
WARM_SECONDS = 60.0  # a worker that takes longer to start is not waited for
TICK = 0.2  # seconds between two looks at the terminal


class TuneRunner:
    """Runs jobs on Ray Tune. A context manager; Ray is connected already.

    Args:
        joined: the Ray that it runs on.
        run: name of the run, for its metrics.
    """

    def __init__(self, joined: Joined, run: str) -> None:
        self.workers = workers = joined.workers
        self._alike = joined.alike
        self.watch = Metrics(run).watch
        self._changed = Condition()
        self._source: JobSource | None = None
        self._live: dict[str, TrialJob] = {}  # by Tune's trial id
        self._carriers: dict[str, Any] = {}  # Tune's trials that are not done
        self._heard: dict[str, float] = {}  # when each last said something
        self._back: list[TrialJob] = []  # from nodes that cannot run them
        self._unlike: set[str] = set()  # carriers there, each of which keeps a worker's place
        self._named: set[str] = set()  # nodes that cannot, as far as was told
        # Tune gives a waiting trial the first actor that is free and drops the one that is still
        # starting for it: with short trials a second worker would never come up. So all workers
        # are started on an empty job, and released together.
        self._cold = workers if workers > 1 else 0
        self._warming: set[str] = set()
        self._warm: set[str] = set()
        self._closing = False
        self._error: BaseException | None = None
        self._results: Any = None
        self._thread = Thread(target=self._run, name="ray-tune", daemon=True)

    def __enter__(self) -> Self:
        self._head = Head(ray.get_runtime_context().gcs_address)
        self._late = LateNodes(self._alike, self.unfit) if self._alike else None
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout=0 if self._head.lost else 30)  # without a head Tune waits
        self._head.close()
        if self._late is not None:
            self._late.close()
        if error is None and self._error is not None:
            raise self._error

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles whatever it is given, for a restore that is never made.
        return {}

    def drain(self, source: JobSource, tick: Callable[[], None] = lambda: None) -> None:
        """Run every job of a source to its end.

        Args:
            source: gives the jobs and takes the results.
            tick: called some times a second while jobs run.

        Raises:
            Whatever the source raised, or Tune.
        """
        with self._changed:
            self._source = source
            self._changed.notify_all()
            while self._live or self._back or not source.exhausted:
                self._changed.wait(TICK)
                if self._error is not None:
                    raise self._error
                self._head.check()
                if not self._thread.is_alive():
                    raise RunError("Ray Tune ended before the search did")
                self._end_silent()
                tick()
            self._source = None

    def tune_results(self) -> Any:
        """Tune's own view of the carriers, once the runner is closed."""
        return self._results

    # --- Tune's side ----------------------------------------------------------------------------

    def _run(self) -> None:
        os.environ.update(_TUNE_SETTINGS)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what matters is recorded
        try:
            with tempfile.TemporaryDirectory(prefix="metatune-tune-") as scratch:
                self._results = self._tuner(scratch).fit()
        except BaseException as error:  # handed to the main thread by drain or __exit__
            self._fail(error)

    def _tuner(self, scratch: str) -> tune.Tuner:
        return tune.Tuner(
            tune.with_resources(LoggedCarrier, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=_Asker(self),
                scheduler=_Decider(self),
                num_samples=-1,
                max_concurrent_trials=self.workers,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="carriers",
                storage_path=scratch,
                verbose=0,
                stop=_Closing(self),
                failure_config=tune.FailureConfig(max_failures=0),
                # Workers keep rung checkpoints of their own.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )

    def ask(self, carrier: str) -> dict[str, Any] | str | None:
        """A job's configuration; None if there is none now; FINISHED once closed."""
        with self._changed:
            if self._cold and not self._closing:
                self._cold -= 1
                self._warming.add(carrier)
                return {"job": "", "alike": self._alike}
            job = self._next_job()
            if job is None and not self._live and not self._closing:
                # Tune would sleep a second between two questions; a new source comes sooner.
                self._changed.wait(0.5)
                job = self._next_job()
            if job is not None:
                self._live[carrier] = job
                return {"job": job_to_json(job), "alike": self._alike}
            return Searcher.FINISHED if self._closing else None

    def _next_job(self) -> TrialJob | None:
        if self._closing or self._source is None or len(self._live) >= self.workers:
            return None
        if self._back:
            return self._back.pop()
        try:
            return self._source.next_job()
        except BaseException as error:
            self._fail(error)
            return None

    def report(self, carrier: str, text: str, node: str) -> bool:
        """Hand a rung's result, from a node, to the source; True if the job goes on."""
        with self._changed:
            if carrier in self._warming:
                return self._keeps_warm(carrier)
            job, source = self._live.get(carrier), self._source
            if job is None or source is None or self._closing:
                return False
            try:
                go_on = source.on_result(job, replace(result_from_json(text), node=node))
            except BaseException as error:
                self._fail(error)
                return False
            if not go_on:
                del self._live[carrier]
            self._changed.notify_all()
            return go_on

    def begun(self, carrier: str, trial: Any) -> None:
        """Tune has a new trial, whose actor may yet have to start."""
        self._carriers[carrier] = trial

    def heard(self, carrier: str) -> None:
        """A carrier says something."""
        self._heard[carrier] = monotonic()

    def hung(self, carrier: str, where: str) -> None:
        """A carrier's job has made no progress for too long; its actor ends itself."""
        job = self._live.get(carrier)
        if job is not None and job.hang_seconds is not None:
            self.lost(carrier, why_hung(job.hang_seconds, where))

    def done(self, carrier: str) -> None:
        """Tune is through with a carrier."""
        self._carriers.pop(carrier, None)
        self._heard.pop(carrier, None)

    def _end_silent(self) -> None:
        """End actors that do not even say that they are there, as those that work do.

        Their processes are stopped, or wait for a disk that does not answer, or are in native code
        that never lets Python go on.
        """
        for carrier, job in list(self._live.items()):
            trial = self._carriers.get(carrier)
            if trial is None or trial.status != "RUNNING" or job.hang_seconds is None:
                self._heard.pop(carrier, None)  # the actor is yet to start, or a node to come
                continue
            silent = monotonic() - self._heard.setdefault(carrier, monotonic())
            if silent > job.hang_seconds + 2 * BEAT:
                actor = trial.temporary_state.ray_actor
                self.lost(carrier, why_silent(silent))
                if actor is not None:
                    ray.kill(actor)

    def _keeps_warm(self, carrier: str) -> bool:
        """True while other workers are still starting, for some time at most."""
        if not self._warm:
            self._warm_until = monotonic() + WARM_SECONDS
        self._warm.add(carrier)
        waiting = len(self._warm) < self.workers and monotonic() < self._warm_until
        return waiting and not self._closing

    def unlike(self, carrier: str, node: str, why: str) -> None:
        """A node came that cannot take part: what its worker was given goes to another one."""
        with self._changed:
            if carrier in self._unlike:
                return
            self.unfit(node, why)
            self._unlike.add(carrier)
            self._warm |= {carrier} & self._warming
            if job := self._live.pop(carrier, None):
                self._back.append(job)
            if len(self._unlike) == self.workers:
                self._fail(RunError(f"no node is left that can run trials: node {node} {why}"))
            self._changed.notify_all()

    def unfit(self, node: str, why: str) -> None:
        """Name a node that cannot take part, once."""
        with self._changed:
            if node not in self._named:
                logger.warning("node %s is not used: it %s", node, why)
            self._named.add(node)

    def lost(self, carrier: str, reason: str) -> None:
        """The actor is gone; with it all of them, where Ray has lost the driver's own node."""
        with self._changed:
            if _WITHOUT_OWNER in reason:
                self._fail(RunError(_NODE_GONE))
                return
            self._unlike.discard(carrier)
            self._warm |= {carrier} & self._warming
            job, source = self._live.pop(carrier, None), self._source
            if job is not None and source is not None and not self._closing:
                try:
                    source.on_lost(job, reason)
                except BaseException as error:
                    self._fail(error)
            self._changed.notify_all()

    def refused(self, reason: str) -> None:
        """The run's storage fails a worker: its trial stays open, for a resume."""
        self._fail(StorageError(reason))

    def closing(self) -> bool:
        """True once everything is to end."""
        return self._closing

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._closing = True
            self._changed.notify_all()


class _Asker(Searcher):
    """Tune's searcher: asks the runner."""

    def __init__(self, runner: TuneRunner) -> None:
        super().__init__()
        self._runner = runner

    def suggest(self, trial_id: str) -> Any:
        return self._runner.ask(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        pass  # every result has passed through the scheduler

    def save(self, checkpoint_path: str) -> None:
        pass  # our records are the state

    def restore(self, checkpoint_path: str) -> None:
        raise RunError("Tune's state is never restored: a run resumes from its records")


class _Decider(FIFOScheduler):
    """Tune's scheduler: hands each result to the runner, which decides."""

    def __init__(self, runner: TuneRunner) -> None:
        super().__init__()
        self._runner = runner

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._runner.begun(trial.trial_id, trial)
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        runner, carrier, node = self._runner, trial.trial_id, str(result["node_ip"])
        pass_on(result["log"], result["rung"], node)
        runner.heard(carrier)
        match result["state"]:
            case "beat":
                go_on = not runner.closing()
            case "hung":
                runner.hung(carrier, result["result"])
                go_on = True  # to its error, with which Tune ends the actor instead of reusing it
            case "storage":
                runner.refused(f"On node {node}, {result['result']}")
                go_on = False
            case "unlike":
                runner.unlike(carrier, node, result["result"])
                go_on = True
            case _:
                go_on = runner.report(carrier, result["result"], node)
        if not go_on:
            runner.done(carrier)
        return str(TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, trial, result)
        _lighten(trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._runner.lost(trial.trial_id, why_lost(_last_error(trial)))
        self._runner.done(trial.trial_id)


def _lighten(trial: Any) -> None:
    """Empty what Tune keeps of a trial that has ended, as it does to the end: most of the growth of
    a driver's memory. What was reported is in our records."""
    known = trial.run_metadata
    known.metric_analysis, known.metric_n_steps = {}, {}
    known.last_result = {**known.last_result, "result": "", "log": "", "config": {}}
    trial.config, trial.evaluated_params = {}, {}


_WITHOUT_OWNER = "its owner has died"
"""What Ray says of an actor whose driver it takes for dead: this process, which is not."""
_NODE_GONE = (
    "Ray on the driver's own machine has ended (its raylet was killed, or the machine cut off). "
    "What was recorded stands: start Ray again if it is a cluster's, then resume."
)


class _Closing(tune.Stopper):
    """Ends Tune's run when the runner closes."""

    def __init__(self, runner: TuneRunner) -> None:
        self._runner = runner

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._runner.closing()


def _last_error(trial: Any) -> str:
    """What Tune wrote down of a carrier's failure, without its heading."""
    file = Path(trial.error_file or "")
    if not file.is_file():
        return ""
    _, _, text = file.read_text().rpartition("Failure # ")
    return text.partition("\n")[2]
