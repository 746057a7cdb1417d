"""``metatune report RUN``: one page that says what a run found, and how far that can be trusted.

``sections`` says what the page holds, by ``setting`` (who competes, how to run it again) and
``figures``; ``page`` makes one HTML file of it, ``folds`` a page of what several folds say
together. Needs neither Ray, Optuna nor torch; every number comes from ``metatune.analysis``.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from metatune.errors import RunError
from metatune.place import Place
from metatune.records.reading import Run, read_run
from metatune.records.several import folders_of, is_rotation
from metatune.report.folds import begun, content_of_folds
from metatune.report.page import write_page, write_plots
from metatune.report.sections import content_of

__all__ = ["report"]

NAME = "report.html"


def report(
    path: str | Path, *, out: str | Path | None = None, plots: str | Path | None = None
) -> list[Path]:
    """Write the report of a run, finished or going on, or of the runs of folds.

    Args:
        path: the run's folder; of folds, the folder that holds theirs: each fold with a run then
            has a page of its own in its folder, to which that of all folds leads; of a run that
            is not on this machine in a folder beside ``out``.
        out: the file to write; by default ``report.html`` in the folder.
        plots: a folder, made where it is missing, for each figure as PNG and SVG; by default none.

    Returns:
        What was written, the page first.

    Raises:
        RunError: it is no run, or a file cannot be written.
    """
    if out is None and not Place.at(path).is_local:
        raise RunError(f"{path} is not on this machine: name the file to write, by --out")
    target = Path(path) / NAME if out is None else Path(out)
    if is_rotation(path):
        runs, count = begun(path), len(folders_of(path))
        beside = [write_page(content_of(run), _folder(run, target) / NAME) for run in runs]
        name = PurePosixPath(Place.at(path).name).name
        content = content_of_folds(name, runs, count, target, beside)
    else:
        beside, content = [], content_of(read_run(path))
    written = [write_page(content, target), *beside]
    return written if plots is None else [*written, *write_plots(content, Path(plots))]


def _folder(run: Run, page: Path) -> Path:
    """Where the page of a fold's run goes: into its folder, or beside the page of all folds."""
    if isinstance(run.path, Path):
        return run.path
    folder = page.parent / run.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
