"""What runs on different folds of the same data say together. Needs no Ray, Optuna or torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from metatune.analysis import defaults_of
from metatune.errors import RunError
from metatune.records.newest import counted
from metatune.records.reading import Run
from metatune.statistics import Claim, Estimate, claim_for, estimate, sign_flip_p, unit_means

ROLES = ("winner", "rival", "default")


@dataclass(frozen=True)
class Rotated:
    """What searches over the folds of the same data found, each on groups that it had not seen.

    It is about the *search*, not about one strategy: each fold has its own winner and rival. Where
    every fold trained them twice or more, the luck of trainings is in the intervals, as in a
    verdict's. That the folds' searches learned from much the same groups is not, and cannot be
    (Bengio & Grandvalet 2004, "No unbiased estimator of the variance of k-fold cross-validation"):
    read the intervals as somewhat too narrow.

    Attributes:
        frame: one row a fold and group of its ``test``: names of ``winner``, ``rival`` and
            ``default``, their mean scores in ``winner_score`` and so on, and ``over_rival`` and
            ``gain`` (over the default), paired by task; positive is better.
        claim: what the units are: groups from six on, else tasks.
        tasks: how many, over all folds.
        trainings: of winner and rival in each fold, at least.
        over_rival, gain: the winners' mean paired differences.
        over_rival_p, gain_p: the p values of no difference.
    """

    frame: pd.DataFrame
    claim: Claim
    tasks: int
    trainings: int
    over_rival: Estimate
    over_rival_p: float
    gain: Estimate
    gain_p: float


def rotated(runs: Sequence[Run]) -> Rotated:
    """Pool the verdicts of runs on different folds of the same space and data.

    Args:
        runs: two or more, with their verdicts; ``metatune run SPACE.yaml --folds`` makes all.

    Raises:
        RunError: a run has no verdict, or they are no folds of the same space and data.
    """
    _refuse_unless_folds(runs)
    sign = runs[0].sign
    tests = sorted((_test_of(run) for run in runs), key=lambda test: test.fold)
    rows = []
    for test in tests:
        scores = {role: test.scores[role].mean(axis=1) for role in ROLES}
        row = pd.DataFrame({f"{role}_score": own for role, own in scores.items()})
        row["over_rival"], row["gain"] = (
            sign * (scores["winner"] - scores[other]) for other in ("rival", "default")
        )
        by_group = row.groupby(test.groups).mean().rename_axis("group").reset_index()
        by_group.insert(1, "tasks", row.groupby(test.groups).size().to_numpy())
        rows.append(by_group.assign(fold=test.fold, **test.names))
    first = ["fold", "group", "tasks", *ROLES]
    frame = pd.concat(rows, ignore_index=True)
    over_rival, gain = (_over_folds(tests, other, sign) for other in ("rival", "default"))
    return Rotated(
        frame[[*first, *(name for name in frame.columns if name not in first)]],
        claim_for([group for test in tests for group in test.groups]),
        sum(len(test.groups) for test in tests),
        min(test.scores[role].shape[1] for test in tests for role in ("winner", "rival")),
        *over_rival,
        *gain,
    )


@dataclass(frozen=True)
class _Test:
    """What a fold's verdict is about: for each role its name and scores ``(tasks, trainings)``."""

    fold: int
    groups: list[str]
    trials: Mapping[str, str]
    names: Mapping[str, str]
    scores: Mapping[str, pd.DataFrame]


def _test_of(run: Run) -> _Test:
    final = run.verdicts.iloc[-1]
    known = run.read("trials", ["name", "round"])
    default = defaults_of(run)[known.loc[final["winner"], "round"]]
    trials: dict[str, str] = {
        "winner": str(final["winner"]),
        "rival": str(final["rival"]),
        "default": default,
    }
    test = run.read("scores", where=counted(["test"]))
    scores = {
        role: test[test["trial"] == trial].pivot(index="task", columns="replica", values="score")
        for role, trial in trials.items()
    }
    group = test.drop_duplicates("task").set_index("task")["group"]
    return _Test(
        fold=run.info["family"]["options"]["fold"],
        groups=group.loc[scores["winner"].index].to_list(),
        trials=trials,
        names={role: str(known.loc[trial, "name"]) for role, trial in trials.items()},
        scores=scores,
    )


def _over_folds(tests: Sequence[_Test], other: str, sign: int) -> tuple[Estimate, float]:
    """The winners against the others of their folds, and the p value of no difference."""
    groups = [group for test in tests for group in test.groups]
    claim = claim_for(groups)
    gains = [
        sign * (test.scores["winner"].mean(axis=1) - test.scores[other].mean(axis=1))
        for test in tests
    ]
    # Where the winner is the other itself, there is no luck in the difference.
    differ = [test.trials["winner"] != test.trials[other] for test in tests]
    pairs = [test.scores for test, differs in zip(tests, differ, strict=True) if differs]
    count = min((own[role].shape[1] for own in pairs for role in ("winner", other)), default=0)

    def pooled(role: str, training: int) -> float:
        """The mean of the search's r-th training, which is the r-th of all its folds."""
        parts = [
            test.scores[role].iloc[:, training] if differs else np.zeros(len(test.groups))
            for test, differs in zip(tests, differ, strict=True)
        ]
        return float(unit_means(np.concatenate(parts).tolist(), groups, claim).mean())

    trainings = [
        [pooled(role, training) for training in range(count)] for role in ("winner", other)
    ]
    values = np.concatenate(gains).tolist()
    found = estimate(values, groups, claim, trainings=trainings)
    return found, sign_flip_p(values, groups, claim)


def _refuse_unless_folds(runs: Sequence[Run]) -> None:
    if len(runs) < 2:
        raise RunError(f"rotated: found {len(runs)} runs; allowed: two or more folds of one space")
    seen: dict[int, Run] = {}
    for run in runs:
        if run.info.get("rotation_sha256") is None:
            family = run.info["family"]["name"]
            raise RunError(f"{run.path}: found the family {family}; allowed: one with folds")
        for what, value in _but_fold(run).items():
            if value != _but_fold(runs[0])[what]:
                raise RunError(
                    f"{run.path}: found another {what} than in {runs[0].path}; allowed: folds of "
                    "the same space and data"
                )
        fold = run.info["family"]["options"]["fold"]
        if fold in seen:
            raise RunError(f"{run.path}: found fold {fold}, as {seen[fold].path}; allowed: another")
        seen[fold] = run
        if run.verdicts.empty:
            raise RunError(f"{run.path}: found no verdict yet; allowed: runs that are finished")


def _but_fold(run: Run) -> dict[str, object]:
    """What all folds of a space and its data have in common, by its name."""
    family = run.info["family"]
    options = {key: value for key, value in family["options"].items() if key != "fold"}
    sizes = Counter[str]()  # added up: classes that no group holds are one group in every split
    for of_split in family["groups"].values():
        sizes.update(of_split)
    return {
        "space": run.info["rotation_sha256"],
        "budget": (run.info["trials"], run.info["minutes"]),
        "family": options,
        "data": sizes,
    }
