"""What the commands share: where they print, and the options of several."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

# Heavy modules are imported inside the commands, so that --help answers at once.

PIPED = 120  # columns where there is no terminal to ask
# Plain text: paths, names and reasons may hold brackets and colons of their own.
console = Console(width=None if sys.stdout.isatty() else PIPED, markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)

SpaceFile = Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="The space file.")]
RunPath = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's folder: a path, or a URI such as s3://...")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Trials at a time. Default: one a CPU.")]
Address = Annotated[
    str | None,
    typer.Option(
        help="A running Ray cluster, such as 'auto' or host:6379. Default: start Ray here."
    ),
]
Wait = Annotated[
    float,
    typer.Option(min=0, help="Minutes in which the cluster's autoscaler may bring the CPUs."),
]
PyModules = Annotated[
    list[Path] | None,
    typer.Option(
        "--py-module",
        help="A package's folder or a .py file of your own, sent to every worker. May be repeated.",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(help="Optuna storage URL of the study. Default: a journal in the run's folder."),
]
