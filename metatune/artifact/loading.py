"""From an artifact's folder to an artifact. Nothing that a file says is believed or executed.

Plain data are read key by key within bounds, strategies are validated as those of a space file,
tensors must have the names, shapes and types that the strategies ask for, and are as large as the
file that holds them. Code of the artifact's maker is no part of it: a strategy with parts of
somebody's own takes them from the module that the caller hands over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metatune.artifact import members as m
from metatune.artifact.fallback import Fallback
from metatune.artifact.files import (
    STRATEGY,
    Stored,
    read,
    read_json,
    read_tensors,
)
from metatune.artifact.intervals import Calibration
from metatune.artifact.learner import LABELS, SUPPORT, Adapted, Artifact, names_of
from metatune.artifact.likeness import Likeness
from metatune.artifact.plain import (
    MOST_INPUTS,
    Place,
    episode_of,
    info_of,
    series_of,
    shown,
    target_of,
)
from metatune.errors import ArtifactError, MetatuneError
from metatune.strategy import Strategy
from metatune.tasks.base import FamilyInfo

MOST_MEMBERS = 32
LONGEST_NAME = 80
PROBED = 1 << 22  # numbers of a made-up task, up to which it is tried whether tasks can be learned


def load(path: str | Path, parts: ModuleType | None = None) -> Artifact:
    """Load an artifact; that of a stranger executes none of its maker's code.

    Args:
        path: the folder that ``metatune export`` wrote.
        parts: the module that holds the parts of the strategy that are not metatune's.

    Raises:
        ArtifactError: it is no artifact, is damaged, or has parts of its maker's own and ``parts``
            does not hold them; in a sentence.

    >>> metatune.load("artifact").adapt(x, y).predict(x_new)  # doctest: +SKIP
    """
    return opened(read(path), Path(path), parts)


def load_adapted(path: str | Path, parts: ModuleType | None = None) -> Adapted:
    """Load what ``Adapted.save`` wrote; arguments and errors as of ``load``."""
    artifact, folder = load(path, parts), Path(path)
    tensors, plain = read_tensors(folder / SUPPORT), read_json(folder / LABELS)
    x, y, classes = tensors.get("x"), tensors.get("y"), plain.get("classes")
    info = artifact.info
    fits = isinstance(x, Tensor) and isinstance(y, Tensor) and isinstance(classes, list)
    if fits and x is not None and y is not None and classes is not None:
        rows = x.shape[0] if x.ndim else 0
        labels = (torch.int64, (rows,)) if classes else (torch.float32, (rows, info.outputs))
        fits = (
            x.dtype == torch.float32
            and rows > 0
            and x.shape == (rows, *info.input_shape)
            and (y.dtype, tuple(y.shape)) == labels
            and bool(torch.isfinite(x).all() and torch.isfinite(y).all())
            and bool(classes) == artifact.is_classifier
            and all(isinstance(one, str | int | float) for one in classes)
            and (not classes or bool((y >= 0).all() and (y < len(classes)).all()))
        )
        if fits:
            return Adapted.of(artifact, x, y, names_of(classes))
    raise ArtifactError(f"{folder / SUPPORT}: found no support set of such a task; save it anew")


def opened(stored: Stored, folder: Path, parts: ModuleType | None = None) -> Artifact:
    """The artifact of what is stored; ``folder`` is named in errors."""
    place = Place(stored.plain, str(folder / STRATEGY))
    info = info_of(place.inside("family"))
    episode = episode_of(place.inside("episode"))
    way = 1 if info.kind == "regression" else episode.way
    inputs = place.texts("inputs", MOST_INPUTS)
    if inputs and len(inputs) != prod(info.input_shape):
        place.refuse("inputs", f"{len(inputs)} names", f"one for each of {prod(info.input_shape)}")
    target = target_of(place.inside("target"), way if info.shared_classes else 0)
    for number, column in enumerate(place.items("columns", MOST_INPUTS)):
        one = Place(column, f"{place.name}: columns: {number}")
        one.text("name"), one.text("kind"), one.texts("levels", MOST_INPUTS), one.inside("scales")
    try:
        found = _members(place, info, way, stored.tensors, parts)
        fallback = _fallback(place, info, way, stored.tensors, parts)
        calibration = _calibration(stored.tensors, info)
        likeness = _likeness(stored.tensors, info)
    except ArtifactError as error:
        if str(error).startswith(str(folder)):
            raise
        raise ArtifactError(f"{folder}: {error}") from error
    artifact = Artifact(
        stored=stored,
        info=info,
        episode=episode,
        members=found,
        inputs=inputs,
        target=target,
        calibration=calibration,
        likeness=likeness,
        fallback=fallback,
        series=series_of(place),
    )
    for each in (found, *([] if fallback is None else [fallback.members])):
        _probe(artifact, each, way, str(folder))
    return artifact


# --- strategies and tensors ----------------------------------------------------------------------


def _members(
    place: Place,
    info: FamilyInfo,
    way: int,
    tensors: Mapping[str, Tensor],
    parts: ModuleType | None,
) -> tuple[m.Member, ...]:
    plain = place.items("strategies", MOST_MEMBERS)
    if not plain:
        place.refuse("strategies", "none", "one or more")
    return tuple(
        _member(
            each, f"{place.name}: strategies: {number}", f"{number}/", info, way, tensors, parts
        )
        for number, each in enumerate(plain)
    )


def _fallback(
    place: Place,
    info: FamilyInfo,
    way: int,
    tensors: Mapping[str, Tensor],
    parts: ModuleType | None,
) -> Fallback | None:
    if place.value("fallback") is None:
        return None
    inside = place.inside("fallback")
    name, plain = inside.text("name"), inside.value("strategy")
    if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
        inside.refuse("name", shown(name), f"up to {LONGEST_NAME} characters in one line")
    where = f"{inside.name}: strategy"
    return Fallback(name, (_member(plain, where, "fallback/", info, way, tensors, parts),))


def _member(
    plain: Any,
    place: str,
    prefix: str,
    info: FamilyInfo,
    way: int,
    tensors: Mapping[str, Tensor],
    parts: ModuleType | None,
) -> m.Member:
    strategy = m.with_parts(_strategy(plain, place), parts)
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    try:
        return m.of_tensors(strategy, info, way, own)
    except ArtifactError:
        raise
    except (MetatuneError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise ArtifactError(_cannot(error)) from error


def _strategy(plain: Any, place: str) -> Strategy:
    try:
        # By way of JSON, which strict validation takes as it stands.
        return Strategy.model_validate_json(json.dumps(plain), strict=True)
    except (ValueError, RecursionError) as error:  # pydantic's has a list of what is wrong
        wrong: list[dict[str, Any]] = getattr(error, "errors", list)()
        where = ".".join(str(part) for part in wrong[0]["loc"])[:80] if wrong else ""
        why = wrong[0]["msg"] if wrong else type(error).__name__
        said = " ".join(f"{where}: {why}".split())
        raise ArtifactError(f"{place}: {said[:300]}") from error


def _calibration(tensors: Mapping[str, Tensor], info: FamilyInfo) -> Calibration | None:
    names = ("scores", "group", "floor")
    found = [tensors.get(f"calibration/{name}") for name in names]
    if all(each is None for each in found):
        return None
    scores, group, floor = (each if each is not None else torch.zeros(()) for each in found)
    fits = (
        info.kind == "regression"
        and scores.ndim == 2
        and len(scores) > 0
        and scores.shape == (len(scores), info.outputs)
        and group.shape == (len(scores),)
        and group.dtype == torch.int64
        and bool((group >= 0).all() and (group < len(scores)).all())
        and bool((torch.bincount(group) > 0).all())
        and floor.shape == (info.outputs,)
        and all(t.dtype == torch.float64 and bool((t >= 0).all()) for t in (scores, floor))
        and bool(torch.isfinite(scores).all() and torch.isfinite(floor).all())
    )
    if not fits:
        raise ArtifactError("calibration: found tensors of other shapes or values; export it anew")
    return Calibration(scores, group, floor)


def _likeness(tensors: Mapping[str, Tensor], info: FamilyInfo) -> Likeness:
    size = 2 * (prod(info.input_shape) + info.outputs)
    mean, spread, limit = (
        tensors.get(f"likeness/{name}", torch.zeros(0)) for name in ("mean", "spread", "limit")
    )
    fits = mean.shape == spread.shape == (size,) and limit.shape == ()
    fits &= all(
        t.dtype == torch.float32 and bool(torch.isfinite(t).all()) for t in (mean, spread, limit)
    )
    if not fits or not bool((spread > 0).all()):
        raise ArtifactError("likeness: found tensors of other shapes or values; export it anew")
    return Likeness(mean, spread, limit)


# --- does it work --------------------------------------------------------------------------------


def _probe(artifact: Artifact, members: tuple[m.Member, ...], way: int, place: str) -> None:
    """Learn one small made-up task, so that a strategy that cannot is refused here.

    Raises:
        ArtifactError: in a sentence.
    """
    info = artifact.info
    rows = max(4, 2 * way)
    if rows * prod(info.input_shape) > PROBED:
        return
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, *info.input_shape)).astype(np.float32)
    classes = info.kind == "classification"
    y = np.arange(rows) % way if classes else rng.normal(size=(rows, info.outputs))
    try:
        labels = torch.from_numpy(y if classes else y.astype(np.float32))
        learned = artifact.learned(torch.from_numpy(x), labels, way, members)
        found = learned(torch.from_numpy(x[:2]))
    except Exception as error:
        raise ArtifactError(f"{place}: {_cannot(error)}") from error
    outputs = way if classes else info.outputs
    if found.shape != (2, outputs):
        raise ArtifactError(
            f"{place}: found predictions of {tuple(found.shape)}; allowed: {(2, outputs)}"
        )


def _cannot(error: Exception) -> str:
    said = " ".join(str(error).split())[:200]
    return f"found a strategy that cannot learn such tasks ({type(error).__name__}: {said})"
