"""From an artifact's folder to an artifact. Nothing that a file says is believed or executed.

Plain data are read key by key within bounds, strategies are validated as those of a space file,
tensors must have the names, shapes and types that the strategies ask for, and are as large as the
file that holds them. Code of the artifact's maker is no part of it: a strategy with parts of
somebody's own takes them from the module that the caller hands over.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, prod
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from metatune.artifact import members as m
from metatune.artifact.files import (
    STRATEGY,
    Stored,
    read,
    read_json,
    read_tensors,
)
from metatune.artifact.intervals import Calibration
from metatune.artifact.learner import LABELS, SUPPORT, Adapted, Artifact, Target, names_of
from metatune.artifact.likeness import Likeness
from metatune.errors import ArtifactError, MetatuneError
from metatune.strategy import Strategy
from metatune.tasks.base import Episode, FamilyInfo, Metric

MOST_INPUTS = 1 << 22  # numbers an example
MOST_CLASSES = 1024
MOST_MEMBERS = 32
METRICS = get_args(Metric.__annotations__["name"]) or (
    "accuracy", "mse", "rmse", "r2", "spearman", "mae", "mase",
)  # fmt: skip
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
    place = _Place(stored.plain, str(folder / STRATEGY))
    info = _info(place.inside("family"))
    episode = _episode(place.inside("episode"))
    way = 1 if info.kind == "regression" else episode.way
    inputs = place.texts("inputs", MOST_INPUTS)
    if inputs and len(inputs) != prod(info.input_shape):
        place.refuse("inputs", f"{len(inputs)} names", f"one for each of {prod(info.input_shape)}")
    target = _target(place.inside("target"), way if info.shared_classes else 0)
    for number, column in enumerate(place.items("columns", MOST_INPUTS)):
        one = _Place(column, f"{place.name}: columns: {number}")
        one.text("name"), one.text("kind"), one.texts("levels", MOST_INPUTS), one.inside("scales")
    try:
        found = _members(place, info, way, stored.tensors, parts)
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
    )
    _probe(artifact, way, str(folder))
    return artifact


# --- plain data ----------------------------------------------------------------------------------


class _Place:
    """Plain data at a place of a file, read with bounds.

    Args:
        data: what stands there.
        name: of the place, for messages.
    """

    def __init__(self, data: Any, name: str) -> None:
        if not isinstance(data, Mapping):
            raise ArtifactError(f"{name}: found {_shown(data)}; allowed: an object")
        self._data, self.name = data, name

    def refuse(self, key: str, found: str, allowed: str) -> None:
        named = key if key.isidentifier() and len(key) <= 40 else _shown(key)
        raise ArtifactError(f"{self.name}: {named}: found {found}; allowed: {allowed}")

    def value(self, key: str) -> Any:
        if key not in self._data:
            self.refuse(key, "nothing", "a value")
        return self._data[key]

    def inside(self, key: str) -> _Place:
        return _Place(self.value(key), f"{self.name}: {key}")

    def whole(self, key: str, low: int, high: int) -> int:
        found = self.value(key)
        if type(found) is not int or not low <= found <= high:
            self.refuse(key, _shown(found), f"a whole number from {low} to {high}")
        return int(found)

    def number(self, key: str, above: float = -1e300) -> float:
        found = self.value(key)
        if type(found) not in (int, float) or not isfinite(found) or not found > above:
            self.refuse(key, _shown(found), f"a number above {above:g}")
        return float(found)

    def yes(self, key: str) -> bool:
        found = self.value(key)
        if type(found) is not bool:
            self.refuse(key, _shown(found), "true or false")
        return bool(found)

    def text(self, key: str, allowed: tuple[str, ...] = ()) -> str:
        found = self.value(key)
        if not isinstance(found, str) or (allowed and found not in allowed):
            self.refuse(key, _shown(found), ", ".join(allowed) or "text")
        return str(found)

    def items(self, key: str, most: int) -> list[Any]:
        found = self.value(key)
        if not isinstance(found, list) or len(found) > most:
            self.refuse(key, _shown(found), f"a list of at most {most}")
        return list(found)

    def texts(self, key: str, most: int) -> tuple[str, ...]:
        found = self.items(key, most)
        if not all(isinstance(each, str) for each in found):
            self.refuse(key, _shown(found), "a list of text")
        return tuple(found)

    def keys(self) -> list[str]:
        return [str(key) for key in self._data]


def _shown(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 40 else f"{text[:40]}.."


def _info(place: _Place) -> FamilyInfo:
    kind = place.text("kind", ("classification", "regression"))
    shape = tuple(place.items("input_shape", 4))
    sizes = [n if type(n) is int and 1 <= n <= MOST_INPUTS else 0 for n in shape]
    if not 1 <= prod(sizes) <= MOST_INPUTS or not sizes:
        place.refuse("input_shape", _shown(list(shape)), f"sizes with up to {MOST_INPUTS} numbers")
    columns = prod(shape)
    outputs = place.whole("outputs", int(kind == "regression"), 1024)
    if kind == "classification" and outputs:
        place.refuse("outputs", str(outputs), "0 for classes")
    views, forecasts = place.inside("views"), place.inside("forecasts")
    found_views: dict[str, tuple[int, int]] = {}
    for name in views.keys():  # noqa: SIM118 - no mapping
        ends = _Place(dict(enumerate_ends(views.items(name, 2))), f"{views.name}: {_shown(name)}")
        start = ends.whole("from", 0, columns - 1)
        found_views[name] = (start, ends.whole("to", start + 1, columns))
    metric = place.inside("metric")
    naive = metric.value("naive")
    return FamilyInfo(
        name=place.text("name"),
        kind="regression" if kind == "regression" else "classification",
        input_shape=shape,
        outputs=outputs,
        metric=Metric(
            metric.text("name", METRICS),  # type: ignore[arg-type]
            1 if metric.whole("sign", -1, 1) > 0 else -1,
            None if naive is None else metric.whole("naive", 0, columns - 1),
        ),
        train_classes=0,
        groups={"train": {}, "select": {}, "confirm": {}, "test": {}},
        grouped=False,
        baselines=(),
        about="",
        views=found_views,
        shared_classes=place.yes("shared_classes"),
        forecasts={
            name: forecasts.whole(name, 0, columns - 1)
            for name in forecasts.keys()  # noqa: SIM118
        },
    )


def enumerate_ends(ends: list[Any]) -> list[tuple[str, Any]]:
    """The two ends of a range by their names."""
    return list(zip(("from", "to"), ends, strict=False))


def _episode(place: _Place) -> Episode:
    return Episode(
        way=place.whole("way", 1, MOST_CLASSES),
        shot=place.whole("shot", 1, 100_000),
        query=place.whole("query", 1, 100_000),
        per_class=place.yes("per_class"),
    )


def _target(place: _Place, classes: int) -> Target:
    names = place.texts("classes", MOST_CLASSES)
    if len(names) != classes or len(set(names)) < len(names):
        place.refuse("classes", f"{len(names)} names", f"{classes} different ones")
    return Target(place.text("name"), place.number("mean"), place.number("spread", 0.0), names)


# --- strategies and tensors ----------------------------------------------------------------------


def _members(
    place: _Place,
    info: FamilyInfo,
    way: int,
    tensors: Mapping[str, Tensor],
    parts: ModuleType | None,
) -> tuple[m.Member, ...]:
    plain = place.items("strategies", MOST_MEMBERS)
    if not plain:
        place.refuse("strategies", "none", "one or more")
    found = []
    for number, each in enumerate(plain):
        strategy = m.with_parts(_strategy(each, f"{place.name}: strategies: {number}"), parts)
        own = {
            name.removeprefix(f"{number}/"): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{number}/")
        }
        try:
            found.append(m.of_tensors(strategy, info, way, own))
        except ArtifactError:
            raise
        except (MetatuneError, ValueError, RuntimeError, TypeError, KeyError) as error:
            raise ArtifactError(_cannot(error)) from error
    return tuple(found)


def _strategy(plain: Any, place: str) -> Strategy:
    try:
        return Strategy.model_validate(plain)
    except ValueError as error:  # pydantic's has a list of what is wrong
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


def _probe(artifact: Artifact, way: int, place: str) -> None:
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
        found = artifact.learned(
            torch.from_numpy(x), torch.from_numpy(y if classes else y.astype(np.float32)), way
        )(torch.from_numpy(x[:2]))
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


Kind = Literal["classification", "regression"]
