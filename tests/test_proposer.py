"""The proposer on real Optuna: proposals are a pure function of what was observed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from branching import LABEL, PENALTY, TREE
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import FrozenTrial, TrialState

from metatune.observations import Observation
from metatune.proposer import (
    FLOOR_SHARE,
    MUTATIONS,
    STARTUP,
    _observed_in_all,
    _region,
    propose,
)
from metatune.space import ChoiceKnob, FloatKnob, KnobTree, Params, parse_tree
from metatune.space.region import FLOOR, Region, Tried, adjust, within

RATE = parse_tree({"inner": {"lr": {"float": [1e-4, 1.0], "log": True}}})


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
