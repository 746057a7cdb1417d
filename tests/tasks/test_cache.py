"""The cache gives back what was made, and never stands in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metatune.tasks.cache import cache_dir, cached_arrays, mapped_arrays, stamp

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


# --- arrays that are mapped -----------------------------------------------------------------------


class Writer(Maker):
    """Writes the arrays and counts how often."""

    def __call__(self, folder: Path) -> None:  # type: ignore[override]
        self.calls += 1
        for name, array in ARRAYS.items():
            np.save(folder / f"{name}.npy", array)


def is_as_made(arrays) -> bool:
    return arrays.keys() == ARRAYS.keys() and all((arrays[n] == ARRAYS[n]).all() for n in ARRAYS)


def test_mapped_arrays_are_made_once_and_can_only_be_read(folder):
    make = Writer()
    for _ in range(2):
        arrays = mapped_arrays("x", "12ab", make)
        assert is_as_made(arrays)
        assert isinstance(arrays["a"], np.memmap)
        assert not arrays["a"].flags.writeable
    assert make.calls == 1
    assert [path.name for path in folder.iterdir()] == ["x-12ab"]


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [garbage, empty, cut, gone])
def test_a_damaged_array_is_made_again(folder, damage):
    make = Writer()
    mapped_arrays("x", "12ab", make)
    damage(folder / "x-12ab" / "a.npy")
    for _ in range(2):
        assert is_as_made(mapped_arrays("x", "12ab", make))
    assert make.calls == 2


def test_of_two_processes_that_make_the_same_the_second_takes_its_own(folder):
    def make(beside: Path) -> None:
        Writer()(beside)
        if not (folder / "x-12ab").exists():
            mapped_arrays("x", "12ab", Writer())

    assert is_as_made(mapped_arrays("x", "12ab", make))
    assert [path.name for path in folder.iterdir()] == ["x-12ab"]


def test_what_fails_while_it_is_made_leaves_nothing(folder):
    def make(beside: Path) -> None:
        Writer()(beside)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        mapped_arrays("x", "12ab", make)
    assert list(folder.iterdir()) == []


def test_mapped_arrays_can_be_had_without_a_folder_for_them(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METATUNE_CACHE", str(tmp_path / "file"))
    make = Writer()
    for _ in range(2):
        assert is_as_made(mapped_arrays("x", "12ab", make))
    assert make.calls == 2


def test_of_processes_that_want_the_same_one_makes_it_and_the_others_wait(folder):
    program = """
import time
import numpy as np
from metatune.tasks.cache import mapped_arrays

def make(folder):
    print("made")
    time.sleep(0.5)
    np.save(folder / "a.npy", np.arange(7))

assert mapped_arrays("x", "12ab", make)["a"].tolist() == list(range(7))
"""
    run = [sys.executable, "-c", program]
    three = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sorted(process.communicate()[0] for process in three) == ["", "", "made\n"]
    assert [process.returncode for process in three] == [0, 0, 0]
    assert [path.name for path in folder.iterdir()] == ["x-12ab"]


# --- what tells files apart -----------------------------------------------------------------------


def test_a_stamp_follows_names_sizes_and_times_of_change(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a")
    two.write_text("a")
    before = stamp([one, two])
    assert stamp([one, two]) == before
    assert stamp([two, one]) != before
    assert stamp([one]) != before
    os.utime(one, (1, 1))
    assert stamp([one, two]) != before
    assert stamp([one, tmp_path / "nowhere"]) == stamp([one, tmp_path / "nowhere"])
