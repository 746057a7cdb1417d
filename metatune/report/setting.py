"""Who competes and how, what earlier runs brought, and how to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from metatune.errors import RunError, first_of
from metatune.place import Place
from metatune.progress import time_limit
from metatune.records.reading import Run
from metatune.report.blocks import Block, Board, Command, Facts, Fold, Words
from metatune.tables import Sheet
from metatune.tasks.base import SPLITS

NAMED = 12  # groups of a split that are listed by name

ORIGINS = {
    "default": "the default",
    "preset": "published presets",
    "baseline": "baselines",
    "initial": "named by the space file",
    "portfolio": "of the prior",
    "incumbent": "leaders of the round before",
    "proposed": "proposed by Optuna",
    "promoted": "trained to follow the gradient",
    "probe": "trained to measure a slope",
    "child": "leaders moved by their gradient",
}

SEEN_BY = {
    "train": "learners learn on it",
    "select": "the search scores on it",
    "confirm": "leaders are compared on it",
    "test": "opened once, by the verdict",
}


def setting(run: Run) -> Iterator[Block]:
    """Data, budget, splits, seeds, and who takes part."""
    info = run.info
    yield Facts(tuple(_facts(run)))
    if groups := info["family"].get("groups"):
        yield Board(
            _groups_sheet(groups, info.get("tasks", {})),
            "Splits are made by whole groups: no group stands in two of them.",
        )
    for note in info.get("notes", ()):
        yield Words(f"Note: {note}")


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    info, family = run.info, run.info["family"]
    better = "higher" if family["sign"] > 0 else "lower"
    kind = family.get("kind")
    yield "Data", family["name"] + (f", {kind}" if kind else "")
    yield "Judged by", f"{family['metric']}, {better} is better"
    if episode := info.get("episode"):
        yield "A task", _shape(episode)
    if objectives := info.get("objectives"):
        yield "Objectives", ", ".join(objectives)
    if "trials" in info:
        limit = time_limit(info.get("minutes"), info.get("core_seconds"))
        yield "Budget", f"{info['trials']} trials, {limit}"
    if rounds := info.get("rounds"):
        count = rounds["last"] - rounds["first"] + 1
        growth = f", each with {rounds['growth']:g} times the resource" if count > 1 else ""
        yield "Rounds", f"{count}{growth}"
    if rungs := info.get("rungs"):
        told = ", ".join(f"{rung:,}" for rung in rungs)
        yield "Rungs", f"{told} examples seen (forward-equivalents), in the first round"
    if len(run.trials):
        yield "Tried so far", _origins(run)
    if looks := [f"round {row['round']} ({len(row['trials'])} compared)"
                 for _, row in run.looks.iterrows() if row["split"] == "confirm"]:  # fmt: skip
        yield "Looks at confirm", ", ".join(looks)
    opened = run.looks[run.looks["split"] == "test"]
    if len(opened):
        last = opened.iloc[-1]
        seeds = f", trained anew {last['seeds']} times or more" if last["seeds"] else ""
        yield "Test opened", f"after round {last['round']}, for {len(last['trials'])}{seeds}"
    if "seed" in info:
        yield "Seed", str(info["seed"])


def _shape(episode: Mapping[str, Any]) -> str:
    shot, query, way = (episode.get(name) for name in ("shot", "query", "way"))
    if (way or 1) > 1 and episode.get("per_class", True):
        return f"{way}-way, {shot} of each to learn from, {query} of each to be judged on"
    return f"{shot} rows to learn from, {query} rows to be judged on"


def _origins(run: Run) -> str:
    counts = run.trials["origin"].value_counts()
    return ", ".join(f"{told} ({counts[name]})" for name, told in ORIGINS.items() if counts[name])


def _groups_sheet(groups: Mapping[str, Mapping[str, int]], tasks: Mapping[str, int]) -> Sheet:
    rows = []
    for split in SPLITS:
        own = groups.get(split, {})
        names = [f"{name} ({size})" for name, size in own.items()]
        judged = f"{tasks[split]}" if split in tasks else ""
        told = first_of(names, NAMED, None)
        rows.append((split, SEEN_BY[split], judged, str(len(own)), told))
    words = ("split", "what for", "groups by name")
    columns = ("split", "what for", "tasks scored", "groups", "groups by name")
    return Sheet("Splits", columns, frozenset(words), tuple(rows), SPLITS)


def again(run: Run) -> Iterator[Block]:
    """The command, the versions, and what makes it repeat."""
    info = run.info
    if "seed" not in info:
        yield Words("The run's run.json says too little to run it again.", missing=True)
        return
    name = shlex.quote(run.name)
    trials = f" --trials {info['trials']}" if "trials" in info else ""
    command = f"metatune run {name}/space.yaml --seed {info['seed']}{trials} --workers 1"
    yield Command(command, "In the folder that holds the run:")
    timed = info.get("minutes") is not None or len(info.get("objectives", ())) > 1
    yield Words(
        "With one worker, the same data and the same versions, a run gives the same rows again. "
        + (
            "This one is limited by minutes or judged by seconds, which are measured: how many "
            "trials it has, and which, depends on the machine."
            if timed
            else "With several workers the order in which trials end differs, and with it what is "
            "proposed next."
        )
    )
    versions = ", ".join(f"{name} {v}" for name, v in info.get("versions", {}).items())
    facts = [
        ("Started", str(info.get("created", ""))),
        ("Versions", versions),
        ("Seed", str(info["seed"])),
        ("Space file", f"sha256 {info.get('space_sha256', '')}"),
        ("Data", f"{info['family']['name']}, fingerprint {info.get('data', '')}"),
    ]
    if info.get("prior_sha256"):
        facts.append(("Prior", f"sha256 {info['prior_sha256']}"))
    yield Facts(tuple((term, told) for term, told in facts if told))
    try:
        text = Place.at(run.path).read("space.yaml").decode(errors="replace")
    except RunError:
        yield Words("The run's space.yaml cannot be read.", missing=True)
    else:
        yield Fold("The space file", text)
