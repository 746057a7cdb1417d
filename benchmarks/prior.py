"""What a prior brings to a search, and what a wrong one costs, where the answer is known.

Proposals for a made-up space of three heads and three or four numbers, whose value is a formula,
measured with noise. An earlier search of 25 trials leaves its prior to one of 24. Its tasks are the
same (``right``), or their best rates lie half a power of ten away (``related``), or another head is
best at rates ten times off (``other``), or all its gains have the wrong sign (``negated``). The
later search has no prior, the portfolio alone, or the lessons too. What is compared is the value,
without noise, of the strategy that it would name its best; 0.3 is the best there is.

    python benchmarks/prior.py --seeds 30      # ten minutes on one core
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from math import log10
from pathlib import Path
from random import Random
from statistics import mean, stdev
from typing import Any

from metatune.prior import Lesson, discounted
from metatune.proposer import Observation, propose
from metatune.seeds import derive_seed
from metatune.space import parse_tree

TREE = parse_tree(
    {
        "inner": {"lr": {"float": [1e-4, 1.0], "log": True}},
        "outer": {"lr": {"float": [1e-4, 0.1], "log": True}},
        "choose": {
            "gradient": {
                "head": {"kind": "linear", "start": {"choice": ["zero", "learned"]}},
                "inner": {"steps": {"int": [1, 20], "log": True}},
            },
            "ridge": {"head": {"kind": "ridge", "penalty": {"float": [0.01, 100.0], "log": True}}},
            "prototypes": {
                "head": {"kind": "prototypes", "scale": {"float": [0.1, 30.0], "log": True}}
            },
        },
    }
)
DEFAULT: dict[str, Any] = {
    "inner.lr": 1e-3,
    "outer.lr": 1e-3,
    "choose": "prototypes",
    "choose.prototypes.head.scale": 1.0,
}
NOISE = 0.05  # standard deviation of a measured value
OLD, NEW, PORTFOLIO = 25, 24, 3
VARIANTS = ("none", "portfolio", "portfolio and lessons")


def value(params: Any, off: float = 0.0, best: str = "ridge") -> float:
    """How good a strategy is."""
    rates = (log10(params["inner.lr"]) + 2 + off) ** 2 + (
        log10(params["outer.lr"]) + 2.5 - off
    ) ** 2
    found = 0.3 * (params["choose"] == best) - 0.15 * rates
    if params["choose"] == "ridge":
        return found - 0.1 * (log10(params["choose.ridge.head.penalty"]) - off) ** 2
    if params["choose"] == "prototypes":
        return found - 0.1 * (log10(params["choose.prototypes.head.scale"]) - 0.5 + off) ** 2
    steps = log10(params["choose.gradient.inner.steps"])
    return (
        found
        - 0.15 * (steps - 0.65) ** 2
        + 0.1 * (params["choose.gradient.head.start"] == "learned")
    )


def related(params: Any) -> float:
    """The same way of learning is best, at other rates."""
    return value(params, 0.5)


def other(params: Any) -> float:
    """Something else is best."""
    return value(params, -1.0, "prototypes")


EARLIER: dict[str, tuple[Callable[[Any], float], int]] = {
    "right": (value, 1),
    "related": (related, 1),
    "other": (other, 1),
    "negated": (value, -1),
}


def search(
    good: Callable[[Any], float], known: Sequence[Lesson], lessons: bool, trials: int, seed: int
) -> list[Lesson]:
    """What a search measures: values of knobs with their gains over the default."""
    draw, base = Random(derive_seed(seed, "noise")), good(DEFAULT)
    own: list[Lesson] = [(DEFAULT, 0.0)]
    first = [params for params, gain in known if gain > 0 and params != DEFAULT][:PORTFOLIO]
    for number in range(1, trials):
        if number <= len(first):
            params = first[number - 1]
        else:
            heard = discounted(known, own) if lessons and number % 2 == 0 else []
            told = [Observation(p, "completed", {1: gain}) for p, gain in (*heard, *own)]
            params = propose(TREE, told, derive_seed(seed, "propose", number))
        own.append((params, good(params) - base + draw.gauss(0, NOISE)))
    return own


def run(name: str, seed: int) -> dict[str, Any]:
    """One earlier search and, for each variant, the value of what the later one ends with."""
    good, sign = EARLIER[name]
    old = search(good, [], False, OLD, derive_seed(seed, "old"))
    known = sorted(((params, sign * gain) for params, gain in old), key=lambda found: -found[1])
    row: dict[str, Any] = {"earlier": name, "seed": seed}
    for variant in VARIANTS:
        given = [] if variant == "none" else known
        own = search(value, given, variant == VARIANTS[-1], NEW, seed)
        row[variant] = round(value(max(own, key=lambda found: found[1])[0]), 4)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/prior.jsonl"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w") as file:
        for name in EARLIER:
            rows = [run(name, seed) for seed in range(args.seeds)]
            file.writelines(json.dumps(row) + "\n" for row in rows)
            for variant in VARIANTS:
                gains = [row[variant] - row["none"] for row in rows]
                print(
                    f"{name:8s} {variant:22s} {mean(row[variant] for row in rows):.3f}, "
                    f"{mean(gains):+.3f} +- {stdev(gains) / args.seeds**0.5:.3f} over none",
                    flush=True,
                )


if __name__ == "__main__":
    main()
