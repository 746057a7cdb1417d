"""Parts of strategies where pydantic is not installed, as it need not be to use an artifact.

The parts declare their settings once, in pydantic's words: annotations, defaults and ``Field``.
Here are these words as far as the declarations use them, and a reading of data as strict as
pydantic's strict one, without its messages. A test holds the two against each other on whatever
stands anywhere in a strategy.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

ConfigDict = dict
_MISSING: Any = object()


class ValidationError(ValueError):
    """Data are no such part; ``errors`` has one complaint in pydantic's form."""

    def __init__(self, place: tuple[str, ...], said: str) -> None:
        super().__init__(f"{'.'.join(place)}: {said}")
        self._told = {"loc": place, "msg": said}

    def errors(self) -> list[dict[str, Any]]:
        """Where it is and what it is."""
        return [self._told]


@dataclass(frozen=True)
class Field:
    """What is declared of a setting; the names are pydantic's."""

    default: Any = _MISSING
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int | None = None
    default_factory: Callable[[], Any] | None = None
    discriminator: str | None = None
    description: str | None = None

    def complaint(self, value: Any) -> str | None:
        """Why a value is out of bounds; None where it is not."""
        if self.min_length is not None and len(value) < self.min_length:
            return f"found {len(value)} characters; allowed: {self.min_length} or more"
        for word, bound, fits in (
            ("from", self.ge, operator.ge),
            ("above", self.gt, operator.gt),
            ("up to", self.le, operator.le),
            ("below", self.lt, operator.lt),
        ):
            if bound is not None and value is not None and not fits(value, bound):
                return f"found {str(value)[:40]}; allowed: {word} {bound:g}"
        return None


class BaseModel:
    """A part: its settings as attributes, frozen."""

    def __init__(self, **given: Any) -> None:
        kind: Any = type(self)
        fields = _fields(kind)
        if strange := given.keys() - fields.keys():
            raise ValidationError((str(min(strange))[:40],), "found an unknown key")
        for name, (hint, field) in fields.items():
            if name in given:
                value = _read(hint, given[name], (name,))
                if said := field.complaint(value):
                    raise ValidationError((name,), said)
            elif field.default_factory is not None:
                value = field.default_factory()
            elif field.default is _MISSING:
                raise ValidationError((name,), "found nothing; allowed: a value")
            else:
                value = field.default
            vars(self)[name] = value

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @classmethod
    def model_validate_json(cls, text: str, *, strict: bool) -> Self:
        """The part of a JSON object; always strict."""
        del strict
        plain = json.loads(text)
        found: Self = _part(cls, plain, ())
        return found

    def model_dump(self, mode: str = "python") -> dict[str, Any]:
        """As plain data."""
        del mode  # there is nothing that JSON has not
        return {
            name: value.model_dump() if isinstance(value, BaseModel) else value
            for name, value in vars(self).items()
        }

    def model_dump_json(self) -> str:
        """As JSON."""
        return json.dumps(self.model_dump(), sort_keys=True)

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """The same with other settings, which are not checked."""
        copy = object.__new__(type(self))
        vars(copy).update({**vars(self), **update})
        return copy


@cache
def _fields(model: Any) -> dict[str, tuple[Any, Field]]:
    """Each setting with its type and what else is declared of it."""
    found = {}
    for name, hint in get_type_hints(model, include_extras=True).items():
        stated = getattr(model, name, _MISSING)
        found[name] = (hint, stated if isinstance(stated, Field) else Field(stated))
    return found


def _read(hint: Any, value: Any, place: tuple[str, ...]) -> Any:
    """A value of this type.

    Raises:
        ValidationError: it is none.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        return _read(args[0], value, place)
    if origin is Literal:
        if any(type(value) is type(one) and value == one for one in args):
            return value
        raise ValidationError(place, f"allowed: {', '.join(map(str, args))}")
    if origin in (Union, UnionType):
        return _one_of(args, value, place)
    if origin is dict:
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return value
        raise ValidationError(place, "allowed: a mapping")
    if issubclass(hint, BaseModel):
        return _part(hint, value, place)
    if hint is float and type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise ValidationError(place, "allowed: a number") from error
    if type(value) is hint:
        return value
    raise ValidationError(place, f"allowed: a value of type {hint.__name__}")


def _one_of(options: tuple[Any, ...], value: Any, place: tuple[str, ...]) -> Any:
    """The option that is meant: a part by its kind."""
    if NoneType in options:
        return None if value is None else _one_of(
            tuple(one for one in options if one is not NoneType), value, place
        )  # fmt: skip
    if len(options) == 1:
        return _read(options[0], value, place)
    for option in options:
        kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
        if any(type(kind) is str and kind == one for one in _kinds(option)):
            return _part(option, value, place)
    raise ValidationError(place, "found no kind that there is")


def _kinds(model: type[BaseModel]) -> tuple[str, ...]:
    return get_args(get_type_hints(model)["kind"])


def _part(model: type[Any], value: Any, place: tuple[str, ...]) -> Any:
    if isinstance(value, model):
        return value
    if not isinstance(value, dict):
        raise ValidationError(place, "allowed: a mapping")
    try:
        return model(**value)
    except ValidationError as error:
        told = error.errors()[0]
        raise ValidationError((*place, *told["loc"]), told["msg"]) from None
