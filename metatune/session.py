"""A session: one driver at work on a run, from opening its folder to closing it.

``run`` starts a run and ``resume`` goes on with one; both are the same session over the same
records, which are empty in the first case.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any

from rich.console import Console

import metatune
from metatune import own
from metatune.budget import seldom
from metatune.database import check_storage
from metatune.driver import Driver
from metatune.errors import DataError, OptionError, RunError, hide_password
from metatune.history import History
from metatune.jobs import Runner
from metatune.ledger import open_ledger
from metatune.logs import RunLog
from metatune.meta_loop import Loop, meta_loop
from metatune.patience import Patience, refusing
from metatune.plan import Plan
from metatune.prior import Fitted, Prior, fit, read_prior
from metatune.progress import Clock, Progress, Terms
from metatune.records.compaction import Compactor
from metatune.records.folder import RunFolder, begun, opening
from metatune.records.lease import DrivenError, acquire
from metatune.records.put_log import open_log
from metatune.records.reading import read_info, read_rows
from metatune.records.rows import Row
from metatune.runner import check_address, own_modules, prepare_ray
from metatune.space import Space, fold_file, load_space, load_yaml, resolve
from metatune.space.families import Family, Rotating
from metatune.space.source import Problem, refuse
from metatune.tasks.base import SPLITS, Episode, FamilyInfo, TaskFamily, notes_of
from metatune.tasks.registry import family_names, open_family
from metatune.watch import stand_by


def plan_of(
    space: Space,
    *,
    trials: int | None = None,
    seed: int | None = None,
    code: str | None = None,
    prior: Prior | None = None,
) -> tuple[Plan, TaskFamily]:
    """Check a space against its family's data, before anything starts.

    Args:
        space: as loaded.
        trials: overrides ``budget.trials``.
        seed: overrides ``seed``.
        code: folder that parts of the user's own are imported from; by default the space file's.
        prior: what earlier runs learned; by default what the space names.

    Raises:
        SpaceError, DataError: what cannot be run, in a sentence each.
    """
    code = code or folder_of(space)
    if code is not None:
        own.look_in(code)
    family, options = family_of(space, code)
    space = space.fitted(family.info)
    family.check(space.episode)
    resolved, fitted = resolve(space, family.info), Fitted()
    prior = prior or open_prior(space)
    if prior is not None:
        resolved, fitted = fit(prior, resolved, family.info)
    plan = Plan(
        space=resolved,
        info=family.info,
        seed=space.seed if seed is None else seed,
        # What the file names is tried in any case.
        trials=max(space.budget.trials if trials is None else trials, len(resolved.initial)),
        minutes=space.budget.minutes,
        code=code,
        prior=fitted,
        options=options,
    )
    return plan, family


def family_of(space: Space, code: str | None) -> tuple[TaskFamily, dict[str, Any]]:
    """The family of a space, and what it was told, as plain data.

    Args:
        space: as loaded.
        code: the folder that paths are seen from; None: the current one.

    Raises:
        SpaceError, DataError: it cannot be opened, in a sentence each.
    """
    options = space.family.plain_options(None if code is None else Path(code))
    try:
        return open_family(space.family.name, space.family.data_dir, options), options
    except OptionError as error:
        problem = Problem(("family", error.key), error.found, error.allowed)
        refuse([problem], space.source)
        raise


def tasks_of(what: str) -> tuple[TaskFamily, Episode]:
    """A family, by its name or by a space file, and the shape of its tasks.

    By name, tasks have the shape that a space file gives where it says nothing, of 5 classes.

    Raises:
        SpaceError, DataError: there is no such family or file, or it cannot be opened.
    """
    if what in family_names():
        family = open_family(what)
        way = 5 if family.info.kind == "classification" else 1
        return family, replace(Family(name=what).episode, way=way)
    if not Path(what).is_file():
        allowed = f"{', '.join(family_names())}, or a space file"
        raise DataError(f"families: found {what!r}; allowed: {allowed}")
    space = load_space(what)
    code = folder_of(space)
    if code is not None:
        own.look_in(code)
    family, _ = family_of(space, code)
    return family, space.fitted(family.info).episode


def open_prior(space: Space) -> Prior | None:
    """What the space's ``prior`` says; None where it names none.

    For a run's own ``space.yaml``, the copy beside it stands for the file.

    Raises:
        SpaceError: there is no such file, or it is no prior.
    """
    if space.prior is None:
        return None
    file = Path(space.source.file).resolve()
    folder = RunFolder(file.parent)
    of_run = file == folder.space and folder.info.is_file()
    return read_prior(folder.prior if of_run else folder.path / space.prior, space.source)


def run(
    space_file: str | Path,
    *,
    out: str | Path | None = None,
    trials: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    address: str | None = None,
    wait: float = 0.0,
    storage: str | None = None,
    py_modules: Sequence[str | Path] = (),
    console: Console | None = None,
) -> str | Path:
    """Search a space for the strategy that does best on unseen tasks.

    Args:
        space_file: the YAML file.
        out: the run's folder, new or empty: a path or a URI such as ``s3://bucket/run``, see
            ``metatune.place``; by default ``runs/<space>-<time>``.
        trials: overrides the file's ``budget.trials``.
        seed: overrides the file's ``seed``.
        workers: trials at a time; by default one a CPU.
        address: of a running Ray cluster; by default Ray is started on this machine.
        wait: minutes in which the cluster's autoscaler may bring the workers' CPUs.
        storage: an Optuna storage URL for the study; by default a journal in the run's folder.
        py_modules: folders (packages) and ``.py`` files of your own, sent to every worker.
        console: where progress is printed.

    Returns:
        The run's folder, for ``metatune.read_run``: of one elsewhere its URI.

    Raises:
        SpaceError, DataError: the space or the data cannot be run; nothing was started.
        RunError: the folder, the cluster or the storage cannot be used.
    """
    check_address(address)
    modules = own_modules(py_modules)
    folder, plan = create(
        space_file, out=out, trials=trials, seed=seed, storage=storage, py_modules=modules
    )
    if console is not None:
        for note in read_info(folder)["notes"]:
            console.print(f"Note: {note}", soft_wrap=True, highlight=False)
    return drive(folder, plan, storage, on_ray(address, workers, folder, wait, modules), console)


def create(
    space_file: str | Path,
    *,
    out: str | Path | None = None,
    trials: int | None = None,
    seed: int | None = None,
    storage: str | None = None,
    py_modules: Sequence[str] = (),
    fold: int | None = None,
) -> tuple[RunFolder, Plan]:
    """Make a new run's folder, with all that a resume needs.

    Args:
        space_file, out, trials, seed, storage: as of ``run``; errors, too.
        py_modules: as ``own_modules`` gives them.
        fold: of the splits, in place of the file's; written into the run's ``space.yaml``.
    """
    import_from(py_modules)
    if storage is not None:
        check_storage(storage)
    space = load_space(space_file)
    text = Path(space_file).read_text(encoding="utf-8")
    if fold is not None:
        text = fold_file(load_yaml(text)[0], fold)
        space = space.on_fold(fold)
    prior = open_prior(space)
    plan, family = plan_of(space, trials=trials, seed=seed, prior=prior)
    folder = RunFolder.create(out or default_folder(Path(space_file)))
    prior_sha256 = None if prior is None else prior.sha256
    about = describe(folder, plan, family, text, prior_sha256, storage)
    about["py_modules"] = list(py_modules)
    if fold is not None:  # a storage may hold the studies of several rotations
        about["run"] = "-".join(PurePosixPath(folder.name).parts[-2:])
    with begun(folder.place):
        folder.write(folder.space, text)
        if prior is not None:
            folder.write(folder.prior, prior.data)
        folder.write(folder.info, json.dumps(about, indent=2))  # last: now it is a run
    return folder, plan


def resume(
    path: str | Path,
    *,
    workers: int | None = None,
    address: str | None = None,
    wait: float = 0.0,
    storage: str | None = None,
    py_modules: Sequence[str | Path] = (),
    standby: bool = False,
    console: Console | None = None,
) -> str | Path:
    """Go on with a run that was stopped, killed or cut off; arguments as for ``run``.

    Without ``py_modules``, those that the run was started with are sent again.

    Args:
        standby: while another process drives the run, follow it, and take over once it has gone
            without the verdict.

    Raises:
        RunError: not a run, driven by another process, or its space or data have changed.
    """
    check_address(address)
    modules = own_modules(py_modules or started_with(path))
    import_from(modules)
    folder, plan, where = reopen(path, storage=storage)
    while True:
        if standby and stand_by(folder, console or Console(quiet=True)):
            return folder.where
        try:
            ready = on_ray(address, workers, folder, wait, modules)
            return drive(folder, plan, where, ready, console)
        except DrivenError:
            if not standby:  # else another that stood by was quicker
                raise


def started_with(path: str | Path) -> list[str]:
    """The modules of the user's own that a run was started with.

    Raises:
        RunError: not a run.
    """
    modules: list[str] = read_info(RunFolder.open(path)).get("py_modules", [])
    return modules


def import_from(modules: Sequence[str]) -> None:
    """Let modules of the user's own be imported in this process.

    Args:
        modules: as ``own_modules`` gives them.
    """
    for module in modules:
        own.look_in(str(Path(module).parent))


def reopen(path: str | Path, *, storage: str | None = None) -> tuple[RunFolder, Plan, str | None]:
    """A run's folder, its plan and its storage, as far as a resume may go on with them.

    Raises:
        RunError: not a run, or its space or data have changed.
    """
    folder, plan = planned(path)
    where = storage or read_info(folder)["storage"]
    if where is not None and "***" in where:
        raise RunError(f"the run's storage {where} needs its password: give it by --storage")
    return folder, plan, where


def planned(path: str | Path) -> tuple[RunFolder, Plan]:
    """A run's folder and its plan.

    Raises:
        RunError: not a run, or its space or data have changed.
    """
    folder = RunFolder.open(path)
    about = read_info(folder)
    try:
        return folder, _planned(folder, about)
    except KeyError as error:
        raise RunError(f"{folder.shown(folder.info)} is incomplete: it lacks {error}") from error


_CHANGED = "was changed since the run started: start a new run with it"


def _planned(folder: RunFolder, about: dict[str, Any]) -> Plan:
    import_from(about.get("py_modules", []))
    space = load_space(folder.space)
    if about["space_sha256"] != _hash(folder.space.read_text(encoding="utf-8")):
        raise RunError(f"{folder.shown(folder.space)} {_CHANGED}")
    prior = open_prior(space)
    if prior is not None and about["prior_sha256"] != prior.sha256:
        raise RunError(f"{folder.shown(folder.prior)} {_CHANGED}")
    plan, family = plan_of(
        space, trials=about["trials"], seed=about["seed"], code=about["code"], prior=prior
    )
    if about["data"] != family.fingerprint:
        started = f"since the run {folder.name} started"
        raise RunError(f"the data of {plan.info.name} have changed {started}")
    return plan


def drive(
    folder: RunFolder,
    plan: Plan,
    storage: str | None,
    ready: AbstractContextManager[Runner],
    console: Console | None = None,
) -> str | Path:
    """Take a run, new or not, to its verdict.

    Args:
        folder: the run's.
        plan: what is to be done.
        storage: an Optuna storage URL; None: a journal in the run's folder.
        ready: gives what runs the jobs; entered once the records are checked and repaired.
        console: where progress is printed.
    """
    console = console or Console(markup=False, emoji=False)
    about = read_info(folder)
    progress = Progress(console, Terms.of(about))
    ending = Event()
    with ExitStack() as stack:
        with refusing(f"run {folder.name} could not be opened"):
            lease = stack.enter_context(acquire(folder))

        def again() -> None:
            if ending.is_set():
                raise RunError(f"run {folder.name} was ended while its storage was waited for")
            lease.keep()

        stack.callback(folder.leave)
        told = stack.enter_context(RunLog(folder.log_of(lease.driver)))

        def say(sentence: str) -> None:
            progress.say(sentence)
            told.say(sentence)

        patience = Patience(notice=say, again=again)
        with opening(folder), refusing(f"run {folder.name} could not be opened"):
            history = History(plan.info.metric.sign, read_rows(folder))
            folder.place.make_folder("trials")  # checkpoints may have been cleared away
            log = open_log(folder, lease.driver, patience)
            stack.enter_context(log)
            ledger = open_ledger(
                folder.journal,
                storage,
                study_name(about),
                history,
                plan.space.tree,
                plan.space.space.costs,
                patience,
                plan.first_round,
            )
            stack.callback(ledger.close)
        compactor = stack.enter_context(Compactor(folder, patience=patience))
        if history.verdict is not None:
            return folder.where  # nothing is left to do
        runner = stack.enter_context(ready)

        def watch(row: Row, history: History) -> None:
            progress.watch(row, history)
            told.watch(row, history)
            runner.watch(row, history)

        def still_ours() -> None:
            patience.keep_trying(lease.check, f"the lease of {folder.name} cannot be seen")

        driver = Driver(
            folder,
            plan,
            history,
            log,
            ledger,
            compactor,
            runner.workers,
            watch,
            patience,
            still_ours,
        )
        left = seldom(driver.budget.seconds_left)

        def clock() -> Clock:
            return Clock(driver.elapsed(), left())

        def tick() -> None:
            still_ours()
            lease.tell(driver.elapsed(), left())
            progress.tick()

        progress.follow(history, clock)
        stack.enter_context(progress)
        stack.push(lambda kind, *_: ending.set() if kind else None)
        meta_loop(Loop(driver, runner, tick))
    return folder.where


@contextmanager
def on_ray(
    address: str | None,
    workers: int | None,
    folder: RunFolder,
    wait: float = 0.0,
    py_modules: Sequence[str] = (),
) -> Iterator[Runner]:
    """Ray Tune, on a running cluster or on this machine; Ray is imported when this is entered."""
    prepare_ray(address)
    from metatune.runner.cluster import connected
    from metatune.runner.tune_runner import TuneRunner

    name = read_info(folder)["run"]
    joined = connected(address, workers, folder.where, wait=wait, py_modules=py_modules)
    with joined as ray, TuneRunner(ray, name) as runner:
        yield runner


def folder_of(space: Space) -> str | None:
    """The folder of the file that a space was read from; None where it was not.

    A run's ``method.yaml`` stands for the file that the run began with.
    """
    file = Path(space.source.file)
    if not file.is_file():
        return None
    folder = RunFolder(file.resolve().parent)
    if folder.info.is_file():
        code: str | None = read_info(folder).get("code")
        return code
    return str(folder.path)


def study_name(about: Mapping[str, Any]) -> str:
    """The name of the study in which a run's trials are now, by its ``run.json``."""
    name: str = about.get("study", about["run"])
    return name


def describe(
    folder: RunFolder,
    plan: Plan,
    family: TaskFamily,
    text: str,
    prior_sha256: str | None,
    storage: str | None,
) -> dict[str, Any]:
    """``run.json``: what a resume must find again, and what a reader wants to know."""
    libraries = ("ray", "torch", "optuna", "numpy", "pandas", "pyarrow")
    return {
        "run": PurePosixPath(folder.name).name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": plan.seed,
        "trials": plan.trials,
        "minutes": plan.minutes,
        "core_seconds": plan.space.space.budget.core_seconds,
        "code": plan.code,
        "objectives": plan.space.space.objectives,
        "rungs": plan.rungs(plan.first_round),
        "rounds": {
            "first": plan.first_round,
            "last": plan.last_round,
            "growth": plan.space.space.rounds.growth,
        },
        "tasks": {split: plan.tasks(split) for split in SPLITS if split != "train"},
        "episode": asdict(plan.space.space.episode),
        "family": _family(plan.info) | {"options": plan.options},
        "data": family.fingerprint,
        "notes": list(notes_of(family, plan.space.space.episode)),
        "space_sha256": _hash(text),
        "rotation_sha256": _but_fold(plan.space.space, text),
        "prior_sha256": prior_sha256,
        "storage": None if storage is None else hide_password(storage),
        "versions": {
            "metatune": metatune.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in libraries},
        },
    }


def _family(info: FamilyInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "kind": info.kind,
        "metric": info.metric.name,
        "sign": info.metric.sign,
        "grouped": info.grouped,
        "groups": {split: dict(groups) for split, groups in info.groups.items()},
    }


def _but_fold(space: Space, text: str) -> str | None:
    """A hash that all folds of a space have in common; None where there are none."""
    if not isinstance(space.family, Rotating):
        return None
    plain, _ = load_yaml(text)
    plain["family"].pop("fold", None)
    return _hash(json.dumps(plain, sort_keys=True))


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def default_folder(space_file: Path) -> Path:
    """A new folder for a run of this space, named by the time."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{space_file.stem}-{stamp}"
