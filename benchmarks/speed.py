"""How fast metatune is: every figure beside a reference, by turns in one run.

    python benchmarks/speed.py                  # every section; about half an hour
    python benchmarks/speed.py steps trials     # these
    python benchmarks/speed.py --show           # the table as it was saved; runs nothing

Prints one table, and saves its rows in ``benchmarks/results/speed.parquet``: a section that is run
again replaces its own rows. ``write_tables.py`` puts them into docs/performance.md. Peers that
come from PyPI (JAX, TorchOpt, higher) are installed in an environment of their own, see
``peers/environment.py``; without a network their rows are left out.

Figures are of the machine that they were measured on, whose name stands in each row. Ratios carry
over better: give the machine nothing else to do.
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import pandas as pd
import speed_cases
from rich.console import Console
from rich.table import Table
from speed_cases import Case

RESULTS = Path(__file__).parent / "results" / "speed.parquet"
SECTIONS = sorted(module.name for module in pkgutil.iter_modules(speed_cases.__path__))


def machine() -> str:
    """The processor and how many of its cores there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores"


def row(section: str, case: Case, minutes: float) -> dict[str, Any]:
    """A case as it is saved."""
    return {
        "section": section,
        "what": case.what,
        "reference": case.reference,
        "unit": case.unit,
        "ours": list(case.ours),
        "theirs": list(case.theirs),
        "ratios": list(case.ratios),
        "goal": case.goal,
        "reached": case.reached,
        "note": case.note,
        "minutes": round(minutes, 2),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def save(rows: list[dict[str, Any]], section: str, file: Path) -> None:
    """Put the rows of a section in place of those that it has in the file."""
    kept = pd.read_parquet(file).to_dict("records") if file.exists() else []
    kept = [each for each in kept if each["section"] != section]
    made = sorted([*kept, *rows], key=lambda each: SECTIONS.index(each["section"]))
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(made).astype({"goal": "float64", "reached": "boolean"}).to_parquet(file)


def spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    if len(values) == 0:
        return ""
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def aim(goal: float | None) -> str:
    """A goal in words; empty where there is none."""
    return "" if goal is None or pd.isna(goal) else f"{'≥' if goal > 0 else '≤'} {abs(goal):g}"


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows to look at."""
    heads = ("section", "what", "unit", "ours", "reference", "theirs", "ratio", "goal", "", "note")
    shown = Table(*heads, title="Median [least, most]")
    for each in rows:
        sign, reached = aim(each["goal"]), each["reached"]
        verdict = sign and ("reached" if reached else "NOT")
        shown.add_row(
            each["section"], each["what"], each["unit"], spread(each["ours"]), each["reference"],
            spread(each["theirs"]), spread(each["ratios"]), sign, verdict, each["note"],
            style="red" if verdict == "NOT" else "",
        )  # fmt: skip
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", help=f"{', '.join(SECTIONS)}; by default all")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual counts")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the Parquet file")
    parser.add_argument("--show", action="store_true", help="print what is saved, run nothing")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"found section {', '.join(unknown)}; allowed: {', '.join(SECTIONS)}")
    chosen, console = options.sections or SECTIONS, Console(width=max(Console().width, 200))
    if not options.show:
        for section in chosen:
            rows, began = [], monotonic()
            for case in import_module(f"speed_cases.{section}").cases(options.scale):
                rows.append(row(section, case, (monotonic() - began) / 60))
                began = monotonic()
                save(rows, section, options.out)
                console.print(f"{section}: {case.what}: {spread(case.ratios or case.ours)}")
    saved = pd.read_parquet(options.out).to_dict("records")
    console.print(table([each for each in saved if each["section"] in chosen]))


if __name__ == "__main__":
    sys.exit(main())
