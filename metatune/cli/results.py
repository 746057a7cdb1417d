"""Commands that look at what runs measured: `leaderboard`, `watch`, `report` and `prior`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from metatune.cli.shared import RunPath, console


def leaderboard(
    path: RunPath,
    rows: Annotated[int, typer.Option(min=1, help="Trials to show.")] = 20,
) -> None:
    """Show a run's trials and its verdict, also while it goes on."""
    from metatune.records.reading import read_run
    from metatune.records.several import is_rotation
    from metatune.tables import select_table, test_table, winner_text

    if is_rotation(path):
        _show_rotation(path)
        return
    results = read_run(path)
    console.print(select_table(results, rows))
    if results.verdicts.empty:
        console.print("No verdict yet.")
        return
    console.print(test_table(results))
    console.print(results.verdicts.iloc[-1]["sentence"], style="bold", soft_wrap=True)
    console.print(winner_text(results), soft_wrap=True, highlight=False)


def watch(
    path: RunPath,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder to write event files for TensorBoard to."),
    ] = None,
) -> None:
    """Watch a run that goes on elsewhere: until its verdict, or until nobody drives it."""
    import signal

    from metatune.watch import watch as look

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the terminal is left in order
    if tensorboard is not None:
        console.print(_about_event_files(tensorboard), soft_wrap=True, highlight=False)
    try:
        finished = look(path, every=every, once=once, tensorboard=tensorboard, console=console)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if finished:
        console.print(f"Next: metatune leaderboard {quote(path)}", soft_wrap=True, highlight=False)
    elif not once:
        raise typer.Exit(1)


def _about_event_files(folder: Path) -> str:
    from importlib.util import find_spec

    missing = "" if find_spec("tensorboard") else " (pip install 'metatune[dashboards]')"
    return f"Event files: {folder}. Open them with: tensorboard --logdir {folder}{missing}"


def report(
    path: RunPath,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file. Default: RUN/report.html.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="A folder for each figure as PNG and SVG. Default: none.")
    ] = None,
) -> None:
    """Write one page that says what a run found, to read and to hand on; also while it goes on."""
    from metatune.report import report as write

    page, *others = write(path, out=out, plots=plots)
    console.print(f"Written: {page}", soft_wrap=True, highlight=False)
    for file in others:
        console.print(f"Written: {file}", soft_wrap=True, highlight=False)
    console.print("It is one file that needs no network: open it in a browser.", highlight=False)


def prior(
    paths: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, a Parquet file.")],
) -> None:
    """Gather what runs learned, for a later run: name the file in its space as `prior:`."""
    from metatune import prior as learned
    from metatune.place import Place
    from metatune.records.several import read_runs
    from metatune.tables import baseline_text, portfolio_table, runs_table

    given = {Place.at(path).name: path for path in paths}  # each once
    found = learned.prior_of(learned.learn_prior(read_runs(*given.values())))
    learned.write_prior(found, out)
    console.print(runs_table(found))
    console.print(portfolio_table(found))
    console.print(baseline_text(found), soft_wrap=True, highlight=False)
    console.print(f"Written: {out}", soft_wrap=True, highlight=False)
    console.print(f"Next: name it in a space file, as `prior: {out}`", soft_wrap=True)


def show_results(path: str) -> None:
    from metatune.place import Place
    from metatune.records.several import is_rotation

    leaderboard(path)
    console.print(f"Results: {path}", soft_wrap=True, highlight=False)
    console.print("Next:", highlight=False)
    code = f'import metatune; print(metatune.read_run("{path}").trials)'
    if is_rotation(path):
        code = (
            "import metatune; from metatune.folds import rotated; "
            f'print(rotated(metatune.read_runs("{path}")).frame)'
        )
    run, page = quote(path), "" if Place.at(path).is_local else " -o report.html"
    console.print(
        f"  metatune report {run}{page}\n  metatune leaderboard {run}\n  python -c '{code}'",
        soft_wrap=True,
        highlight=False,
    )


def _show_rotation(path: str) -> None:
    from metatune.folds import rotated
    from metatune.records.several import read_runs
    from metatune.tables import rotation_table, rotation_text

    runs = read_runs(path)
    finished = [run for run in runs if not run.verdicts.empty]
    for run in finished:
        sentence = run.verdicts.iloc[-1]["sentence"]
        console.print(f"{run.name}: {sentence}", soft_wrap=True, highlight=False)
    console.print(f"{len(finished)} of {len(runs)} folds have their verdict.", highlight=False)
    if len(finished) > 1:
        found, metric = rotated(finished), finished[0].metric
        console.print(rotation_table(found, metric))
        console.print(rotation_text(found, metric), style="bold", soft_wrap=True)
