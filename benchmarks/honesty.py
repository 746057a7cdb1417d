"""Whether the statistics keep their word: simulated with the functions that decide in a run.

    make verify                               # this, some minutes on one core
    python benchmarks/honesty.py --draws 100  # a look, whose figures stray

Simulated are (1) the coverage of intervals, (2) verdicts over equally good strategies, (3)
intervals that hold at every look, (4) races, and what races save. Each figure stands beside its
exact 95 % Monte Carlo interval and the bound that it must keep, without allowance. Rows without a
bound show what would happen otherwise, or what no statistic can see. The exit status is 1 if a
bound is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import log, sqrt
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from metatune.seeds import derive_seed
from metatune.statistics import claim_for, confidence_sequence, estimate
from metatune.statistics.sequences import anytime_t
from metatune.stopping import why_behind
from metatune.verdict import Entrant, gain, is_gain

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
TASKS = 20  # a group, in (1) and (2)
ALPHA = 0.05


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        check, setting: what was simulated.
        found: the figure; ``low`` and ``high`` are the ends of its Monte Carlo interval.
        least, most: the bound; None where there is none.
        draws: simulated cases.
    """

    check: str
    setting: str
    found: float
    low: float
    high: float
    least: float | None
    most: float | None
    draws: int

    @property
    def broken(self) -> bool:
        """The figure lies outside its bound."""
        below = self.least is not None and self.found < self.least
        return below or (self.most is not None and self.found > self.most)


def share(
    check: str,
    setting: str,
    hits: list[bool],
    least: float | None = None,
    most: float | None = None,
) -> Figure:
    """A figure that is a share of the draws."""
    ends = binomtest(sum(hits), len(hits)).proportion_ci(method="exact")
    found = sum(hits) / len(hits)
    return Figure(check, setting, found, ends.low, ends.high, least, most, len(hits))


def generator(seed: int, check: str, setting: str) -> np.random.Generator:
    """Each setting has random numbers of its own."""
    return np.random.default_rng(derive_seed(seed, check, setting))


# --- what is drawn, each with mean 0 and variance 1 (t3: 3) ---------------------------------------


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.normal(size=shape)


def lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Skewed to the right: sigma 1, skewness 6.2."""
    return np.asarray((rng.lognormal(size=shape) - np.exp(0.5)) / sqrt((np.e - 1) * np.e))


def losses(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores such as minus a squared error: skewed to the left."""
    return -lognormal(rng, shape)


def t3(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_t(3, size=shape)


def exponential(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.exponential(size=shape) - 1


def disasters(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One unit in 50 is far off, the others are nearly alike."""
    return (rng.binomial(1, 0.02, size=shape) - 0.02) / 0.14 + 0.05 * rng.normal(size=shape)


def uneven(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One group (the last axis) has nearly all of the noise."""
    return rng.normal(size=shape) * np.where(np.arange(shape[-1]) == 0, 1, 0.05)


def fives(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Accuracy on five query points that nearly always are right: most differences are zero."""
    return (rng.binomial(5, 0.95, size=shape) / 5 - 0.95) / sqrt(0.95 * 0.05 / 5)


# --- 1: coverage ----------------------------------------------------------------------------------


def coverage(draws: int, seed: int) -> Iterator[Figure]:
    """Paired differences of tasks that are alike within their group; the truth is zero."""
    check = "95 % interval covers"
    for count in (3, 6, 24):
        names = [f"{number:02d}" for number in range(count) for _ in range(TASKS)]
        claim = claim_for(names)
        wanted = "new groups" if count >= 6 else "new tasks"
        for alike in (0.0, 0.05, 0.2):
            setting = f"{count} groups, correlation {alike}, claim {claim}"
            rng, hits, by_task = generator(seed, check, setting), [], []
            for _ in range(10 * draws):
                groups = sqrt(alike) * rng.normal(size=(count, 1))
                values = groups + sqrt(1 - alike) * rng.normal(size=(count, TASKS))
                found = estimate(values.ravel().tolist(), names, claim)
                truth = 0.0 if claim == "new groups" else float(groups.mean())
                hits.append(claim == wanted and found.low <= truth <= found.high)
                tasks = estimate(values.ravel().tolist(), names, "new tasks")
                by_task.append(tasks.low <= 0 <= tasks.high)
            # Tasks of three groups are judged for these groups, whose spread is then to spare.
            yield share(check, setting, hits, 0.93, 0.97 if claim == "new groups" else None)
            if alike == 0.2:
                setting = f"{count} groups, correlation {alike}, had tasks been the unit"
                yield share(check, setting, by_task)
    for count in (6, 24):
        names = [f"{number:02d}" for number in range(count) for _ in range(TASKS)]
        setting = f"{count} groups, log-normal differences"
        rng, hits = generator(seed, check, setting), []
        for _ in range(10 * draws):
            found = estimate(lognormal(rng, (count * TASKS,)).tolist(), names, "new groups")
            hits.append(found.low <= 0 <= found.high)
        yield share(check, setting, hits)


# --- 2: verdicts ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """What a verdict is simulated over.

    Attributes:
        groups: of each split, with ``TASKS`` tasks each.
        trainings: of each entrant.
        luck: variance that seeds give the difference of two means over trainings, as a multiple of
            what the groups give it.
        noise: of a task.
        alike: correlation of tasks of a group.
        ahead: by how much the strategies that are no presets are better, in standard deviations
            of a task's score.
    """

    groups: int
    trainings: int = 1
    luck: float = 0.0
    noise: Draw = normal
    alike: float = 0.05
    ahead: float = 0.0

    def scores(self, rng: np.random.Generator, strategies: int) -> Array:
        """Scores on a split, as (strategies, tasks)."""
        groups = sqrt(self.alike) * rng.normal(size=(strategies, self.groups, 1))
        tasks = groups + sqrt(1 - self.alike) * self.noise(rng, (strategies, self.groups, TASKS))
        return tasks.reshape(strategies, -1)


STRATEGIES, PRESETS, LEADERS = 64, 8, 6


def claims_a_gain(rng: np.random.Generator, field: Field) -> bool:
    """Whether a verdict says that the winner beats the best preset."""
    better = np.where(np.arange(STRATEGIES) < PRESETS, 0.0, field.ahead)
    by_group = (field.alike + (1 - field.alike) / TASKS) / field.groups
    seeds = sqrt(field.luck * field.trainings * by_group)
    trained = better + seeds * rng.normal(size=STRATEGIES)  # as the search trained them
    select = trained + field.scores(rng, STRATEGIES).mean(1)
    leaders = np.argsort(-select)[:LEADERS]
    confirm = trained[leaders] + field.scores(rng, LEADERS).mean(1)
    winner, rival = leaders[confirm.argmax()], select[:PRESETS].argmax()
    if winner == rival:
        return False
    names = tuple(f"{number:02d}" for number in range(field.groups) for _ in range(TASKS))
    pair = []
    for strategy, tasks in zip((winner, rival), field.scores(rng, 2), strict=True):
        lucks = seeds * rng.normal(size=field.trainings)
        scores = tasks + better[strategy] + lucks.mean()
        replicas = tuple((tasks.mean() + better[strategy] + lucks).tolist())
        pair.append(Entrant(cast(Any, None), tuple(scores.tolist()), names, replicas))
    return is_gain(*gain(pair[0], pair[1], 1, claim_for(names)))


EQUAL = {
    "24 groups": Field(24),
    "6 groups": Field(6),
    "3 groups, in each of which they are equal": Field(3, alike=0.0),
    "24 groups, log-normal losses": Field(24, noise=losses),
    "6 groups, log-normal losses": Field(6, noise=losses),
    "24 groups, 3 trainings, luck as large": Field(24, 3, 1.0),
    "24 groups, 2 trainings, luck four times as large": Field(24, 2, 4.0),
    "6 groups, 2 trainings, luck four times as large": Field(6, 2, 4.0),
}


def verdicts(draws: int, seed: int) -> Iterator[Figure]:
    """Winners chosen on ``select`` and ``confirm`` among 64, tested against a preset."""

    def claimed(check: str, setting: str, field: Field) -> list[bool]:
        rng = generator(seed, check, setting)
        return [claims_a_gain(rng, field) for _ in range(draws)]

    check = f"of {STRATEGIES} equals, the winner is said to be better"
    for setting, field in EQUAL.items():
        yield share(check, setting, claimed(check, setting, field), most=0.05)
    setting = "24 groups, 1 training, whose luck no interval sees"
    yield share(check, setting, claimed(check, setting, Field(24, 1, 1.0)))
    check, setting = "who is better by 0.4 sd is said to be", "24 groups"
    yield share(check, setting, claimed(check, setting, Field(24, ahead=0.4)), least=0.8)


# --- 3: intervals at every look -------------------------------------------------------------------


def t_statistics(units: Array) -> Array:
    """Of a zero mean after each round, with the noise of strata pooled.

    (draws, rounds, strata) -> (draws, rounds). No interval of ``confidence_sequence`` reaches less
    than three of these, so only beyond them does it need to be asked.
    """
    strata, rounds = units.shape[2], np.arange(1, units.shape[1] + 1)
    means = np.cumsum(units, axis=1) / rounds[:, None]
    squares = np.cumsum(units**2, axis=1) - rounds[:, None] * means**2
    noise = squares.mean(axis=2) / np.maximum(rounds - 1, 1)
    errors = np.sqrt(np.maximum(noise, 1e-12) / (rounds * strata))
    return np.asarray(means.mean(axis=2) / errors)


def is_ever_wrong(units: Array, t: Array, alpha: float) -> bool:
    """Whether the interval of some look misses zero: units as (rounds, strata)."""
    for done in np.flatnonzero(np.abs(t) > 3) + 1:
        found = confidence_sequence(units[:done].ravel().tolist(), alpha, units.shape[1])
        if not found.low <= 0 <= found.high:
            return True
    return False


def looks(draws: int, seed: int) -> Iterator[Figure]:
    """Errors over 60 rounds of single units, and over 30 rounds of one from each of six strata."""
    check = "some look misses the mean"
    for noise in (normal, t3, exponential, lognormal, uneven, disasters):
        for rounds, strata in ((60, 1), (30, 6)):
            if noise is uneven and strata == 1:
                continue
            kind = f"{noise.__name__}, {strata} a round"
            units = noise(generator(seed, check, kind), (10 * draws, rounds, strata))
            t = t_statistics(units)
            for alpha in (ALPHA, ALPHA / 31):
                hits = [is_ever_wrong(u, own, alpha) for u, own in zip(units, t, strict=True)]
                most = None if noise is disasters else alpha  # that one cannot be had
                yield share(check, f"{kind}, alpha {alpha:.2g}", hits, most=most)
            if strata == 1:
                sizes = range(5, rounds + 1)
                exact = np.array([anytime_t(n, n - 1, ALPHA) for n in sizes])
                asymptotic = np.array([sqrt((n + 1) / n * log((n + 1) / ALPHA**2)) for n in sizes])
                for name, reach in (("t-test", exact), ("asymptotic sequence", asymptotic)):
                    hits = [bool((np.abs(own) > reach).any()) for own in t[:, 4:]]
                    yield share(check, f"{kind}, alpha {ALPHA}, had it been the {name}", hits)


# --- 4: races -------------------------------------------------------------------------------------


def race(scores: Array) -> NDArray[np.int64]:
    """When each strategy was stopped: (draws, strategies, blocks, groups) -> (draws, strategies).

    All are asked after each block, against whoever leads then; 0 stands for never.
    """
    draws, strategies, blocks, groups = scores.shape
    stopped = np.zeros((draws, strategies), dtype=np.int64)
    totals = np.cumsum(scores.mean(axis=3), axis=2)
    for done in range(1, blocks + 1):
        running = np.where(stopped == 0, totals[:, :, done - 1], -np.inf)
        first = running.argmax(axis=1)
        leader = scores[np.arange(draws), first, :done]
        ahead = scores[:, :, :done] - leader[:, None]
        t = t_statistics(ahead.reshape(-1, done, groups))[:, -1].reshape(draws, strategies)
        for draw, own in np.argwhere((stopped == 0) & (t < -3)):
            told = why_behind(
                scores[draw, own, :done].ravel().tolist(),
                leader[draw].ravel().tolist(),
                groups,
                ALPHA,
                strategies - 1,
            )
            if told is not None:
                stopped[draw, own] = done
    return stopped


def portions(draws: int) -> Iterator[int]:
    """At most 100 at a time, for the memory's sake."""
    for start in range(0, draws, 100):
        yield min(100, draws - start)


def races(draws: int, seed: int) -> Iterator[Figure]:
    """The first strategy is the best, or as good as the others: it should not be stopped."""
    check = "the best is stopped"
    for count in (2, 8, 32):
        for noise in (normal, t3, losses, uneven, fives):
            for gap in (0.0, 0.1):
                setting = f"{count} strategies, {noise.__name__}, ahead by {gap} sd"
                rng, hits = generator(seed, check, setting), []
                for some in portions(draws):
                    scores = noise(rng, (some, count, 30, 6))
                    scores[:, 1:] -= gap
                    hits += (race(scores)[:, 0] > 0).tolist()
                yield share(check, setting, hits, most=ALPHA)
        for groups, blocks in ((1, 60), (6, 30)):
            setting = f"{count} strategies, a steady one among losses, {groups} a block"
            rng, hits = generator(seed, check, setting), []
            for some in portions(draws):
                scores = losses(rng, (some, count, blocks, groups))
                scores[:, 0] = 0.1 * normal(rng, (some, blocks, groups))
                hits += (race(scores)[:, 0] > 0).tolist()
            yield share(check, setting, hits, most=ALPHA)


def savings(draws: int, seed: int) -> Iterator[Figure]:
    """What races save of the scoring where all but the best are behind by the same gap.

    It is given in standard deviations of a task's paired difference.
    """
    check, draws = "scoring saved", max(10, draws // 50)
    for groups, blocks in ((6, 10), (6, 30), (24, 10)):
        for count in (8, 32):
            for gap in (0.5, 1.0, 2.0, 4.0):
                setting = f"{count} strategies, {blocks} blocks of {groups}, gap {gap} sd"
                rng = generator(seed, check, setting)
                scores = normal(rng, (draws, count, blocks, groups))
                scores[:, 1:] -= gap * sqrt(2)
                stopped = race(scores)
                scored = np.where(stopped > 0, stopped, blocks).mean(axis=1)
                saved = 1 - scored / blocks
                error = 1.96 * float(saved.std(ddof=1)) / sqrt(draws)
                found = float(saved.mean())
                ends = (found - error, found + error)
                yield Figure(check, setting, found, *ends, None, None, draws)


# --- the table ------------------------------------------------------------------------------------


def bound(figure: Figure) -> str:
    """In words, in percent."""
    least, most = figure.least, figure.most
    if least is not None and most is not None:
        return f"{100 * least:.2g} to {100 * most:.2g}"
    if least is not None:
        return f"at least {100 * least:.2g}"
    return "" if most is None else f"at most {100 * most:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/honesty.json"))
    options = parser.parse_args()
    figures: list[Figure] = []
    minutes: dict[str, float] = {}
    for part in (coverage, verdicts, looks, races, savings):
        start = perf_counter()
        figures += part(options.draws, options.seed)
        minutes[part.__name__] = round((perf_counter() - start) / 60, 2)
    table = Table("check", "setting", "%", "Monte Carlo", "bound", "")
    for f in figures:
        verdict = "BROKEN" if f.broken else "" if f.least is f.most is None else "kept"
        ends = f"{100 * f.low:.2f} to {100 * f.high:.2f}"
        table.add_row(f.check, f.setting, f"{100 * f.found:.2f}", ends, bound(f), verdict)
    Console(width=150).print(table)
    print(f"minutes: {minutes}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plain = {
        "draws": options.draws,
        "seed": options.seed,
        "minutes": minutes,
        "figures": [asdict(f) | {"broken": f.broken} for f in figures],
    }
    options.out.write_text(json.dumps(plain, indent=1) + "\n", "utf-8")
    if broken := [f for f in figures if f.broken]:
        sys.exit(f"{len(broken)} of {len(figures)} figures break their bound")


if __name__ == "__main__":
    main()
