"""Frames as tables of text, for the terminal and the report alike: each number is written once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import inf

import pandas as pd
from rich.table import Table

from metatune.analysis import leaderboard, verdict_table
from metatune.folds import ROLES, Rotated
from metatune.prior import Prior, average_ranks, short_list
from metatune.progress import show_gain, show_score
from metatune.records.frames import flatten
from metatune.records.reading import Run
from metatune.statistics import Estimate
from metatune.strategy import Strategy

SHOWN = 0.05  # a p value below it


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        title: what stands above it.
        columns: their headings.
        words: headings of those that hold words; all others hold numbers.
        rows: of each row, the text of each cell.
        keys: of each row, the trial that it is about; empty where rows are about others.
    """

    title: str
    columns: tuple[str, ...]
    words: frozenset[str]
    rows: tuple[tuple[str, ...], ...]
    keys: tuple[str, ...] = ()

    def rich(self) -> Table:
        """As a table for the terminal."""
        table = Table(title=self.title)
        for column in self.columns:
            table.add_column(column, justify="left" if column in self.words else "right")
        for row in self.rows:
            table.add_row(*row)
        return table


def select_table(run: Run, rows: int) -> Table:
    """``select_sheet`` for the terminal."""
    return select_sheet(run, rows).rich()


def test_table(run: Run) -> Table:
    """``test_sheet`` for the terminal."""
    return test_sheet(run).rich()


def select_sheet(run: Run, rows: int) -> Sheet:
    """The leaderboard of all trials by ``select``; a star marks the front where there are costs."""
    frame, metric = leaderboard(run), run.metric
    several = _has_costs(run)
    more = ("ms a task", "front") if several else ()
    words = ("strategy", "way of learning", "state")
    shown = [
        (
            str(place),
            _name(row),
            _way(row["structure"]),
            str(row["state"]),
            f"{row['round']:.0f}",
            "" if pd.isna(row["rung"]) else f"{row['rung']:.0f}",
            "" if pd.isna(row["score"]) else show_score(row["score"], metric),
            _gain(row, "gain", metric, itself=row["origin"] == "default"),
            *([_milliseconds(row), _mark(row)] if several else []),
            "" if pd.isna(row["seconds"]) else f"{row['seconds']:.1f}",
        )
        for place, (_, row) in enumerate(frame.head(rows).iterrows(), start=1)
    ]
    return Sheet(
        f"Trials by {metric} on select tasks (first {len(shown)})",
        ("", *words, "round", "rung", metric, "gain over the default", *more, "seconds"),
        frozenset(words),
        tuple(shown),
        tuple(map(str, frame.index[:rows])),
    )


def test_sheet(run: Run) -> Sheet:
    """The entrants of the verdict on ``test``."""
    frame, metric = verdict_table(run), run.metric
    final = run.verdicts.iloc[-1]
    trainings = frame.loc[frame["origin"] != "ensemble", "trainings"].astype(int)
    least, most = trainings.min(), trainings.max()
    seeds = f"{least} to {most} trainings each" if least < most else f"{most} trainings each"
    seeds = "one training each" if most == 1 else seeds
    several = _has_costs(run)
    columns = (
        "", "strategy", metric, "95 % interval", "gain over the default", "gain over the rival",
        "rank", "select > confirm", "train s", "ms a task", *(("front",) if several else ()),
    )  # fmt: skip
    shown = list[tuple[str, ...]]()
    for place, (trial, row) in enumerate(frame.iterrows(), start=1):
        marks = {final["winner"]: " (winner)", final["rival"]: " (rival)"}
        mark = " (winner, rival)" if len(marks) == 1 and trial in marks else marks.get(trial, "")
        low, high = (show_score(row[end], metric) for end in ("low", "high"))
        told = (
            str(place),
            _name(row) + mark,
            show_score(row["score"], metric),
            f"{low} to {high}",
            _gain(row, "gain", metric, itself=row["origin"] == "default"),
            _gain(row, "over_rival", metric, itself=trial == final["rival"]),
            f"{row['rank']:.1f}",
            " > ".join(
                "-" if pd.isna(row[split]) else show_score(row[split], metric)
                for split in ("select", "confirm")
            ),
            f"{row['train_seconds']:.1f}",
            _milliseconds(row),
            *([_mark(row)] if several else []),
        )
        shown.append(told)
    return Sheet(
        f"Verdict: {metric} on unseen test tasks ({final['claim']}, {seeds})",
        columns,
        frozenset({"strategy"}),
        tuple(shown),
        tuple(map(str, frame.index)),
    )


def rotation_table(found: Rotated, metric: str) -> Table:
    """``rotation_sheet`` for the terminal."""
    return rotation_sheet(found, metric).rich()


def rotation_sheet(found: Rotated, metric: str) -> Sheet:
    """Winner against rival and default on each group that was in ``test`` of a fold."""
    words = ("group", "winner", "rival")
    better = ("over the rival", "over the default")
    rows = [
        (
            str(row["fold"]),
            *(str(row[name]) for name in words),
            str(row["tasks"]),
            *(show_score(row[f"{role}_score"], metric) for role in ROLES),
            *(show_gain(row[name], -inf, inf, metric) for name in ("over_rival", "gain")),
        )
        for _, row in found.frame.iterrows()
    ]
    return Sheet(
        f"Over {found.frame['fold'].nunique()} folds: {metric} on test tasks",
        ("fold", *words, "tasks", "winner's", "rival's", "default's", *better),
        frozenset(words),
        tuple(rows),
    )


def rotation_text(found: Rotated, metric: str) -> str:
    """What the folds say together: of the search, which found a winner on each."""
    groups, folds = found.frame["group"].nunique(), found.frame["fold"].nunique()
    over_rival = _over_folds(found.over_rival, found.over_rival_p, metric)
    gain = _over_folds(found.gain, found.gain_p, metric)
    trained = f"{found.trainings} training{'s' if found.trainings > 1 else ''} each or more"
    basis = f"G = {groups}, {found.tasks} tasks of {folds} folds, {trained}"
    claim = f"Claim: this search, on new groups ({basis})"
    if found.claim != "new groups":
        claim = (
            "Too few groups for a claim about new groups. Claim: this search, on new tasks of "
            f"these groups ({basis})"
        )
    return (
        f"What the search finds {over_rival} the best preset or baseline of each fold, and "
        f"{gain} the default. {claim}. Folds learn from much the same groups: the intervals are "
        "somewhat too narrow"
    )


def _over_folds(found: Estimate, p: float, metric: str) -> str:
    amount = show_gain(found.mean, found.low, found.high, metric)
    amount = f"difference {amount}{' points' if metric == 'accuracy' else ''}, p = {p:.2g}"
    if found.low > 0 and p < SHOWN:
        return f"beats ({amount})"
    if found.high < 0 and p < SHOWN:
        return f"is worse than ({amount})"
    return f"is not shown to beat ({amount})"


def _has_costs(run: Run) -> bool:
    """Whether the run had objectives beside the score."""
    return len(run.info.get("objectives", ())) > 1


def _milliseconds(row: pd.Series) -> str:
    """What one task takes."""
    found = 1000 * row["adapt_seconds"]
    return "" if pd.isna(found) else f"{found:.0f}" if found >= 10 else f"{found:.2g}"


def _mark(row: pd.Series) -> str:
    """Marks who is on the front."""
    return "*" if row["pareto"] else ""


def runs_table(prior: Prior) -> Table:
    """The runs that a prior was learned from."""
    table = Table("run", "family", "judged by", title="Learned from")
    for column in ("round", "tasks", "strategies"):
        table.add_column(column, justify="right")
    table.add_column("compared with")
    for run, own in prior.frame.groupby("run", sort=False):
        first = own.iloc[0]
        default = own.loc[own["digest"] == first["default"], "name"].iloc[0]
        numbers = (first["round"], len(first["tasks"]), len(own))
        table.add_row(str(run), first["family"], first["metric"], *map(str, numbers), default)
    return table


def portfolio_table(prior: Prior) -> Table:
    """The strategies that a run with this prior tries first, if all fit its space."""
    frame = prior.frame
    table = Table(title="Portfolio: what covers the tasks of these runs best")
    for column, right in (("", True), ("strategy", False), ("way of learning", False)):
        table.add_column(column, justify="right" if right else "left")
    for column in ("runs", "covers so far"):
        table.add_column(column, justify="right")
    for place, (digest, coverage) in enumerate(short_list(frame).items(), start=1):
        own = frame[frame["digest"] == digest]
        name, structure = own.iloc[0][["name", "structure"]]
        covers = f"{100 * coverage:.0f} %"
        table.add_row(str(place), name, _way(structure), str(len(own)), covers)
    return table


def baseline_text(prior: Prior) -> str:
    """The strategy that a run with this prior has to beat."""
    frame = prior.frame
    digest, rank = next(iter(average_ranks(frame).items()))
    own = frame[frame["digest"] == digest]
    runs = frame["run"].nunique()
    return (
        f"Baseline: {own.iloc[0]['name']} has the best average rank: better than "
        f"{100 * (1 - rank):.0f} % of the strategies of a run (tried in {len(own)} of {runs})"
    )


def _gain(row: pd.Series, label: str, metric: str, *, itself: bool) -> str:
    """A gain with its interval; a dash where a trial would be compared with itself."""
    found = (row[label], row[f"{label}_low"], row[f"{label}_high"])
    return "-" if itself else show_gain(*found, metric)


def _name(row: pd.Series) -> str:
    marks = {"default": " (default)", "portfolio": " (prior)"}
    name = f"{row['name']}{marks.get(row['origin'], '')}"
    return f"{name}, transductive" if row["transductive"] is True else name


def winner_text(run: Run) -> str:
    """What the winner is: its knobs; where it lies outside the space, all that is no default."""
    winner = run.trials.loc[run.verdicts.iloc[-1]["winner"]]
    if winner["members"]:
        members = ", ".join(run.trials.loc[winner["members"], "name"])
        return f"{winner['name']} is a blend of {len(winner['members'])}: {members}"
    if pd.notna(winner["params"]):
        knobs = json.loads(winner["params"])
    else:
        strategy = Strategy.model_validate_json(winner["strategy"])
        knobs = flatten(strategy.model_dump(mode="json", exclude_defaults=True))
    settings = ", ".join(f"{name} = {_short(value)}" for name, value in knobs.items())
    return f"{winner['name']} is {_way(winner['structure'])}: {settings}"


def _way(structure: str) -> str:
    """A structural family without its backbone, in words."""
    return ", ".join(part for part in structure.split("/")[1:] if part != "none")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
