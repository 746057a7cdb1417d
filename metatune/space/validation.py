"""Plain data into pydantic models, with complaints in the words of the file.

Validation is strict: ``steps: 2.5`` or ``steps: "2"`` is refused, not rounded or parsed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from metatune.errors import SpaceError
from metatune.space.source import Place, Problem, Source, listed, refuse, show
from metatune.strategy import Strategy

_Model = TypeVar("_Model", bound=BaseModel)


def check(model: type[_Model], data: Mapping[str, Any]) -> tuple[_Model | None, list[Problem]]:
    """The model of some plain data, or what is wrong with the data.

    Args:
        model: the pydantic model.
        data: JSON-ready data with finite numbers.
    """
    try:
        # By way of JSON, for strictness there still takes lists for tuples.
        return model.model_validate_json(json.dumps(data), strict=True), []
    except ValidationError as error:
        return None, [_problem(model, detail) for detail in error.errors(include_url=False)]


def build_strategy(data: Mapping[str, Any]) -> Strategy:
    """The strategy of plain data; SpaceError with every problem if it is none."""
    strategy, problems = check(Strategy, data)
    refuse(problems, Source("strategy"))
    if strategy is None:
        raise SpaceError("strategy: found nothing; allowed: a mapping")
    return strategy


def _problem(model: type[BaseModel], detail: ErrorDetails) -> Problem:
    place, owner = _locate(model, detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    found = show(detail["input"])
    if kind == "extra_forbidden":
        keys = owner.model_fields if owner else ()
        return Problem(place, f"the unknown key {place[-1]}", listed(keys))
    if kind == "missing":
        field = owner.model_fields.get(str(place[-1])) if owner else None
        needed = "a mapping" if field and any(_models(field.annotation)) else "a value"
        return Problem(place, "nothing", (field and field.description) or needed)
    if kind == "union_tag_invalid":
        allowed = str(context["expected_tags"]).replace("'", "")
        return Problem((*place, "kind"), show(detail["input"].get("kind")), allowed)
    if kind == "union_tag_not_found":
        return Problem(place, "no kind", "a mapping with the key kind")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return Problem(place, found, "a mapping")
    if kind == "tuple_type":
        return Problem(place, found, "a list")
    if kind == "value_error":
        message = detail["msg"].removeprefix("Value error, ")
        said, _, allowed = message.removeprefix("found ").partition("; allowed: ")
        return Problem(place, said, allowed or "other values")
    if kind == "string_pattern_mismatch":
        return Problem(place, found, "up to 40 letters, digits and . _ + * -")
    return Problem(place, found, detail["msg"].removeprefix("Input should be ").replace("'", ""))


def _locate(model: type[BaseModel], loc: Place) -> tuple[Place, type[BaseModel] | None]:
    """The place in the data of pydantic's ``loc``, and the model that has its last key.

    Pydantic puts the tag of a discriminated union into ``loc``, which no file contains.
    """
    place: list[str | int] = []
    owner: type[BaseModel] | None = model
    options: list[type[BaseModel]] = [model]
    for part in loc:
        tagged = [option for option in options if part in _tags(option)]
        if len(options) > 1 and tagged:
            options = tagged
            continue
        place.append(part)
        if isinstance(part, int):
            continue
        owner = options[0] if options else None
        field = owner.model_fields.get(part) if owner else None
        options = list(_models(field.annotation)) if field else []
    return tuple(place), owner


def _tags(model: type[BaseModel]) -> tuple[object, ...]:
    """The kinds that a model stands for in a discriminated union; of families their tag."""
    if tag := getattr(model, "tag", None):
        return (tag,)
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field else ()


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
