"""A rotation: a run on each fold of a space's splits, one after the other. ::

    folds.json    how many folds there are; written last on creation
    fold-0/       a run, as any other
    fold-1/       ...

Each has the whole budget of the space, and its search has not seen its test groups. What they say
together is ``metatune.folds.rotated``; ``metatune.read_runs`` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from metatune import session
from metatune.errors import RunError
from metatune.place import Place, below
from metatune.plan import Plan
from metatune.records.folder import RunFolder, begun, make_folder
from metatune.records.reading import read_info
from metatune.records.several import ABOUT, folders_of
from metatune.runner import check_address, own_modules
from metatune.space import Space, load_space
from metatune.space.families import MODELS, Rotating
from metatune.space.source import Problem, refuse
from metatune.tasks.base import Rotates


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
    """Search a space once on each fold of its splits; arguments and errors as of ``session.run``.

    Returns:
        The folder that holds the folds' runs, for ``metatune.read_runs``.

    Raises:
        SpaceError: the family's splits do not rotate, or the file names one fold.
    """
    check_address(address)
    modules = own_modules(py_modules)
    session.import_from(modules)
    space = load_space(space_file)
    plans = list(_plans(space, trials, seed))
    if console is not None:
        console.print(_total(plans), soft_wrap=True, highlight=False)
    path = make_folder(out or session.default_folder(Path(space_file)))
    for fold in range(len(plans)):
        session.create(
            space_file,
            out=below(path, f"fold-{fold}"),
            trials=trials,
            seed=seed,
            storage=storage,
            py_modules=modules,
            fold=fold,
        )
    place = Place.at(path)
    with begun(place):
        place.write(ABOUT, json.dumps({"folds": len(plans)}))
    return resume(
        path, workers=workers, address=address, wait=wait, storage=storage, console=console
    )


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
    """Go on with a rotation, fold by fold; arguments and errors as of ``session.resume``.

    Raises:
        RunError: ``standby``, which is a run's: between two folds a rotation has no driver.
    """
    if standby:
        raise RunError(
            f"--standby: found {path}, a rotation; allowed: the folder of one fold's run"
        )
    console = console or Console(quiet=True)
    told: set[str] = set()
    folders = folders_of(path)
    for number, folder in enumerate(folders):
        shown = Place.at(folder).name
        console.print(f"Fold {number} of 0 to {len(folders) - 1}: {shown}", soft_wrap=True)
        for note in read_info(RunFolder.open(folder))["notes"]:
            if note not in told:
                console.print(f"Note: {note}", soft_wrap=True, highlight=False)
                told.add(note)
        session.resume(
            folder,
            workers=workers,
            address=address,
            wait=wait,
            storage=storage,
            py_modules=py_modules,
            console=console,
        )
    return path


def _plans(space: Space, trials: int | None, seed: int | None) -> Iterator[Plan]:
    """What is to be done on each fold; each is checked against its splits."""
    family = space.family
    if not isinstance(family, Rotating):
        names = ", ".join(sorted(model.tag for model in MODELS if issubclass(model, Rotating)))
        allowed = f"with --folds: {names}, whose splits rotate"
        refuse([Problem(("family", "name"), family.name, allowed)], space.source)
    elif family.fold:
        allowed = "with --folds: none, for all are run"
        refuse([Problem(("family", "fold"), str(family.fold), allowed)], space.source)
    plan, opened = session.plan_of(space, trials=trials, seed=seed)
    yield plan
    assert isinstance(opened, Rotates)
    for fold in range(1, opened.folds):
        yield session.plan_of(space.on_fold(fold), trials=trials, seed=seed)[0]


def _total(plans: list[Plan]) -> str:
    """What all folds may use."""
    count, plan = len(plans), plans[0]
    core = plan.space.space.budget.core_seconds
    limits = [
        f"{count} x {plan.trials} trials",
        *([] if plan.minutes is None else [f"{count} x {plan.minutes:g} min"]),
        *([] if core is None else [f"{count} x {core:g} core seconds"]),
    ]
    return f"{count} folds, each a run with the whole budget: {', '.join(limits)}."
