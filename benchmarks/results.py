"""Real data: metatune's winner beside what people do today, on tasks that nobody has seen.

    METATUNE_DATA=... python benchmarks/results.py omniglot    # half an hour of two cores
    METATUNE_DATA=... python benchmarks/results.py             # all four families: an hour and more

For each setting and seed two searches of the same minutes: the ready space of the family, and one
of a network that learns each task from scratch, whose rates, steps and size are tuned likewise.
Both are judged on the same tasks of ``test``: every baseline and preset of the space, the tuned
network, and the winner. Interrupted, it goes on where it stood: a search that is done is kept in
``--runs``, and what has its rows in ``--out`` is not run again. docs/results.md is filled by
``write_tables.py``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from metatune import session
from metatune.analysis import leaderboard, task_matrix, verdict_table
from metatune.history import History
from metatune.records.reading import Run, read_rows, read_run
from metatune.space import load_yaml
from metatune.statistics import claim_for, estimate
from metatune.trial import run_trial

RESULTS = Path("benchmarks/results")
SEEDS = (0, 1)
TRAININGS = 2  # of the network from scratch, for its scores on `test`
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
        steps: that it may take; a step on twenty images through a convolution takes as long as a
            hundred on twenty rows through an MLP, and a search of some minutes has to try many.
    """

    space: str
    shape: Mapping[str, Any]
    minutes: float
    backbone: Mapping[str, Any]
    steps: tuple[int, int] = (10, 300)


CONV = {"kind": "conv4", "width": {"choice": [8, 16, 32]}, "depth": {"int": [2, 4]}}
MLP = {"kind": "mlp", "width": {"choice": [16, 32, 64, 128]}, "depth": {"int": [1, 3]}}
FAMILIES: Mapping[str, Mapping[str, Setting]] = {
    "omniglot": {
        "5-way 1-shot": Setting("omniglot.yaml", {"way": 5}, 1.25, CONV, (5, 50)),
        "20-way 1-shot": Setting("omniglot.yaml", {"way": 20}, 4.0, CONV, (5, 50)),
    },
    "chembl": {
        "16 molecules": Setting("chembl.yaml", {"shot": 16}, 2.5, MLP),
        "32 molecules": Setting("chembl.yaml", {"shot": 32}, 2.5, MLP),
    },
    "eia_load": {"14 days": Setting("eia_load.yaml", {}, 3.5, MLP)},
    "aus_retail": {"48 months": Setting("aus_retail.yaml", {}, 1.5, MLP)},
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
        # A default that is lost ends a run, and networks from scratch may diverge.
        "default": naive_of(setting),
        "initial": [naive_of(setting), "scratch"],
        "common": {},
        "strategy": {
            # Numbers are learned as differences to the support's mean.
            "prior": {"kind": "zero" if setting.backbone is CONV else "support"},
            "backbone": dict(setting.backbone),
            "head": {"kind": "linear", "start": "zero"},
            "inner": {
                "kind": "adam", "scope": "all",
                "steps": {"int": list(setting.steps), "log": True},
                "lr": {"float": [3e-4, 1e-1], "log": True},
                "proximal": {"float": [1e-4, 1.0], "log": True},
            },
            "meta": {"rule": "none"},
        },
        # The family's baselines take part in any case; the verdict is not what is looked for.
        "verdict": {"seeds": 1, "finalists": 1, "presets": [], "baselines": []},
    }  # fmt: skip


def naive_of(setting: Setting) -> str:
    """A way to learn that cannot be lost."""
    return "nearest_neighbour" if setting.backbone is CONV else "support_mean"


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
    ours, scratch = runs["metatune"], runs["from scratch"]
    verdict, entrants, scores = ours.verdicts.iloc[-1], verdict_table(ours), task_matrix(ours)
    winner = scores[verdict["winner"]]
    tuned, of_tuned = tuned_from_scratch(scratch)
    found = [
        row_of(ours, winner, row["name"], row, scores[trial], {
            "search": "metatune", "trials": len(ours.trials),
            "winner": trial == verdict["winner"], "rival": trial == verdict["rival"],
        })
        for trial, row in entrants.iterrows()
    ]  # fmt: skip
    found.append(row_of(ours, winner, "from scratch, tuned", tuned, of_tuned, {
        "search": "from scratch", "trials": len(scratch.trials), "winner": False, "rival": False,
    }))  # fmt: skip
    minutes = FAMILIES[family][name].minutes
    problem = {"family": family, "setting": name, "seed": seed, "minutes": minutes}
    return [problem | {"claim": verdict["claim"]} | row for row in found]


def row_of(
    ours: Run, winner: pd.Series, name: str, about: pd.Series, own: pd.Series, told: dict[str, Any]
) -> dict[str, Any]:
    """What a strategy has on ``test``, and by how much the winner is better on the same tasks.

    Scores are those of ``task_matrix``, by group and task.
    """
    family = ours.info["family"]
    groups = own.index.get_level_values("group").to_list()
    claim = claim_for(groups)
    score = estimate(own.to_list(), groups, claim)
    gain = estimate((family["sign"] * (winner - own)).to_list(), groups, claim)
    return told | {
        "name": name, "origin": about["origin"], "structure": about["structure"],
        "metric": family["metric"], "groups": len(set(groups)), "tasks": len(own),
        "score": score.mean, "score_low": score.low, "score_high": score.high,
        "behind": gain.mean, "behind_low": gain.low, "behind_high": gain.high,
    }  # fmt: skip


def tuned_from_scratch(run: Run) -> tuple[pd.Series, pd.Series]:
    """The best network from scratch, as chosen on ``select``, and its scores by group and task.

    Baselines of the family take part in its search, too, and may leave it no place in the verdict;
    so it is scored here, each time from another initialisation.
    """
    board = leaderboard(run)
    own = board["origin"].isin(["default", "initial", "proposed"])
    own &= ~board["name"].isin(["nearest_neighbour", "support_mean"])
    best = board[own & (board["state"] == "completed")].iloc[0]
    folder, plan = session.planned(run.path)
    asked = History(plan.info.metric.sign, read_rows(folder)).trials[str(best.name)].asked
    frames = list[pd.DataFrame]()
    for replica in range(1, TRAININGS + 1):
        *_, result = run_trial(plan.job(asked, "test", folder=None, replica=replica))
        frames.append(
            pd.DataFrame({"group": result.groups, "task": result.tasks, "score": result.scores})
        )
    return best, pd.concat(frames).groupby(["group", "task"])["score"].mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--out", type=Path, default=RESULTS / "results.jsonl")
    options = parser.parse_args()
    unknown = set(options.families) - set(FAMILIES)
    if unknown:
        parser.error(f"found {', '.join(sorted(unknown))}; allowed: {', '.join(FAMILIES)}")
    problems = [(family, name) for family in options.families for name in FAMILIES[family]]
    for (family, name), seed in product(problems, SEEDS):
        known = read_lines(options.out)
        if any((k["family"], k["setting"], k["seed"]) == (family, name, seed) for k in known):
            continue
        runs = {kind: searched(family, name, kind, seed, options.runs) for kind in KINDS}
        rows = rows_of(family, name, seed, runs)
        options.out.write_text("".join(f"{json.dumps(row)}\n" for row in [*known, *rows]))
        print(pd.DataFrame(rows)[["setting", "seed", "name", "score", "behind"]].to_string())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of what is done."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
