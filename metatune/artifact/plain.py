"""Plain data of an artifact, read key by key within bounds; what is not as it must be is refused.

What stands in ``strategy.json`` but for strategies: the shape of tasks and of what is predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, prod
from typing import Any, get_args, get_type_hints

from metatune.artifact.learner import Target
from metatune.artifact.series import SeriesRules
from metatune.errors import ArtifactError
from metatune.tasks.base import Episode, FamilyInfo, Metric

MOST_INPUTS = 1 << 22  # numbers an example
MOST_CLASSES = 1024
MOST_STEPS = 1_000_000  # of a time series, looked back or ahead
METRICS: tuple[str, ...] = get_args(get_type_hints(Metric)["name"])


class Place:
    """Plain data at a place of a file, read with bounds.

    Args:
        data: what stands there.
        name: of the place, for messages.
    """

    def __init__(self, data: Any, name: str) -> None:
        if not isinstance(data, Mapping):
            raise ArtifactError(f"{name}: found {shown(data)}; allowed: an object")
        self._data, self.name = data, name

    def refuse(self, key: str, found: str, allowed: str) -> None:
        named = key if key.isidentifier() and len(key) <= 40 else shown(key)
        raise ArtifactError(f"{self.name}: {named}: found {found}; allowed: {allowed}")

    def value(self, key: str) -> Any:
        if key not in self._data:
            self.refuse(key, "nothing", "a value")
        return self._data[key]

    def inside(self, key: str) -> Place:
        return Place(self.value(key), f"{self.name}: {key}")

    def whole(self, key: str, low: int, high: int) -> int:
        found = self.value(key)
        if type(found) is not int or not low <= found <= high:
            self.refuse(key, shown(found), f"a whole number from {low} to {high}")
        return int(found)

    def number(self, key: str, above: float = -1e300) -> float:
        found = self.value(key)
        if type(found) not in (int, float) or not isfinite(found) or not found > above:
            self.refuse(key, shown(found), f"a number above {above:g}")
        return float(found)

    def yes(self, key: str) -> bool:
        found = self.value(key)
        if type(found) is not bool:
            self.refuse(key, shown(found), "true or false")
        return bool(found)

    def text(self, key: str, allowed: tuple[str, ...] = ()) -> str:
        found = self.value(key)
        if not isinstance(found, str) or (allowed and found not in allowed):
            self.refuse(key, shown(found), ", ".join(allowed) or "text")
        return str(found)

    def items(self, key: str, most: int) -> list[Any]:
        found = self.value(key)
        if not isinstance(found, list) or len(found) > most:
            self.refuse(key, shown(found), f"a list of at most {most}")
        return list(found)

    def texts(self, key: str, most: int) -> tuple[str, ...]:
        found = self.items(key, most)
        if not all(isinstance(each, str) for each in found):
            self.refuse(key, shown(found), "a list of text")
        return tuple(found)

    def keys(self) -> list[str]:
        return [str(key) for key in self._data]


def shown(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 40 else f"{text[:40]}.."


def info_of(place: Place) -> FamilyInfo:
    kind = place.text("kind", ("classification", "regression"))
    shape = tuple(place.items("input_shape", 4))
    sizes = [n if type(n) is int and 1 <= n <= MOST_INPUTS else 0 for n in shape]
    if not 1 <= prod(sizes) <= MOST_INPUTS or not sizes:
        place.refuse("input_shape", shown(list(shape)), f"sizes with up to {MOST_INPUTS} numbers")
    columns = prod(shape)
    outputs = place.whole("outputs", int(kind == "regression"), 1024)
    if kind == "classification" and outputs:
        place.refuse("outputs", str(outputs), "0 for classes")
    views, forecasts = place.inside("views"), place.inside("forecasts")
    found_views: dict[str, tuple[int, int]] = {}
    for name in views.keys():  # noqa: SIM118 - no mapping
        ends = Place(dict(enumerate_ends(views.items(name, 2))), f"{views.name}: {shown(name)}")
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


def episode_of(place: Place) -> Episode:
    return Episode(
        way=place.whole("way", 1, MOST_CLASSES),
        shot=place.whole("shot", 1, 100_000),
        query=place.whole("query", 1, 100_000),
        per_class=place.yes("per_class"),
    )


def target_of(place: Place, classes: int) -> Target:
    names = place.texts("classes", MOST_CLASSES)
    if len(names) != classes or len(set(names)) < len(names):
        place.refuse("classes", f"{len(names)} names", f"{classes} different ones")
    return Target(place.text("name"), place.number("mean"), place.number("spread", 0.0), names)


def series_of(place: Place) -> SeriesRules | None:
    """How a history becomes a task; None where tasks are no stretches of series."""
    if place.value("series") is None:
        return None
    series = place.inside("series")
    step = series.inside("step")
    length, months = step.whole("length", 0, 10**18), step.whole("months", 0, 12_000)
    phase = step.whole("phase", 0, max(0, length - 1))
    if length and months:
        step.refuse("months", str(months), "0 beside a length")
    ahead = series.whole("ahead", 1, MOST_STEPS)
    lags = series.items("lags", 2 + MOST_CLASSES)
    known = [lag for lag in lags if type(lag) is int and ahead <= lag <= MOST_STEPS]
    if not lags or known != lags:
        series.refuse("lags", shown(lags), f"whole numbers from {ahead} to {MOST_STEPS}")
    change = series.whole("change", 0, MOST_STEPS)
    if 0 < change < ahead:
        series.refuse("change", str(change), f"0, or {ahead} and more")
    written = None if series.value("time_format") is None else series.text("time_format")
    return SeriesRules(
        step=(step.text("alias"), length, months, phase),
        ahead=ahead,
        lags=tuple(known),
        calendar=series.texts("calendar", 16),
        time=series.text("time"),
        value=series.text("value"),
        time_format=written,
        log=series.yes("log"),
        change=change,
        fill=series.whole("fill", 0, MOST_STEPS),
    )
