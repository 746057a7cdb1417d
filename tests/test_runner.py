"""What is settled before Ray is imported: addresses, the token's file, modules of one's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from inline_runner import SPACE

from metatune import session
from metatune.errors import RunError
from metatune.records.folder import RunFolder
from metatune.runner import check_address, own_modules

OWN = """
def flat(input_shape):
    from torch import nn
    return nn.Flatten()
"""


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _paths() -> Iterator[None]:
    before, known = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if name.startswith("of_mine"):
            del sys.modules[name]


@pytest.mark.parametrize("address", [None, "auto", "ray://anything:10001"])
def test_what_ray_looks_up_itself_is_left_to_it(address: str | None) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "127.0.0.1:port", ":6379"])
def test_an_address_where_nothing_answers_is_refused(address: str) -> None:
    with pytest.raises(RunError, match=f"no Ray cluster answers at {address}: "):
        check_address(address)


def test_a_file_without_a_token_is_refused_before_ray_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    with pytest.raises(RunError, match=r"RAY_AUTH_TOKEN_PATH: found .*; allowed: a file"):
        check_address(None)
    file.write_text("\n")
    with pytest.raises(RunError, match="which is empty"):
        check_address(None)
    file.write_text("secret\n")
    check_address(None)
    file.unlink()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")  # counts before the file
    check_address(None)


def test_modules_of_ones_own_are_packages_and_files(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "single.py").touch()
    given = [tmp_path / "package", str(tmp_path / "package" / ".." / "single.py")]
    assert own_modules(given) == [str(tmp_path / "package"), str(tmp_path / "single.py")]


@pytest.mark.parametrize("name", ["nowhere", "notes.txt", "my-package", "1st.py"])
def test_what_python_cannot_import_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "1st.py").touch()
    (tmp_path / "my-package").mkdir()
    with pytest.raises(RunError, match=rf"--py-module: found .*{name}; allowed: "):
        own_modules([tmp_path / name])


@pytest.mark.usefixtures("_paths")
def test_a_run_knows_the_modules_that_it_was_started_with(tmp_path: Path) -> None:
    module = tmp_path / "elsewhere" / "of_mine_alone.py"
    module.parent.mkdir()
    module.write_text(OWN)
    (tmp_path / "spaces").mkdir()
    space = tmp_path / "spaces" / "space.yaml"
    mlp, own = "{kind: mlp, width: 8, depth: 1}", "{kind: own, use: 'of_mine_alone:flat'}"
    assert mlp in SPACE
    space.write_text(SPACE.replace(mlp, own))
    folder, _ = session.create(space, out=tmp_path / "run", py_modules=own_modules([module]))
    assert json.loads(folder.info.read_text())["py_modules"] == [str(module)]
    sys.path.remove(str(module.parent))
    del sys.modules["of_mine_alone"]
    assert session.started_with(folder.path) == [str(module)]
    session.reopen(folder.path)  # imports from there again
    assert str(module.parent) in sys.path
    assert RunFolder.open(folder.path).path == folder.path
