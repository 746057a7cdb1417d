"""Commands of what is taken away: `export` and `adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metatune.cli.shared import RunPath, console


def export(
    path: RunPath,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    trial: Annotated[
        str | None, typer.Option(help="A trial, such as r1-0007. Default: the verdict's winner.")
    ] = None,
    refit: Annotated[
        bool | None,
        typer.Option(
            "--refit/--as-trained",
            help="Train it once more, on all groups. Default: where the run has its verdict.",
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            help="The licence of the data, for the card. Default: the space file's, else the "
            "family's."
        ),
    ] = None,
) -> None:
    """Take a strategy away: write an artifact that learns new tasks, without the run."""
    from metatune.artifact.export import export as write

    folder = write(path, out, trial=trial, refit=refit, licence=licence)
    for file in sorted(folder.iterdir()):
        size = f"{file.stat().st_size:,} bytes"
        console.print(f"Written: {file} ({size})", soft_wrap=True, highlight=False)
    console.print("Next:", highlight=False)
    console.print(
        f"  metatune adapt {folder} support.csv --query query.csv -o predictions.csv\n"
        f"  python -c 'import metatune; print(metatune.load(\"{folder}\"))'",
        soft_wrap=True,
        highlight=False,
    )


def adapt(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="An artifact's folder.")],
    support: Annotated[
        Path,
        typer.Argument(
            metavar="SUPPORT",
            help="The rows to learn from, CSV or Parquet; without --query the history of a series.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV file to write.")],
    query: Annotated[
        Path | None,
        typer.Option(
            help="The rows to predict, CSV or Parquet. Left out, for time series alone: the steps "
            "after the history."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="The column to learn. Default: the artifact's.")
    ] = None,
    level: Annotated[
        float | None, typer.Option(help="Add intervals of this level, such as 0.9 (numbers only).")
    ] = None,
    parts: Annotated[
        str | None, typer.Option(help="The module with parts of your own; it is imported.")
    ] = None,
) -> None:
    """Learn a new task from a few rows, and predict others."""
    from metatune.artifact.from_files import adapt_files

    done = adapt_files(path, support, query, out, target=target, level=level, parts=parts)
    for note in done.notes:
        console.print(f"Note: {note}", soft_wrap=True, highlight=False)
    console.print(
        f"Written: {out} ({done.query} predictions, learned from {done.support} rows)",
        soft_wrap=True,
        highlight=False,
    )
