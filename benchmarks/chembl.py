"""Few-shot potency on targets of unseen clusters: what cross-fitting by group is worth.

The 24 clusters of targets are rotated through ``--folds`` folds; each method learns on the clusters
of the other folds and is judged on those of its own: 16 support molecules, R2 against the support
mean, ``--draws`` tasks a cluster. Means are over clusters, and methods are compared by cluster.

    METATUNE_DATA=... python benchmarks/chembl.py --folds 4 --draws 12
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from metatune.jobs import TrialJob
from metatune.statistics import estimate
from metatune.strategy import (
    GP,
    MLP,
    Meta,
    Outer,
    Pooled,
    Ridge,
    Strategy,
    SupportMean,
    problems,
)
from metatune.tasks.base import Episode
from metatune.tasks.tables.chembl import ChemblFamily, PotencyData, read_chembl
from metatune.trial import run_trial

EPISODE = Episode(way=1, shot=16, query=24)
LEVEL = SupportMean(strength=1.0, mean=6.5, learn=True)
TREES = {"max_iter": 150, "learning_rate": 0.05, "max_leaf_nodes": 15, "max_features": 0.1}
SCALES = Outer(lr=0.03, tasks_per_batch=8)  # a handful of numbers: a large rate


def pooled(cross_fit: str) -> Strategy:
    """Kernels on fingerprints and descriptors over boosted trees on all tasks."""
    return Strategy(
        prior=Pooled(model="trees", options=TREES, tasks=2000),
        head=GP(rbf="descriptors", tanimoto="fingerprint", noise=0.5),
        meta=Meta.model_validate({"cross_fit": cross_fit, "folds": 5}),
        outer=SCALES,
    )


METHODS: Mapping[str, Strategy] = {
    "ridge": Strategy(
        head=Ridge(penalty=10.0, intercept="free", learn=False), meta=Meta(rule="none")
    ),
    "Tanimoto GP": Strategy(
        prior=LEVEL, head=GP(rbf="off", tanimoto="fingerprint", noise=0.5), outer=SCALES
    ),
    "+ descriptor RBF": Strategy(
        prior=LEVEL, head=GP(rbf="descriptors", tanimoto="fingerprint", noise=0.5), outer=SCALES
    ),
    "+ pooled trees, cross-fitted": pooled("group"),
    "+ pooled trees, not cross-fitted": pooled("none"),
    "MLP embedding, ridge": Strategy(
        prior=LEVEL,
        backbone=MLP(width=64, depth=2),
        head=Ridge(penalty=1.0),
        meta=Meta(cross_fit="none"),
        outer=Outer(lr=1e-3, tasks_per_batch=8),
    ),
}


def folds_of(data: PotencyData, count: int) -> list[list[int]]:
    """Clusters in folds of about as many targets, largest first to the emptiest fold."""
    numbers, sizes = np.unique(data.clusters, return_counts=True)
    folds: list[list[int]] = [[] for _ in range(count)]
    filled = [0] * count
    for at in np.argsort(-sizes, kind="stable"):
        fold = filled.index(min(filled))
        folds[fold].append(int(numbers[at]))
        filled[fold] += int(sizes[at])
    return folds


def judge(family: ChemblFamily, strategy: Strategy, draws: int, resource: int, seed: int) -> Any:
    """The result of training on ``train`` and scoring on ``test``."""
    clusters = len(family.usable_groups("test", EPISODE))
    job = TrialJob(
        trial="benchmark", round=1, replica=0, strategy=strategy.model_dump(mode="json"),
        family="chembl", data_dir=None, episode=EPISODE, run_seed=seed, rungs=(resource,),
        recorded=0, split="test", tasks=draws * clusters, train=True, folder=None,
    )  # fmt: skip
    (result,) = run_trial(job, family)
    assert result.outcome == "completed", result.reason
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument("--resource", type=int, default=400_000, help="forward-equivalents")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--data-dir")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/chembl.json"))
    args = parser.parse_args()
    data = read_chembl(args.data_dir)
    found: dict[str, dict[str, float]] = {}
    for name in args.methods:
        by_cluster: dict[str, list[float]] = {}
        start = perf_counter()
        for held_out in folds_of(data, args.folds):
            others = [int(c) for c in np.unique(data.clusters) if c not in held_out]
            family = ChemblFamily(data, {"train": others, "test": held_out})
            assert not problems(METHODS[name], family.info, EPISODE)
            result = judge(family, METHODS[name], args.draws, args.resource, args.seed)
            for group, score in zip(result.groups, result.scores, strict=True):
                by_cluster.setdefault(group, []).append(score)
        found[name] = {group: float(np.mean(scores)) for group, scores in by_cluster.items()}
        mean = estimate(list(found[name].values()), list(found[name]), "new groups")
        line = f"{name:34s} {mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
        if name != "ridge" and "ridge" in found:
            gains = [found[name][g] - found["ridge"][g] for g in found["ridge"]]
            gain = estimate(gains, list(found["ridge"]), "new groups")
            better = sum(g > 0 for g in gains)
            line += f", over ridge {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            line += f", better in {better} of {len(gains)} clusters"
        print(f"{line}, {(perf_counter() - start) / 60:.1f} min", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(vars(args) | {"out": str(args.out), "r2": found}, indent=1))


if __name__ == "__main__":
    main()
