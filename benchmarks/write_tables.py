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
from pathlib import Path
from typing import Any

import pandas as pd

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


TABLES: dict[str, Callable[[], str]] = {
    f.__name__: f for f in (sinusoid, omniglot, omniglot_long, chembl, prior)
}


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
