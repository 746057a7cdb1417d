"""Commands that search: `run`, `resume`, and `validate` before them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from metatune.cli.results import show_results
from metatune.cli.shared import (
    Address,
    PyModules,
    RunPath,
    SpaceFile,
    Storage,
    Wait,
    Workers,
    console,
    errors,
)
from metatune.cli.tables import groups_table, shape

if TYPE_CHECKING:
    from metatune.plan import Plan


def run(
    space: SpaceFile,
    trials: Annotated[int | None, typer.Option(min=1, help="Overrides budget.trials.")] = None,
    workers: Workers = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Overrides the file's seed.")] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="The run's folder: a path, or a URI such as s3://bucket/run. Default: "
            "runs/SPACE-TIME."
        ),
    ] = None,
    address: Address = None,
    wait: Wait = 0,
    storage: Storage = None,
    py_module: PyModules = None,
    folds: Annotated[
        bool,
        typer.Option(
            "--folds",
            help="A run on each fold of the splits, one after the other, each with the whole "
            "budget: where groups are few, each is in test once.",
        ),
    ] = False,
) -> None:
    """Search a space: try strategies in parallel, confirm the leaders, give the verdict."""
    from metatune import rotation, session

    path = str(session.default_folder(space)) if out is None else out
    with _kept(path):
        (rotation if folds else session).run(
            space,
            out=path,
            trials=trials,
            seed=seed,
            workers=workers,
            address=address,
            wait=wait,
            storage=storage,
            py_modules=py_module or (),
            console=console,
        )
    show_results(path)


def resume(
    path: RunPath,
    workers: Workers = None,
    address: Address = None,
    wait: Wait = 0,
    storage: Storage = None,
    py_module: PyModules = None,
    standby: Annotated[
        bool,
        typer.Option(
            "--standby",
            help="While another process drives the run, follow it, and take over within seconds "
            "once it is gone.",
        ),
    ] = False,
    changed_space: Annotated[
        Path | None,
        typer.Option(
            metavar="SPACE.yaml",
            help="Go on with a new round in this space, of the same family and tasks.",
        ),
    ] = None,
) -> None:
    """Go on with a run that was stopped or killed; nothing measured is lost or repeated."""
    from metatune import rotation, session
    from metatune.changed_space import change_space
    from metatune.records.several import is_rotation

    with _kept(path):
        if changed_space is not None:
            change_space(path, changed_space, storage=storage)
        (rotation if is_rotation(path) else session).resume(
            path,
            workers=workers,
            address=address,
            wait=wait,
            storage=storage,
            py_modules=py_module or (),
            standby=standby,
            console=console,
        )
    show_results(path)


def validate(space: SpaceFile) -> None:
    """Check a space file and its data, and show what would be run. Starts nothing."""
    from metatune.session import plan_of
    from metatune.space import load_space
    from metatune.tasks.base import notes_of

    plan, family = plan_of(load_space(space))
    console.print(groups_table(plan.info))
    for sentence in notes_of(family, plan.space.space.episode):
        console.print(f"Note: {sentence}", soft_wrap=True, highlight=False)
    console.print(_plan_table(plan))
    for entry in plan.space.initial:
        if plan.space.params_of(entry.strategy) is None:
            why = plan.space.tree.why_outside(entry.strategy.model_dump(mode="json"))
            console.print(
                f"Note: {entry.name} lies outside the space ({why}): it is tried, but teaches the "
                "proposer nothing.",
                soft_wrap=True,
                highlight=False,
            )
    for note in _prior_notes(plan):
        console.print(note, soft_wrap=True, highlight=False)
    console.print(f"{space} is valid. Start it with: metatune run {space}", soft_wrap=True)


class _kept:  # noqa: N801 - reads as a phrase: with _kept(path)
    """Turns Ctrl-C into a sentence that says how to go on."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        import signal

        signal.signal(signal.SIGTERM, signal.default_int_handler)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            errors.print(
                "Interrupted. What was finished is kept; "
                f"go on with: metatune resume {quote(self._path)}",
                soft_wrap=True,
            )
            raise typer.Exit(130)


def _plan_table(plan: Plan) -> Table:
    from metatune.progress import time_limit

    table = Table("what", "value", title="Run")
    time = time_limit(plan.minutes, plan.space.space.budget.core_seconds)
    rounds = range(plan.first_round, plan.last_round + 1)
    shares = " + ".join(str(plan.share(round_)) for round_ in rounds)
    table.add_row("trials", f"{shares} in {len(rounds)} round(s), {time}")
    for round_ in rounds:
        resources = ", ".join(f"{rung:,}" for rung in plan.rungs(round_))
        table.add_row(f"rungs of round {round_}", f"{resources} forward-equivalents")
    table.add_row("objectives", ", ".join(plan.space.space.objectives))
    table.add_row("tasks", shape(plan.space.space.episode))
    table.add_row("knobs", ", ".join(knob.name for knob in plan.space.tree.knobs()))
    table.add_row("tried first", ", ".join(entry.name for entry in plan.space.initial))
    if plan.space.space.prior is not None:
        from metatune.search import portfolio_of

        listed = portfolio_of(plan, plan.space.space.method)
        table.add_row("then, of the prior", ", ".join(entry.name for entry in listed) or "nothing")
        table.add_row("baseline of the prior", plan.prior.baseline or "none")
    return table


def _prior_notes(plan: Plan) -> Iterator[str]:
    """What the prior brings beside strategies, and what it knows but cannot bring."""
    from metatune.prior.lessons import OBSERVATIONS

    brings = plan.prior
    if plan.space.space.prior is None:
        return
    heard = min(OBSERVATIONS, len(brings.lessons))
    yield (
        f"Note: of the prior's {brings.strategies} strategies, {len(brings.lessons)} lie in the "
        f"space. The proposer hears of {heard} at a time at most, as far as the run agrees."
    )
    if brings.left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in brings.left_out.items())
        yield f"Note: of the prior's strategies are left out: {reasons}."
