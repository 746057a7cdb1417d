"""The reference: pages of the site that are written from the code whenever the site is built.

``mkdocs.yml`` names this file as a hook. What a page says stands in the code alone: help of the
commands, descriptions of the pydantic fields, meanings of the columns, docstrings. Tests go over
``PAGES`` and look for every command, key and column.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from metatune.cli import app
from metatune.presets import PRESETS
from metatune.records.schema import FRAMES, Column, Frame
from metatune.space import Space
from metatune.space.families import OWN, Family
from metatune.strategy import Strategy
from metatune.tasks.registry import FAMILIES

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)(#[^)]*)?\)")
"""A link to a file of the repository that is no page."""


# --- words ----------------------------------------------------------------------------------------


def prose(text: str | None) -> str:
    """A docstring as Markdown: code in backticks, sections as lists, examples as blocks."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text or "").replace("``", "`"))
    return "\n\n".join(_paragraph(paragraph) for paragraph in paragraphs)


def _paragraph(text: str) -> str:
    section = re.match(r"(Args|Returns|Raises|Warns|Attributes):\n", text)
    if section:
        entries = re.split(r"\n(?=    \S)", text[section.end() - 1 :])
        body = [" ".join(entry.split()) for entry in entries if entry.strip()]
        if section[1] != "Returns":
            named = (entry.partition(":") for entry in body)
            body = [f"`{name}`: {what.strip()}" if what else name for name, _, what in named]
            return f"**{section[1]}**\n\n" + "\n".join(f"- {entry}" for entry in body)
        return f"**Returns** {' '.join(body)}"
    if text.startswith(">>>"):
        return f"```pycon\n{text.replace('  # doctest: +SKIP', '')}\n```"
    return text


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Rows as a table of Markdown."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    cells = ([" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def first_sentence(text: str | None) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].replace("``", "`").split())


# --- commands -------------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    parts = [
        "# Commands",
        "`metatune COMMAND --help` says the same.",
    ]
    for name, command in group.commands.items():
        given = ["[OPTIONS]", *(_usage(parameter) for parameter in command.params)]
        parts += [f"## metatune {name}", prose(command.help)]
        parts.append(f"```text\nmetatune {' '.join([name, *filter(None, given)])}\n```")
        parts.append(table(("argument", "default", "meaning"), map(_option, command.params)))
    return "\n\n".join(parts)


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        shown = str(parameter.metavar or parameter.name.upper())
        return shown if parameter.required or shown.startswith("[") else f"[{shown}]"
    return f"{parameter.opts[0]} {parameter.name.upper()}" if parameter.required else ""


def _option(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        name = str(parameter.metavar or parameter.name.upper())
    else:
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    shown = "needed" if parameter.required else "" if default in (None, False) else str(default)
    return f"`{name}`", shown, parameter.help or ""


# --- keys -----------------------------------------------------------------------------------------


def space() -> str:
    """Every key of a space file but those of families and strategies."""
    parts = [
        "# Keys of the space file",
        "How the file is put together, and what a knob is: [the space file](../space_file.md).",
        keys_of(Space),
    ]
    for path, model in _sections(Space):
        if not issubclass(model, Family | Strategy):
            parts += [f"## {path}", prose(model.__doc__), keys_of(model)]
    return "\n\n".join(parts)


def strategy() -> str:
    """Every key of a strategy, part by part."""
    parts = [
        "# Keys of a strategy",
        "Any of them may be a knob under `strategy`; parts in `common`, `initial` and presets have "
        "the same keys. Combinations that make no sense are refused with a sentence.",
        keys_of(Strategy),
    ]
    for path, model in _sections(Strategy):
        parts += [f"## {path}", prose(model.__doc__), keys_of(model)]
    return "\n\n".join(parts)


def families() -> str:
    """Every task family with its options."""
    parts = [
        "# Task families",
        "The section `family` of a space file. `metatune families NAME` shows the tasks of one. "
        "These keys are all families':",
        keys_of(Family),
    ]
    common = set(Family.model_fields) - {"shot", "query"}
    for name, opener in FAMILIES.items():
        parts.append(f"## {name}")
        if name not in OWN:
            parts.append(_about(name, opener))
            continue
        parts += [prose(OWN[name].__doc__), keys_of(OWN[name], without=common)]
    for path, model in _sections(OWN["table"]):
        parts += [f"## {path}", prose(model.__doc__), keys_of(model)]
    return "\n\n".join(parts)


def _about(name: str, opener: Callable[..., Any]) -> str:
    """What a family without options says of itself, by the docstring of its module."""
    found = re.search(r"from (metatune\.tasks\.\S+) import", inspect.getsource(opener))
    assert found, name
    return prose(import_module(found[1]).__doc__) + "\n\nNo options of its own."


def keys_of(model: type[BaseModel], without: Iterable[str] = ()) -> str:
    """A row a key: its type, its default, its limits, its meaning."""
    rows = [
        (f"`{name}`", type_of(field), default_of(field), limits_of(field), meaning_of(model, name))
        for name, field in model.model_fields.items()
        if name not in set(without) or meaning_of(model, name) == ""
    ]
    return table(("key", "type", "left out", "limits", "meaning"), rows) if rows else "No keys."


def meaning_of(model: type[BaseModel], name: str) -> str:
    """What a key says; a part's ``kind`` says which part it is."""
    field = model.model_fields[name]
    if field.description is None and name == "kind":
        return first_sentence(model.__doc__)
    return field.description or ""


def _sections(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The models below one, each with its path in the file, and its kind where there are more."""
    for name, field in model.model_fields.items():
        found = list(dict.fromkeys(models_in(field.annotation)))
        for inner in found:
            kind = inner.model_fields.get("kind")
            path = f"{above}{name}"
            if kind is not None and len(found) > 1:
                yield f"{path}: {', '.join(map(str, get_args(kind.annotation)))}", inner
            else:
                yield path, inner
            if not issubclass(inner, Strategy | Family):
                yield from _sections(inner, f"{path}.")


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "anything"}


def type_of(field: FieldInfo) -> str:
    """The type of a key in words."""
    return _type(field.annotation)


def _type(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type(parts[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in parts if part is not NoneType))
    if origin is tuple:
        what = [_type(part) for part in parts if part is not Ellipsis]
        return f"list: {what[0]}" if Ellipsis in parts else f"[{', '.join(what)}]"
    if origin in (dict, Mapping):
        return "mapping"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "mapping"
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def default_of(field: FieldInfo) -> str:
    """What a key is where it is left out."""
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        kind = getattr(value, "kind", None)
        return f"`{kind}`" if kind else "as its keys say"
    return f"`{json.dumps(value)}`" if value is not None else "nothing"


def limits_of(field: FieldInfo) -> str:
    """The limits of a key's value."""
    words = {Ge: "from", Gt: "above", Le: "to", Lt: "below"}
    said = []
    for limit in field.metadata:
        for kind, word in words.items():
            if isinstance(limit, kind):
                value = getattr(limit, kind.__name__.lower())
                said.append(f"{word} {value:,}" if isinstance(value, int) else f"{word} {value:g}")
        if isinstance(limit, MinLen) and limit.min_length > 0:
            said.append("not empty")
        if isinstance(limit, MaxLen):
            said.append(f"at most {limit.max_length}")
    return " ".join(said)


# --- presets, records, Python ---------------------------------------------------------------------


def presets() -> str:
    """Every preset with its paper."""
    parts = [
        "# Published strategies",
        "Presets: each with its paper, its symbols beside our names, and what differs. Those that "
        "make no sense for a family are refused there, with a sentence.",
    ]
    for name, function in PRESETS.items():
        parts += [f"## {name}", prose(function.__doc__)]
    return "\n\n".join(parts)


def records() -> str:
    """Every column of every frame."""
    parts = [
        "# Columns of the records",
        "`metatune.read_run` has these frames: [analysing a run in pandas](../analysis.md). All "
        "but `tasks` are stored as Parquet with the same columns.",
    ]
    for name, frame in FRAMES.items():
        rows = [
            (f"`{c.name}`", c.dtype, c.unit, "yes" if c.nullable else "", _column(frame, c))
            for c in frame.columns
        ]
        head = ("column", "dtype", "unit", "may be missing", "meaning")
        parts += [f"## {name}", f"A row is {frame.about}.", table(head, rows), frame.more]
    return "\n\n".join(parts)


def _column(frame: Frame, column: Column) -> str:
    """What a column says, and all that it can say where that is little."""
    choices = f": {', '.join(f'`{choice}`' for choice in column.choices)}" if column.choices else ""
    return f"{column.meaning}{choices}{'; the index' if column.name == frame.index else ''}"


PUBLIC: Mapping[str, tuple[str, ...]] = {
    "metatune": (),
    "metatune.session": ("run", "resume"),
    "metatune.analysis": (),
    "metatune.folds": ("rotated", "Rotated"),
    "metatune.artifact.learner": ("Artifact", "Adapted", "UnlikeTask"),
    "metatune.tasks.base": ("Episode", "TaskBatch", "FamilyInfo", "TaskFamily"),
    "metatune.learners.interface": ("Tensors", "Examples", "Backbone", "Head", "Learner"),
    "metatune.testing": (
        "BackboneConformance", "HeadConformance", "LearnerConformance", "FamilyConformance",
    ),
}  # fmt: skip
"""What is public, by module; where no names are given, the module's ``__all__``."""


def python() -> str:
    """Every public name, with signature and docstring."""
    parts = ["# Python"]
    for module, names in PUBLIC.items():
        home = import_module(module)
        parts += [f"## {module}", prose(home.__doc__).partition("::\n")[0].strip()]
        for name in names or [name for name in home.__all__ if not name.startswith("__")]:
            parts += _documented(name, getattr(home, name), "###")
    return "\n\n".join(parts)


def _documented(name: str, thing: Any, level: str) -> Iterator[str]:
    yield f"{level} {name}"
    if isinstance(thing, property | cached_property):
        yield prose(thing.__doc__)
        return
    if not (inspect.isclass(thing) and issubclass(thing, Warning)):
        yield f"```python\n{signature(name, thing)}\n```"
    yield prose(thing.__doc__)
    if not inspect.isclass(thing):
        return
    tests = [key for key in dir(thing) if key.startswith("test_")]
    if tests:
        yield "\n".join(f"- {test.removeprefix('test_').replace('_', ' ')}" for test in tests)
    for key in _members(thing):
        member = inspect.getattr_static(thing, key)
        yield from _documented(f"{name}.{key}", getattr(member, "__func__", member), level + "#")


def _members(thing: type) -> Iterator[str]:
    """Names of documented methods and properties, metatune's own ones."""
    for key in dict.fromkeys(key for home in thing.__mro__ for key in vars(home)):
        member = inspect.getattr_static(thing, key)
        function = member.fget if isinstance(member, property) else member
        function = getattr(function, "__func__", getattr(function, "func", function))
        ours = str(getattr(function, "__module__", "")).startswith("metatune.")
        if ours and callable(function) and function.__doc__ and not key.startswith(("_", "test_")):
            yield key


def signature(name: str, thing: Any) -> str:
    """A signature as it would be written, an argument a line where it is long."""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return name
    words = list[str]()
    for parameter in found.parameters.values():
        if parameter.name == "self" or parameter.name.startswith("_"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        note = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        words.append(f"{parameter.name}{note}{default}")
    after = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    line = f"{name}({', '.join(words)}){after}"
    return line if len(line) < 90 else f"{name}(\n    " + ",\n    ".join(words) + f",\n){after}"


PAGES: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "space": space,
    "strategy": strategy,
    "families": families,
    "presets": presets,
    "records": records,
    "python": python,
}


# --- the site -------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """What MkDocs is given besides: the reference, and a page of each source that is linked to."""
    from mkdocs.structure.files import File

    for name, write in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=write()))
    pages = [file for file in files.documentation_pages() if file.generated_by is None]
    linked = {
        link for page in pages for link, _ in OUTSIDE.findall(Path(page.abs_src_path).read_text())
    }
    for path in sorted(linked):
        text = f"# {path}\n\n````{Path(path).suffix[1:]}\n{(ROOT / path).read_text()}\n````\n"
        files.append(File.generated(config, f"sources/{path}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files of the repository lead to their pages."""
    written = page.file.generated_by is None
    return OUTSIDE.sub(r"](sources/\1.md\2)", markdown) if written else markdown
