"""What a proposal costs in a long run: the driver thinks while a worker waits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from time import perf_counter

import optuna

from metatune.observations import Observation
from metatune.proposer import propose
from metatune.seeds import derive_seed
from metatune.space import parse_tree
from speed_cases import Case, by_turns

PAST, BATCH = 10_000, 16
TREE = parse_tree(
    {
        "inner": {"lr": {"float": [1e-4, 1.0], "log": True}},
        "choose": {
            "gradient": {
                "head": {"kind": "linear", "start": {"choice": ["zero", "learned"]}},
                "inner": {"steps": {"int": [1, 20], "log": True}},
            },
            "ridge": {"head": {"kind": "ridge", "penalty": {"float": [0.1, 10.0]}}},
        },
        "outer": {"lr": {"float": [1e-4, 1e-1], "log": True}, "tasks_per_batch": {"int": [1, 64]}},
    }
)


def cases(scale: float) -> Iterator[Case]:
    past = max(500, round(PAST * scale))
    draw = random.Random(0)
    seen = []
    for number in range(past):
        params = propose(TREE, [], number)
        stopped = draw.random() < 2 / 3
        gains = {1: draw.gauss(0, 1)} if stopped else {r: draw.gauss(0, 1) for r in (1, 2, 3)}
        seen.append(Observation(params, "stopped" if stopped else "completed", gains))

    def ours() -> float:
        start = perf_counter()
        for number in range(BATCH):
            propose(TREE, seen, derive_seed(0, "ask", number))
        return 1000 * (perf_counter() - start)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(multivariate=True, group=True))
    study.add_trials([_as_optuna(each) for each in seen])

    def theirs() -> float:
        start = perf_counter()
        trial = study.ask()
        TREE.walk(lambda knob: _suggest(trial, knob))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return BATCH * 1000 * (perf_counter() - start)

    ours()  # what is looked at once is known by then, as in a run
    found = by_turns({"ours": ours, "theirs": theirs})
    what = f"{BATCH} asks with {past:,} past trials"
    yield Case(what, "", "ms", found["ours"], (), -150)
    note = "theirs: one ask, times 16"
    yield Case(
        what, "Optuna's TPE with all of them", "ms", found["ours"], found["theirs"], note=note
    )


def _as_optuna(seen: Observation) -> optuna.trial.FrozenTrial:
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    from metatune.space.knobs import ChoiceKnob, FloatKnob

    kinds: dict[str, BaseDistribution] = {}
    for knob in TREE.knobs():
        if isinstance(knob, ChoiceKnob):
            kinds[knob.name] = CategoricalDistribution(knob.choices)
        elif isinstance(knob, FloatKnob):
            kinds[knob.name] = FloatDistribution(knob.low, knob.high, log=knob.log)
        else:
            kinds[knob.name] = IntDistribution(knob.low, knob.high, log=knob.log)
    value = seen.values[max(seen.values)]
    own = {name: kinds[name] for name in seen.params}
    return optuna.trial.create_trial(value=value, params=seen.params, distributions=own)


def _suggest(trial: optuna.Trial, knob: object) -> object:
    from metatune.space.knobs import ChoiceKnob, FloatKnob, IntKnob

    match knob:
        case ChoiceKnob():
            return trial.suggest_categorical(knob.name, knob.choices)
        case FloatKnob():
            return trial.suggest_float(knob.name, knob.low, knob.high, log=knob.log)
        case IntKnob():
            return trial.suggest_int(knob.name, knob.low, knob.high, log=knob.log)
