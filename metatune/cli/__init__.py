"""The ``metatune`` command. Each subcommand is a thin shell over a function of the same name."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import metatune
from metatune.cli.artifacts import adapt, export
from metatune.cli.data import baselines, init
from metatune.cli.listings import families, strategies
from metatune.cli.results import leaderboard, prior, report, watch
from metatune.cli.search import resume, run, validate
from metatune.cli.shared import console, errors
from metatune.errors import MetatuneError

__all__ = ["app", "main"]

app = typer.Typer(
    name="metatune",
    help="Learn how to learn: find the way of learning that does best on unseen problems.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# In the order of somebody's first day.
for command in (
    init, baselines, validate, run, resume, watch, leaderboard, report, export, adapt, prior,
    families, strategies,
):  # fmt: skip
    app.command()(command)


@app.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        console.print(f"metatune {metatune.__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: errors that metatune raises on purpose become one line and exit code 2."""
    try:
        app()
    except MetatuneError as error:
        errors.print(f"metatune: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
