"""Proposes strategies, by Optuna's TPE: a pure function of what was observed.

It builds a study in memory for each proposal, because ranges must not change inside a stored one,
and because that makes proposals repeatable, cheap at any size of run and safe to resume. The study
that is stored is another one: see ``ledger.py``.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import islice
from math import prod
from random import Random
from types import MappingProxyType
from typing import Any, Literal
from warnings import catch_warnings, simplefilter

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from metatune.observations import (
    Observation,
    best_first,
    choose_observations,
    costs_of,
    knows,
    shares_beaten,
)
from metatune.seeds import derive_seed
from metatune.space.knobs import ChoiceKnob, FloatKnob, IntKnob, Knob, KnobTree, Params, Value
from metatune.space.mutation import Weights, draw_choice, mutate

Direction = Literal["maximize", "minimize"]

optuna.logging.set_verbosity(optuna.logging.WARNING)

STARTUP = 8  # proposals drawn at random before TPE has something to go by
FLOOR_SHARE = 0.2  # of TPE's proposals with weights: their choices are drawn from the weights alone
TRIES = 4  # asks looked at for one whose choices the weights accept
MUTATIONS = 0.15  # of proposals with bases: neighbours of one of them


def propose(
    tree: KnobTree,
    observations: Sequence[Observation],
    seed: int,
    *,
    weights: Weights = MappingProxyType({}),
    bases: Sequence[Params] = (),
    costs: Sequence[str] = (),
) -> Params:
    """Values for the knobs of one new strategy.

    *Mutations*: where there are bases, a share ``MUTATIONS`` of proposals are neighbours of one of
    them. TPE makes the others.

    *Weights*: where there are any, what TPE asks for is accepted with the probability weight /
    largest weight of each of its weighted choices. What is refused ``TRIES`` times, and a share
    ``FLOOR_SHARE`` from the outset, has its weighted choices drawn from the weights, and the rest
    from TPE given these choices. So a choice of low weight comes up less often than TPE would have
    it, yet at least in a share ``FLOOR_SHARE`` x weight of what TPE makes, whatever TPE thinks of
    it; one that TPE insists on, by newer evidence, still comes through now and then.

    *Observations* with a number outside the region, or with other knobs than the tree's, are left
    out. A study has one range a knob, and those pulled in to its bounds would be evidence of what
    was never tried there. (Filling up with the nearest ones, so pulled in, found no better
    strategies on synthetic surfaces of 2 to 6 numbers; many of them, worse ones.) The region moved
    by what they said and holds the leaders, so the best stay. A region that holds fewer than
    ``STARTUP`` is searched at random first.

    *Costs*: TPE then has a direction for each of them beside the gain's, and makes for the whole
    front. Observations that do not know them are left out, too.

    Args:
        tree: the current region.
        observations: in the order in which they were asked.
        seed: of this proposal; nothing else is random.
        weights: of choices, by the knob's name in the tree's order; left out: TPE decides alone.
        bases: the best known strategies, to be mutated; without any, nothing is.
        costs: names of the objectives behind the gain.
    """
    local = Random(derive_seed(seed, "mutation"))
    if bases and local.random() < MUTATIONS:
        return mutate(tree, local.choice(bases), local, weights)
    if weights:
        return _weighted(tree, observations, seed, weights, costs)
    return next(_asks(tree, observations, seed, costs))


def _weighted(
    tree: KnobTree,
    observations: Sequence[Observation],
    seed: int,
    weights: Weights,
    costs: Sequence[str],
) -> Params:
    """What TPE asks for and the weights accept, else TPE's numbers for choices drawn from them."""
    draw = Random(derive_seed(seed, "choices"))
    if draw.random() >= FLOOR_SHARE:
        for params in islice(_asks(tree, observations, seed, costs), TRIES):
            if draw.random() < _acceptance(tree, params, weights):
                return params
    fixed = {
        knob.name: draw_choice(knob, weights, draw)
        for knob in tree.knobs()
        if isinstance(knob, ChoiceKnob) and knob.name in weights
    }
    alike = [
        o for o in observations if all(o.params.get(name, v) == v for name, v in fixed.items())
    ]
    return next(_asks(tree, alike, seed, costs, fixed))


def _asks(
    tree: KnobTree,
    observations: Sequence[Observation],
    seed: int,
    costs: Sequence[str],
    fixed: Mapping[str, Value] = MappingProxyType({}),
) -> Iterator[Params]:
    """What TPE asks for, one after another, each as if those before had not been.

    Args:
        tree: the current region.
        observations: all of them with the fixed values, where they have these knobs.
        seed: of the sampler.
        costs: names of the objectives behind the gain.
        fixed: values of knobs that are not TPE's to choose.
    """
    regions = {knob.name: _region(knob) for knob in tree.knobs()}
    with catch_warnings():
        simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=STARTUP,
            seed=seed % 2**32,
        )
    inside = [o for o in observations if tree.holds(o.params) and knows(o, costs)]
    heard = choose_observations(inside, costs=costs)
    if costs:
        told = _observed_in_all(heard, regions, fixed, costs)
    else:
        shares = shares_beaten(heard)
        told = [_observed(*each, regions, fixed) for each in zip(heard, shares, strict=True)]
    study = optuna.create_study(
        storage=_Told(told), directions=directions_of(costs), sampler=sampler
    )
    while True:
        trial = study.ask()
        yield _ask(tree, trial, fixed)
        study.tell(trial, state=TrialState.FAIL)  # a state that TPE does not look at


class _Told(optuna.storages.InMemoryStorage):
    """A study's trials in memory, behind others that it was told of from the outset.

    Those would else be checked and copied deeply, one by one: half of what an ask takes.

    Args:
        told: trials that nobody changes; they come before all that are asked for.
    """

    def __init__(self, told: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._told = told
        for number, trial in enumerate(told, start=-len(told)):
            trial.number = number

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """All of them, in some states."""
        told = [trial for trial in self._told if states is None or trial.state in states]
        return told + super().get_all_trials(study_id, deepcopy, states)


def _ask(tree: KnobTree, trial: optuna.Trial, fixed: Mapping[str, Value]) -> Params:
    """The values of one ask."""
    params, _ = tree.walk(
        lambda knob: fixed[knob.name] if knob.name in fixed else _suggest(trial, knob)
    )
    return params


def _acceptance(tree: KnobTree, params: Params, weights: Weights) -> float:
    """The probability of accepting these choices: each one's share of its knob's largest weight."""
    shares = [
        weights[knob.name][knob.index(params[knob.name]) or 0] / max(weights[knob.name])
        for knob in tree.knobs()
        if isinstance(knob, ChoiceKnob) and knob.name in weights and knob.name in params
    ]
    return prod(shares)


def directions_of(costs: Sequence[str]) -> list[Direction]:
    """The directions of a study: of the gain and of each cost."""
    directions: list[Direction] = ["maximize"]
    directions += ["minimize" for _ in costs]
    return directions


def _region(knob: Knob) -> BaseDistribution:
    """Where values are proposed."""
    match knob:
        case FloatKnob():
            return FloatDistribution(knob.low, knob.high, log=knob.log)
        case IntKnob():
            return IntDistribution(knob.low, knob.high, log=knob.log)
        case ChoiceKnob():
            return CategoricalDistribution(knob.choices)


def _suggest(trial: optuna.Trial, knob: Knob) -> Value:
    match knob:
        case FloatKnob():
            return trial.suggest_float(knob.name, knob.low, knob.high, log=knob.log)
        case IntKnob():
            return trial.suggest_int(knob.name, knob.low, knob.high, log=knob.log)
        case ChoiceKnob():
            chosen: Value = trial.suggest_categorical(knob.name, knob.choices)
            return chosen


def _observed(
    observation: Observation,
    share: float | None,
    regions: Mapping[str, BaseDistribution],
    fixed: Mapping[str, Value],
) -> FrozenTrial:
    """The observation as a trial of a study of the gain alone, whose value is the share of the
    others that it beats: TPE heeds nothing but the order."""
    common = _params(observation, regions, fixed)
    if observation.state == "running":
        return optuna.trial.create_trial(state=TrialState.RUNNING, **common)
    if share is None:
        # TPE ranks a pruned trial without intermediate values behind every other.
        return optuna.trial.create_trial(state=TrialState.PRUNED, **common)
    return optuna.trial.create_trial(value=share, **common)


def _observed_in_all(
    observations: Sequence[Observation],
    regions: Mapping[str, BaseDistribution],
    fixed: Mapping[str, Value],
    costs: Sequence[str],
) -> list[FrozenTrial]:
    """The observations as trials of a study of several objectives.

    Such a study knows no intermediate values by which to tell stopped trials apart. But TPE ranks
    trials that violate a constraint behind all others, by how much they do: so a trial that did
    not complete has its place among all for a violation.
    """
    told: dict[int, FrozenTrial] = {}
    for place, position in enumerate(best_first(observations, costs), start=1):
        observation = observations[position]
        common = _params(observation, regions, fixed)
        if observation.state == "running":
            trial = optuna.trial.create_trial(state=TrialState.RUNNING, **common)
        elif observation.state == "completed" and observation.values:
            values = [observation.values[max(observation.values)], *costs_of(observation, costs)]
            trial = optuna.trial.create_trial(values=values, **common)
        else:
            trial = optuna.trial.create_trial(
                state=TrialState.PRUNED, constraints={"place": float(place)}, **common
            )
        told[position] = trial
    return [told[position] for position in range(len(observations))]


def _params(
    observation: Observation,
    regions: Mapping[str, BaseDistribution],
    fixed: Mapping[str, Value],
) -> dict[str, Any]:
    """Its params as a trial of the study in memory has them, which knows of no fixed knobs."""
    params = {name: value for name, value in observation.params.items() if name not in fixed}
    return {"params": params, "distributions": {name: regions[name] for name in params}}
