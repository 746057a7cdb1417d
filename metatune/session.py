"""A session: one driver at work on a run, from opening its folder to closing it.

``run`` starts a run and ``resume`` goes on with one; both are the same session over the same
records, which are empty in the first case.
"""

from __future__ import annotations

import json
import platform
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

import metatune
from metatune.driver import Driver, Plan
from metatune.errors import RunError
from metatune.history import History
from metatune.progress import Progress
from metatune.proposer import open_ledger
from metatune.records.folder import RunFolder, opening, write_atomically
from metatune.records.lease import acquire
from metatune.records.log import Log
from metatune.records.parquet import Compactor
from metatune.records.reading import read_info, read_rows
from metatune.runner import prepare_ray
from metatune.space import Space, load_space, resolve
from metatune.tasks.base import SPLITS, FamilyInfo, TaskFamily
from metatune.tasks.registry import open_family


def plan_of(
    space: Space, *, trials: int | None = None, seed: int | None = None
) -> tuple[Plan, TaskFamily]:
    """Check a space against its family's data, before anything starts.

    Args:
        space: as loaded.
        trials: overrides ``budget.trials``.
        seed: overrides ``seed``.

    Raises:
        SpaceError, DataError: what cannot be run, in a sentence each.
    """
    family = open_family(space.family.name, space.family.data_dir)
    family.check(space.episode)
    plan = Plan(
        space=resolve(space, family.info),
        info=family.info,
        seed=space.seed if seed is None else seed,
        trials=space.budget.trials if trials is None else trials,
        minutes=space.budget.minutes,
    )
    return plan, family


def run(
    space_file: str | Path,
    *,
    out: str | Path | None = None,
    trials: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    address: str | None = None,
    storage: str | None = None,
    console: Console | None = None,
) -> Path:
    """Search a space for the strategy that does best on unseen tasks.

    Args:
        space_file: the YAML file.
        out: the run's folder, new or empty; by default ``runs/<space>-<time>``.
        trials: overrides the file's ``budget.trials``.
        seed: overrides the file's ``seed``.
        workers: trials at a time; by default one a CPU.
        address: of a running Ray cluster; by default Ray is started on this machine.
        storage: an Optuna storage URL for the study; by default a journal in the run's folder.
        console: where progress is printed.

    Returns:
        The run's folder, for ``metatune.read_run``.

    Raises:
        SpaceError, DataError: the space or the data cannot be run; nothing was started.
        RunError: the folder, the cluster or the storage cannot be used.
    """
    space = load_space(space_file)
    plan, family = plan_of(space, trials=trials, seed=seed)
    folder = RunFolder.create(out or default_folder(Path(space_file)))
    text = Path(space_file).read_text(encoding="utf-8")
    write_atomically(folder.space, text)
    about = _about(folder, plan, family, text, storage)
    write_atomically(folder.info, json.dumps(about, indent=2))  # last: now it is a run
    return _drive(folder, plan, workers, address, storage, console or Console())


def resume(
    path: str | Path,
    *,
    workers: int | None = None,
    address: str | None = None,
    storage: str | None = None,
    console: Console | None = None,
) -> Path:
    """Go on with a run that was stopped, killed or cut off; arguments as for ``run``.

    Raises:
        RunError: not a run, driven by another process, or its space or data have changed.
    """
    folder = RunFolder.open(path)
    about = read_info(folder)
    space = load_space(folder.space)
    if about["space_sha256"] != _hash(folder.space.read_text(encoding="utf-8")):
        raise RunError(f"{folder.space} was changed since the run started: start a new run with it")
    plan, family = plan_of(space, trials=about["trials"], seed=about["seed"])
    if about["data"] != family.fingerprint:
        raise RunError(f"the data of {plan.info.name} have changed since the run {path} started")
    where = storage or about["storage"]
    if where is not None and "***" in where:
        raise RunError(f"the run's storage {where} needs its password: give it by --storage")
    return _drive(folder, plan, workers, address, where, console or Console())


def _drive(
    folder: RunFolder,
    plan: Plan,
    workers: int | None,
    address: str | None,
    storage: str | None,
    console: Console,
) -> Path:
    prepare_ray(address)
    from metatune.meta_loop import Loop, meta_loop
    from metatune.runner.cluster import connected
    from metatune.runner.tune_runner import TuneRunner

    progress = Progress(console, plan.info.metric.name, plan.trials)
    with ExitStack() as stack:
        lease = stack.enter_context(acquire(folder))
        # Everything of the run is checked and repaired before Ray starts.
        with opening(folder):
            history = History(plan.info.metric.sign, read_rows(folder))
            log = stack.enter_context(Log.open(folder, lease.driver))
            name = read_info(folder)["run"]
            ledger = open_ledger(folder.journal, storage, name, history, plan.space.tree)
        compactor = stack.enter_context(Compactor(folder))
        count = stack.enter_context(connected(address, workers, folder.path))
        driver = Driver(folder, plan, history, log, ledger, compactor, count, progress.watch)
        progress.follow(history, driver.seconds_left)
        stack.enter_context(progress)
        runner = stack.enter_context(TuneRunner(count))

        def tick() -> None:
            lease.check()
            progress.tick()

        meta_loop(Loop(driver, runner, tick))
    return folder.path


def _about(
    folder: RunFolder, plan: Plan, family: TaskFamily, text: str, storage: str | None
) -> dict[str, Any]:
    """``run.json``: what a resume must find again, and what a reader wants to know."""
    libraries = ("ray", "torch", "optuna", "numpy", "pandas", "pyarrow")
    return {
        "run": folder.path.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": plan.seed,
        "trials": plan.trials,
        "minutes": plan.minutes,
        "rungs": plan.rungs,
        "tasks": {split: plan.tasks(split) for split in SPLITS if split != "train"},
        "episode": asdict(plan.space.space.episode),
        "family": _family(plan.info),
        "data": family.fingerprint,
        "space_sha256": _hash(text),
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


def hide_password(url: str) -> str:
    """A storage URL as it may be shown."""
    password = urlsplit(url).password
    return url if password is None else url.replace(f":{password}@", ":***@", 1)


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def default_folder(space_file: Path) -> Path:
    """A new folder for a run of this space, named by the time."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{space_file.stem}-{stamp}"
