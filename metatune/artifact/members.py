"""The strategies of an artifact at work: from tensors that are checked to predictions."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from metatune.blend import blend
from metatune.errors import ArtifactError, first_of
from metatune.learners.arrays import Arrays, from_arrays, to_arrays
from metatune.learners.interface import Learner, Params, Tensors
from metatune.learners.learner import build_learner
from metatune.learners.pooled import PooledModel, summary_length
from metatune.own import Room
from metatune.strategy import OwnBackbone, OwnHead, OwnPart, Pooled, Strategy
from metatune.tasks.base import FamilyInfo

_TRAINING_ONLY = re.compile(r"(^|\.)(fold\d+|joint)\.")
"""Meta-parameters that no task is learned with: copies for cross-fitting, all train classes."""


@dataclass(frozen=True)
class Member:
    """A strategy with all that it learned.

    Attributes:
        strategy: what it does.
        params: the meta-parameters that tasks are learned with.
        pooled: its pooled model; None without one.
    """

    strategy: Strategy
    params: Params
    pooled: PooledModel | None = None

    def learner(self, info: FamilyInfo, way: int) -> Learner:
        """Its learner for tasks of ``way`` classes.

        Raises:
            ArtifactError: its meta-parameters are for another number of classes.
        """
        learner = build_learner(self.strategy, info, way)
        if problem := _misfit(expected(self.strategy, learner), self.params):
            raise ArtifactError(
                f"classes: found {way}; the strategy was trained for others: {problem}"
            )
        return learner

    def predict(self, learner: Learner, batch: Tensors) -> Tensor:
        """``(T, Q, outputs)``: learn tasks and predict their queries."""
        with torch.no_grad():
            if self.pooled is not None:
                batch = self.pooled.attach(batch, training=False)
            return learner.predict(self.params, batch)


class Trained(Protocol):
    """What ``metatune.trial.fit`` gives; using an artifact needs no trial."""

    @property
    def strategy(self) -> Strategy: ...

    @property
    def params(self) -> Params: ...

    @property
    def pooled(self) -> PooledModel | None: ...


def member_of(trained: Trained) -> Member:
    """A strategy after its training."""
    return Member(trained.strategy, trained.params, trained.pooled)


def predict(
    members: Sequence[Member], learners: Sequence[Learner], classes: bool, batch: Tensors
) -> Tensor:
    """``(T, Q, outputs)``: what the members predict together.

    Args:
        members: the strategies.
        learners: theirs.
        classes: the outputs are classes.
        batch: the tasks.
    """
    each = [one.predict(own, batch) for one, own in zip(members, learners, strict=True)]
    return each[0] if len(each) == 1 else blend(torch.stack(each), classes)


# --- from and to tensors -------------------------------------------------------------------------


def to_tensors(member: Member) -> dict[str, Tensor]:
    """The member's numbers by name.

    Raises:
        ArtifactError: its pooled model has no form as arrays.
    """
    found = {f"params/{name}": p for name, p in used(member.params).items()}
    if member.pooled is not None:
        for number, model in enumerate(member.pooled.on_all):
            fitted = getattr(model, "fitted", model)
            for name, array in to_arrays(member.pooled.part.model, fitted).items():
                found[f"pooled/{number}/{name}"] = torch.from_numpy(array)
    return found


def of_tensors(
    strategy: Strategy, info: FamilyInfo, way: int, tensors: Mapping[str, Tensor]
) -> Member:
    """The inverse of ``to_tensors``.

    Raises:
        ArtifactError: the tensors are not those of such a strategy.
    """
    params = _under("params/", tensors)
    pooled = None
    arrays = _under("pooled/", tensors)
    if isinstance(strategy.prior, Pooled):
        part, classes = strategy.prior, way if info.kind == "classification" else 0
        if classes and not info.shared_classes:
            raise ArtifactError("prior.kind: found pooled; allowed: zero, where tasks share none")
        inputs = summary_length(part, info, classes)
        each: list[Arrays] = [
            {n: t.numpy() for n, t in _under(f"{number}/", arrays).items()}
            for number in range(info.outputs or 1)
        ]
        models = [from_arrays(part.model, own, inputs, classes) for own in each]
        pooled = PooledModel(part, models, (), {}, classes)
    known = len(params) + (len(arrays) if pooled else 0)
    if known < len(tensors):
        raise ArtifactError(f"weights: found names such as {first_of(sorted(tensors), 3)}")
    learner = build_learner(strategy, info, way)
    if problem := _misfit(expected(strategy, learner), params):
        raise ArtifactError(f"weights: {problem}")
    return Member(strategy, params, pooled)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def used(params: Mapping[str, Tensor]) -> Params:
    """The meta-parameters that tasks are learned with."""
    return {name: p for name, p in params.items() if not _TRAINING_ONLY.search(name)}


def expected(strategy: Strategy, learner: Learner) -> Params:
    """Meta-parameters with the names, shapes and types that a learner takes.

    Without values, where the parts are metatune's own: what a file asks for takes no memory.
    """
    with nullcontext() if strategy.has_own_part else torch.device("meta"):
        return used(learner.init(0))


def _misfit(wanted: Params, found: Params) -> str | None:
    """Why tensors are not those that a learner takes; None where they are."""
    missing, strange = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or strange:
        lacks, beside = first_of(missing, 3) or "nothing", first_of(strange, 3) or "none"
        return f"found the names {beside} beside those of the strategy; lacking: {lacks}"
    for name, like in wanted.items():
        own = found[name]
        if own.shape != like.shape or own.dtype != like.dtype:
            told = f"{tuple(own.shape)} of {own.dtype}"
            return f"{name}: found {told}; allowed: {tuple(like.shape)} of {like.dtype}"
        if not bool(torch.isfinite(own).all()):
            return f"{name}: found numbers that are not finite"
    return None


# --- parts of the user's own ---------------------------------------------------------------------


ROOMS: dict[str, Room] = {"backbone": "backbones", "head": "heads", "learner": "learners"}
"""Where ``metatune.own`` looks for each."""


def own_parts(strategy: Strategy) -> Iterator[tuple[str, OwnPart]]:
    """The parts of the user's own, by the name of their place."""
    if isinstance(strategy.backbone, OwnBackbone):
        yield "backbone", strategy.backbone
    if isinstance(strategy.head, OwnHead):
        yield "head", strategy.head
    if strategy.learner is not None:
        yield "learner", strategy.learner


def with_parts(strategy: Strategy, parts: ModuleType | None) -> Strategy:
    """The strategy with its own parts taken from a module of the caller's, and from nowhere else.

    Raises:
        ArtifactError: it has own parts and there is no module, or the module lacks one.
    """
    found = dict(own_parts(strategy))
    if not found:
        return strategy
    if parts is None:
        told = ", ".join(f"{place} {part.use[:80]}" for place, part in found.items())
        raise ArtifactError(
            f"the strategy has parts of its maker's own ({told}), which are code and no part of an "
            "artifact; allowed: load(DIR, parts=module) with the module that holds them"
        )
    if not isinstance(parts, ModuleType) or sys.modules.get(parts.__name__) is not parts:
        raise ArtifactError(f"parts: found {str(parts)[:80]!r}; allowed: an imported module")
    return strategy.model_copy(
        update={place: _taken(place, part, parts) for place, part in found.items()}
    )


def _taken(place: str, part: OwnPart, parts: ModuleType) -> OwnPart:
    """The part, named as one of the module's."""
    name = part.use.rpartition(":")[2]
    made = vars(parts).get(name)
    if not name.isidentifier() or name.startswith("_") or not callable(made):
        names = [n for n, value in vars(parts).items() if isinstance(value, type) and n[0] != "_"]
        raise ArtifactError(
            f"{place}.use: found {part.use[:80]}, which {parts.__name__} does not hold; allowed: "
            f"{first_of(names) or 'a module with the parts'}"
        )
    return part.model_copy(update={"use": f"{parts.__name__}:{name}"})


def named_in_full(strategy: Strategy) -> Strategy:
    """The strategy whose own parts are named ``module:name``, also those by entry point."""
    from importlib.metadata import entry_points

    known = {e.name: e.value for room in ROOMS.values()
             for e in entry_points(group=f"metatune.{room}")}  # fmt: skip
    changed = {
        place: part.model_copy(update={"use": known.get(part.use, part.use)})
        for place, part in own_parts(strategy)
    }
    return strategy.model_copy(update=changed)
