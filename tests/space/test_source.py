"""YAML with lines: what it reads, and what it refuses where."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.errors import SpaceError
from metatune.space.source import MAX_BYTES, Problem, Source, load_yaml, refuse


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-2.5e+3", -2500.0),
        ("007", 7),
        ("0x1f", 31),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("2024-01-01", "2024-01-01"),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(written: str, meant: object) -> None:
    value = load_yaml(f"key: {written}")[0]["key"]
    assert (value, type(value)) == (meant, type(meant))


def test_every_key_and_item_has_its_line() -> None:
    _, lines = load_yaml("# note\na: 1\nb:\n  c: [x,\n      {d: 2}]\n  e: |\n    text\n")
    assert lines == {
        (): 2,
        ("a",): 2,
        ("b",): 3,
        ("b", "c"): 4,
        ("b", "c", 0): 4,
        ("b", "c", 1): 5,
        ("b", "c", 1, "d"): 5,
        ("b", "e"): 6,
    }


def test_aliases_stand_for_what_they_name() -> None:
    data, lines = load_yaml("a: &x {lr: 1}\nb: *x\n")
    assert data == {"a": {"lr": 1}, "b": {"lr": 1}}
    assert lines["b",] == 2


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert load_yaml(path) == ({"a": 1, "b": 2}, {(): 1, ("a",): 1, ("b",): 2})
    assert load_yaml("\ufeffa: 1")[0] == {"a": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "s.yaml:1: found an empty document; allowed: a mapping of keys"),
        ("# only words\n", "s.yaml:1: found an empty document"),
        ("- a\n", "s.yaml:1: found a document that is no mapping"),
        ("word", "s.yaml:1: found a document that is no mapping"),
        ("a: 1\nb: 2\na: 3\n", "s.yaml:3: found the key 'a' again (first on line 1)"),
        ("a:\n\tb: 1\n", "s.yaml:2: found a tab in the indentation; allowed: spaces"),
        ("a: [1,\nb: 2\n", "s.yaml:3: found a syntax error (expected ',' or ']'"),
        ("a: 1\n---\nb: 2\n", "allowed: valid YAML"),
        ("a: !!python/object:os.system {}\n", "allowed: plain YAML without tags"),
        ("a: 1\nb: !thing 5\n", "s.yaml:2: b: found the tag '!thing'"),
        ("a: !!set {x}\n", "allowed: plain YAML without tags"),
        ("a: !!int word\n", "s.yaml:1: a: found 'word' as int"),
        ("a: " + "9" * 5000, "s.yaml:1: a: found "),
        ("a: .inf\n", "s.yaml:1: a: found '.inf'; allowed: finite numbers"),
        ("a: 1e999\n", "allowed: finite numbers"),
        ("a:\n  5: x\n", "s.yaml:2: a: found the key '5'; allowed: keys that are words"),
        ("? [a, b]\n: 1\n", "found the key 'a collection'"),
        ("a: \x07", "s.yaml:1: found the character U+0007"),
        ('a: "\\ud800"', "text that UTF-8 can hold"),
        ("a: *nothing", "found undefined alias"),
        ("a: &x [*x]", "found an alias inside what it stands for"),
        ("a: " + "[" * 5000, "levels of nesting"),
        ("%YAML 9.9\n---\na: 1", "s.yaml:1: found"),
        ("<<: {a: 1}\n5: 1", "found the key '5'"),
    ],
)
def test_refuses_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load_yaml(text, "s.yaml")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_refuses_an_alias_bomb_quickly() -> None:
    levels = [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 20)]
    with pytest.raises(SpaceError, match="aliases that expand to more than 100000 values"):
        load_yaml("x0: &x0 [1, 1]\n" + "\n".join(levels))


def test_refuses_what_is_no_readable_file(tmp_path: Path) -> None:
    latin, large = tmp_path / "latin.yaml", tmp_path / "large.yaml"
    latin.write_bytes(b"a: 1\nb: caf\xe9\n")
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    for path, said in [
        (tmp_path / "none.yaml", "none.yaml: found no such file; allowed: a YAML file in UTF-8"),
        (tmp_path, "found a directory"),
        (latin, "latin.yaml:2: found bytes that are not UTF-8"),
        (large, f"found {MAX_BYTES + 1} bytes"),
        (latin / "below", "cannot be read"),
        (Path("a\0b"), "cannot be read"),
    ]:
        with pytest.raises(SpaceError) as caught:
            load_yaml(path)
        assert said in str(caught.value)


def test_tells_ten_problems_and_how_many_more() -> None:
    problems = [Problem(("a", number), "x", "y") for number in range(13)]
    with pytest.raises(SpaceError) as caught:
        refuse(problems, Source("s.yaml", {(): 1}))
    told = str(caught.value).splitlines()
    assert told[0] == "s.yaml:1: a[0]: found x; allowed: y"
    assert len(told) == 10
    assert told[-1].endswith("(and 3 more problems)")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        data, lines = load_yaml(text)
    except SpaceError:
        return
    assert all((key,) in lines for key in data)
