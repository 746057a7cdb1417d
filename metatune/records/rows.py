"""The rows of a run's log: everything that a run knows is a fold over them, in order.

A row is written and synced before anything else learns of what it says. ``trial`` is our own id,
``r<round>-<ask number>``, such as ``r1-0007``; no id of Ray Tune's or Optuna's is a key anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import UnionType
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from metatune.tasks.base import Split

State = Literal["completed", "stopped", "diverged", "failed"]
STATES: tuple[State, ...] = ("completed", "stopped", "diverged", "failed")

Origin = Literal[
    "default", "preset", "baseline", "initial", "portfolio", "incumbent",
    "proposed", "promoted", "probe", "child", "ensemble",
]  # fmt: skip
"""``promoted`` and ``probe`` find out where to move a leader; the ``child`` is the leader moved. An
``ensemble`` is a blend of trials: it is no trial of its round, and nothing is trained for it."""

FINDING_OUT: tuple[Origin, ...] = ("promoted", "probe")
"""Origins of trials that lead nowhere themselves."""


@dataclass(frozen=True)
class Asked:
    """A trial was decided on.

    Attributes:
        trial: our id; of an ensemble ``r<round>-e<number>``.
        round: round of the loop, from 1.
        number: ask number within the round, from 0; ensembles have numbers of their own.
        name: preset's name, or the origin, round and number.
        origin: why it was asked.
        strategy: the strategy as plain data; empty for an ensemble.
        digest: the strategy's hash.
        structure: its structural family.
        params: its knobs by their names in the space; None where it lies outside the space.
        parent: the trial that it was made from; None where it was not.
        members: of an ensemble, the trials whose strategies it blends; one that is named n times is
            there with n trainings of its own. Empty for a trial, and where the choice was lost.
        at: seconds that the run had been driven for when this was written.
    """

    kind: ClassVar[str] = "asked"
    trial: str
    round: int
    number: int
    name: str
    origin: Origin
    strategy: dict[str, Any]
    digest: str
    structure: str
    params: dict[str, Any] | None
    parent: str | None = None
    members: list[str] = field(default_factory=list)
    at: float = 0.0


@dataclass(frozen=True)
class Scored:
    """One strategy was scored on one set of tasks.

    Attributes:
        trial: our id; for the verdict, the id of the trial whose strategy was trained anew.
        round: round of the loop.
        rung: 1 is the first; the verdict's and the confirmation's are the last rung's.
        split: where the tasks come from.
        replica: 0 for the trial itself, 1, 2, .. for trainings anew with other seeds; of an
            ensemble, for blends of those.
        resource: forward-equivalents used so far; of an ensemble, as of seconds, its members'.
        train_seconds: seconds of training so far.
        score_seconds: seconds for scoring these tasks, adaptation included.
        train_loss: mean training loss since the rung before; None where nothing is trained.
        tasks: name of each task.
        groups: group of each task.
        scores: the metric on each task.
        transductive: query points were scored jointly.
        learned: what the meta-parameters say, as values of knobs by their paths, such as
            ``inner.lr``; empty where no such number is learned.
        node: address of the node that it was measured on; empty where that is not known.
        at: seconds that the run had been driven for when this was written.
    """

    kind: ClassVar[str] = "scored"
    trial: str
    round: int
    rung: int
    split: Split
    replica: int
    resource: int
    train_seconds: float
    score_seconds: float
    train_loss: float | None
    tasks: list[str]
    groups: list[str]
    scores: list[float]
    transductive: bool
    learned: dict[str, float] = field(default_factory=dict)
    node: str = ""
    at: float = 0.0

    @property
    def mean(self) -> float:
        """The mean score of the tasks, of which there is at least one."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Ended:
    """A trial came to its end.

    Attributes:
        trial: our id.
        state: how.
        reason: for ``stopped`` what it lost to, for ``diverged`` the step, for ``failed`` the
            traceback; empty for ``completed``.
        seconds: seconds of training and scoring.
        replica: as in ``Scored``.
        at: seconds that the run had been driven for when this was written.
    """

    kind: ClassVar[str] = "ended"
    trial: str
    state: State
    reason: str
    seconds: float
    replica: int = 0
    at: float = 0.0


@dataclass(frozen=True)
class Retried:
    """A worker was lost, and what it was at begins again from the last rung that is recorded.

    Attributes:
        trial: our id.
        split: where the tasks to be scored on come from.
        replica: as in ``Scored``.
        rung: the one that it goes on from; 0: from its beginning.
        reason: how the worker was lost.
        at: seconds that the run had been driven for when this was written.
    """

    kind: ClassVar[str] = "retried"
    trial: str
    split: Split
    replica: int
    rung: int
    reason: str
    at: float = 0.0


@dataclass(frozen=True)
class Looked:
    """A reserved split was opened: ``confirm`` is spent look by look, ``test`` opens once.

    Attributes:
        split: which.
        round: round of the loop.
        trials: who was compared.
        seeds: trainings of each at least; as many more as the budget allows. 0 where nothing is
            trained.
        at: seconds that the run had been driven for when this was written.
    """

    kind: ClassVar[str] = "looked"
    split: Split
    round: int
    trials: list[str]
    seeds: int = 0
    at: float = 0.0


@dataclass(frozen=True)
class Turned:
    """A round ended.

    Attributes:
        round: which.
        incumbents: trials that lead, best first.
        moves: what was changed, in words.
        seconds: wall clock of the round.
        borne_out: ``confirm`` bears out that the round brought something.
        method: the method that it left, as plain data.
        front: completed trials that no other of the round matches in every objective on
            ``select`` and exceeds in one, best by score first; empty where the score is the only
            objective.
        at: seconds that the run had been driven for when this was written.
    """

    kind: ClassVar[str] = "turned"
    round: int
    incumbents: list[str]
    moves: list[str]
    seconds: float
    borne_out: bool = True
    method: dict[str, Any] = field(default_factory=dict)
    front: list[str] = field(default_factory=list)
    at: float = 0.0


@dataclass(frozen=True)
class Concluded:
    """The run gave its verdict.

    Attributes:
        winner: trial id of the winner.
        rival: trial id of the best preset or baseline as chosen on ``select``.
        claim: unit of the claim.
        sentence: the verdict in words.
        at: seconds that the run had been driven for when this was written.
    """

    kind: ClassVar[str] = "concluded"
    winner: str
    rival: str
    claim: Literal["new groups", "new tasks"]
    sentence: str
    at: float = 0.0


Row = Asked | Scored | Ended | Retried | Looked | Turned | Concluded
_KINDS: dict[str, type[Row]] = {
    row.kind: row for row in (Asked, Scored, Ended, Retried, Looked, Turned, Concluded)
}


def last_line(reason: str) -> str:
    """The line of a reason that says what happened: of a traceback, the exception."""
    return reason.strip().rpartition("\n")[2].strip()


def to_plain(row: Row) -> dict[str, Any]:
    """The row as JSON-ready data, with its kind."""
    return {"kind": row.kind, **asdict(row)}


def from_plain(data: dict[str, Any]) -> Row:
    """The inverse of ``to_plain``; unknown fields of a newer version are ignored.

    Raises:
        KeyError, TypeError: there is no such row: its kind, or what is in a field.
    """
    row = _KINDS[data["kind"]]
    checks = _CHECKS[row.kind]
    known = {name: value for name, value in data.items() if name in checks}
    for name, value in known.items():
        if not checks[name](value):
            raise TypeError(f"{name} cannot be {json.dumps(value)[:40]}")
    made = row(**known)
    if isinstance(made, Scored) and not len(made.tasks) == len(made.groups) == len(made.scores):
        raise TypeError("tasks, groups and scores are not equally many")
    return made


Check = Callable[[Any], bool]


def _check(kind: Any) -> Check:
    """Whether a value from JSON is of a type; a float may be written as a whole number."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return lambda value: isinstance(value, str) and value in parts
    if get_origin(kind) is UnionType:
        some = [_check(part) for part in parts]
        return lambda value: any(check(value) for check in some)
    if get_origin(kind) is list:
        allowed = _plain_types(parts[0])
        return lambda value: type(value) is list and {type(each) for each in value} <= allowed
    if get_origin(kind) is dict:
        return lambda value: type(value) is dict
    if kind is int:
        return lambda value: type(value) is int and abs(value) < 2**63
    allowed = _plain_types(kind)
    return lambda value: type(value) in allowed


def _plain_types(kind: type) -> set[type]:
    return {int, float} if kind is float else {kind}


_CHECKS: dict[str, dict[str, Check]] = {
    kind: {name: _check(hint) for name, hint in get_type_hints(row).items() if name != "kind"}
    for kind, row in _KINDS.items()
}
