"""What becomes of runs when things fail: every fault is made for real, none is acted.

    python benchmarks/faults.py                    # every section, one after the other
    python benchmarks/faults.py network disk       # these
    python benchmarks/faults.py kills --scale 0.1  # a tenth of its repetitions, for a quick look
    python benchmarks/faults.py --show             # the table as it was saved; runs nothing

Prints one table, and saves its rows in ``benchmarks/results/faults.parquet``: a section that is run
again replaces its own rows. Ends with status 1 if a case did not pass.
"""

from __future__ import annotations

import argparse
import json
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import fault_cases
import pandas as pd
from fault_cases import Case
from rich.console import Console
from rich.markup import escape
from rich.table import Table

RESULTS = Path(__file__).parent / "results" / "faults.parquet"
WIDTH = 180  # columns at least, so that sentences can be read
COLUMNS = ("section", "case", "done", "counts", "expected", "found", "seconds", "passed")
SECTIONS = sorted(module.name for module in pkgutil.iter_modules(fault_cases.__path__))


def run(section: str, seed: int, scale: float) -> Iterator[dict[str, Any]]:
    """The rows of a section as they come; one that breaks off has a row that says why."""
    module, began = import_module(f"fault_cases.{section}"), monotonic()

    def row(case: Case) -> dict[str, Any]:
        nonlocal began
        took, began = monotonic() - began, monotonic()
        plain = {**asdict(case), "counts": json.dumps(dict(case.counts))}
        return {"section": section, **plain, "seconds": round(took, 1)}

    try:
        for case in module.cases(seed, scale):
            yield row(case)
    except Exception:
        found = traceback.format_exc()
        yield row(Case("the section", "", {"seed": seed}, "runs to its end", found, False))


def save(rows: list[dict[str, Any]], section: str, file: Path) -> None:
    """Put the rows of a section in place of those that it has in the file."""
    made = pd.DataFrame(rows, columns=list(COLUMNS))
    if file.exists():
        kept = pd.read_parquet(file)
        made = pd.concat([kept[kept["section"] != section], made], ignore_index=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    made.sort_values("section", kind="stable").to_parquet(file, index=False)


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows to look at; red where one did not pass."""
    shown = Table(*COLUMNS[:-1], "", title="Faults")
    for row in rows:
        counts = ", ".join(f"{name} {value}" for name, value in json.loads(row["counts"]).items())
        texts = [row["section"], row["case"], row["done"], counts, row["expected"], row["found"]]
        shown.add_row(
            *map(escape, texts),
            f"{row['seconds']:.0f}",
            "passed" if row["passed"] else "FAILED",
            style="" if row["passed"] else "red",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", help=f"{', '.join(SECTIONS)}; by default all")
    parser.add_argument("--seed", type=int, default=0, help="of the random instants")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual repetitions")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the Parquet file")
    parser.add_argument("--show", action="store_true", help="print what is saved, run nothing")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"found section {', '.join(unknown)}; allowed: {', '.join(SECTIONS)}")
    chosen, rows = options.sections or SECTIONS, list[dict[str, Any]]()
    console = Console(width=max(Console().width, WIDTH))
    if options.show:
        saved = pd.read_parquet(options.out)
        rows = saved[saved["section"].isin(chosen)].to_dict("records")  # type: ignore[assignment]
    else:
        for section in chosen:
            own = []
            for row in run(section, options.seed, options.scale):
                own.append(row)
                told = "passed" if row["passed"] else f"FAILED: {row['found']}"
                console.print(f"{section}: {row['case']}: {told}", style="dim", markup=False)
            save(own, section, options.out)
            rows += own
    console.print(table(rows))
    sys.exit(any(not row["passed"] for row in rows))


if __name__ == "__main__":
    main()
