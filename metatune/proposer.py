"""The one module that imports Optuna: it proposes strategies and keeps the ledger of trials.

Proposing is a pure function of what was observed. It builds a study in memory for each proposal,
because ranges must not change inside a stored one, and because that makes proposals repeatable,
cheap at any size of run and safe to resume. The stored study, the *ledger*, is for people and
dashboards: it holds every trial over the space's hard limits, and can be rebuilt from the records.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from copy import deepcopy
from itertools import islice
from math import isfinite, prod
from pathlib import Path
from random import Random
from time import sleep
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
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from metatune.database import check_storage, engine_options, others_make_it, reason
from metatune.errors import RunError
from metatune.history import History, Trial
from metatune.observations import (
    Observation,
    best_first,
    choose_observations,
    costs_of,
    knows,
    shares_beaten,
)
from metatune.patience import Patience, refusing
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
    study = optuna.create_study(directions=_directions(costs), sampler=sampler)
    inside = [o for o in observations if _within(o.params, regions) and knows(o, costs)]
    heard = choose_observations(inside, costs=costs)
    if costs:
        told = _observed_in_all(heard, regions, fixed, costs)
    else:
        shares = shares_beaten(heard)
        told = [_observed(*each, regions, fixed) for each in zip(heard, shares, strict=True)]
    study.add_trials(told)
    while True:
        trial = study.ask()
        yield _ask(tree, trial, fixed)
        study.tell(trial, state=TrialState.FAIL)  # a state that TPE does not look at


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


def _directions(costs: Sequence[str]) -> list[Direction]:
    """Of the gain and of each cost."""
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


def _limits(knob: Knob) -> BaseDistribution:
    """Where values may lie at all: the ledger's distributions, which never change."""
    match knob:
        case FloatKnob():
            return FloatDistribution(*knob.limits, log=knob.log)
        case IntKnob():
            return IntDistribution(*knob.limits, log=knob.log)
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


def _within(params: Params, regions: Mapping[str, BaseDistribution]) -> bool:
    try:
        return all(
            name in regions and regions[name]._contains(regions[name].to_internal_repr(value))
            for name, value in params.items()
        )
    except ValueError:  # what Optuna raises for a choice that is none of the region's
        return False


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


# --- the ledger ---------------------------------------------------------------------------------

_STATES = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


class Ledger:
    """The stored study of a run, as dashboards show it.

    A trial's value, and its intermediate value at each rung, is its gain over the default. As user
    attributes it carries our id, ``name``, ``origin``, ``round``, ``structure`` and ``strategy``;
    once it has ended ``state``, ``reason``, ``seconds`` and ``score``, its mean on ``select``.

    Args:
        study: the stored one.
        tree: the space.
        costs: names of the objectives behind the gain.
    """

    renewed: Callable[[], Ledger] | None = None
    """Gives the ledger anew, brought up to the records: for when the study could not be written,
    and may be torn."""

    def __init__(self, study: optuna.Study, tree: KnobTree, costs: Sequence[str] = ()) -> None:
        self._study = study
        self._costs = costs
        self._limits = {knob.name: _limits(knob) for knob in tree.knobs()}
        self._known = {
            trial.user_attrs["trial"]: trial
            for trial in study.get_trials(deepcopy=False)
            if "trial" in trial.user_attrs
        }

    @property
    def trials(self) -> int:
        """How many of metatune's trials it holds."""
        return len(self._known)

    def sync(
        self,
        trial: Trial,
        gains: Mapping[int, float],
        costs: Mapping[str, Mapping[int, float]] = MappingProxyType({}),
    ) -> None:
        """Bring one trial of the ledger up to what the records say.

        Args:
            trial: what is recorded.
            gains: its value at each rung. A trial that has ended, but whose gain is not known
                yet for want of the default's score, stays RUNNING until it is.
            costs: of each cost among the objectives, the log ratio to the default's at each rung.

        Raises:
            OSError: the study cannot be written, and there is no way to renew it.
            RunError: nor could it be renewed.
        """
        try:
            self._write(trial, gains, costs)
        except (OSError, RuntimeError, StorageInternalError) as error:
            if not _is_of_storage(error):
                raise
            if self.renewed is None:
                raise _as_os_error(error) from None
            anew = self.renewed()
            self.close()
            self._study, self._known = anew._study, anew._known

    def close(self) -> None:
        """Let go of a database's connections; whatever is asked for later makes new ones."""
        storage = self._study._storage
        storage.remove_session()
        backend = getattr(storage, "_backend", storage)  # behind a cache
        if isinstance(backend, optuna.storages.RDBStorage):
            backend.engine.dispose()

    def _write(
        self,
        trial: Trial,
        gains: Mapping[int, float],
        costs: Mapping[str, Mapping[int, float]],
    ) -> None:
        if trial.id not in self._known:
            self._enter(trial)
        frozen = self._known[trial.id]
        if frozen.state.is_finished():
            return
        live = optuna.Trial(self._study, frozen._trial_id)
        for rung, gain in gains.items():
            if rung not in frozen.intermediate_values and not self._costs:
                live.report(gain, rung)  # which Optuna refuses where there are several objectives
                frozen.intermediate_values[rung] = gain
        if trial.ended is None or not set(trial.rungs) <= set(gains):
            return
        values = [gains, *(costs[name] for name in self._costs)]
        self._close(live, trial, [by_rung[max(gains)] for by_rung in values] if gains else [])

    def _enter(self, trial: Trial) -> None:
        asked = trial.asked
        params = asked.params or {}
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions={name: self._limits[name] for name in params},
                user_attrs={
                    "trial": asked.trial,
                    "name": asked.name,
                    "origin": asked.origin,
                    "round": asked.round,
                    "structure": asked.structure,
                    "strategy": asked.strategy,
                },
            )
        )
        newest = reversed(self._study.get_trials(deepcopy=False))
        entered = next(t for t in newest if t.user_attrs.get("trial") == asked.trial)
        # A copy of our own: what the storage hands out must not be changed.
        self._known[asked.trial] = deepcopy(entered)

    def _close(self, live: optuna.Trial, trial: Trial, values: Sequence[float]) -> None:
        assert trial.ended is not None
        live.set_user_attr("state", trial.ended.state)
        live.set_user_attr("reason", trial.ended.reason[-2000:])
        live.set_user_attr("seconds", trial.ended.seconds)
        latest = trial.latest()
        if latest is not None and isfinite(latest.mean):  # a browser's JSON knows no other numbers
            live.set_user_attr("score", latest.mean)
        state = _STATES[trial.ended.state]
        told = values if state == TrialState.COMPLETE else None
        self._known[trial.id] = self._study.tell(live.number, told, state=state)


def open_ledger(
    journal: Path,
    storage: str | None,
    name: str,
    history: History,
    tree: KnobTree,
    costs: Sequence[str] = (),
    patience: Patience | None = None,
    since: int = 1,
) -> Ledger:
    """Open the stored study of a run and bring it up to the records.

    A study that cannot be written later is opened anew, with patience, and brought up again.

    Call it with the run locked: a lock that a killed driver left on the journal is removed, and
    the journal is cut to its last whole line.

    Args:
        journal: the journal file in the run's folder, used where ``storage`` is None.
        storage: any Optuna storage URL.
        name: the study's name.
        history: what is recorded.
        tree: the space.
        costs: names of the objectives behind the gain; the study has a direction for each.
        patience: with storage that does not answer once the ledger is open.
        since: the first round that is in this study.

    Raises:
        RunError: the storage cannot be opened, or its study has other objectives.
    """

    def opened() -> Ledger:
        try:
            ledger = Ledger(_load(journal, storage, name, costs), tree, costs)
        except (KeyError, ValueError, AssertionError, AttributeError, TypeError) as damage:
            if storage is not None:
                raise RunError(f"the storage's study {name} cannot be read: {damage}") from None
            # The records know everything that the journal did.
            journal.replace(journal.with_suffix(".damaged"))
            ledger = Ledger(_load(journal, storage, name, costs), tree, costs)
        with ExitStack() as unless_open:
            unless_open.callback(ledger.close)
            known = [t for t in history.trials.values() if t.asked.round >= since]
            if storage is not None and ledger.trials and not known:
                other = "name another folder (--out)"
                raise RunError(f"the storage has trials of another run {name}: {other}")
            for trial in known:
                ledger.sync(trial, history.gains(trial), history.costs(trial, costs))
            unless_open.pop_all()
        return ledger

    def renewed() -> Ledger:
        what = f"the study {journal if storage is None else name} could not be written"
        try:
            return (patience or Patience()).keep_trying(opened, what)
        except RunError:
            if storage is None:
                with suppress(OSError):  # a dashboard cannot read a torn line
                    repair_journal(journal)
            raise

    with refusing("the storage of the study cannot be opened"):
        ledger = opened()
    ledger.renewed = renewed
    return ledger


def _load(journal: Path, storage: str | None, name: str, costs: Sequence[str]) -> optuna.Study:
    if storage is None:
        repair_journal(journal)
    # A URL's driver raises what it likes; of a journal, other errors than these mean damage.
    refused = (OSError, RuntimeError) if storage is None else Exception
    try:
        study = optuna.create_study(
            storage=_storage(journal, storage),
            study_name=name,
            directions=_directions(costs),
            sampler=optuna.samplers.RandomSampler(seed=0),
            load_if_exists=True,
        )
    except refused as error:
        if storage is None and not _is_of_storage(error):
            raise
        raise _as_os_error(error) from None
    found = [direction.name.lower() for direction in study.directions]
    if found != _directions(costs):
        raise RunError(
            f"the storage's study {name} has the directions {', '.join(found)}, but the objectives "
            f"of this run need {', '.join(_directions(costs))}: name another folder (--out)"
        )
    if study.metric_names is None:
        with catch_warnings():
            simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["gain", *costs])
    return study


def _storage(journal: Path, url: str | None) -> optuna.storages.BaseStorage:
    """A journal, or a database whose tables are made if it is empty."""
    if url is None:
        return optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    check_storage(url)
    options = engine_options(url)
    for pause in (0.5, 1.0, 2.0):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=options)
        except Exception as error:
            # Of runs that find it empty at once, each makes the tables, and all but one fail.
            if not others_make_it(error):
                raise
            sleep(pause)
    return optuna.storages.RDBStorage(url, engine_kwargs=options)


def _is_of_storage(error: Exception) -> bool:
    """Whether the storage fails. A journal's lock that cannot be let go is a RuntimeError."""
    return not isinstance(error, RuntimeError) or isinstance(error.__context__, OSError)


def _as_os_error(error: Exception) -> OSError:
    """What a storage's driver raised, in a line without secrets."""
    if isinstance(error, OSError):
        return error
    if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
        return error.__context__
    beneath = error.__cause__ if isinstance(error, StorageInternalError) else None
    return OSError(errno.EIO, reason(beneath if isinstance(beneath, Exception) else error))


def repair_journal(journal: Path) -> None:
    """Remove a stale lock and cut the journal after its last whole line.

    Optuna can never read a journal again once something was appended to a torn line.
    """
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    lines = whole.splitlines(keepends=True)
    while lines and not _is_json(lines[-1]):
        whole = whole[: -len(lines.pop())]
    if len(whole) < len(content):
        with journal.open("r+b") as file:
            file.truncate(len(whole))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
