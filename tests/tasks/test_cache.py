"""The cache gives back what was made, and never stands in the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metatune.tasks.cache import cache_dir, cached_arrays

ARRAYS = {"a": np.arange(5000), "names": np.array(["one", "zwei"])}


class Maker:
    """Makes the arrays and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return ARRAYS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METATUNE_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


def test_arrays_are_made_once_and_read_afterwards(folder):
    make = Maker()
    for _ in range(2):
        arrays = cached_arrays("x", "12ab", make)
        np.testing.assert_array_equal(arrays["a"], ARRAYS["a"])
        np.testing.assert_array_equal(arrays["names"], ARRAYS["names"])
    assert make.calls == 1


def test_another_key_is_another_file(folder):
    make = Maker()
    cached_arrays("x", "12ab", make)
    cached_arrays("x", "34cd", make)
    assert make.calls == 2


def garbage(path: Path) -> None:
    path.write_bytes(b"not an archive")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(bytes(content))


def lone_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.arange(3))


@pytest.mark.parametrize("damage", [garbage, empty, cut, flip, lone_array])
def test_a_damaged_file_is_made_again(folder, damage):
    make = Maker()
    cached_arrays("x", "12ab", make)
    (path,) = folder.iterdir()
    damage(path)
    np.testing.assert_array_equal(cached_arrays("x", "12ab", make)["a"], ARRAYS["a"])
    cached_arrays("x", "12ab", make)
    assert make.calls == 2


def test_nothing_but_the_file_is_left_in_the_folder(folder):
    cached_arrays("x", "12ab", Maker())
    assert [path.name for path in folder.iterdir()] == ["x-12ab.npz"]


def test_a_folder_that_cannot_be_made_costs_time_only(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METATUNE_CACHE", str(tmp_path / "file"))
    make = Maker()
    for _ in range(2):
        np.testing.assert_array_equal(cached_arrays("x", "12ab", make)["a"], ARRAYS["a"])
    assert make.calls == 2


def test_the_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("METATUNE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "metatune"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "metatune"
