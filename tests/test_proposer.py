"""The proposer on real Optuna: pure proposals, and a ledger that says what the records say."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers._tpe.sampler import _split_trials
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from metatune.errors import RunError
from metatune.history import History
from metatune.observations import Observation
from metatune.proposer import (
    FLOOR_SHARE,
    MUTATIONS,
    STARTUP,
    Ledger,
    _observed_in_all,
    _region,
    open_ledger,
    propose,
    repair_journal,
)
from metatune.records.rows import Asked, Ended, Origin, Row, Scored, State
from metatune.space import ChoiceKnob, FloatKnob, KnobTree, Params, parse_tree
from metatune.space.region import FLOOR, Region, Tried, adjust, within

TREE = parse_tree(
    {
        "inner": {"lr": {"float": [1e-4, 1.0], "log": True, "limits": [1e-5, 10.0]}},
        "choose": {
            "gradient": {
                "head": {"kind": "linear", "start": {"choice": ["zero", "learned"]}},
                "inner": {"steps": {"int": [1, 20], "log": True}},
            },
            "ridge": {"head": {"kind": "ridge", "penalty": {"float": [0.1, 10.0]}}},
        },
    }
)
RATE = parse_tree({"inner": {"lr": {"float": [1e-4, 1.0], "log": True}}})
LABEL, PENALTY = "choose", "choose.ridge.head.penalty"


def rate(params: Params) -> float:
    value = params["inner.lr"]
    assert isinstance(value, float)
    return value


def score(params: Params) -> float:
    """Highest, 0, at a rate of 0.01."""
    return -((math.log10(rate(params)) + 2) ** 2)


def observed(
    count: int, tree: KnobTree = TREE, value: Callable[[Params], float] = score
) -> list[Observation]:
    """Random proposals with their values at two rungs."""
    drawn = [propose(tree, [], seed) for seed in range(count)]
    return [Observation(p, "completed", {1: value(p) - 1, 2: value(p)}) for p in drawn]


def distances(observations: list[Observation], seeds: range, tree: KnobTree = RATE) -> list[float]:
    """How far proposals lie from a rate of 0.01, in powers of ten, ascending."""
    return sorted(math.sqrt(-score(propose(tree, observations, 1000 + seed))) for seed in seeds)


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


# --- proposing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 3, 40])
def test_equal_observations_and_seeds_give_equal_proposals(count: int) -> None:
    observations = observed(count)
    for seed in (0, 1, 2**62):
        assert propose(TREE, observations, seed) == propose(TREE, list(observations), seed)
    proposals = [propose(TREE, observations, seed)["inner.lr"] for seed in range(6)]
    assert len(set(proposals)) == 6


def test_proposing_changes_no_observation() -> None:
    observations = observed(12)
    copies = [Observation(dict(o.params), o.state, dict(o.values)) for o in observations]
    propose(TREE, observations, 0)
    assert observations == copies


OTHER_PROCESS = """
import json, sys
from metatune.observations import Observation
from metatune.proposer import propose
from metatune.space import parse_tree
tree, observations, seeds = json.load(sys.stdin)
seen = [Observation(p, s, {int(r): v for r, v in values.items()}) for p, s, values in observations]
print(json.dumps([propose(parse_tree(tree), seen, seed) for seed in seeds]))
"""


def test_another_process_gives_the_same_proposals() -> None:
    data = {
        "inner": {"lr": {"float": [1e-4, 1.0], "log": True}, "steps": {"int": [1, 9]}},
        "meta": {"rule": {"choice": ["first_order", "second_order"]}},
    }
    tree = parse_tree(data)
    observations = [
        *observed(15, tree),
        Observation(propose(tree, [], 100), "lost", {}),
        Observation(propose(tree, [], 101), "running", {}),
        Observation(propose(tree, [], 102), "stopped", {1: 0.3}),
    ]
    seeds = [0, 1, 2]
    plain = [data, [(o.params, o.state, dict(o.values)) for o in observations], seeds]
    there = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS],
        input=json.dumps(plain),
        env={**os.environ, "PYTHONHASHSEED": "5"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(there.stdout) == [propose(tree, observations, seed) for seed in seeds]


@pytest.mark.parametrize("count", [0, 30])
def test_proposals_lie_in_the_region_and_name_the_picked_branch_only(count: int) -> None:
    knobs = {knob.name: knob for knob in TREE.knobs()}
    observations, branches = observed(count), set()
    for seed in range(20):
        params = propose(TREE, observations, seed)
        label = params[LABEL]
        branches.add(label)
        expected = {"inner.lr", LABEL} | {
            name for name in knobs if name.startswith(f"{LABEL}.{label}.")
        }
        assert set(params) == expected
        for name, value in params.items():
            knob = knobs[name]
            if isinstance(knob, ChoiceKnob):
                assert value in knob.choices
            else:
                assert isinstance(value, float if isinstance(knob, FloatKnob) else int)
                assert knob.low <= value <= knob.high
    assert branches == {"gradient", "ridge"} or count


def test_proposals_concentrate_where_values_are_high() -> None:
    informed = distances(observed(40, RATE), range(15))
    blind = distances([], range(15))
    assert median(informed) < 0.3 * median(blind)
    assert informed[-3] < 0.5  # of four powers of ten


def test_the_better_branch_is_proposed_more_often() -> None:
    observations = observed(40, TREE, lambda p: 1.0 if p[LABEL] == "ridge" else -1.0)
    labels = [propose(TREE, observations, seed)[LABEL] for seed in range(20)]
    assert labels.count("ridge") > 14


def test_lost_trials_steer_away() -> None:
    """Whatever lies above 0.01 is lost, and the rest is worse than the default."""
    drawn = [propose(RATE, [], seed) for seed in range(40)]
    observations = [
        Observation(p, "lost", {}) if rate(p) > 0.01 else Observation(p, "completed", {1: -1.0})
        for p in drawn
    ]
    informed, blind = (
        [rate(propose(RATE, known, seed)) for seed in range(20)] for known in (observations, [])
    )
    assert sum(value > 0.02 for value in informed) <= 4
    assert sum(value > 0.02 for value in blind) >= 6


def test_trials_under_way_are_not_proposed_again() -> None:
    settled = observed(STARTUP + 12, RATE)
    close = [Observation({"inner.lr": 10**-2.0}, "running", {}) for _ in range(30)]
    alone, crowded = (distances(o, range(15)) for o in (settled, settled + close))
    assert median(crowded) > 1.5 * median(alone)


@pytest.mark.parametrize("params", [
    {"inner.lr": 5.0}, {"inner.lr": 0.01, "inner.momentum": 0.9}, {"inner.lr": -1.0},
    {"inner.lr": "fast"}, {"inner.lr": float("nan")},
    {"inner.lr": 0.01, LABEL: "kernel"},
    {"inner.lr": 0.01, LABEL: "ridge", PENALTY: 1e9},
])  # fmt: skip
def test_observations_outside_the_region_are_left_out(params: Params) -> None:
    inside = observed(12)
    expected = propose(TREE, inside, 7)
    for state, values in (("completed", {1: 9.0}), ("lost", {}), ("running", {})):
        outside = Observation(params, state, values)  # type: ignore[arg-type]
        assert propose(TREE, [*inside, outside], 7) == expected


# --- weights --------------------------------------------------------------------------------------

HEAD = "head.kind"
HEADS = parse_tree(
    {
        "inner": {"lr": {"float": [1e-4, 1.0], "log": True}},
        "head": {"kind": {"choice": ["ridge", "linear", "prototypes", "gp"]}},
    }
)
EVEN = (0.25,) * 4


def weights_against(head: str) -> dict[str, tuple[float, ...]]:
    """A region's weights where one of the four heads has lost."""
    low, rest = FLOOR / 4, (1 - FLOOR / 4) / 3
    return {
        HEAD: tuple(low if h == head else rest for h in ("ridge", "linear", "prototypes", "gp"))
    }


def proposed(tree: KnobTree, observations: list[Observation], seeds: range, **more: Any) -> Any:
    return [propose(tree, observations, seed, **more) for seed in seeds]


def tpes_own(tree: KnobTree, observations: list[Observation], seed: int) -> Params:
    """What Optuna's TPE asks for, by way of its public face alone."""
    sampler = optuna.samplers.TPESampler(
        multivariate=True, group=True, constant_liar=True, n_startup_trials=STARTUP, seed=seed
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions: dict[str, Any] = {
        "inner.lr": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
        HEAD: optuna.distributions.CategoricalDistribution(("ridge", "linear", "prototypes", "gp")),
    }
    for o in observations:
        study.add_trial(
            optuna.trial.create_trial(
                value=o.values[2],
                params=dict(o.params),
                distributions=distributions,
                intermediate_values=dict(o.values),
            )
        )
    return study.ask(distributions).params


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("count", [0, 20])
def test_without_weights_and_bases_a_proposal_is_tpes_own(count: int) -> None:
    observations = observed(count, HEADS)
    for seed in range(5):
        expected = tpes_own(HEADS, observations, seed)
        assert propose(HEADS, observations, seed) == expected
        assert propose(HEADS, observations, seed, weights={}, bases=()) == expected


def test_even_weights_leave_tpe_all_but_the_floors_share() -> None:
    observations, seeds = observed(20, HEADS), range(60)
    plain = proposed(HEADS, observations, seeds)
    even = proposed(HEADS, observations, seeds, weights={HEAD: EVEN})
    other = sum(a != b for a, b in zip(plain, even, strict=True)) / len(plain)
    assert FLOOR_SHARE / 2 < other < 2 * FLOOR_SHARE


def test_a_choice_of_low_weight_comes_up_less_often() -> None:
    few = [p[HEAD] for p in proposed(HEADS, [], range(400), weights=weights_against("linear"))]
    share = few.count("linear") / len(few)
    # TPE without observations draws evenly; of its linear heads, 0.05 / 0.317 are accepted.
    assert FLOOR / 8 < share < FLOOR / 2
    assert all(few.count(head) / len(few) > 0.2 for head in ("ridge", "prototypes", "gp"))


@pytest.mark.long
def test_a_choice_that_wrongly_lost_still_comes_up_at_the_floors_rate() -> None:
    """All that was seen speaks against the linear head: TPE would not come back to it."""
    observations = observed(40, HEADS, lambda p: -9.0 if p[HEAD] == "linear" else score(p))
    seeds, weights = range(500), weights_against("linear")
    found = [p[HEAD] for p in proposed(HEADS, observations, seeds, weights=weights)]
    expected = FLOOR_SHARE * FLOOR / 4 * len(found)  # 5
    assert found.count("linear") >= expected / 2


def test_a_choice_that_tpe_insists_on_is_held_back_but_comes_through() -> None:
    observations = observed(40, HEADS, lambda p: 9.0 if p[HEAD] == "linear" else score(p))
    plain = [p[HEAD] for p in proposed(HEADS, observations, range(60))]
    weights = weights_against("linear")
    held = [p[HEAD] for p in proposed(HEADS, observations, range(60), weights=weights)]
    assert plain.count("linear") > 45
    assert 5 < held.count("linear") < 0.7 * plain.count("linear")


def test_with_choices_drawn_numbers_are_those_of_the_space_where_these_are_fixed() -> None:
    """The best rate is 0.001 with the linear head, and 0.1 with the others, which are worse."""

    def value(params: Params) -> float:
        linear = params[HEAD] == "linear"
        return 5.0 * linear - abs(math.log10(rate(params)) + (3 if linear else 1))

    observations, seeds = observed(80, HEADS, value), range(60)
    weights = {HEAD: (0.98, 0.01, 0.005, 0.005)}  # TPE insists on linear heads: few are accepted
    found = proposed(HEADS, observations, seeds, weights=weights)
    ridge = [
        Observation({"inner.lr": o.params["inner.lr"]}, o.state, o.values)
        for o in observations
        if o.params[HEAD] == "ridge"
    ]
    alone = proposed(RATE, ridge, seeds)
    fixed = [a == {**b, HEAD: "ridge"} for a, b in zip(found, alone, strict=True)]
    assert sum(fixed) > 45
    rates = [rate(p) for p in found if p[HEAD] == "ridge"]
    assert sum(value > 0.01 for value in rates) > 0.9 * len(rates)  # nearer to 0.1


def test_a_weighted_knob_of_a_branch_is_weighted_where_it_is_active() -> None:
    start = "choose.gradient.head.start"
    weights = {start: (0.9, 0.1)}
    found = proposed(TREE, [], range(80), weights=weights)
    assert {p[LABEL] for p in found} == {"gradient", "ridge"}
    assert all((start in p) == (p[LABEL] == "gradient") for p in found)
    starts = [p[start] for p in found if start in p]
    assert starts.count("zero") > 3 * starts.count("learned")


# --- mutations ------------------------------------------------------------------------------------

BASES: list[Params] = [
    {"inner.lr": 1e-3, HEAD: "ridge"}, {"inner.lr": 1e-2, HEAD: "gp"},
    {"inner.lr": 1e-1, HEAD: "linear"},
]  # fmt: skip


def test_a_share_of_proposals_are_neighbours_of_a_base_and_the_others_as_without() -> None:
    observations, seeds = observed(12, HEADS), range(300)
    plain = proposed(HEADS, observations, seeds)
    found = proposed(HEADS, observations, seeds, bases=BASES)
    mutations = [a for a, b in zip(found, plain, strict=True) if a != b]
    assert len(mutations) / len(found) == pytest.approx(MUTATIONS, abs=0.05)

    def decades(params: Params, base: Params) -> float:
        return abs(math.log10(rate(params) / rate(base)))

    nearest = [min(BASES, key=lambda base: decades(p, base)) for p in mutations]
    assert all(base in nearest for base in BASES)
    steps = [decades(p, base) for p, base in zip(mutations, nearest, strict=True)]
    assert median(steps) < 0.5  # a tenth of four decades is one standard deviation
    assert not any(p in BASES for p in mutations)


def test_mutations_stay_in_the_region_and_heed_the_weights() -> None:
    tree = within(HEADS, Region(ranges={"inner.lr": (5e-3, 2e-2)}))
    weights = {HEAD: (0.002, 0.002, 0.002, 0.994)}
    found = proposed(tree, [], range(200), bases=BASES[:1], weights=weights)
    assert all(5e-3 <= rate(p) <= 2e-2 for p in found)
    # Of the base's ridge, in other cases than a number's step, the head of highest weight is made.
    assert {p[HEAD] for p in found} >= {"ridge", "gp"}
    assert sum(p[HEAD] in ("linear", "prototypes") for p in found) < 10


# --- the region moves -----------------------------------------------------------------------------


def test_what_was_seen_outside_a_narrowed_region_breaks_nothing() -> None:
    observations = observed(40)
    for region in (
        Region(ranges={"inner.lr": (0.005, 0.02), "choose.gradient.inner.steps": (3, 5)}),
        Region(ranges={"inner.lr": (2.0, 10.0)}),  # nothing was seen here
    ):
        tree = within(TREE, region)
        low, high = region.ranges["inner.lr"]
        for params in proposed(tree, observations, range(10), weights={LABEL: (0.5, 0.5)}):
            assert low <= rate(params) <= high


def rounds(tree: KnobTree, best: float, moving: bool) -> list[float]:
    """All rates proposed in four rounds of 15, where a trial gains by being near the best rate."""
    region, seen, observations = Region(), list[Tried](), list[Observation]()
    groups = tuple("abcdefgh")
    for number in range(4):
        for ask in range(15):
            params = propose(within(tree, region), observations, 100 * number + ask)
            gain = -abs(math.log10(rate(params) / best))
            seen.append(Tried(params, True, (gain,) * len(groups), groups))
            observations.append(Observation(params, "completed", {1: gain}))
        leaders = sorted(seen, key=lambda t: -t.gains[0])[:3]
        if moving:
            region, _ = adjust(tree, region, seen, [t.params for t in leaders])
    return [rate(t.params) for t in seen]


def test_an_optimum_beyond_the_first_range_is_reached_by_moving_it() -> None:
    tree = parse_tree(
        {"inner": {"lr": {"float": [1e-4, 1e-2], "log": True, "limits": [1e-6, 10.0]}}}
    )
    stuck, moved = rounds(tree, 0.3, moving=False), rounds(tree, 0.3, moving=True)
    assert max(stuck) <= 1e-2
    near = [value for value in moved[-15:] if 0.1 < value < 1.0]
    assert len(near) > 10


FULL_PROCESS = """
import json, sys
from metatune.observations import Observation
from metatune.proposer import propose
from metatune.space import parse_tree
tree, observations, seeds, weights, bases = json.load(sys.stdin)
tree = parse_tree(tree)
seen = [Observation(p, s, {int(r): v for r, v in values.items()}) for p, s, values in observations]
print(json.dumps([propose(tree, seen, s, weights=weights, bases=bases) for s in seeds]))
"""


def test_another_process_gives_the_same_weighted_and_mutated_proposals() -> None:
    data = {
        "inner": {"lr": {"float": [1e-4, 1.0], "log": True}},
        "head": {"kind": {"choice": ["ridge", "linear", "prototypes", "gp"]}},
    }
    observations, seeds, weights = observed(15, HEADS), range(25), weights_against("gp")
    plain = [data, [(o.params, o.state, dict(o.values)) for o in observations], list(seeds)]
    there = subprocess.run(
        [sys.executable, "-c", FULL_PROCESS],
        input=json.dumps([*plain, weights, BASES]),
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = proposed(HEADS, observations, seeds, weights=weights, bases=BASES)
    assert json.loads(there.stdout) == here


# --- several objectives ---------------------------------------------------------------------------

COSTS = ("adapt_seconds",)
STEPS = parse_tree(
    {"inner": {"lr": {"float": [1e-4, 1.0], "log": True}, "steps": {"int": [1, 100], "log": True}}}
)


def steps(params: Params) -> float:
    value = params["inner.steps"]
    assert isinstance(value, int)
    return math.log10(value)


def traded(count: int, state: str = "completed", first: int = 0) -> list[Observation]:
    """Random proposals where more steps are better and dearer, and a rate of 0.01 is best."""
    drawn = [propose(STEPS, [], seed) for seed in range(first, first + count)]
    return [
        Observation(p, state, {1: score(p) + steps(p)}, {"adapt_seconds": {1: steps(p)}})  # type: ignore[arg-type]
        for p in drawn
    ]


def asked_for(count: int, costs: tuple[str, ...]) -> list[Params]:
    """Proposals one after another, each heard of by those behind it."""
    observations = traded(STARTUP)
    for seed in range(count):
        params = propose(STEPS, observations, seed, costs=costs)
        value, cost = score(params) + steps(params), steps(params)
        told = Observation(params, "completed", {1: value}, {"adapt_seconds": {1: cost}})
        observations.append(told)
    return [o.params for o in observations[STARTUP:]]


def test_with_a_cost_tpe_looks_all_over_the_front_and_not_beside_it() -> None:
    both, alone = asked_for(60, COSTS), asked_for(60, ())
    thirds = [sum(low <= steps(p) < low + 0.67 for p in both) for low in (0.0, 0.67, 1.34)]
    assert min(thirds) > 10
    assert sum(steps(p) >= 1.34 for p in alone) > 40  # for the score alone, more steps are better
    random = [propose(STEPS, [], seed) for seed in range(60)]
    off = [median([math.sqrt(-score(p)) for p in some]) for some in (both, random)]
    assert off[0] < 0.7 * off[1]


def test_with_a_cost_equal_observations_and_seeds_give_equal_proposals() -> None:
    observations = [*traded(20), *traded(5, "stopped", 20), *traded(3, "running", 30)]
    for seed in (0, 1, 2**62):
        found = propose(STEPS, observations, seed, costs=COSTS)
        assert found == propose(STEPS, list(observations), seed, costs=COSTS)
    weighted = propose(
        HEADS, observed(0, HEADS), 3, weights=weights_against("gp"), costs=COSTS, bases=BASES
    )
    assert set(weighted) == {"inner.lr", HEAD}


def test_whose_costs_are_not_known_is_left_out() -> None:
    known, seeds = traded(30), range(300, 310)
    unknown = [Observation(o.params, "completed", {1: 100.0}) for o in traded(30, first=100)]
    lost = Observation(known[0].params, "lost", {})
    with_them = [propose(STEPS, [*known, *unknown], seed, costs=COSTS) for seed in seeds]
    assert with_them == [propose(STEPS, known, seed, costs=COSTS) for seed in seeds]
    lost_too = [propose(STEPS, [*known, lost] * 3, seed, costs=COSTS) for seed in seeds]
    assert lost_too != with_them


def test_a_cost_that_nobody_asks_for_changes_nothing() -> None:
    plain = [Observation(o.params, o.state, o.values) for o in traded(30)]
    for seed in range(10):
        assert propose(STEPS, traded(30), seed) == propose(STEPS, plain, seed)


def told(observations: list[Observation]) -> list[FrozenTrial]:
    """The trials of the study in memory that the observations make."""
    regions = {knob.name: _region(knob) for knob in STEPS.knobs()}
    return _observed_in_all(observations, regions, {}, COSTS)


def seen(state: str, rung: int, gain: float, cost: float) -> Observation:
    """An observation at all rungs up to this one."""
    rungs = range(1, rung + 1)
    costs = {"adapt_seconds": dict.fromkeys(rungs, cost)}
    return Observation(propose(STEPS, [], 0), state, dict.fromkeys(rungs, gain), costs)  # type: ignore[arg-type]


def test_stopped_trials_are_told_in_order_behind_the_completed_ones() -> None:
    observations = [
        seen("stopped", 1, 9.0, 1.0),
        seen("stopped", 2, 1.0, 1.0),  # dominated by the next
        seen("stopped", 2, 2.0, 1.0),
        seen("stopped", 2, 0.0, 0.5),  # worse and cheaper: on the front of its rung
        Observation(propose(STEPS, [], 0), "lost", {}),
        seen("completed", 3, -5.0, 2.0),
        seen("running", 2, 7.0, 0.1),
    ]
    found = told(observations)
    assert [t.state for t in found] == [TrialState.PRUNED] * 5 + [
        TrialState.COMPLETE, TrialState.RUNNING,
    ]  # fmt: skip
    assert found[5].values == [-5.0, 2.0]
    assert all(t.intermediate_values == {} for t in found)
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials(found)
    trials = study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])
    order = []
    for count in range(1, len(trials) + 1):
        below, _ = _split_trials(study, trials, count)
        order += [t.number for t in below if t.number not in order]
    assert order == [5, 2, 3, 1, 0, 4]


# --- the ledger -----------------------------------------------------------------------------------

PARAMS: Params = {"inner.lr": 0.01, LABEL: "ridge", PENALTY: 1.0}


def asked(number: int, origin: Origin = "proposed", params: Params | None = PARAMS) -> Asked:
    strategy = {"head": {"kind": "ridge"}}
    name = f"r1-{number:04d}"
    return Asked(name, 1, number, f"n{number}", origin, strategy, name, "a", params)


def scored(number: int, rung: int, value: float) -> Scored:
    return Scored(
        f"r1-{number:04d}", 1, rung, "select", 0, 100, 1.0, 1.0, None,
        ["a", "b"], ["g", "g"], [value, value], False,
    )  # fmt: skip


def ended(number: int, state: State, reason: str = "") -> Ended:
    return Ended(f"r1-{number:04d}", state, reason, 1.0)


ROWS: list[Row] = [
    asked(0, "default", None),
    scored(0, 1, 0.5),
    scored(0, 2, 0.75),
    ended(0, "completed"),
    asked(1),
    scored(1, 1, 0.75),
    scored(1, 2, 0.875),
    ended(1, "completed"),
    asked(2, params={**PARAMS, "inner.lr": 5.0}),  # outside the region, within the limits
    scored(2, 1, 0.25),
    ended(2, "stopped", "ranked 3 of 3"),
    asked(3),
    ended(3, "diverged", "the training loss is not finite at meta-step 3"),
    asked(4),
    scored(4, 1, 0.5),
    ended(4, "failed", "Traceback"),
    asked(5),
    scored(5, 1, 0.625),
]


def open_(journal: Path, rows: list[Row] = ROWS, storage: str | None = None) -> Ledger:
    return open_ledger(journal, storage, "run", History(1, rows), TREE)


def read(journal: Path) -> dict[str, FrozenTrial]:
    """The trials of a journal by our ids, as anybody with Optuna reads them."""
    study = optuna.load_study(
        study_name="run", storage=JournalStorage(JournalFileBackend(str(journal)))
    )
    trials = study.get_trials()
    by_id = {trial.user_attrs["trial"]: trial for trial in trials}
    assert len(by_id) == len(trials)
    return by_id


def summary(journal: Path) -> list[object]:
    return [
        (t.number, name, t.state, t.value, t.intermediate_values, t.params, t.user_attrs)
        for name, t in read(journal).items()
    ]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


@pytest.fixture
def whole(journal: Path) -> Path:
    """A journal with all rows."""
    open_(journal)
    return journal


def test_every_trial_is_in_the_ledger_with_its_gains_over_the_default(whole: Path) -> None:
    found = [read(whole)[f"r1-{number:04d}"] for number in range(6)]
    assert [trial.number for trial in found] == list(range(6))
    expected = [
        (TrialState.COMPLETE, 0.0, {1: 0.0, 2: 0.0}),
        (TrialState.COMPLETE, 0.125, {1: 0.25, 2: 0.125}),
        (TrialState.PRUNED, -0.25, {1: -0.25}),
        (TrialState.FAIL, None, {}),
        (TrialState.FAIL, None, {1: 0.0}),
        (TrialState.RUNNING, None, {1: 0.125}),
    ]
    assert [(t.state, t.value, t.intermediate_values) for t in found] == expected


def test_the_ledger_names_strategies_states_and_reasons(whole: Path) -> None:
    found = read(whole)
    assert found["r1-0000"].user_attrs["origin"] == "default"
    assert found["r1-0000"].params == {}
    assert found["r1-0001"].params == PARAMS
    assert found["r1-0001"].user_attrs["strategy"] == {"head": {"kind": "ridge"}}
    assert found["r1-0002"].user_attrs["reason"] == "ranked 3 of 3"
    states = [trial.user_attrs.get("state") for trial in found.values()]
    assert states == ["completed", "completed", "stopped", "diverged", "failed", None]
    rest = ("round", "structure", "seconds", "score")
    assert [found["r1-0001"].user_attrs[name] for name in rest] == [1, "a", 1.0, 0.875]
    assert "score" not in found["r1-0003"].user_attrs  # it has none


def test_the_study_names_what_its_values_are(whole: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(whole)))
    assert optuna.load_study(study_name="run", storage=storage).metric_names == ["gain"]


def test_a_score_that_is_no_number_is_left_out_for_browsers_cannot_read_it(journal: Path) -> None:
    open_(journal, [*ROWS, asked(6), scored(6, 1, math.inf), ended(6, "diverged")])
    assert "score" not in read(journal)["r1-0006"].user_attrs


def test_the_ledgers_ranges_are_the_hard_limits(whole: Path) -> None:
    trial = read(whole)["r1-0002"]
    assert trial.params["inner.lr"] == 5.0
    assert trial.distributions["inner.lr"] == optuna.distributions.FloatDistribution(
        1e-5, 10.0, log=True
    )


def test_a_trial_that_ended_before_the_default_got_there_waits_for_it(journal: Path) -> None:
    rows: list[Row] = [
        asked(0, "default", None), scored(0, 1, 0.5), asked(1), scored(1, 1, 0.75),
        scored(1, 2, 1.0), ended(1, "completed"),
    ]  # fmt: skip
    history = History(1, rows)
    ledger = open_ledger(journal, None, "run", history, TREE)
    waiting = read(journal)["r1-0001"]
    assert (waiting.state, waiting.intermediate_values) == (TrialState.RUNNING, {1: 0.25})
    for row in (scored(0, 2, 0.75), ended(0, "completed")):
        assert read(journal)["r1-0001"].state == TrialState.RUNNING
        history.add(row)
        trial = history.trials["r1-0001"]
        ledger.sync(trial, history.gains(trial))
    done = read(journal)["r1-0001"]
    assert (done.state, done.value) == (TrialState.COMPLETE, 0.25)
    assert done.intermediate_values == {1: 0.25, 2: 0.25}


def test_syncing_row_by_row_equals_syncing_at_the_end(whole: Path, tmp_path: Path) -> None:
    step_by_step = tmp_path / "steps.journal"
    history = History(1)
    ledger = open_ledger(step_by_step, None, "run", history, TREE)
    for row in ROWS:
        history.add(row)
        for trial in history.trials.values():
            ledger.sync(trial, history.gains(trial))
    assert summary(step_by_step) == summary(whole)


def test_reopening_brings_what_is_missing_and_repeats_nothing(whole: Path, tmp_path: Path) -> None:
    journal = tmp_path / "reopened.journal"
    for count in range(len(ROWS) + 1):
        open_(journal, ROWS[:count])
    assert summary(journal) == summary(whole)
    before = journal.read_bytes()
    open_(journal)
    (added,) = journal.read_bytes().removeprefix(before).splitlines()
    assert json.loads(added)["op_code"] == 0  # Optuna notes that the study was opened


def test_reopening_goes_on_with_a_trial_that_was_running(whole: Path) -> None:
    history = History(1, ROWS)
    ledger = open_ledger(whole, None, "run", history, TREE)
    for row in (scored(5, 2, 1.0), ended(5, "completed")):
        history.add(row)
        trial = history.trials["r1-0005"]
        ledger.sync(trial, history.gains(trial))
    found = read(whole)["r1-0005"]
    assert (found.state, found.value) == (TrialState.COMPLETE, 0.25)


def test_trials_of_others_in_the_study_are_left_alone(whole: Path) -> None:
    study = optuna.load_study(
        study_name="run", storage=JournalStorage(JournalFileBackend(str(whole)))
    )
    study.add_trial(optuna.trial.create_trial(value=3.0))
    open_(whole, [*ROWS, asked(6)])
    states = [
        trial.state
        for trial in optuna.load_study(
            study_name="run", storage=JournalStorage(JournalFileBackend(str(whole)))
        ).get_trials()
    ]
    assert states[6:] == [TrialState.COMPLETE, TrialState.RUNNING]


# --- damage ---------------------------------------------------------------------------------------


def test_a_journal_cut_anywhere_in_its_last_line_loses_that_line_alone(
    whole: Path, tmp_path: Path
) -> None:
    content, torn = whole.read_bytes(), tmp_path / "torn.journal"
    last = content[:-1].rfind(b"\n") + 1
    for end in range(last, len(content)):
        torn.write_bytes(content[:end])
        repair_journal(torn)
        assert torn.read_bytes() == content[:last]


@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_a_journal_cut_in_its_last_line_is_opened_and_goes_on(
    kept: int, whole: Path, tmp_path: Path
) -> None:
    content, expected, torn = whole.read_bytes(), summary(whole), tmp_path / "torn.journal"
    last = content[:-1].rfind(b"\n") + 1
    torn.write_bytes(content[:last] + content[last:][:kept])
    open_(torn, [*ROWS, asked(6)])
    # Read by another reader, also what was added behind the cut.
    assert summary(torn)[:6] == expected
    assert list(read(torn))[6:] == ["r1-0006"]


def test_a_journal_cut_after_any_line_is_brought_up_to_the_records(
    whole: Path, tmp_path: Path
) -> None:
    lines, expected = whole.read_bytes().splitlines(keepends=True), summary(whole)
    torn = tmp_path / "torn.journal"
    for count in range(0, len(lines), 2):
        torn.write_bytes(b"".join(lines[:count]))
        open_(torn)
        assert summary(torn) == expected


def test_repair_cuts_to_the_last_whole_line_and_no_further(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    for content, whole in (
        (b'{"a":1}\n{"b":2}\n', b'{"a":1}\n{"b":2}\n'),
        (b'{"a":1}\n{"b":2}', b'{"a":1}\n'),
        (b'{"a":1}\n{"b":\n', b'{"a":1}\n'),
        (b'{"a":1}\n\x00\x00\x00', b'{"a":1}\n'),
        (b'{"a":1}\n\x00\x00\n\x00\n', b'{"a":1}\n'),
        (b'{"a"', b""),
        (b"", b""),
    ):
        journal.write_bytes(content)
        repair_journal(journal)
        assert journal.read_bytes() == whole


def test_a_stale_lock_is_removed(whole: Path) -> None:
    lock = whole.with_name(whole.name + ".lock")
    lock.symlink_to(whole)
    repair_journal(whole)
    assert not lock.is_symlink()
    open_(whole, [*ROWS, asked(6)])
    assert len(read(whole)) == 7


def test_a_journal_that_is_not_there_needs_no_repair(journal: Path) -> None:
    repair_journal(journal)
    assert not journal.exists()


def damages(content: bytes) -> Iterator[bytes]:
    """Ways for a journal to be unreadable before its end."""
    lines = content.splitlines(keepends=True)
    for number in range(0, len(lines) - 2, 6):
        rest = lines[number + 1 :]
        yield b"".join([*lines[:number], b"\x00" * len(lines[number]), *rest])  # a lost block
        yield b"".join([*lines[:number], lines[number][:-9], *rest])  # two lines run together
        yield b"".join([*lines[:number], b"{}\n", *rest])
        yield b"".join([*lines[:number], b"[]\n", *rest])
    yield content + b"{}\n"


def test_a_damaged_journal_is_rebuilt_from_the_records(whole: Path, tmp_path: Path) -> None:
    expected, broken = summary(whole), tmp_path / "broken.journal"
    for content in damages(whole.read_bytes()):
        broken.write_bytes(content)
        open_(broken)
        assert summary(broken) == expected
        assert broken.with_suffix(".damaged").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage\n" * 3, b"\x00" * 100])
def test_a_journal_without_a_sound_line_is_begun_anew(
    content: bytes, whole: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "garbage.journal"
    journal.write_bytes(content)
    open_(journal)
    assert summary(journal) == summary(whole)


# --- other storages -------------------------------------------------------------------------------


def test_an_sqlite_url_holds_the_same_ledger(whole: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    for rows in (ROWS[:9], ROWS):
        open_(tmp_path / "unused.journal", rows, url)
    assert not (tmp_path / "unused.journal").exists()
    study = optuna.load_study(study_name="run", storage=url)
    found = [
        (t.number, t.user_attrs["trial"], t.state, t.value, t.intermediate_values, t.params,
         t.user_attrs)
        for t in study.get_trials()
    ]  # fmt: skip
    assert found == summary(whole)


def test_a_storage_with_trials_of_another_run_is_refused(tmp_path: Path, journal: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    open_(journal, ROWS[:1], url)
    with pytest.raises(RunError, match="trials of another run run: name another folder"):
        open_(journal, [], url)


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.db", "nosuchbase://host/x"])
def test_a_storage_that_cannot_be_opened_is_an_error_of_ours(url: str, journal: Path) -> None:
    with pytest.raises(RunError, match="storage"):
        open_(journal, ROWS, url)


# --- several directions ---------------------------------------------------------------------------


def timed(rows: list[Row]) -> list[Row]:
    """The rows, where each trial takes as many seconds a task as its number says."""
    return [
        replace(row, score_seconds=2.0 * (1 + int(row.trial[-4:])))
        if isinstance(row, Scored)
        else row
        for row in rows
    ]


@pytest.fixture
def two(journal: Path) -> Path:
    """A journal of two objectives with all rows."""
    open_ledger(journal, None, "run", History(1, timed(ROWS)), TREE, COSTS)
    return journal


def test_a_ledger_of_two_objectives_has_two_directions_and_names_them(two: Path) -> None:
    study = optuna.load_study(
        study_name="run", storage=JournalStorage(JournalFileBackend(str(two)))
    )
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["gain", "adapt_seconds"]
    expected = [
        (TrialState.COMPLETE, [0.0, 0.0]),
        (TrialState.COMPLETE, [0.125, pytest.approx(math.log(2))]),
        (TrialState.PRUNED, None),
        (TrialState.FAIL, None),
        (TrialState.FAIL, None),
        (TrialState.RUNNING, None),
    ]
    assert [(t.state, t.values) for t in study.trials] == expected
    assert all(t.intermediate_values == {} for t in study.trials)
    assert [t.user_attrs["trial"] for t in study.best_trials] == ["r1-0000", "r1-0001"]


def test_a_ledger_of_two_objectives_is_reopened_and_goes_on(two: Path, tmp_path: Path) -> None:
    rows, journal = timed(ROWS), tmp_path / "reopened.journal"
    for count in range(len(rows) + 1):
        open_ledger(journal, None, "run", History(1, rows[:count]), TREE, COSTS)

    def summary_of(path: Path) -> list[object]:
        return [(n, t.state, t.values, t.params, t.user_attrs) for n, t in read(path).items()]

    assert summary_of(journal) == summary_of(two)
    before = journal.read_bytes()
    open_ledger(journal, None, "run", History(1, rows), TREE, COSTS)
    (added,) = journal.read_bytes().removeprefix(before).splitlines()
    assert json.loads(added)["op_code"] == 0  # Optuna notes that the study was opened


@pytest.mark.parametrize("sql", [False, True])
def test_a_study_of_other_directions_is_refused_in_a_sentence(
    sql: bool, journal: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}" if sql else None
    open_ledger(journal, url, "run", History(1, ROWS), TREE)
    with pytest.raises(RunError) as error:
        open_ledger(journal, url, "run", History(1, ROWS), TREE, COSTS)
    assert str(error.value) == (
        "the storage's study run has the directions maximize, but the objectives of this run need "
        "maximize, minimize: name another folder (--out)"
    )
    open_(journal, ROWS, url)  # what was there is left alone


def test_a_journal_whose_lock_cannot_be_let_go_is_opened_anew(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that may only be read from here on: Optuna then raises no ``OSError``."""
    history, rename, failures = History(1, ROWS[:3]), os.rename, [1]

    def fail_once(*paths: str) -> None:
        if failures and str(paths[0]).endswith(".lock"):
            failures.pop()
            raise OSError(errno.EIO, "Input/output error")
        rename(*paths)

    ledger = open_ledger(journal, None, "run", history, TREE)
    for row in ROWS[3:]:
        history.add(row)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail_once)
        for trial in history.trials.values():
            ledger.sync(trial, history.gains(trial))
    assert failures == []
    assert read(journal).keys() == history.trials.keys()
