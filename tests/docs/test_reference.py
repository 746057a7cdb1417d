"""The reference names every command, key and column, each with what it means."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
from pages import reference
from pydantic import BaseModel

import metatune
from metatune import analysis, cli
from metatune.presets import PRESETS
from metatune.records.schema import FRAMES
from metatune.space import Space
from metatune.space.families import OWN, Family
from metatune.strategy import Strategy
from metatune.tasks.registry import family_names


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A model, and all below it."""
    found = {model}
    for field in model.model_fields.values():
        for inner in reference.models_in(field.annotation):
            found |= models(inner)
    return found


SECTIONS = sorted(
    models(Space) | models(Strategy) | set(OWN.values()), key=lambda model: model.__name__
)


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_every_key_has_a_meaning(model: type[BaseModel]) -> None:
    for name in model.model_fields:
        assert reference.meaning_of(model, name), name


def test_every_key_of_a_space_file_stands_in_the_reference() -> None:
    text = "\n".join(reference.PAGES[page]() for page in ("space", "strategy", "families"))
    for model in SECTIONS:
        for name, field in model.model_fields.items():
            if issubclass(model, Family) and name in Family.model_fields:
                continue
            row = re.search(rf"^\| `{name}` \| .* \| (.+) \|$", text, re.MULTILINE)
            assert row, f"{model.__name__}.{name}"
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            assert meaning in text, f"{model.__name__}.{name}"


def test_every_command_and_option_stands_in_the_reference_with_what_it_does() -> None:
    text = reference.commands()
    group: Any = typer.main.get_command(cli.app)
    assert len(group.commands) >= 11
    for name, command in group.commands.items():
        section = text.partition(f"## metatune {name}\n")[2].partition("\n## ")[0]
        assert command.help.partition("\n")[0] in section
        for parameter in command.params:
            assert parameter.help, f"{name}: {parameter.name}"
            assert " ".join(parameter.help.split()) in section, f"{name}: {parameter.name}"


def test_every_column_stands_in_the_reference_with_its_meaning() -> None:
    text = reference.records()
    for name, frame in FRAMES.items():
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        for column in frame.columns:
            assert column.meaning, column.name
            row = rf"^\| `{column.name}` \| .*{re.escape(column.meaning)}.*\|$"
            assert re.search(row, section, re.MULTILINE), f"{name}.{column.name}"


def test_every_preset_stands_in_the_reference_with_its_docstring() -> None:
    text = reference.presets()
    for name, function in PRESETS.items():
        assert f"## {name}\n\n{reference.first_sentence(function.__doc__)[:30]}" in text


def test_every_family_stands_in_the_reference() -> None:
    text = reference.families()
    for name in family_names():
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert len(section.split()) > 5, name


def test_every_public_name_stands_in_the_reference_with_a_docstring() -> None:
    text = reference.python()
    names = [name for name in metatune.__all__ if not name.startswith("__")]
    for name in (*names, *analysis.__all__, "HeadConformance", "FamilyConformance"):
        section = text.partition(f"### {name}\n")[2].partition("\n### ")[0]
        assert f"\n{name}" in section, name
        assert len(section.split()) > 8, name


def test_a_docstring_becomes_markdown() -> None:
    text = """What it does, with ``code``.

    Args:
        one: first
            and more.
        two, three: others.

    Returns:
        A row a thing: with a colon.

    >>> do(1)  # doctest: +SKIP
    """
    assert reference.prose(text).split("\n\n") == [
        "What it does, with `code`.",
        "**Args**",
        "- `one`: first and more.\n- `two, three`: others.",
        "**Returns** A row a thing: with a colon.",
        "```pycon\n>>> do(1)\n```",
    ]
