"""The gradient step: numbers of a strategy become meta-parameters, and numbers again."""

from __future__ import annotations

from math import inf, isfinite, log, nan
from typing import Any

import pytest
import sklearn.ensemble  # noqa: F401  (its first import draws random numbers, as no strategy may)
import torch
from families import MOLECULES, TABLES, WAVES, family
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from metatune.gradient import (
    REACH,
    learned_knobs,
    outer_knobs,
    probes,
    promote,
    step,
    write_back,
)
from metatune.learners.learner import build_learner
from metatune.strategy import (
    GP,
    MLP,
    Amortised,
    Linear,
    Logistic,
    Meta,
    NearestNeighbour,
    NoBackbone,
    NoInner,
    Outer,
    OwnPart,
    Pooled,
    Prototypes,
    Ridge,
    Seeds,
    Single,
    Steps,
    Strategy,
    SupportMean,
    ZeroMean,
    problems,
)
from metatune.strategy.parts import Part
from metatune.tasks.base import Episode, FamilyInfo

PROPERTY = settings(deadline=None)
POINTS, CLASSES = Episode(1, 6, 5), Episode(3, 2, 2)
GROUPED_TABLES = family("classification", (12,), grouped=True)
PLACES = [(WAVES, POINTS), (MOLECULES, POINTS), (TABLES, CLASSES), (GROUPED_TABLES, CLASSES)]

NUMBERS = st.floats(1e-3, 1e3)
FOLLOWED = ["second_order", "first_order", "truncated"]
OTHER_RULES = ["implicit", "reptile", "joint", "none"]
RATES = ["fixed", "fixed", "learned", "per_layer", "per_layer_step", "per_parameter"]


def priors(learn: st.SearchStrategy[bool]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.just(ZeroMean()),
        st.builds(SupportMean, strength=st.just(0.0) | NUMBERS, mean=NUMBERS, learn=learn),
        st.builds(Pooled, blend=st.floats(-2, 2), learn=learn),
    )


def closed_forms(
    info: FamilyInfo, raw: bool, learn: st.SearchStrategy[bool]
) -> st.SearchStrategy[Any]:
    """Heads without inner steps that have numbers; of raw inputs alone without a backbone."""
    looks = ["raw"] if raw else ["raw", "learned", "learned+raw"]
    scales = {"amplitude": NUMBERS, "lengthscale": NUMBERS, "noise": NUMBERS, "learn": learn}
    ridge = st.builds(Ridge, penalty=NUMBERS, learn=learn)
    linear, rbf = st.sampled_from(["off", "raw"]), st.sampled_from(looks)
    of_both = ridge | st.builds(GP, linear=linear, rbf=rbf, **scales)
    if info.kind == "regression":
        return of_both
    logistic = st.builds(Logistic, penalty=NUMBERS, learn=learn)
    return of_both | logistic | st.builds(Prototypes, scale=NUMBERS, learn=learn)


@st.composite
def strategies(draw: st.DrawFn, info: FamilyInfo, leader: bool) -> Strategy:
    """Strategies from the parts; most of them make sense.

    Args:
        draw: Hypothesis's.
        info: the family.
        leader: only such as have numbers with a gradient that are not learned yet.
    """
    learn = st.just(False) if leader else st.booleans()
    backbone = draw(
        st.just(NoBackbone())
        | st.builds(MLP, width=st.just(4), depth=st.just(1), frozen=st.booleans())
    )
    by_steps = draw(st.booleans())
    followed = leader or draw(st.integers(0, 3)) > 0
    rules = FOLLOWED if by_steps else ["first_order"]
    rule = draw(st.sampled_from(rules if followed else OTHER_RULES))
    steps = st.builds(
        Steps,
        kind=st.sampled_from(["sgd", "adam"]),
        steps=st.integers(1, 3),
        lr=NUMBERS,
        rate=st.sampled_from(RATES if followed and not leader else ["fixed"]),
        scope=st.sampled_from(["all", "head"]),
        proximal=st.sampled_from([0.0, 0.5]),
    )
    linear = st.builds(Linear, start=st.sampled_from(["learned", "zero", "ridge"]))
    closed = closed_forms(info, isinstance(backbone, NoBackbone), learn)
    if not leader:
        closed |= st.sampled_from([NearestNeighbour(), Amortised(width=4, depth=1)])
    cross_fit = st.sampled_from(["auto", "none"] if by_steps or leader else ["auto", "group"])
    return Strategy(
        prior=draw(priors(learn)) if info.kind == "regression" and followed else ZeroMean(),
        backbone=backbone,
        head=draw(linear if by_steps else closed),
        inner=draw(steps) if by_steps else NoInner(),
        meta=draw(st.builds(Meta, rule=st.just(rule), cross_fit=cross_fit)),
        outer=draw(st.builds(Outer, lr=NUMBERS)),
        combination=draw(st.just(Single()) | st.just(Seeds(members=2))),
    )


Place = tuple[Strategy, FamilyInfo, Episode]


@st.composite
def sensible(draw: st.DrawFn, leader: bool = False) -> Place:
    """A strategy without problems, its family and its episode."""
    info, episode = draw(st.sampled_from(PLACES))
    strategy = draw(strategies(info, leader))
    assume(not problems(strategy, info, episode))
    return strategy, info, episode


def init_of(strategy: Strategy, info: FamilyInfo, episode: Episode) -> dict[str, torch.Tensor]:
    return build_learner(strategy, info, episode.way).init(0)


def number(strategy: Strategy, path: str) -> float:
    place, knob = path.split(".")
    value: float = getattr(getattr(strategy, place), knob)
    return value


def without(strategy: Strategy, *paths: str) -> dict[str, Any]:
    """The strategy as plain data, less what lies at some paths."""
    plain = strategy.model_dump()
    for path in paths:
        place, knob = path.split(".")
        plain[place].pop(knob, None)
    return plain


PROMOTED = ("inner.rate", "head.learn", "prior.learn", "prior.strength", "meta.cross_fit")


# --- promoting ------------------------------------------------------------------------------------


@PROPERTY
@given(place=sensible())
def test_what_is_promoted_makes_sense_and_differs_in_what_is_learned_alone(
    place: Place,
) -> None:
    strategy, info, episode = place
    promoted = promote(strategy, info, episode)
    if promoted is not None:
        assert problems(promoted, info, episode) == []
        assert Strategy.model_validate(promoted.model_dump()) == promoted
        assert without(promoted, *PROMOTED) == without(strategy, *PROMOTED)
        assert promoted != strategy


@PROPERTY
@given(place=sensible())
def test_nothing_is_left_to_promote_in_what_was_promoted(
    place: Place,
) -> None:
    strategy, info, episode = place
    promoted = promote(strategy, info, episode)
    if promoted is not None:
        assert promote(promoted, info, episode) is None


MAML = Strategy(backbone=MLP(), head=Linear(), inner=Steps(), meta=Meta(rule="second_order"))
FIXED_RIDGE = Strategy(backbone=MLP(), head=Ridge(learn=False))


@pytest.mark.parametrize(("parts", "path", "value"), [
    ({"head": Linear(), "inner": Steps(rate="fixed")}, "inner.rate", "learned"),
    ({"head": Ridge(learn=False)}, "head.learn", True),
    ({"head": GP(learn=False)}, "head.learn", True),
    ({"head": Ridge(), "prior": SupportMean(strength=2.0)}, "prior.learn", True),
    ({"head": Ridge(), "prior": Pooled(learn=False)}, "prior.learn", True),
])  # fmt: skip
def test_each_number_with_a_gradient_is_promoted_in_a_regression(
    parts: dict[str, Any], path: str, value: Any
) -> None:
    promoted = promote(FIXED_RIDGE.model_copy(update=parts), MOLECULES, POINTS)
    assert promoted is not None
    place, knob = path.split(".")
    assert getattr(getattr(promoted, place), knob) == value


@pytest.mark.parametrize("head", [Ridge(learn=False), Prototypes(), Logistic(), GP(learn=False)])
def test_each_closed_form_head_is_promoted_for_classes(head: Part) -> None:
    promoted = promote(FIXED_RIDGE.model_copy(update={"head": head}), TABLES, CLASSES)
    assert promoted is not None
    assert promoted.head == head.model_copy(update={"learn": True})


@pytest.mark.parametrize("parts", [
    # Learned already: what they come to is told by their own trial.
    {"head": Ridge()},
    {"head": Linear(), "inner": Steps(rate="per_layer")},
    # No such numbers.
    {"head": Amortised()},
    # No gradient.
    {"meta": Meta(rule="none")},
    {"backbone": NoBackbone(), "meta": Meta(rule="none")},
    *({"head": Linear(), "inner": Steps(proximal=1.0), "meta": Meta(rule=rule)}
      for rule in ("implicit", "reptile", "joint", "none")),
    # A learner of the user's own.
    {"head": Linear(), "backbone": NoBackbone(), "learner": OwnPart(use="collections:Counter")},
])  # fmt: skip
def test_nothing_is_promoted_where_nothing_can_be_learned(parts: dict[str, Any]) -> None:
    assert promote(FIXED_RIDGE.model_copy(update=parts), WAVES, POINTS) is None


def test_a_strategy_without_sense_is_not_promoted() -> None:
    assert promote(FIXED_RIDGE.model_copy(update={"head": Prototypes()}), WAVES, POINTS) is None


@pytest.mark.parametrize("cross_fit", ["auto", "none", "group"])
def test_numbers_are_learned_on_groups_that_are_held_out_where_there_are_groups(
    cross_fit: str,
) -> None:
    meta = {"rule": "first_order", "cross_fit": cross_fit}
    strategy = FIXED_RIDGE.model_copy(update={"meta": Meta.model_validate(meta)})
    strategy = strategy.model_copy(update={"prior": SupportMean(learn=True)})  # or group is refused
    promoted = promote(strategy, MOLECULES, POINTS)
    assert promoted is not None
    assert promoted.cross_fits_backbone(MOLECULES)
    elsewhere = promote(FIXED_RIDGE, WAVES, POINTS)
    assert elsewhere is not None
    assert elsewhere.meta.cross_fit == "auto"


def test_with_inner_steps_a_pooled_model_at_least_is_fitted_without_the_episodes_group() -> None:
    """The weights are not: ``meta.cross_fit: group`` takes no inner steps."""
    careless = Meta(rule="first_order", cross_fit="none")
    strategy = MAML.model_copy(update={"prior": Pooled(learn=False), "meta": careless})
    promoted = promote(strategy, MOLECULES, POINTS)
    assert promoted is not None
    assert promoted.meta.cross_fit == "auto"
    assert promoted.folds(MOLECULES) > 1
    assert not promoted.cross_fits_backbone(MOLECULES)


def test_a_strength_of_zero_starts_to_be_learned_at_one_point() -> None:
    strategy = FIXED_RIDGE.model_copy(update={"prior": SupportMean(mean=0.5)})
    promoted = promote(strategy, WAVES, POINTS)
    assert promoted is not None
    assert promoted.prior == SupportMean(strength=1.0, mean=0.5, learn=True)


# --- what was learned -----------------------------------------------------------------------------


@PROPERTY
@given(place=sensible())
def test_before_any_training_the_numbers_are_those_of_the_strategy(
    place: Place,
) -> None:
    strategy, info, episode = place
    for each in (strategy, promote(strategy, info, episode) or strategy):
        for path, value in learned_knobs(each, init_of(each, info, episode)).items():
            # A strength of 0 has no logarithm.
            assert value == pytest.approx(number(each, path), rel=2e-5, abs=2e-6), path


LIMITS = {"inner.lr": 1e9, "head.scale": 1e4, "prior.mean": 1e9, "prior.blend": 10.0}
"""Largest values that knobs allow, where these are not a million."""


@PROPERTY
@given(place=sensible(leader=True), moves=st.lists(st.floats(-30, 30), min_size=1, max_size=9))
def test_what_was_learned_makes_a_child_that_differs_from_its_parent_in_it_alone(
    place: Place, moves: list[float]
) -> None:
    parent, info, episode = place
    promoted = promote(parent, info, episode)
    assume(promoted is not None)  # all but a linear head without a prior and with a zero rule
    params = init_of(promoted, info, episode)
    moved = {n: p + moves[i % len(moves)] for i, (n, p) in enumerate(params.items())}
    learned = learned_knobs(promoted, moved)
    assert learned
    child = write_back(parent, learned)
    assert problems(child, info, episode) == []
    assert Strategy.model_validate(child.model_dump()) == child
    assert without(child, *learned) == without(parent, *learned)
    assert write_back(promoted, learned).structure() == promoted.structure()
    for path, value in learned.items():
        limit = LIMITS.get(path, 1e6)
        assert number(child, path) == max(-limit, min(value, limit))


@PROPERTY
@given(place=sensible(), numbers=st.lists(st.floats(allow_nan=False), min_size=9, max_size=9))
def test_values_are_written_within_the_bounds_of_their_knobs(
    place: Place, numbers: list[float]
) -> None:
    parent, info, episode = place
    every = ["inner.lr", "head.penalty", "head.scale", "head.amplitude", "head.lengthscale",
             "head.noise", "prior.strength", "prior.mean", "prior.blend"]  # fmt: skip
    of_linear = isinstance(parent.head, Linear)  # its penalty and scale are no such numbers
    learned = {
        path: value
        for path, value in zip(every, numbers, strict=True)
        if hasattr(getattr(parent, path.split(".")[0]), path.split(".")[1])
        and not (of_linear and path.startswith("head."))
    }
    child = write_back(parent, learned)
    assert Strategy.model_validate(child.model_dump()) == child
    assert problems(child, info, episode) == []


@pytest.mark.parametrize(("learned", "said"), [
    ({"head.noise": 1.0}, "found head.noise; allowed: head.penalty, prior.strength, prior.mean"),
    ({"outer.lr": 1.0}, "found outer.lr"),
    ({"backbone.width": 1.0}, "found backbone.width"),
    ({"nonsense": 1.0}, "found nonsense"),
    ({"head.penalty": nan}, "head.penalty: found nan"),
])  # fmt: skip
def test_what_a_parent_has_not_is_refused(learned: dict[str, float], said: str) -> None:
    parent = FIXED_RIDGE.model_copy(update={"prior": SupportMean()})
    with pytest.raises(ValueError, match=said):
        write_back(parent, learned)


def test_several_numbers_of_one_knob_are_averaged() -> None:
    """Geometric means over layers, steps, kernels and members; not of what may be negative."""
    rates = Strategy(
        backbone=MLP(depth=1),
        inner=Steps(rate="per_layer_step", steps=2),
        meta=Meta(rule="second_order"),
    )
    params = {
        "rate.backbone.layer0.log_rate": torch.tensor([log(1.0), log(4.0)]),
        "rate.head.log_rate": torch.tensor([log(2.0), log(8.0)]),
        "head.bias": torch.tensor([9.0]),
    }
    learned = learned_knobs(rates, params)
    assert learned == pytest.approx({"inner.lr": (1 * 4 * 2 * 8) ** 0.25}, rel=1e-5)
    both = Strategy(
        prior=Pooled(),
        head=GP(linear="raw", rbf="raw"),
        combination=Seeds(members=2),
    )
    params = {
        f"member{member}.{name}": value
        for member, values in enumerate([(1.0, 4.0, 2.0, 0.5, -1.0), (2.0, 8.0, 8.0, 0.5, 2.0)])
        for name, value in zip(
            [
                "head.linear-raw.log_amplitude",
                "head.rbf-raw.log_amplitude",
                "head.rbf-raw.log_lengthscale",
                "head.log_noise",
                "prior.blend",
            ],
            [*(log(v) for v in values[:4]), values[4]],
            strict=True,
        )
    }
    assert learned_knobs(both, params) == pytest.approx(
        {
            "prior.blend": 0.5,
            "head.amplitude": (1 * 4 * 2 * 8) ** 0.25,
            "head.lengthscale": 4.0,
            "head.noise": 0.5,
        },
        rel=1e-5,
    )


@pytest.mark.parametrize("strategy", [
    FIXED_RIDGE,
    MAML,
    MAML.model_copy(update={"meta": Meta(rule="joint")}),
    Strategy(head=Ridge(), meta=Meta(rule="none")),
    Strategy(prior=Pooled(), head=NearestNeighbour(), meta=Meta(rule="none")),
])  # fmt: skip
def test_nothing_is_told_where_nothing_is_learned(strategy: Strategy) -> None:
    assert learned_knobs(strategy, init_of(strategy, MOLECULES, POINTS)) == {}


def test_parts_of_the_users_own_may_name_their_parameters_as_they_like() -> None:
    own = Strategy.model_validate({"head": {"kind": "own", "use": "a:b"}})
    whole = Strategy(learner=OwnPart(use="a:b"))
    params = {"head.log_penalty": torch.tensor(0.0), "rate.log_rate": torch.tensor(0.0)}
    assert learned_knobs(own, params) == learned_knobs(whole, params) == {}


def test_numbers_that_are_not_finite_say_nothing() -> None:
    params = {"head.log_penalty": torch.tensor(nan), "prior.mean": torch.tensor(inf)}
    params["prior.log_strength"] = torch.tensor(1e5)
    learned = learned_knobs(Strategy(prior=SupportMean(learn=True), head=Ridge()), params)
    assert list(learned) == ["prior.strength"]
    assert isfinite(learned["prior.strength"])


# --- differences ----------------------------------------------------------------------------------

FACTORS = st.floats(1.1, 4.0)
RATE_VALUES = st.floats(1e-5, 1e2)


def at_rate(rate: float) -> Strategy:
    return MAML.model_copy(update={"outer": Outer(lr=rate, weight_decay=0.25)})


@PROPERTY
@given(rate=RATE_VALUES, factor=FACTORS)
def test_probes_lie_a_factor_below_and_above_and_differ_in_the_knob_alone(
    rate: float, factor: float
) -> None:
    parent = at_rate(rate)
    low, high = probes(parent, "outer.lr", factor)
    assert low.outer.lr == pytest.approx(rate / factor, rel=1e-5)
    assert high.outer.lr == pytest.approx(rate * factor, rel=1e-5)
    for probe in (low, high):
        assert without(probe, "outer.lr") == without(parent, "outer.lr")


def parabola(rate: float, factor: float, top: float) -> list[float]:
    """Scores of the three trials, best at ``top`` factors from the parent."""
    places = (log(number(s, "outer.lr") / rate) for s in probes(at_rate(rate), "outer.lr", factor))
    low, high = places
    return [-((x - top * log(factor)) ** 2) for x in (low, 0.0, high)]


@PROPERTY
@given(
    rate=RATE_VALUES,
    factor=FACTORS,
    top=st.floats(-6, 6),
    scale=st.floats(0.1, 10),
    level=st.floats(-5, 5),
)
def test_a_step_goes_to_the_top_of_the_parabola_as_far_as_it_reaches(
    rate: float, factor: float, top: float, scale: float, level: float
) -> None:
    assume(abs(abs(top) - 0.5) > 1e-2)
    scores = [scale * score + level for score in parabola(rate, factor, top)]
    child = step(at_rate(rate), "outer.lr", factor, *scores)
    if abs(top) < 0.5:
        assert child is None
    else:
        assert child is not None
        reached = max(-REACH, min(top, REACH))
        assert log(child.outer.lr / rate) / log(factor) == pytest.approx(reached, abs=1e-2)
        assert without(child, "outer.lr") == without(at_rate(rate), "outer.lr")


@PROPERTY
@given(
    down=st.floats(-1e3, 1e3), middle=st.floats(-1e3, 1e3), up=st.floats(-1e3, 1e3), factor=FACTORS
)
def test_a_step_goes_towards_the_better_end_and_there_is_none_from_the_best(
    down: float, middle: float, up: float, factor: float
) -> None:
    child = step(at_rate(0.1), "outer.lr", factor, down, middle, up)
    if middle >= max(down, up):
        assert child is None
    else:
        assert child is not None
        moved = log(child.outer.lr / 0.1) / log(factor)
        assert 0.5 - 1e-3 < abs(moved) < REACH + 1e-3
        assert (moved > 0) == (up > down)


@pytest.mark.parametrize(("scores", "factors"), [
    ((0.0, 1.0, 3.0), REACH),  # ever steeper: no top
    ((2.0, 1.0, 3.0), REACH),  # a valley: the better side
    ((1.0, 0.0, nan), -REACH),  # the upper probe diverged, the lower one is better
    ((0.0, 1.0, -inf), None),
    ((0.0, nan, 1.0), REACH),  # the parent diverged
    ((nan, nan, nan), None),
    ((1.0, 1.0, 1.0), None),
])  # fmt: skip
def test_without_a_top_a_step_goes_all_the_way_towards_the_better_end(
    scores: tuple[float, float, float], factors: float | None
) -> None:
    child = step(at_rate(0.1), "outer.lr", 1.5, *scores)
    if factors is None:
        assert child is None
    else:
        assert child is not None
        assert child.outer.lr == pytest.approx(0.1 * 1.5**factors, rel=1e-4)


def test_knobs_stay_within_their_bounds() -> None:
    parent = at_rate(0.1).model_copy(update={"outer": Outer(weight_decay=0.9)})
    low, high = probes(parent, "outer.weight_decay")
    assert (low.outer.weight_decay, high.outer.weight_decay) == (pytest.approx(0.6), 1.0)
    child = step(parent, "outer.weight_decay", 1.5, 0.0, 1.0, 2.0)
    assert child is not None
    assert child.outer.weight_decay == 1.0
    assert step(child, "outer.weight_decay", 1.5, 0.0, 2.0, 2.0) is None
    back = step(child, "outer.weight_decay", 1.5, 3.0, 2.0, 2.0)
    assert back is not None
    assert back.outer.weight_decay == pytest.approx(1.5**-REACH, rel=1e-4)


def test_a_decay_of_zero_cannot_be_stepped_in_and_untrained_strategies_have_no_such_knobs() -> None:
    assert outer_knobs(at_rate(0.1)) == ("outer.lr", "outer.weight_decay")
    assert outer_knobs(MAML) == ("outer.lr",)
    assert outer_knobs(MAML.model_copy(update={"meta": Meta(rule="none")})) == ()


@pytest.mark.parametrize(("knob", "factor", "said"), [
    ("outer.weight_decay", 1.5, "found outer.weight_decay; allowed: outer.lr"),
    ("inner.lr", 1.5, "found inner.lr; allowed: outer.lr"),
    ("outer.lr", 1.0, "factor: found 1.0; allowed: above 1"),
    ("outer.lr", inf, "factor: found inf"),
])  # fmt: skip
def test_what_cannot_be_probed_is_refused(knob: str, factor: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        probes(MAML, knob, factor)
