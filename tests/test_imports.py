"""Imports run one way along the data's path, and heavy packages stay at the edge."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import metatune

ROOT = Path(metatune.__file__).parent
HEAVY = {"ray", "optuna", "torch", "pandas"}

LAYERS: list[tuple[str, ...]] = [
    ("",),  # the package itself: names that are loaded when they are first used
    ("errors", "seeds", "statistics", "objectives", "own"),
    ("patience", "durable", "place", "database"),
    ("tasks",),
    ("strategy", "presets"),
    ("gradient",),
    ("jobs",),
    ("space",),
    ("blend",),
    ("learners",),
    ("checkpoint", "evaluation", "trial", "testing"),
    ("records",),
    ("history", "stopping", "prior"),
    ("plan",),
    ("budget", "observations", "logs"),
    ("proposer",),
    ("ledger",),
    ("runner",),
    ("driver",),
    ("retries",),
    ("search",),
    ("confirm",),
    ("adjust",),
    ("verdict",),
    ("meta_loop",),
    ("progress", "analysis", "folds", "tables", "samples"),
    ("report", "event_files"),
    ("session", "changed_space", "rotation", "watch", "init", "baselines"),
    ("artifact",),
    ("cli",),
    ("__main__",),
]
"""Low to high: a module may import those of its own layer and of the layers before it."""


def module_name(path: Path) -> str:
    """``metatune/space/knobs.py`` -> ``space.knobs``; a package by its own name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def at_import(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported."""
    for node in body:
        if is_type_checking(node):
            continue
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody", "handlers"):
                yield from at_import(getattr(node, field, []))


def imported(nodes: Iterable[ast.AST], package: str) -> Iterator[str]:
    """Full names of what the statements import; ``from a import b`` gives ``a.b``."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, node.module or ""]) if node.level else node.module
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def parsed(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text("utf-8"))


def packages_of(name: str) -> set[str]:
    """Top-level packages that a module imports anywhere, inside functions too."""
    return {full.split(".")[0] for full in imported(ast.walk(parsed(name)), f"metatune.{name}")}


def ours(name: str) -> set[str]:
    """Modules of metatune that a module imports when it is imported itself."""
    found = set()
    for full in imported(at_import(parsed(name).body), f"metatune.{name}"):
        parts = full.split(".")
        if parts[0] == "metatune":
            inside = ".".join(parts[1:])
            # The last part is a module, or a name in one.
            found.add(inside if inside in MODULES else ".".join(parts[1:-1]))
    return found


def layer(name: str) -> int:
    top = name.split(".")[0]
    return next(number for number, names in enumerate(LAYERS) if top in names)


# --- what these tests read ------------------------------------------------------------------------


def test_imports_are_found_wherever_they_stand() -> None:
    code = """
import ray.tune
from metatune import checkpoint
from metatune.space.knobs import Knob
if TYPE_CHECKING:
    import optuna
try:
    import torch
except ImportError:
    import numpy
class A:
    import pandas
def f():
    from scipy import stats
"""
    tree = ast.parse(code)
    early = ["ray.tune", "metatune.checkpoint", "metatune.space.knobs.Knob", "torch", "numpy"]
    assert set(imported(at_import(tree.body), "metatune")) == {*early, "pandas"}
    assert {"optuna", "scipy.stats"} <= set(imported(ast.walk(tree), "metatune"))
    assert "space.knobs" in ours("proposer")
    assert "checkpoint" in ours("trial")


def test_every_module_has_its_layer() -> None:
    tops = {name.split(".")[0] for name in MODULES}
    named = [name for names in LAYERS for name in names]
    assert sorted(named) == sorted(tops)


# --- one way --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_its_own_layer_and_lower_ones(name: str) -> None:
    higher = sorted(other for other in ours(name) if layer(other) > layer(name))
    assert not higher, f"metatune.{name} imports {higher}, which stand above it"


def test_there_is_no_circle() -> None:
    graph = {name: ours(name) - {name} for name in MODULES}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as circle:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(circle.args[1])}")
    assert set(order) == set(MODULES)


# --- heavy packages at the edge -------------------------------------------------------------------


def test_two_modules_import_optuna() -> None:
    assert [name for name in MODULES if "optuna" in packages_of(name)] == ["ledger", "proposer"]


def test_one_package_imports_ray() -> None:
    users = [name for name in MODULES if "ray" in packages_of(name)]
    assert users
    assert all(name.split(".")[0] == "runner" for name in users)


def test_only_what_workers_and_tests_of_parts_run_imports_torch() -> None:
    users = {name.split(".")[0] for name in MODULES if "torch" in packages_of(name)}
    workers = {"blend", "learners", "evaluation", "checkpoint", "trial", "testing"}
    assert users == workers | {"artifact"}


def brought_in(code: str) -> set[str]:
    """Top-level packages in memory after some code ran in a fresh interpreter."""
    report = "; import sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(("code", "absent"), [
    ("import metatune; dir(metatune); metatune.__version__", HEAVY | {"numpy", "pydantic"}),
    ("import metatune.cli", HEAVY),
    ("import metatune.analysis, metatune.tables", {"ray", "optuna", "torch"}),
    ("import metatune.report, metatune.report.sections", {"ray", "optuna", "torch"}),
    ("import metatune.records.log, metatune.records.lease; from metatune import read_run",
     {"ray", "optuna", "torch"}),
    ("import metatune.watch", {"ray", "optuna", "torch"}),
    ("import metatune.space, metatune.tasks.registry, metatune.jobs", HEAVY),
    ("import metatune.proposer, metatune.driver, metatune.verdict", {"ray", "torch"}),
])  # fmt: skip
def test_a_fresh_interpreter_brings_in_no_more_than_it_needs(code: str, absent: set[str]) -> None:
    found = brought_in(code)
    assert "metatune" in found
    assert not found & absent
