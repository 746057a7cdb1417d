"""What is read is never code: no pickle, no eval, YAML by the safe loader alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import metatune

ROOT = Path(metatune.__file__).parent
MODULES = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}

# It sends an object of the caller's own to a process of its own, to test that it arrives.
OF_ITS_OWN = {"testing.py": {"pickle"}}

PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
CALLS = {
    "eval", "exec", "compile", "read_pickle", "to_pickle", "torch.load", "torch.save",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.full_load_all",
}  # fmt: skip
LOADERS = {"Loader", "UnsafeLoader", "FullLoader", "CLoader", "CFullLoader", "CUnsafeLoader"}


def unsafe(code: str) -> Iterator[str]:
    """What a module has that could make code of what it reads."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names):
                yield from (n.name for n in names if n.name.split(".")[0] in PICKLES)
            case ast.ImportFrom(module=str(module)):
                if module.split(".")[0] in PICKLES:
                    yield module
                elif module == "yaml":
                    yield from (f"yaml.{n.name}" for n in node.names if n.name in LOADERS)
            case ast.Attribute(value=ast.Name(id="yaml"), attr=attr) if attr in LOADERS:
                yield f"yaml.{attr}"
            case ast.Call(func=func):
                name = ast.unparse(func)
                if name in CALLS or name.rpartition(".")[2] in {"read_pickle", "to_pickle"}:
                    yield name
            case ast.keyword(arg="allow_pickle", value=value):
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield "allow_pickle"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_makes_no_code_of_what_it_reads(name: str) -> None:
    found = set(unsafe(MODULES[name].read_text(encoding="utf-8")))
    assert found == OF_ITS_OWN.get(name, set())


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import cloudpickle as c",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=given)",
        "pd.read_pickle(path)",
        "frame.to_pickle(path)",
        "yaml.load(text, yaml.SafeLoader)",
        "yaml.unsafe_load(text)",
        "class Own(yaml.Loader): pass",
        "from yaml import FullLoader",
        "eval(text)",
        "def f():\n    exec(text)",
    ],
)
def test_what_could_make_code_is_found(code: str) -> None:
    assert list(unsafe(code))


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "np.load(path, mmap_mode='r')",
        "np.savez(file, allow_pickle=False)",
        "yaml.safe_load(text)",
        "class Own(yaml.SafeLoader): pass",
        "re.compile(text)",
        "torch.compile(step)",
    ],
)
def test_what_is_safe_is_left_alone(code: str) -> None:
    assert not list(unsafe(code))
