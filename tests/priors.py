"""Priors written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from metatune.prior import SCHEMA, Prior, prior_of
from metatune.statistics import claim_for, unit_means
from metatune.strategy import Strategy

Gains = Mapping[Strategy, Sequence[float]]
"""Paired gains of strategies on the tasks of one run; the first strategy is the default."""


def table_of(
    *runs: Gains,
    names: Mapping[Strategy, str] | None = None,
    groups: Sequence[str] | None = None,
) -> pa.Table:
    """The table of some runs.

    Args:
        runs: gains of each.
        names: of strategies; by default ``proposed-1-<number>``.
        groups: of the tasks in every run; by default one.
    """
    rows = []
    for number, gains in enumerate(runs):
        tasks = len(next(iter(gains.values())))
        of_tasks = list(groups or ["all"] * tasks)
        means = [
            unit_means(list(own), of_tasks, claim_for(of_tasks)).mean() for own in gains.values()
        ]
        ranks = (-pd.Series(means)).rank()
        default = next(iter(gains)).digest()
        rows += [
            {
                "run": f"run-{number}",
                "family": "sinusoid",
                "metric": "mse",
                "round": 1,
                "default": default,
                "digest": strategy.digest(),
                "name": (names or {}).get(strategy, f"proposed-1-{place}"),
                "structure": strategy.structure(),
                "strategy": strategy.model_dump_json(),
                "gain": float(means[place]),
                "rank": float(ranks[place]),
                "ranked": len(gains),
                "tasks": [f"task-{task}" for task in range(tasks)],
                "groups": of_tasks,
                "gains": [float(gain) for gain in own],
            }
            for place, (strategy, own) in enumerate(gains.items())
        ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def prior(*runs: Gains, names: Mapping[Strategy, str] | None = None) -> Prior:
    """As ``table_of``, as a prior."""
    return prior_of(table_of(*runs, names=names))


def negated(table: pa.Table) -> pa.Table:
    """The same runs, wrong on purpose: what was best is worst."""
    rows = table.to_pylist()
    for row in rows:
        row["gain"] = -row["gain"]
        row["gains"] = (-np.array(row["gains"])).tolist()
        row["rank"] = row["ranked"] + 1 - row["rank"]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
