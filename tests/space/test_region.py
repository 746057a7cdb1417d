"""The region: it follows the leaders inside the hard limits, and rules nothing out."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from metatune.errors import SpaceError
from metatune.space import ChoiceKnob, FloatKnob, IntKnob, Knob, KnobTree, Params, parse_tree
from metatune.space.knobs import Value
from metatune.space.region import (
    FLOOR,
    LEADERS,
    MIN_EVIDENCE,
    NARROWEST,
    Region,
    Tried,
    adjust,
    within,
)
from metatune.space.scale import Number, ends, spread, unspread, width
from metatune.space.source import load_yaml

SPACE: dict[str, Any] = {
    "outer": {
        "lr": {"float": [1e-3, 1e-1], "log": True, "limits": [1e-5, 10.0]},
        "clip": {"float": [0.0, 8.0]},
    },
    "inner": {"steps": {"int": [1, 9], "limits": [1, 20]}},
    "head": {"kind": {"choice": ["ridge", "linear", "cosine", "gp"]}},
    "choose": {"more": {"inner": {"lr": {"float": [0.0, 1.0]}}}, "less": {}},
}
TREE = parse_tree(SPACE)
RATE, CLIP, STEPS, HEAD = "outer.lr", "outer.clip", "inner.steps", "head.kind"
INNER = "choose.more.inner.lr"
GROUPS = tuple(f"g{i}" for i in range(10))


def knob_of(tree: KnobTree, name: str) -> Knob:
    return next(knob for knob in tree.knobs() if knob.name == name)


def number_of(tree: KnobTree, name: str) -> Number:
    knob = knob_of(tree, name)
    assert not isinstance(knob, ChoiceKnob)
    return knob


def tried(
    params: Params, gain: float = 0.0, completed: bool = True, groups: Sequence[str] = GROUPS
) -> Tried:
    """A trial with nearly the same gain on every task, of which there is one a group."""
    gains = tuple(gain + 0.001 * i for i in range(len(groups)))
    return Tried(params, completed, gains, tuple(groups))


def trials_at(name: str, *values: Value) -> list[Tried]:
    return [tried({name: value}) for value in values]


def moved(name: str, trials: Sequence[Tried], *leaders: Value, region: Region = Region()) -> Any:  # noqa: B008
    """The range of one knob, and the sentences, after a move towards leaders of these values."""
    after, moves = adjust(TREE, region, trials, [{name: leader} for leader in leaders])
    return after.ranges.get(name), moves


# --- a region as data -----------------------------------------------------------------------------


def weights_of(count: int) -> st.SearchStrategy[tuple[float, ...]]:
    parts = st.lists(st.floats(0.01, 1.0), min_size=count, max_size=count)
    return parts.map(lambda some: tuple(part / sum(some) for part in some))


RANGES = st.tuples(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
).filter(lambda pair: pair[0] < pair[1])
REGIONS = st.builds(
    Region,
    ranges=st.dictionaries(st.sampled_from([RATE, CLIP, STEPS]), RANGES),
    weights=st.dictionaries(
        st.sampled_from([HEAD, "choose"]), st.integers(1, 6).flatmap(weights_of)
    ),
)


@given(REGIONS)
def test_a_region_is_read_back_as_it_was_written(region: Region) -> None:
    assert Region.model_validate_json(region.model_dump_json()) == region
    written = yaml.safe_dump(region.model_dump(mode="json"))
    assert Region.model_validate(yaml.safe_load(written)) == region
    data, _ = load_yaml(written, "method.yaml")
    assert Region.model_validate_json(json.dumps(data), strict=True) == region


@pytest.mark.parametrize("wrong", [
    {"ranges": {RATE: [1.0, 0.1]}},
    {"ranges": {RATE: [1.0, 1.0]}},
    {"ranges": {RATE: [0.0, math.inf]}},
    {"ranges": {RATE: [math.nan, 1.0]}},
    {"ranges": {RATE: [1.0]}},
    {"weights": {HEAD: [0.5, 0.4]}},
    {"weights": {HEAD: [1.0, 0.0]}},
    {"weights": {HEAD: []}},
    {"width": {}},
])  # fmt: skip
def test_a_region_without_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Region.model_validate(wrong)


def test_the_empty_region_is_the_files_own_space() -> None:
    assert within(TREE, Region()) == TREE


def test_a_tree_within_a_region_has_its_ranges_and_the_files_limits() -> None:
    region = Region(ranges={RATE: (0.01, 1.0), STEPS: (4.0, 20.0), INNER: (0.25, 0.5)})
    tree = within(TREE, region)
    assert knob_of(tree, RATE) == FloatKnob(RATE, 0.01, 1.0, True, (1e-5, 10.0))
    assert knob_of(tree, STEPS) == IntKnob(STEPS, 4, 20, False, (1, 20))
    assert isinstance(number_of(tree, STEPS).low, int)
    assert knob_of(tree, INNER) == FloatKnob(INNER, 0.25, 0.5, False, (0.0, 1.0))
    untouched = (CLIP, HEAD, "choose")
    assert [knob_of(tree, name) for name in untouched] == [knob_of(TREE, n) for n in untouched]


@pytest.mark.parametrize(("region", "message"), [
    (Region(ranges={"outer.rate": (0.1, 1.0)}), 'ranges: found "outer.rate"; allowed: outer.lr, '),
    (Region(ranges={HEAD: (0.1, 1.0)}), 'ranges: found "head.kind"; allowed: outer.lr, '),
    (Region(weights={RATE: (0.5, 0.5)}), 'weights: found "outer.lr"; allowed: head.kind, choose'),
    (Region(weights={HEAD: (0.5, 0.5)}), "weights: head.kind: found 2; allowed: 4, one a choice"),
    (Region(ranges={RATE: (1e-6, 1.0)}),
     "ranges: outer.lr: found [1e-06, 1]; allowed: a range in [1e-05, 10]"),
    (Region(ranges={STEPS: (1.5, 3.0)}),
     "ranges: inner.steps: found [1.5, 3]; allowed: whole numbers in [1, 20]"),
])  # fmt: skip
def test_a_region_of_another_space_is_refused(region: Region, message: str) -> None:
    with pytest.raises(SpaceError) as refused:
        within(TREE, region)
    assert message in str(refused.value)


# --- ranges ---------------------------------------------------------------------------------------

MANY = trials_at(RATE, *[10 ** (-3 + 2 * i / 9) for i in range(10)])  # all over the first range


def test_without_leaders_nothing_moves() -> None:
    region = Region(ranges={RATE: (0.01, 1.0)}, weights={HEAD: (0.1, 0.2, 0.3, 0.4)})
    assert adjust(TREE, region, MANY, []) == (region, ())


def test_a_range_shrinks_around_the_leaders_on_its_own_scale() -> None:
    # Two powers of ten wide: half of one is kept on both sides of leaders at -2 and -2.5.
    range_, moves = moved(RATE, MANY, 10**-2.0, 10**-2.5)
    assert range_ == pytest.approx((1e-3, 10**-1.5))
    assert moves == ("outer.lr: [0.001, 0.1] -> [0.001, 0.0316], around 2 leaders, 10 trials",)


def test_a_range_at_most_halves_at_a_time() -> None:
    range_, moves = moved(CLIP, trials_at(CLIP, *range(8)), 3.0)
    assert range_ == (1.0, 5.0)
    assert moves == ("outer.clip: [0, 8] -> [1, 5], around 1 leader, 8 trials",)


def test_a_range_shifts_with_the_leaders_beyond_its_old_bound() -> None:
    low, high = moved(RATE, MANY, 10**-1.2)[0]
    assert (low, high) == pytest.approx((10**-1.7, 10**-0.7))


def test_a_range_grows_where_the_best_leader_sits_on_its_bound() -> None:
    range_, moves = moved(RATE, MANY, 0.099, 0.01)
    assert range_ == pytest.approx((1e-3, 1.0))
    assert range_[0] == 1e-3  # to the last digit: this end did not move
    assert moves == ("outer.lr: [0.001, 0.1] -> [0.001, 1], best leader on the bound, 10 trials",)
    assert moved(RATE, MANY, 0.001)[0] == pytest.approx((1e-4, 0.1))
    # The second leader there is no reason.
    assert moved(RATE, MANY, 0.01, 0.099)[0] == pytest.approx((10**-2.5, 10**-0.5), rel=1e-2)


def test_a_range_grows_no_further_than_the_limits() -> None:
    region = Region(ranges={RATE: (1e-3, 9.0)})
    assert moved(RATE, MANY, 8.9, region=region)[0] == (1e-3, 10.0)
    # On a hard limit there is nothing to grow into: the range shrinks around the leader there.
    assert moved(CLIP, trials_at(CLIP, *range(8)), 8.0)[0] == (4.0, 8.0)


def test_a_leader_outside_the_range_pulls_it_there_whatever_the_evidence() -> None:
    range_, moves = moved(RATE, [], 0.01, 5.0)
    assert range_ == (1e-3, 5.0)
    assert moves == ("outer.lr: [0.001, 0.1] -> [0.001, 5], stretched to a leader, 0 trials",)
    assert moved(RATE, MANY, 5.0)[0] == (1e-3, 5.0)


def test_thin_evidence_moves_no_range() -> None:
    thin = trials_at(RATE, *[0.01] * (MIN_EVIDENCE - 1))
    assert moved(RATE, thin, 0.01) == (None, ())
    # Trials of other branches, and those outside the present range, say nothing of it.
    others = [*trials_at(CLIP, *[1.0] * 20), *trials_at(RATE, *[5.0] * 20)]
    assert moved(RATE, thin + others, 0.01) == (None, ())
    assert moved(RATE, [*thin, *others, *trials_at(RATE, 0.1)], 0.01)[1] != ()


def test_a_move_needs_trials_of_its_own() -> None:
    region, moves = adjust(TREE, Region(), MANY, [{RATE: 0.01}])
    assert moves
    assert adjust(TREE, region, MANY, [{RATE: 0.01}]) == (region, ())


def test_a_range_never_becomes_narrower_than_an_eighth_of_the_files_own() -> None:
    region, widths = Region(), []
    for _ in range(6):
        region, _ = adjust(TREE, region, trials_at(CLIP, *[4.0] * 8), [{CLIP: 4.0}])
        widths.append(region.ranges[CLIP][1] - region.ranges[CLIP][0])
    assert widths == [4.0, 2.0, 1.0, 1.0, 1.0, 1.0]


def test_whole_numbers_are_rounded_outward() -> None:
    trials = trials_at(STEPS, *range(1, 10))
    range_, moves = moved(STEPS, trials, 4, 5)  # [2, 7] before rounding
    assert range_ == (2.0, 7.0)
    assert moves == ("inner.steps: [1, 9] -> [2, 7], around 2 leaders, 9 trials",)
    inner = Region(ranges={STEPS: (1.0, 8.0)})
    assert moved(STEPS, trials, 4, region=inner)[0] == (2.0, 6.0)  # [2.25, 5.75]
    assert moved(STEPS, trials, 9)[0] == (1.0, 13.0)
    assert moved(STEPS, trials, 1)[0] == (1.0, 5.0)


def test_whole_numbers_on_a_log_scale_are_not_moved_by_rounding_errors() -> None:
    tree = parse_tree({"inner": {"steps": {"int": [1, 256], "log": True}}})
    trials = trials_at(STEPS, *range(1, 10))
    region, _ = adjust(tree, Region(), trials, [{STEPS: 16}])
    assert region.ranges == {STEPS: (4.0, 64.0)}
    region, _ = adjust(tree, Region(), trials, [{STEPS: 125}])
    assert region.ranges == {STEPS: (16.0, 256.0)}


def test_only_three_leaders_are_looked_at() -> None:
    values = [0.01, 0.011, 0.012]
    assert moved(RATE, MANY, *values, 1e-3) == moved(RATE, MANY, *values)


def test_all_of_a_front_are_looked_at_beside_the_leaders() -> None:
    trials = trials_at(CLIP, *[4.0] * MIN_EVIDENCE)
    alone, _ = adjust(TREE, Region(), trials, [{CLIP: 4.0}])
    assert alone.ranges[CLIP] == (2.0, 6.0)
    front = [{CLIP: value} for value in (4.0, 1.5, 2.0, 3.0, 1.0)]
    region, moves = adjust(TREE, Region(), trials, [{CLIP: 4.0}], front)
    assert region.ranges[CLIP] == (0.0, 7.0)
    assert "around 5 leaders" in moves[0]


def test_a_knob_that_no_leader_has_stays() -> None:
    trials = [tried({"choose": "more", INNER: i / 10}) for i in range(10)]
    assert adjust(TREE, Region(), trials, [{"choose": "less"}])[0].ranges == {}
    leaders: list[Params] = [{"choose": "less"}, {"choose": "more", INNER: 0.5}]
    assert adjust(TREE, Region(), trials, leaders)[0].ranges == {INNER: (0.25, 0.75)}


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    """A numeric knob with hard limits around its range."""
    log = draw(st.booleans())
    if draw(st.booleans()):
        number: Any = st.integers(1 if log else -(10**6), 10**6)
        kind = "int"
    else:
        number = st.floats(1e-12 if log else -1e15, 1e15, allow_subnormal=False)
        kind = "float"
    four = sorted(draw(st.lists(number, min_size=4, max_size=4)))
    assume(four[1] < four[2])
    return {kind: four[1:3], "limits": [four[0], four[3]], "log": log}


@given(st.data())
def test_the_new_range_lies_within_the_limits_and_holds_the_leaders(data: st.DataObject) -> None:
    tree = parse_tree({"outer": {"lr": data.draw(numbers())}})
    own = number_of(tree, RATE)
    inside = st.integers if isinstance(own, IntKnob) else st.floats
    region = Region()
    for _ in range(3):
        knob = number_of(within(tree, region), RATE)
        values = data.draw(st.lists(inside(*own.limits), min_size=1, max_size=4))
        evidence = data.draw(st.integers(0, 20))
        trials = trials_at(RATE, *[knob.low] * evidence)
        region, moves = adjust(tree, region, trials, [{RATE: value} for value in values])

        new = number_of(within(tree, region), RATE)
        assert new.limits == own.limits
        assert own.limits[0] <= new.low < new.high <= own.limits[1]
        assert all(new.low <= value <= new.high for value in values[:LEADERS])
        assert len(moves) == ((new.low, new.high) != (knob.low, knob.high))
        slack = 1 + 1e-6
        assert width(new) * slack >= min(width(knob), NARROWEST * width(own))
        assert width(new) * slack >= width(knob) / 2


# --- weights --------------------------------------------------------------------------------------


def heads(gains: dict[str, float], each: int = MIN_EVIDENCE, **more: Any) -> list[Tried]:
    """Trials of heads with these gains; the last of each head is the best by a little."""
    return [
        tried({HEAD: head, STEPS: i + 1}, gain + i / 1000, **more)
        for head, gain in gains.items()
        for i in range(each)
    ]


def reweighed(
    trials: Sequence[Tried],
    leader: str = "ridge",
    region: Region = Region(),  # noqa: B008
) -> tuple[Any, list[str]]:
    """The heads' weights, and what is said of them, where the best trial of a head leads."""
    best = max(
        (t for t in trials if t.params[HEAD] == leader and t.completed), key=lambda t: t.gains
    )
    after, moves = adjust(TREE, region, trials, [best.params])
    return after.weights.get(HEAD), [move for move in moves if move.startswith(HEAD)]


def test_a_choice_whose_best_trial_loses_to_the_leader_loses_weight() -> None:
    weights, moves = reweighed(heads({"ridge": 0.5, "linear": 0.5, "cosine": 0.1}))
    assert weights == pytest.approx((0.95 / 3, 0.95 / 3, 0.05, 0.95 / 3))
    # The only one of 2^10 flips of signs that is as extreme, and its mirror image.
    assert moves == ["head.kind=cosine weight 0.25 -> 0.05, 10 groups, p=0.002"]


def test_few_groups_make_the_claim_of_new_tasks() -> None:
    trials = heads({"ridge": 0.5, "gp": 0.1}, groups=["a", "b"] * 5)
    assert reweighed(trials)[1] == ["head.kind=gp weight 0.25 -> 0.05, 10 tasks, p=0.002"]


def test_the_level_is_shared_by_the_alternatives_of_a_knob() -> None:
    six = GROUPS[:6]  # the smallest p that six groups can give is 2 / 2^6 = 0.031
    one = heads({"ridge": 0.5, "gp": 0.1}, groups=six)
    assert reweighed(one)[1] == ["head.kind=gp weight 0.25 -> 0.05, 6 groups, p=0.031"]
    two = heads({"ridge": 0.5, "gp": 0.1, "linear": 0.1}, groups=six)
    assert reweighed(two) == (None, [])


def test_a_choice_on_which_there_is_no_evidence_keeps_its_weight() -> None:
    leader = heads({"ridge": 0.5})
    few = heads({"gp": 0.1}, each=MIN_EVIDENCE - 1)
    none_ended = heads({"gp": 0.1}, completed=False)
    other_tasks = heads({"gp": 0.1}, groups=[f"h{i}" for i in range(10)])
    no_worse = heads({"gp": 0.5})
    better = heads({"gp": 0.9})  # on `select`; the leader was confirmed elsewhere
    for trials in ([], few, none_ended, other_tasks, no_worse, better):
        assert reweighed([*leader, *trials]) == (None, [])
    assert reweighed([*leader, *few, tried({HEAD: "gp"}, completed=False)])[1] != []


def test_a_leader_that_was_not_scored_on_these_tasks_tells_nothing() -> None:
    trials = heads({"ridge": 0.5, "gp": 0.1})
    assert adjust(TREE, Region(), trials, [{HEAD: "ridge", STEPS: 20}])[0].weights == {}
    # The next leader stands in for it.
    leaders = [{HEAD: "ridge", STEPS: 20}, trials[2].params]
    assert HEAD in adjust(TREE, Region(), trials, leaders)[0].weights


def test_a_choice_that_lost_is_not_tried_again_and_recovers_when_it_leads() -> None:
    lost, _ = reweighed(heads({"ridge": 0.5, "linear": 0.5, "gp": 0.1}))
    region = Region(weights={HEAD: lost})
    assert reweighed(heads({"ridge": 0.5, "gp": 0.1}), region=region) == (lost, [])
    weights, moves = reweighed(heads({"ridge": 0.5, "gp": 0.9}), "gp", region)
    assert weights == pytest.approx((0.05, 0.95 / 3, 0.95 / 3, 0.95 / 3))
    assert moves == [
        "head.kind=ridge weight 0.32 -> 0.05, 10 groups, p=0.002",
        "head.kind=gp weight 0.05 -> 0.32, it leads",
    ]


def test_a_choice_on_the_front_keeps_its_weight_or_gets_it_back() -> None:
    trials = heads({"ridge": 0.5, "linear": 0.1, "gp": 0.1})
    best, cheap = trials[MIN_EVIDENCE - 1].params, trials[-1].params
    weights, moves = adjust(TREE, Region(), trials, [best], [best, cheap])
    assert weights.weights[HEAD] == pytest.approx((0.95 / 3, 0.05, 0.95 / 3, 0.95 / 3))
    lost = Region(weights={HEAD: (0.45, 0.05, 0.45, 0.05)})
    after, moves = adjust(TREE, lost, trials, [best], [best, cheap])
    assert after.weights[HEAD] == pytest.approx((0.95 / 3, 0.05, 0.95 / 3, 0.95 / 3))
    assert "head.kind=gp weight 0.05 -> 0.32, it is on the front" in moves


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["ridge", "linear", "cosine", "gp"]), st.floats(-1, 1), min_size=1
        ),
        min_size=1,
        max_size=5,
    )
)
def test_no_weight_ever_falls_below_the_floor(rounds: list[dict[str, float]]) -> None:
    region = Region()
    for gains in rounds:
        leader = max(gains, key=lambda head: gains[head])
        best = {HEAD: leader, STEPS: MIN_EVIDENCE}
        region, _ = adjust(TREE, region, heads(gains), [best])
        # As read back from a file by the next run.
        region = Region.model_validate_json(region.model_dump_json())
        weights = region.weights.get(HEAD, (0.25,) * 4)
        assert sum(weights) == pytest.approx(1)
        assert min(weights) >= FLOOR / 4
        assert weights[("ridge", "linear", "cosine", "gp").index(leader)] == max(weights)


def test_moves_are_told_in_the_order_of_the_file_and_others_are_kept() -> None:
    region = Region(ranges={CLIP: (1.0, 2.0)}, weights={"choose": (0.1, 0.9)})
    trials = [
        tried({HEAD: head, STEPS: 1 + i % 9, RATE: 0.01}, gain)
        for head, gain in (("ridge", 0.5), ("cosine", 0.1))
        for i in range(8)
    ]
    after, moves = adjust(TREE, region, trials, [trials[0].params])
    assert [move.split()[0] for move in moves] == ["outer.lr:", "inner.steps:", "head.kind=cosine"]
    assert (after.ranges[CLIP], after.weights["choose"]) == ((1.0, 2.0), (0.1, 0.9))


# --- round after round ----------------------------------------------------------------------------


def drawn(tree: KnobTree, region: Region, random: Random) -> Params:
    """Values drawn evenly from the region; choices by its weights."""

    def suggest(knob: Knob) -> Value:
        if isinstance(knob, ChoiceKnob):
            return random.choices(knob.choices, region.weights.get(knob.name))[0]
        value = unspread(knob, random.uniform(*ends(knob)))
        value = round(value) if isinstance(knob, IntKnob) else value
        return min(max(value, knob.low), knob.high)

    return within(tree, region).walk(suggest)[0]


def turns(
    value: Callable[[Params], float], rounds: int, seed: int, trials: int = 20
) -> tuple[list[Region], list[Params]]:
    """The regions that rounds of random trials end with, and the best of each, noise aside."""
    random, seen, regions, best = Random(seed), [], [Region()], []
    for _ in range(rounds):
        for _ in range(trials):
            params = drawn(TREE, regions[-1], random)
            gains = tuple(value(params) + random.gauss(0, 0.1) for _ in GROUPS)
            seen.append(Tried(params, True, gains, GROUPS))
        ranked = sorted(seen, key=lambda t: -sum(t.gains))
        regions.append(adjust(TREE, regions[-1], seen, [t.params for t in ranked[:LEADERS]])[0])
        best.append(ranked[0].params)
    return regions, best


def surface(rate: float, clip: float, steps: int) -> Callable[[Params], float]:
    """Highest, 0, at these values and the ridge head."""

    def value(params: Params) -> float:
        p: Any = params
        penalty = {"ridge": 0.0, "linear": 0.5, "cosine": 1.0, "gp": 1.5}[p[HEAD]]
        return -(
            math.log10(p[RATE] / rate) ** 2
            + ((p[CLIP] - clip) / 2) ** 2
            + ((p[STEPS] - steps) / 4) ** 2
            + penalty
        )

    return value


def distance(tree: KnobTree, name: str, value: float) -> float:
    """How far the middle of a range lies from a value, in widths of the file's own range."""
    knob = number_of(tree, name)
    middle = sum(ends(knob)) / 2
    return abs(middle - spread(knob, value)) / width(number_of(TREE, name))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("rate", "clip", "steps"), [
    (0.01, 2.0, 5),  # inside the first region
    (3.0, 2.0, 18),  # outside, within the limits
    (3e-5, 8.0, 1),  # outside on the other side, and on hard limits
])  # fmt: skip
def test_the_region_closes_in_on_the_optimum(
    rate: float, clip: float, steps: int, seed: int
) -> None:
    value = surface(rate, clip, steps)
    regions, best = turns(value, rounds=6, seed=seed, trials=40)
    tree = within(TREE, regions[-1])
    for name, at in ((RATE, rate), (CLIP, clip), (STEPS, steps)):
        assert distance(tree, name, at) <= max(0.1, distance(TREE, name, at) / 2), name
    assert width(number_of(tree, CLIP)) < width(number_of(TREE, CLIP)) / 3
    assert value(best[-1]) > max(-1.0, value(best[0]))


@pytest.mark.parametrize("seed", range(3))
def test_weights_go_to_the_best_choice(seed: int) -> None:
    regions, _ = turns(surface(0.02, 5.0, 5), rounds=4, seed=seed, trials=40)
    weights = regions[-1].weights[HEAD]
    assert weights[0] == max(weights)
    assert weights[2:] == pytest.approx((FLOOR / 4, FLOOR / 4))


OTHER_PROCESS = """
import json, sys
from metatune.space import parse_tree
from metatune.space.region import Region, Tried, adjust
space, region, trials, leaders = json.load(sys.stdin)
seen = [Tried(p, done, tuple(gains), tuple(groups)) for p, done, gains, groups in trials]
after, moves = adjust(parse_tree(space), Region.model_validate(region), seen, leaders)
print(json.dumps([after.model_dump(mode="json"), moves]))
"""


def test_another_process_moves_the_region_alike() -> None:
    random, value = Random(0), surface(3.0, 2.0, 5)
    trials = []
    for _ in range(30):
        params = drawn(TREE, Region(), random)
        gains = tuple(value(params) + random.gauss(0, 0.1) for _ in range(20))
        trials.append(Tried(params, True, gains, GROUPS * 2))
    leaders = [t.params for t in sorted(trials, key=lambda t: -sum(t.gains))[:3]]
    region = Region(ranges={CLIP: (0.0, 6.0)})
    after, moves = adjust(TREE, region, trials, leaders)
    assert len(moves) >= 4
    plain = [
        SPACE,
        region.model_dump(mode="json"),
        [(t.params, t.completed, t.gains, t.groups) for t in trials],
        leaders,
    ]
    there = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS],
        input=json.dumps(plain),
        env={**os.environ, "PYTHONHASHSEED": "5"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(there.stdout) == [after.model_dump(mode="json"), list(moves)]
