"""What a proposal costs in a long run: the driver thinks while a worker waits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from time import perf_counter

import optuna

from metatune.observations import Observation
from metatune.proposer import _region, _suggest, propose
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
    kinds = {knob.name: _region(knob) for knob in TREE.knobs() if knob.name in seen.params}
    value = seen.values[max(seen.values)]
    return optuna.trial.create_trial(value=value, params=seen.params, distributions=kinds)
