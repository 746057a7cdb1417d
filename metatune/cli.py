"""The ``metatune`` command. Each subcommand is a thin shell over a function of the same name."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

import metatune
from metatune.errors import MetatuneError, SpaceError

if TYPE_CHECKING:
    from metatune.baselines import Measured
    from metatune.plan import Plan
    from metatune.tasks.base import Episode, FamilyInfo, TaskFamily

# Heavy modules are imported inside the commands, so that --help answers at once.

app = typer.Typer(
    name="metatune",
    help="Learn how to learn: find the way of learning that does best on unseen problems.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
NAMED = 30  # groups of a split that are listed by name
PIPED = 120  # columns where there is no terminal to ask
# Plain text: paths, names and reasons may hold brackets and colons of their own.
console = Console(width=None if sys.stdout.isatty() else PIPED, markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)

SpaceFile = Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="The space file.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Trials at a time. Default: one a CPU.")]
Address = Annotated[
    str | None,
    typer.Option(
        help="A running Ray cluster, such as 'auto' or host:6379. Default: start Ray here."
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(help="Optuna storage URL of the study. Default: a journal in the run's folder."),
]


Data = Annotated[
    list[str],
    typer.Argument(metavar="DATA...", help="CSV or Parquet files, globs or folders of them."),
]
TaskColumn = Annotated[
    str | None,
    typer.Option("--task", help="The column that tells tasks apart; `file`: each file is a task."),
]
SeriesColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--series",
        help="Time series: the column that tells them apart, or several; `file`: each file is one.",
    ),
]
TimeColumn = Annotated[str | None, typer.Option("--time", help="Of series: the points in time.")]
TimeFormat = Annotated[
    str | None, typer.Option(help="Of series: such as %d.%m.%Y. Default: as times look.")
]
TimeStep = Annotated[
    str | None,
    typer.Option("--step", help="Of series: such as h, D, W, MS. Default: as their times look."),
]
TargetColumn = Annotated[str, typer.Option("--target", "--value", help="The column to predict.")]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        "--group",
        help="The column of what tasks share and the next user will not have seen, such as a "
        "region. Default: each task by itself.",
    ),
]
Predict = Annotated[
    Literal["number", "class"] | None, typer.Option(help="Default: as the target looks.")
]


@app.command()
def init(
    data: Data,
    target: TargetColumn,
    task: TaskColumn = None,
    series: SeriesColumns = None,
    time: TimeColumn = None,
    group: GroupColumn = None,
    predict: Predict = None,
    step: TimeStep = None,
    time_format: TimeFormat = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path(
        "space.yaml"
    ),
    minutes: Annotated[float, typer.Option(min=0.1, help="The run's budget of time.")] = 10,
) -> None:
    """Look at your data and write a space file for them, which runs as it is."""
    from metatune.init import init as write
    from metatune.init import init_series
    from metatune.space.families import Table as TableOptions

    _one_kind(task, series, time, predict, step, time_format)
    if task is not None:
        found = write(data, task, target, group=group, predict=predict, out=out, minutes=minutes)
    else:
        assert series is not None
        assert time is not None
        found = init_series(
            data,
            series,
            time,
            target,
            group=group,
            step=step,
            time_format=time_format,
            out=out,
            minutes=minutes,
        )
    console.print("Assumed:", highlight=False)
    for sentence in found.said:
        console.print(f"  {sentence}", soft_wrap=True, highlight=False)
    if isinstance(found.options, TableOptions):
        console.print(_kinds_table(found.options.columns))
    console.print(f"Written: {out}", soft_wrap=True, highlight=False)
    console.print(f"Next: metatune run {out}", soft_wrap=True, highlight=False)


@app.command()
def baselines(
    data: Data,
    target: TargetColumn,
    task: TaskColumn = None,
    series: SeriesColumns = None,
    time: TimeColumn = None,
    group: GroupColumn = None,
    predict: Predict = None,
    step: TimeStep = None,
    time_format: TimeFormat = None,
    tasks: Annotated[int, typer.Option(min=2, help="Tasks that each is judged on.")] = 120,
) -> None:
    """Is anything shared across these tasks worth learning? A minute, before a search."""
    from metatune.baselines import baselines as measure
    from metatune.baselines import conclusion, shots_of
    from metatune.init import look, look_at_series

    _one_kind(task, series, time, predict, step, time_format)
    if task is not None:
        found = look(data, task, target, group=group, predict=predict)
    else:
        assert series is not None
        assert time is not None
        found = look_at_series(
            data, series, time, target, group=group, step=step, time_format=time_format
        )
    for sentence in found.said:
        console.print(sentence, soft_wrap=True, highlight=False)
    with console.status("") as status:
        measured = measure(
            found.family,
            found.episode.query,
            way=found.episode.way,
            shots=shots_of(found.family.info, found.episode),
            tasks=tasks,
            watch=lambda name, shot: status.update(f"{name}, {shot} shots"),
        )
    console.print(_baselines_table(measured, found.family.info))
    console.print(conclusion(measured), soft_wrap=True, highlight=False)


def _one_kind(
    task: str | None,
    series: Sequence[str] | None,
    time: str | None,
    predict: str | None,
    step: str | None,
    time_format: str | None,
) -> None:
    """Raise where the flags name neither tables nor series, or some of both."""
    of_series = {"--series": series, "--time": time, "--step": step, "--time-format": time_format}
    of_tables = {"--task": task, "--predict": predict}
    given = [[flag for flag, v in flags.items() if v] for flags in (of_tables, of_series)]
    wanted = "--task of the rows of a table, or --series and --time of time series"
    if all(given):
        raise SpaceError(f"found {given[0][0]} and {given[1][0]}; allowed: {wanted}")
    if not task and not (series and time):
        found = ", ".join([*given[0], *given[1]]) or "neither"
        raise SpaceError(f"found {found}; allowed: {wanted}")


@app.command()
def run(
    space: SpaceFile,
    trials: Annotated[int | None, typer.Option(min=1, help="Overrides budget.trials.")] = None,
    workers: Workers = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Overrides the file's seed.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder. Default: runs/SPACE-TIME.")
    ] = None,
    address: Address = None,
    storage: Storage = None,
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

    path = session.default_folder(space) if out is None else out
    with _kept(path):
        (rotation if folds else session).run(
            space,
            out=path,
            trials=trials,
            seed=seed,
            workers=workers,
            address=address,
            storage=storage,
            console=console,
        )
    _show_results(path)


@app.command()
def resume(
    path: RunPath,
    workers: Workers = None,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Go on with a run that was stopped or killed; nothing measured is lost or repeated."""
    from metatune import rotation, session
    from metatune.folds import is_rotation

    with _kept(path):
        (rotation if is_rotation(path) else session).resume(
            path, workers=workers, address=address, storage=storage, console=console
        )
    _show_results(path)


@app.command()
def leaderboard(
    path: RunPath,
    rows: Annotated[int, typer.Option(min=1, help="Trials to show.")] = 20,
) -> None:
    """Show a run's trials and its verdict, also while it goes on."""
    from metatune.folds import is_rotation
    from metatune.records.reading import read_run
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


@app.command()
def validate(space: SpaceFile) -> None:
    """Check a space file and its data, and show what would be run. Starts nothing."""
    from metatune.session import plan_of
    from metatune.space import load_space
    from metatune.tasks.base import notes_of

    plan, family = plan_of(load_space(space))
    console.print(_groups_table(plan.info))
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


@app.command()
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
        str | None, typer.Option(help="The licence of the data, for the card.")
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


@app.command()
def adapt(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="An artifact's folder.")],
    support: Annotated[
        Path, typer.Argument(metavar="SUPPORT", help="The rows to learn from, CSV or Parquet.")
    ],
    query: Annotated[Path, typer.Option(help="The rows to predict, CSV or Parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV file to write.")],
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


@app.command()
def prior(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, a Parquet file.")],
) -> None:
    """Gather what runs learned, for a later run: name the file in its space as `prior:`."""
    from metatune import prior as learned
    from metatune.records.reading import read_run
    from metatune.tables import baseline_text, portfolio_table, runs_table

    given = dict.fromkeys(path.resolve() for path in paths)
    found = learned.prior_of(learned.learn_prior([read_run(path) for path in given]))
    learned.write_prior(found, out)
    console.print(runs_table(found))
    console.print(portfolio_table(found))
    console.print(baseline_text(found), soft_wrap=True, highlight=False)
    console.print(f"Written: {out}", soft_wrap=True, highlight=False)
    console.print(f"Next: name it in a space file, as `prior: {out}`", soft_wrap=True)


@app.command()
def families(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME | SPACE.yaml]",
            help="The family whose tasks are shown; a space file for one that has to be told more.",
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Draw some tasks of `train` to this PNG file.")
    ] = None,
) -> None:
    """List the task families, or show the tasks of one."""
    if what is None and png is not None:
        raise typer.BadParameter("name the family to draw from", param_hint="--png")
    _show_tasks(what, png) if what is not None else _list_families()


def _show_tasks(what: str, png: Path | None) -> None:
    from metatune.samples import draw_samples
    from metatune.session import tasks_of
    from metatune.tasks.base import notes_of

    family, episode = tasks_of(what)
    console.print(family.info.about, soft_wrap=True, highlight=False)
    console.print(_tasks_table(family, episode))
    console.print(_groups_table(family.info))
    for sentence in notes_of(family, episode):
        console.print(f"Note: {sentence}", soft_wrap=True, highlight=False)
    if png is not None:
        shown = draw_samples(family, episode, png)
        console.print(f"Written: {png} ({shown})", soft_wrap=True, highlight=False)


def _list_families() -> None:
    from metatune.errors import DataError, OptionError
    from metatune.space.families import OWN
    from metatune.tasks.registry import family_names, open_family

    table = Table("family", "predicts", "judged by", "tasks")
    for name in family_names():
        try:
            info = open_family(name).info
        except OptionError:
            table.add_row(name, *OWN[name].unopened)
            continue
        except DataError as error:
            table.add_row(name, "", "", f"data not found: {error}")
            continue
        table.add_row(name, info.kind, info.metric.name, info.about)
    console.print(table)


@app.command()
def strategies() -> None:
    """List the published strategies, the presets."""
    from metatune.presets import PRESETS

    table = Table("preset", "what it is")
    for name, function in PRESETS.items():
        table.add_row(name, (function.__doc__ or "").strip().partition("\n\n")[0])
    console.print(table)


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


class _kept:  # noqa: N801 - reads as a phrase: with _kept(path)
    """Turns Ctrl-C into a sentence that says how to go on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        import signal

        signal.signal(signal.SIGTERM, signal.default_int_handler)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            errors.print(
                f"Interrupted. What was finished is kept; go on with: metatune resume {self._path}",
                soft_wrap=True,
            )
            raise typer.Exit(130)


def _show_rotation(path: Path) -> None:
    from metatune.folds import rotated, runs_of
    from metatune.tables import rotation_table, rotation_text

    runs = runs_of(path)
    finished = [run for run in runs if not run.verdicts.empty]
    for run in finished:
        sentence = run.verdicts.iloc[-1]["sentence"]
        console.print(f"{run.path.name}: {sentence}", soft_wrap=True, highlight=False)
    console.print(f"{len(finished)} of {len(runs)} folds have their verdict.", highlight=False)
    if len(finished) > 1:
        found, metric = rotated(finished), finished[0].info["family"]["metric"]
        console.print(rotation_table(found, metric))
        console.print(rotation_text(found, metric), style="bold", soft_wrap=True)


def _show_results(path: Path) -> None:
    from metatune.folds import is_rotation

    leaderboard(path)
    console.print(f"Results: {path}", soft_wrap=True, highlight=False)
    console.print("Next:", highlight=False)
    code = f'import metatune; print(metatune.read_run("{path}").trials)'
    if is_rotation(path):
        code = (
            f'from metatune.folds import rotated, runs_of; print(rotated(runs_of("{path}")).frame)'
        )
    console.print(
        f"  metatune leaderboard {path}\n  python -c '{code}'", soft_wrap=True, highlight=False
    )


def _kinds_table(kinds: Mapping[str, str]) -> Table:
    table = Table("kind", "columns", title="Columns")
    for kind in dict.fromkeys(kinds.values()):
        names = [name for name, own in kinds.items() if own == kind]
        table.add_row(kind, f"{', '.join(names[:20])}{_and_more(len(names) - 20)}")
    return table


def _baselines_table(measured: Sequence[Measured], info: FamilyInfo) -> Table:
    from metatune.progress import show_score

    shots = sorted({one.shot for one in measured})
    table = Table("shared", "way of learning", title=f"{info.metric.name} on select tasks")
    for shot in shots:
        table.add_column(f"{shot} shots", justify="right")
    for name in dict.fromkeys(one.name for one in measured):
        own = {one.shot: one for one in measured if one.name == name}
        cells = []
        for shot in shots:
            mean, low, high = (
                show_score(value, info.metric.name)
                for value in (own[shot].score.mean, own[shot].score.low, own[shot].score.high)
            )
            cells.append(f"{mean} [{low}, {high}]")
        table.add_row(next(iter(own.values())).kind, name, *cells)
    return table


def _and_more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _groups_table(info: FamilyInfo) -> Table:
    from metatune.tasks.base import SPLITS

    table = Table("split", "groups", "effective groups", "names", title=f"Family {info.name}")
    for split in SPLITS:
        listed = [f"{group} ({size})" for group, size in info.groups[split].items()]
        names = ", ".join(listed[:NAMED]) + _and_more(len(listed) - NAMED)
        count = len(info.groups[split])
        table.add_row(split, str(count), f"{info.effective_groups(split):.1f}", names)
    return table


def _tasks_table(family: TaskFamily, episode: Episode) -> Table:
    from metatune.tasks.base import SPLITS

    info = family.info
    table = Table("what", "value", title="Tasks")
    better = "higher" if info.metric.sign > 0 else "lower"
    table.add_row("predicts", info.kind)
    table.add_row("inputs", "x".join(str(size) for size in info.input_shape))
    table.add_row("judged by", f"{info.metric.name}, {better} is better")
    table.add_row("baselines", ", ".join(info.baselines) or "none")
    table.add_row("tasks", _shape(episode))
    if not info.grouped:
        table.add_row("groups", "none of their own")
    of_images = info.kind == "classification" and len(info.input_shape) == 3
    counted = "classes" if of_images else "tasks"
    for split in SPLITS:
        sizes = sorted(info.groups[split].values())
        usable = len(family.usable_groups(split, episode))
        table.add_row(
            f"{counted} of {split}",
            f"{sum(sizes)}, {sizes[0]} to {sizes[-1]} a group; {usable} of {len(sizes)} groups "
            "have such tasks",
        )
    return table


def _shape(episode: Episode) -> str:
    if not episode.per_class:
        fewer = "" if episode.fewest is None else f", fewer from {episode.least_examples} rows on"
        return f"{episode.shot} support and {episode.query} query rows{fewer}"
    return f"{episode.way}-way {episode.shot}-shot, {episode.query} query"


def _plan_table(plan: Plan) -> Table:
    table = Table("what", "value", title="Run")
    core = plan.space.space.budget.core_seconds
    limits = [
        *([] if plan.minutes is None else [f"within {plan.minutes:g} min"]),
        *([] if core is None else [f"within {core:g} core seconds"]),
    ]
    time = " and ".join(limits) or "no limit of time"
    rounds = range(plan.first_round, plan.last_round + 1)
    shares = " + ".join(str(plan.share(round_)) for round_ in rounds)
    table.add_row("trials", f"{shares} in {len(rounds)} round(s), {time}")
    for round_ in rounds:
        resources = ", ".join(f"{rung:,}" for rung in plan.rungs(round_))
        table.add_row(f"rungs of round {round_}", f"{resources} forward-equivalents")
    table.add_row("objectives", ", ".join(plan.space.space.objectives))
    table.add_row("tasks", _shape(plan.space.space.episode))
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
