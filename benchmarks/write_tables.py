"""Put the tables of finished benchmarks into the pages of docs/, between their markers.

    python benchmarks/write_tables.py            # from benchmarks/results/ into docs/*.md

A page has, for each table, the lines ``<!-- table: NAME -->`` and ``<!-- end -->``; what stands
between them is replaced, so that no figure in docs/ is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from speed import aim, spread

from metatune.statistics import estimate

RESULTS, DOCS = Path("benchmarks/results"), Path("docs")
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

MAML_PAPER = {"maml": (0.67, 0.38, 0.35), "pre-trained": (2.41, 2.23, 2.19)}


def markdown(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in lines)


def read_lines(name: str) -> pd.DataFrame:
    """The rows of a JSON-lines file."""
    return pd.read_json(RESULTS / name, lines=True)


def sinusoid() -> str:
    """Rows by method, rate and number of steps."""
    found, rows = read_lines("sinusoid.jsonl"), []
    for (name, rate, steps), own in found.groupby(["row", "rate", "steps"], sort=False):
        paper = MAML_PAPER.get(name)
        rows.append((
            name, rate, steps,
            "" if paper is None else paper[(1, 5, 10).index(steps)],
            f"{own['mse'].mean():.2f}",
            ", ".join(f"{mse:.2f}" for mse in own["mse"]),
            f"±{((own['high'] - own['low']) / 2).mean():.2f}",
            int(own["diverged"].sum()),
            f"{own['minutes'].mean():.1f}",
        ))  # fmt: skip
    heads = ("method", "inner rate", "steps", "paper", "ours", "by seed", "95 % of 600 tasks",
             "diverged", "minutes")  # fmt: skip
    return markdown(heads, rows)


def omniglot(file: str = "omniglot.jsonl") -> str:
    """A row a method, a column a kind of task."""
    from omniglot import PUBLISHED

    found, rows = read_lines(file), []
    cells = [(5, 1), (5, 5), (20, 1), (20, 5)]
    for method, own in found.groupby("method", sort=False):
        row: list[object] = [method]
        for place, (way, shot) in enumerate(cells):
            seen = own[(own["way"] == way) & (own["shot"] == shot)]
            paper = PUBLISHED.get(str(method), (None,) * 4)[place] or "-"
            ours = [f"{seen[column].mean():.1f}" for column in ("accuracy", "low", "high")]
            row.append(f"{ours[0]} [{ours[1]}, {ours[2]}] / {paper}" if len(seen) else "not run")
        row += [f"{own['steps'].max()} to {own['steps'].min()}", f"{own['minutes'].sum():.0f}"]
        rows.append(row)
    heads = ["method", *(f"{way}-way {shot}-shot" for way, shot in cells), "meta-steps", "minutes"]
    return markdown(heads, rows)


def omniglot_long() -> str:
    """The same with three times the resource, as far as it was run."""
    return omniglot("omniglot_long.jsonl")


def chembl() -> str:
    """A row a method."""
    scores: dict[str, dict[str, float]] = json.loads((RESULTS / "chembl.json").read_text())["r2"]
    ridge, rows = scores["ridge"], []
    for name, by_cluster in scores.items():
        clusters = list(ridge)
        mean = estimate([by_cluster[c] for c in clusters], clusters, "new groups")
        gains = [by_cluster[c] - ridge[c] for c in clusters]
        gain = estimate(gains, clusters, "new groups")
        better = f"{sum(g > 0 for g in gains)} of {len(gains)}"
        over = (f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]", better)
        rows.append((
            name, f"{mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]",
            *(("", "") if name == "ridge" else over),
        ))  # fmt: skip
    return markdown(("method", "R2", "over ridge, by cluster", "better in clusters"), rows)


def prior() -> str:
    """A row an earlier search, a column what the later one has of it."""
    found, rows = read_lines("prior.jsonl"), []
    variants = [column for column in found.columns if column not in ("earlier", "seed")]
    for name, own in found.groupby("earlier", sort=False):
        row: list[object] = [name]
        for variant in variants:
            gain = own[variant] - own["none"]
            error = gain.std() / len(own) ** 0.5
            over = "" if variant == "none" else f" ({gain.mean():+.3f} ± {error:.3f})"
            row.append(f"{own[variant].mean():.3f}{over}")
        rows.append([*row, len(own)])
    return markdown(["earlier tasks", *variants, "seeds"], rows)


def over_seeds(values: pd.Series, digits: int = 3, sign: str = "") -> str:
    """A mean with its 95 % t interval over seeds."""
    found = estimate(values.to_list(), [str(i) for i in range(len(values))], "new tasks")
    mean, low, high = (f"{x:{sign}.{digits}f}" for x in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"


def replay() -> str:
    """A row a policy, a pair of columns a budget: the accuracy, and what the last means brought."""
    found, rows = read_lines("replay.jsonl"), []
    budgets, above = sorted(found["seconds"].unique()), dict[int, pd.Series]()
    for policy, own in found.groupby("policy", sort=False):
        row: list[object] = [policy]
        for seconds in budgets:
            here = own[own["seconds"] == seconds].set_index("seed").sort_index()
            accuracy = 100 * here["accuracy"]
            row += [over_seeds(accuracy, 1), f"{here['tried'].mean():.0f}"]
            row.append(over_seeds(accuracy - above[seconds], 1, "+") if seconds in above else "")
            above[seconds] = accuracy
        rows.append(row)
    heads = [f"{s} core s: {what}" for s in budgets for what in ("accuracy", "tried", "over above")]
    return markdown(["policy", *heads], rows)


def time_to(score: float, times: Sequence[float], scores: Sequence[float], sign: int) -> float:
    """When a curve of mean scores first comes to a score, on lines between points; inf: never."""
    for place, (at, own) in enumerate(zip(times, scores, strict=True)):
        if sign * own >= sign * score:
            if place == 0:
                return at
            before, last = scores[place - 1], times[place - 1]
            return last + (at - last) * (score - before) / (own - before)
    return float("inf")


def came_to(time: float, times: Sequence[float]) -> str:
    """A time as far as a curve that was looked at from its first moment to its last can tell."""
    if time == float("inf"):
        return f"not in {times[-1]:.0f}"
    return f"at most {time:.0f}" if time == times[0] else f"{time:.0f}"


def ratio_of(theirs: float, ours: float, most: float) -> str:
    """How many times longer the other takes."""
    return f"{theirs / ours:.1f}" if theirs < float("inf") else f"over {most / ours:.1f}"


def versus_replay() -> str:
    """A row a budget of metatune; when Ray Tune's mean comes to the same."""
    found, rows = read_lines("versus_replay.jsonl"), []
    theirs = found[found["system"] == "ray tune"]
    curve = theirs.groupby("moment")[["seconds", "accuracy"]].mean()
    times, scores = curve["seconds"].to_list(), curve["accuracy"].to_list()
    for (system, _), own in found[found["system"] != "ray tune"].groupby(["system", "moment"]):
        seconds, accuracy = own["seconds"].mean(), own["accuracy"].mean()
        other = time_to(accuracy, times, scores, 1)
        rows.append((
            system, f"{seconds:.0f}", over_seeds(100 * own["accuracy"], 1),
            came_to(other, times),
            ratio_of(other, seconds, times[-1]), own["seed"].nunique(),
        ))  # fmt: skip
    heads = ("system", "core seconds", "accuracy", "Ray Tune: core seconds to the same", "times",
             "seeds")  # fmt: skip
    return markdown(heads, rows) + "\n" + _peer_curve(theirs)


def _peer_curve(theirs: pd.DataFrame) -> str:
    rows = [
        (f"{own['seconds'].mean():.0f}", over_seeds(100 * own["accuracy"], 1))
        for _, own in theirs.groupby("moment")
    ]
    return markdown(("Ray Tune: core seconds", "accuracy"), rows)


def versus_live() -> str:
    """A row a family and a moment: the confirmed score of both, and the difference by seed."""
    found, rows = read_lines("versus_live.jsonl"), []
    for family, of_family in found.groupby("family", sort=False):
        sign, scale = (-1, 1) if family == "sinusoid" else (1, 100)
        curves = {
            (row["system"], row["seed"]): dict(row["curve"]) for _, row in of_family.iterrows()
        }
        seeds = sorted(of_family["seed"].unique())
        means: dict[str, dict[float, float]] = {"metatune": {}, "ray tune": {}}
        for moment in next(iter(curves.values())):
            both = {system: [curves[system, seed][moment] for seed in seeds] for system in means}
            row: list[object] = [family, f"{moment:.0f}"]
            for system, scores in both.items():
                whole = None not in scores
                if whole:
                    means[system][moment] = sum(scores) / len(scores)
                row.append(f"{scale * means[system][moment]:.2f}" if whole else "nothing in some")
            if moment in means["metatune"] and moment in means["ray tune"]:
                pairs = zip(both["metatune"], both["ray tune"], strict=True)
                gains = pd.Series([scale * sign * (a - b) for a, b in pairs])
                row.append(over_seeds(gains, 2, "+"))
            else:
                row.append("")
            ours = means["metatune"].get(moment)
            if ours is None:
                row.append("")
            else:
                curve = means["ray tune"]
                other = time_to(ours, list(curve), list(curve.values()), sign)
                row.append(ratio_of(other, moment, max(curve, default=0)))
            rows.append(row)
    heads = ("family", "seconds", "metatune", "Ray Tune", "metatune better by", "times as fast")
    return markdown(heads, rows)


def gradient() -> str:
    """What a search hands over, with children of the gradient and without."""
    found = read_lines("ablation.jsonl").query("role == 'winner'")
    arms = ("children of TPE", "children by gradient")
    own = {arm: found[found["arm"] == arm].set_index("seed").sort_index() for arm in arms}
    without = own[arms[0]]["score"]
    rows = [
        (
            arm, over_seeds(frame["score"], 3), f"{frame['trials'].mean():.0f}",
            f"{frame['children'].mean():.1f}",
            "" if arm == arms[0] else over_seeds(without - frame["score"], 3, "+"), len(frame),
        )
        for arm, frame in own.items()
    ]  # fmt: skip
    return markdown(
        ("arm", "squared error on test", "trials", "children", "better by", "seeds"), rows
    )


def ensemble() -> str:
    """The greedy ensemble, the winner alone, and the best preset's ensemble, on the same tests."""
    found, rows = read_lines("ablation.jsonl").query("arm == 'ensemble'"), []
    blends, singles = found[found["members"] > 0], found[found["members"] == 0]
    of_preset = blends[blends["name"] != "ensemble"].assign(
        preset=lambda frame: frame["name"].str.rpartition(" x ")[0]
    )
    alone = of_preset[["seed", "preset"]].merge(
        singles, left_on=["seed", "preset"], right_on=["seed", "name"]
    )
    kinds = {
        "greedy ensemble": blends[blends["name"] == "ensemble"],
        "first on confirm, alone": singles.sort_values("confirm", ascending=False),
        "best preset's ensemble": of_preset,
        "best preset, alone": alone,
    }
    scores = {name: own.groupby("seed")["score"].first() for name, own in kinds.items()}
    costs = {name: own.groupby("seed")["adapt_seconds"].first() for name, own in kinds.items()}
    first = scores["greedy ensemble"]
    for name, own in scores.items():
        over = (first - own.reindex(first.index)).dropna()
        rows.append((
            name, over_seeds(100 * own, 1), f"{1000 * costs[name].mean():.1f}",
            "" if name == "greedy ensemble" else over_seeds(100 * over, 1, "+"), len(own),
        ))  # fmt: skip
    heads = ("strategy", "accuracy on test", "ms a task", "the ensemble better by", "seeds")
    return markdown(heads, rows)


def tasks() -> str:
    """Rows by size of a task and form; columns are rates with their range."""
    found, rows = read_lines("tasks.jsonl"), []
    for (size, form, batch), own in found.groupby(["size", "form", "batch"], sort=False):
        one = own.iloc[0]
        told = f"{one['rate']:,.0f} [{one['low']:,.0f}, {one['high']:,.0f}]"
        rows.append((f"{size:,}", form, batch, told))
    return markdown(("rows a task", "form", "tasks a batch", "tasks a second"), rows)


def results(family: str) -> str:
    """A row a strategy of each problem: its score with each seed, and the winner over it."""
    found = read_lines("results.jsonl")
    found, rows = found[found["family"] == family], list[list[object]]()
    if found.empty:
        raise FileNotFoundError(f"results of {family}")
    for setting, problem in found.groupby("setting", sort=False):
        seeds = sorted(problem["seed"].unique())
        # Entrants stand best first: of several further finalists the best.
        roles = problem.assign(role=problem.apply(_role, axis=1))
        roles = roles.drop_duplicates(["seed", "role"])
        for role in dict.fromkeys(roles.sort_values("winner", ascending=False)["role"]):
            own = roles[roles["role"] == role].set_index("seed")
            row: list[object] = [setting, role]
            for seed in seeds:
                told = own.loc[seed] if seed in own.index else None
                row += ["", ""] if told is None else [
                    f"{told['score']:.3f} [{told['score_low']:.3f}, {told['score_high']:.3f}]",
                    "" if told["winner"] else f"{told['behind']:+.3f} "
                    f"[{told['behind_low']:+.3f}, {told['behind_high']:+.3f}]",
                ]  # fmt: skip
            rows.append(row)
    heads = ["tasks", "strategy"]
    for seed in sorted(found["seed"].unique()):
        heads += [f"seed {seed}: test", "winner better by"]
    return markdown(heads, rows)


def _role(row: pd.Series) -> str:
    """The name of an entrant that is the same with every seed."""
    if row["winner"]:
        return "**metatune's winner**"
    found = row["search"] == "metatune" and row["origin"] in ("proposed", "incumbent")
    return "a further finalist" if found else row["name"]


def tasks_memory() -> str:
    """Rows by size of a table and process; columns are the most memory that it held."""
    found, rows = read_lines("tasks_memory.jsonl"), []
    for _, one in found.sort_values(["form", "gigabytes"], kind="stable").iterrows():
        rows.append((
            f"{one['gigabytes']:.1f} GB of {one['form']}", f"{one['tasks']:,}",
            f"{one['rows']:,}", f"{one['encoded']:.1f} GB", one["process"],
            f"{one['private']:,.0f}", f"{one['mapped']:,.0f}",
        ))  # fmt: skip
    heads = ("on the disk", "tasks", "rows", "encoded", "process", "private MiB", "mapped MiB")
    return markdown(heads, rows)


def artifact() -> str:
    """A row an artifact: the median over repeats, and the lowest and highest."""
    found, rows = read_lines("artifact.jsonl"), []
    for _, one in found.iterrows():
        spread = [
            f"{pd.Series(one[which]).median():.1f} [{min(one[which]):.1f}, {max(one[which]):.1f}]"
            for which in ("core", "clock")
        ]
        rows.append((one["family"], one["strategy"], one["kind"], *spread, f"{one['load']:.1f}"))
    heads = ("tasks", "strategy", "kind", "core ms", "clock ms", "load of the machine")
    return markdown(heads, rows)


def faults() -> str:
    """A row a fault."""
    found = pd.read_parquet(RESULTS / "faults.parquet")
    rows = [
        (
            row["section"], row["case"], row["done"],
            ", ".join(f"{name} {value}" for name, value in json.loads(row["counts"]).items()),
            row["expected"], "so" if row["passed"] and row["found"] == "so" else row["found"],
            f"{row['seconds']:.0f}", "yes" if row["passed"] else "**no**",
        )
        for row in found.to_dict("records")
    ]  # fmt: skip
    heads = ("section", "fault", "done", "counts", "expected", "found", "seconds", "as expected")
    return markdown(heads, rows)


def speed() -> str:
    """A row a comparison: medians of repeats by turns, and the least and most."""
    rows = []
    for row in pd.read_parquet(RESULTS / "speed.parquet").to_dict("records"):
        goal = aim(row["goal"])
        rows.append((
            row["what"], row["reference"], row["unit"], spread(row["ours"]), spread(row["theirs"]),
            spread(row["ratios"]), goal, goal and ("yes" if row["reached"] else "**no**"),
            row["note"],
        ))  # fmt: skip
    heads = ("what", "reference", "unit", "metatune", "reference's", "ratio", "aim", "reached", "")
    return markdown(heads, rows)


TABLES: dict[str, Callable[[], str]] = {
    f.__name__: f
    for f in (
        sinusoid, omniglot, omniglot_long, chembl, prior, replay, versus_replay, versus_live,
        gradient, ensemble, tasks, tasks_memory, artifact, faults, speed,
    )
} | {
    f"results_{family}": partial(results, family)
    for family in ("omniglot", "chembl", "eia_load", "aus_retail")
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()

    def filled(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        try:
            return f"{start}{TABLES[name]()}{end}"
        except FileNotFoundError:  # not run yet: what stands there stays
            return match.group(0)

    for page in sorted(DOCS.glob("*.md")):
        text: Any = page.read_text()
        page.write_text(MARKED.sub(filled, text))


if __name__ == "__main__":
    main()
