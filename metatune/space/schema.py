"""The space file's models: what stands where, in which unit, with which default.

The descriptions here are the reference of the space file. Knobs live under ``strategy`` and have
a grammar of their own, see ``grammar.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, PrivateAttr, field_validator, model_validator

from metatune.objectives import COSTS, SCORE
from metatune.space.families import AnyFamily
from metatune.space.method import Method
from metatune.space.sections import Section
from metatune.space.source import Source, listed
from metatune.strategy import Strategy
from metatune.tasks.base import Episode, FamilyInfo

Plain = dict[str, Any]
"""A part of a strategy as plain data; checked once the whole strategy is put together."""


class Resource(Section):
    """How much a trial may train, and when it is scored on the way."""

    full: int = Field(
        40_000,
        ge=1,
        le=10**12,
        description="what a trial that is not stopped uses, in forward-equivalents (examples seen)",
    )
    rungs: int = Field(
        3,
        ge=1,
        le=20,
        description="how often a trial is scored; the last rung is the full resource",
    )
    reduction: int = Field(
        3, ge=2, le=100, description="how many times more of the resource each rung has"
    )

    @model_validator(mode="after")
    def _lowest_rung_trains(self) -> Resource:
        lowest = self.full // self.reduction ** (self.rungs - 1)
        if lowest < 1:
            raise ValueError(
                f"found {self.rungs} rungs by {self.reduction}, of which the lowest leaves nothing "
                f"of {self.full}; allowed: fewer rungs or a larger full"
            )
        return self

    def rung_resources(self, growth: float = 1.0) -> tuple[int, ...]:
        """Resource at each rung, lowest first: full / reduction ** (rungs - rung), rounded down.

        Args:
            growth: how many times more than in the first round.
        """
        full = int(self.full * growth)
        return tuple(full // self.reduction**below for below in reversed(range(self.rungs)))


class Tasks(Section):
    """How many tasks a strategy is scored on, by split. All strategies get the same ones."""

    select: int = Field(60, ge=2, le=100_000, description="tasks a trial is scored on at each rung")
    confirm: int = Field(60, ge=2, le=100_000, description="tasks on which leaders are compared")
    test: int = Field(120, ge=2, le=100_000, description="tasks of the verdict")
    race: float = Field(
        0.05,
        ge=0,
        le=0.5,
        description="error at which a trial that is behind on a rung's first tasks is stopped "
        "before the others are scored; 0 scores all",
    )


class Rounds(Section):
    """How often the loop turns: try, adjust, and again on fresh tasks with a larger resource."""

    count: int = Field(
        1,
        ge=1,
        le=20,
        description="rounds of a run, at most: a round whose gain is not borne out is the last",
    )
    growth: float = Field(
        2.0, ge=1, le=100, description="how many times more of the resource each further round has"
    )


class Adjust(Section):
    """How a round's evidence changes the method."""

    gradient: bool = Field(
        False,
        description="follow the gradient of the learning process: a round's leader gets a child "
        "with learned inner knobs and a better meta-rate, for four trials of the round",
    )
    region: bool = Field(
        True, description="move ranges and weights of choices to where the evidence points"
    )


class Budget(Section):
    """What the whole run may use."""

    trials: int = Field(
        ge=1,
        le=100_000,
        description="strategies to try, the initial ones included, shared evenly by the rounds",
    )
    minutes: float | None = Field(
        None,
        gt=0,
        le=10**7,
        description="wall-clock minutes, the verdict's cost included; left out: no limit",
    )
    core_seconds: float | None = Field(
        None,
        gt=0,
        le=10**10,
        description="seconds of training and scoring of all workers together, the verdict's "
        "included; left out: no limit",
    )


class Faults(Section):
    """What is done where a trial's worker is lost or hangs."""

    max_retries: int = Field(
        2,
        ge=0,
        le=100,
        description="times that a trial goes on from its last rung after its worker was lost: "
        "killed, out of memory, ended, hanging, or gone with its node; counted anew at each rung. "
        "What the strategy's own code raises is never tried again",
    )
    hang_minutes: float = Field(
        10.0,
        gt=0,
        le=10**5,
        description="minutes without progress (a meta-step, a batch of tasks learned or judged) "
        "after which a trial hangs, and its worker is ended",
    )


class Verdict(Section):
    """Who meets on ``test``, and how often each is trained anew for it."""

    seeds: int = Field(
        3,
        ge=1,
        le=20,
        description="trainings of each strategy with other seeds; of one alone, the luck of the "
        "seed cannot be told from what the strategy is worth",
    )
    best_seeds: int = Field(
        5,
        ge=1,
        le=20,
        description="trainings of the winner and its rival, once all others have theirs, as far "
        "as the budget has room for them; never fewer than `seeds`",
    )
    finalists: int = Field(3, ge=1, le=10, description="leaders of the search that take part")
    presets: tuple[str, ...] = Field(
        (), description="presets, or entries of `initial`, that the winner has to beat"
    )
    baselines: tuple[str, ...] = Field(
        (), description="naive baselines that take part, besides those that the family demands"
    )
    ensemble: int = Field(
        0,
        ge=0,
        le=5,
        description="members at most of an ensemble of leaders, which takes part against an "
        "ensemble of as many trainings of the best preset or baseline; 0 for none, else 2 or more",
    )

    @field_validator("ensemble")
    @classmethod
    def _has_two_members(cls, value: int) -> int:
        if value == 1:
            raise ValueError("found 1; allowed: 0 for none, or 2 to 5 members")
        return value


class Partial(Section):
    """Parts of a strategy, each whole or in part. No knobs here."""

    prior: Plain | None = Field(None, description="what is predicted before the learner on top")
    backbone: Plain | None = Field(None, description="inputs to features")
    head: Plain | None = Field(None, description="features to predictions")
    inner: Plain | None = Field(None, description="gradient steps on the support set")
    meta: Plain | None = Field(None, description="what the meta-parameters follow")
    outer: Plain | None = Field(None, description="the meta-optimiser")
    diet: Plain | None = Field(None, description="the shape of training tasks")
    combination: Plain | None = Field(None, description="one learner, or several averaged")
    learner: Plain | None = Field(None, description="a whole learner of your own")
    start: str | None = Field(None, description="the weights to start from; `none` for random ones")

    def plain(self) -> dict[str, Any]:
        """The parts that are given, as plain data."""
        given = self.model_dump(include=set(Strategy.model_fields))
        return {key: value for key, value in given.items() if value is not None}


class Entry(Partial):
    """One strategy to begin with: a preset, a preset with changes, or a whole strategy."""

    preset: str | None = Field(None, description="the preset that the parts given here change")
    name: str | None = Field(
        None, pattern=r"^[\w.+*-]{1,40}$", description="its label; `PRESET*` for a changed preset"
    )

    @model_validator(mode="after")
    def _has_a_name(self) -> Entry:
        if self.preset is None and self.name is None:
            raise ValueError(
                "found neither preset nor name; allowed: a preset's name, or a whole strategy with "
                "its `name`"
            )
        if self.name is not None and self.name.startswith("proposed-"):
            raise ValueError(
                f"found the name {self.name}; allowed: names that do not start with proposed-"
            )
        return self

    @property
    def label(self) -> str:
        """The name under which it is tried."""
        changed = "*" if self.plain() else ""
        return self.name or f"{self.preset}{changed}"


class Space(Section):
    """A space file: what may be tried, on what, for how long, and what it is compared with."""

    family: AnyFamily = Field(description="the task family and the shape of its tasks")
    seed: int = Field(0, ge=0, lt=2**63, description="every random draw of the run follows from it")
    resource: Resource = Field(Resource(), description="how much a trial may train")
    tasks: Tasks = Field(Tasks(), description="how many tasks a strategy is scored on")
    objectives: tuple[str, ...] = Field(
        (SCORE,),
        description="what strategies are judged by: `score`, and behind it, where it matters, "
        "`adapt_seconds`, the seconds for learning and judging one task (lower is better). The "
        "search then looks for the whole front, from the best to the fastest. Seconds are "
        "measured, so two runs of one seed need not be the same",
    )
    rounds: Rounds = Field(Rounds(), description="how often the loop turns")
    adjust: Adjust = Field(Adjust(), description="how a round's evidence changes the method")
    budget: Budget = Field(description="what the whole run may use")
    faults: Faults = Field(
        Faults(), description="what is done where a trial's worker is lost or hangs"
    )
    common: Partial = Field(
        Partial(),
        description="parts that every strategy of this file is built on, presets included",
    )
    default: str | None = Field(
        None,
        description="what everything is compared with: a preset or an entry of `initial`; "
        "left out, the first of `initial`",
    )
    initial: tuple[Entry, ...] = Field((), description="strategies to try first")
    strategy: dict[str, Any] = Field(description="the tree of knobs: what may be proposed")
    verdict: Verdict = Field(Verdict(), description="who meets on the test tasks")
    prior: str | None = Field(
        None,
        min_length=1,
        description="what earlier runs learned: a file that `metatune prior` wrote, as seen from "
        "this file's folder",
    )
    method: Method = Field(
        Method(), description="where an earlier run's loop stood; a run's method.yaml has it"
    )

    _source: Source = PrivateAttr(default_factory=Source)

    @field_validator("initial", mode="before")
    @classmethod
    def _names_are_presets(cls, value: Any) -> Any:
        """``- maml`` is short for ``- {preset: maml}``."""
        if not isinstance(value, list | tuple):
            return value
        return tuple({"preset": item} if isinstance(item, str) else item for item in value)

    @field_validator("objectives")
    @classmethod
    def _score_comes_first(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value[:1] != (SCORE,) or len(set(value)) < len(value) or set(value[1:]) - set(COSTS):
            raise ValueError(
                f"found {listed(value)}; allowed: {SCORE}, then any of {listed(COSTS)}, none twice"
            )
        return value

    @property
    def costs(self) -> tuple[str, ...]:
        """The objectives behind the score: lower is better in each."""
        return self.objectives[1:]

    @property
    def episode(self) -> Episode:
        """The shape of the tasks that strategies are judged on."""
        return self.family.episode

    @property
    def source(self) -> Source:
        """The file that it was read from, with its lines."""
        return self._source

    def read_from(self, source: Source) -> Space:
        """The same space, knowing its file."""
        copy = self.model_copy()
        copy._source = source
        return copy

    def fitted(self, info: FamilyInfo) -> Space:
        """The same space, with the shape of tasks that the opened family draws."""
        return self.model_copy(update={"family": self.family.fitted(info)})

    def on_fold(self, fold: int) -> Space:
        """The same space on another fold of its splits, for a family that has some."""
        return self.model_copy(update={"family": self.family.model_copy(update={"fold": fold})})

    @property
    def labels(self) -> Mapping[str, int]:
        """The names of the initial entries with their positions."""
        return {entry.label: number for number, entry in enumerate(self.initial)}
