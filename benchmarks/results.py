"""Real data: metatune's winner beside what people do today, on tasks that nobody has seen.

    METATUNE_DATA=... python benchmarks/results.py omniglot    # half an hour of two cores
    METATUNE_DATA=... python benchmarks/results.py             # all four families: an hour and more

For each setting and seed two searches of the same minutes: the ready space of the family, and one
of a network that learns each task from scratch, whose rates, steps and size are tuned likewise.
Both are judged on the same tasks of ``test``: every baseline and preset of the space, the tuned
network, and the winner. Interrupted, it goes on where it stood; a search that is done is kept in
``--runs``. docs/results.md is filled by ``write_tables.py``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from metatune import session
from metatune.analysis import verdict_table
from metatune.records.reading import Run, read_run
from metatune.space import load_yaml
from metatune.statistics import claim_for, estimate

RESULTS = Path("benchmarks/results")
SEEDS = (0, 1)
Kind = Literal["metatune", "from scratch"]
KINDS: tuple[Kind, ...] = ("metatune", "from scratch")


@dataclass(frozen=True)
class Setting:
    """One problem.

    Attributes:
        space: the ready space.
        shape: what its section ``family`` says otherwise.
        minutes: of one search, of which each seed has one of each kind; Ray's start and the data
            take some more.
        backbone: of the network that learns each task from scratch.
    """

    space: str
    shape: Mapping[str, Any]
    minutes: float
    backbone: Mapping[str, Any]


CONV = {"kind": "conv4", "width": {"choice": [16, 32, 64]}, "depth": {"int": [2, 4]}}
MLP = {"kind": "mlp", "width": {"choice": [16, 32, 64, 128]}, "depth": {"int": [1, 3]}}
FAMILIES: Mapping[str, Mapping[str, Setting]] = {
    "omniglot": {
        "5-way 1-shot": Setting("omniglot.yaml", {"way": 5}, 2.0, CONV),
        "20-way 1-shot": Setting("omniglot.yaml", {"way": 20}, 4.5, CONV),
    },
    "chembl": {
        "16 molecules": Setting("chembl.yaml", {"shot": 16}, 2.5, MLP),
        "32 molecules": Setting("chembl.yaml", {"shot": 32}, 2.5, MLP),
    },
    "eia_load": {"14 days": Setting("eia_load.yaml", {}, 3.5, MLP)},
    "aus_retail": {"48 months": Setting("aus_retail.yaml", {}, 2.0, MLP)},
}


def space_of(setting: Setting, kind: Kind) -> dict[str, Any]:
    """The space file of one search, as plain data."""
    plain, _ = load_yaml(Path("search_spaces") / setting.space)
    plain["family"] |= setting.shape
    plain["budget"] = {"trials": 10_000, "minutes": setting.minutes}
    plain["rounds"] = {"count": 1}  # a second one pays off with more minutes, if at all
    if kind == "metatune":
        return plain
    return plain | {
        "default": "scratch",
        "initial": ["scratch"],
        "common": {},
        "strategy": {
            "backbone": dict(setting.backbone),
            "head": {"kind": "linear", "start": "zero"},
            "inner": {
                "kind": "adam", "scope": "all",
                "steps": {"int": [10, 300], "log": True},
                "lr": {"float": [3e-4, 1e-1], "log": True},
                "proximal": {"float": [1e-4, 1.0], "log": True},
            },
            "meta": {"rule": "none"},
        },
        # Some of the finalists will be the family's baselines, which take part in any case.
        "verdict": {"seeds": 2, "finalists": 4, "presets": [], "baselines": []},
    }  # fmt: skip


def searched(family: str, name: str, kind: Kind, seed: int, runs: Path) -> Run:
    """One search: from its folder where it is done, else made, or gone on with."""
    folder = runs / f"{family}-{name}-{kind}-{seed}".replace(" ", "_")
    if (folder / "run.json").exists():
        run = read_run(folder)
        return run if len(run.verdicts) else read_run(session.resume(folder, workers=2))
    folder.parent.mkdir(parents=True, exist_ok=True)
    space = folder.with_suffix(".yaml")
    space.write_text(yaml.safe_dump(space_of(FAMILIES[family][name], kind)))
    return read_run(session.run(space, out=folder, seed=seed, workers=2))


def rows_of(family: str, name: str, seed: int, runs: Mapping[Kind, Run]) -> list[dict[str, Any]]:
    """A row an entrant of metatune's verdict, and one for the best of those from scratch."""
    ours = runs["metatune"]
    winner, sign = str(ours.verdicts.iloc[-1]["winner"]), ours.info["family"]["sign"]
    found = list[dict[str, Any]]()
    for kind, run in runs.items():
        entrants, verdict = verdict_table(run), run.verdicts.iloc[-1]
        if kind == "from scratch":
            own = entrants[entrants["origin"].isin(["default", "proposed"])]
            # As chosen on confirm, or on select where none of them was looked at there.
            by = "confirm" if own["confirm"].notna().any() else "select"
            entrants = own.sort_values(by, ascending=sign < 0).head(1)
        for trial, row in entrants.iterrows():
            gain = paired(ours, winner, run, str(trial))
            found.append({
                "family": family, "setting": name, "seed": seed, "search": kind,
                "name": "from scratch, tuned" if kind == "from scratch" else row["name"],
                "origin": row["origin"], "structure": row["structure"],
                "winner": kind == "metatune" and str(trial) == winner,
                "rival": kind == "metatune" and str(trial) == verdict["rival"],
                "metric": ours.info["family"]["metric"], "claim": verdict["claim"],
                "groups": int(row["groups"]), "tasks": int(row["tasks"]),
                "trials": len(run.trials), "minutes": FAMILIES[family][name].minutes,
                "select": row["select"], "confirm": row["confirm"],
                **{key: row[key] for key in ("score", "score_low", "score_high", "trainings")},
                "behind": gain.mean, "behind_low": gain.low, "behind_high": gain.high,
            })  # fmt: skip
    return found


def paired(ours: Run, winner: str, run: Run, trial: str) -> Any:
    """By how much the winner is better on the same tasks, with its 95 % interval."""

    def on_test(of: Run, who: str) -> pd.DataFrame:
        own = of.scores.query("split == 'test' and replica > 0 and trial == @who")
        return own.groupby("task").agg(score=("score", "mean"), group=("group", "first"))

    both = on_test(ours, winner).join(on_test(run, trial), rsuffix="_other", how="inner")
    sign = ours.info["family"]["sign"]
    gains = (sign * (both["score"] - both["score_other"])).tolist()
    groups = both["group"].tolist()
    return estimate(gains, groups, claim_for(groups))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--out", type=Path, default=RESULTS / "results.jsonl")
    options = parser.parse_args()
    unknown = set(options.families) - set(FAMILIES)
    if unknown:
        parser.error(f"found {', '.join(sorted(unknown))}; allowed: {', '.join(FAMILIES)}")
    for family in options.families:
        rows = list[dict[str, Any]]()
        for name in FAMILIES[family]:
            for seed in SEEDS:
                runs = {k: searched(family, name, k, seed, options.runs) for k in KINDS}
                rows += rows_of(family, name, seed, runs)
        lines = options.out.read_text().splitlines() if options.out.exists() else []
        kept = [line for line in lines if json.loads(line)["family"] != family]
        options.out.write_text("".join(f"{x}\n" for x in [*kept, *map(json.dumps, rows)]))
        print(pd.DataFrame(rows)[["setting", "seed", "name", "score", "behind"]].to_string())


if __name__ == "__main__":
    main()
