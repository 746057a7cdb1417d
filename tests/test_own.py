"""Parts of the user's own are found by name, or it is said in a sentence why they are not."""

from __future__ import annotations

import sys
from collections import OrderedDict
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from metatune import own
from metatune.errors import SpaceError
from metatune.own import load_own, look_in, own_problem
from metatune.strategy import OwnPart

MODULE = """\
class Net:
    def __init__(self, input_shape, count=3):
        pass

    class Inner:
        pass

    @classmethod
    def pretrained(cls, input_shape):
        return cls(input_shape)

not_a_class = 5
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of the user's that can be imported."""
    name = f"parts_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


# --- by name --------------------------------------------------------------------------------------


def test_a_class_is_found_by_module_and_name(module: str) -> None:
    assert load_own(OwnPart(use="collections:OrderedDict"), "heads") is OrderedDict
    assert load_own(OwnPart(use=f"{module}:Net"), "backbones").__name__ == "Net"


def test_names_may_have_dots_and_stand_for_functions(module: str) -> None:
    assert load_own(OwnPart(use=f"{module}:Net.Inner"), "backbones").__name__ == "Inner"
    assert load_own(OwnPart(use=f"{module}:Net.pretrained"), "backbones").__name__ == "pretrained"


def test_an_installed_package_may_offer_a_part_by_a_short_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offered(group: str) -> list[EntryPoint]:
        entry = EntryPoint("ordered", "collections:OrderedDict", "metatune.heads")
        return [entry] if group == "metatune.heads" else []

    monkeypatch.setattr(own, "entry_points", offered)
    assert load_own(OwnPart(use="ordered"), "heads") is OrderedDict
    with pytest.raises(SpaceError, match="found orderd; allowed: module:name, ordered"):
        load_own(OwnPart(use="orderd"), "heads")
    with pytest.raises(SpaceError, match=r"found ordered; allowed: module:name$"):
        load_own(OwnPart(use="ordered"), "backbones")


def test_modules_may_lie_in_a_folder_that_is_looked_in_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "lies_beside_the_space_file.py").write_text(MODULE)
    look_in(str(tmp_path))
    look_in(str(tmp_path))
    assert sys.path.index(str(tmp_path)) == len(sys.path) - 1
    assert load_own(OwnPart(use="lies_beside_the_space_file:Net"), "backbones")


# --- why not --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("use", "said"), [
    ("wavelets", "use: found wavelets; allowed: module:name"),
    ("no_such_module:Net", "importing no_such_module says: No module named 'no_such_module'"),
    ("{module}:Nett", "the module {module} has no Nett"),
    ("{module}:Net.Outer", "the module {module} has no Net.Outer"),
    ("{module}:not_a_class", "which is no class or function"),
])  # fmt: skip
def test_what_is_not_there_is_told(use: str, said: str, module: str) -> None:
    part = OwnPart(use=use.format(module=module))
    with pytest.raises(SpaceError) as caught:
        load_own(part, "backbones")
    assert said.format(module=module) in str(caught.value)
    assert own_problem(part, "backbones") == f"backbone.{caught.value}"


def test_an_error_inside_the_module_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaks_when_imported.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SpaceError, match="ends in ZeroDivisionError: division by zero"):
        load_own(OwnPart(use="breaks_when_imported:Net"), "learners")


def test_options_that_the_part_does_not_take_are_told(module: str) -> None:
    part = OwnPart(use=f"{module}:Net", options={"cuont": 4})
    said = f"backbone.options: {module}:Net says: got an unexpected keyword argument 'cuont'"
    assert own_problem(part, "backbones", "input_shape") == said


def test_options_that_metatune_passes_itself_are_told(module: str) -> None:
    part = OwnPart(use=f"{module}:Net", options={"input_shape": 4})
    problem = own_problem(part, "backbones", "input_shape")
    assert problem is not None
    assert "multiple values for keyword argument 'input_shape'" in problem


def test_what_metatune_passes_and_the_part_does_not_take_is_told(module: str) -> None:
    problem = own_problem(OwnPart(use=f"{module}:Net"), "heads", "features", "outputs")
    assert problem is not None
    assert problem.startswith(f"head.options: {module}:Net says: ")


def test_a_part_that_can_be_made_has_no_problem(module: str) -> None:
    part = OwnPart(use=f"{module}:Net", options={"count": 4})
    assert own_problem(part, "backbones", "input_shape") is None


def test_what_has_no_signature_is_tried_when_it_is_made() -> None:
    assert own_problem(OwnPart(use="builtins:dict"), "models") is None
