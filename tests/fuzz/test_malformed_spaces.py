"""Any change to a space file makes a plan, or is refused with file and line."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import event, given
from hypothesis import strategies as st
from malformed import fuzzed
from user_tables import plain_rows, plain_series

from metatune import session
from metatune.errors import MetatuneError, SpaceError
from metatune.init import init, init_series
from metatune.space import load_space

ROOT = Path(__file__).parents[2]
SHIPPED = sorted([*(ROOT / "search_spaces").glob("*.yaml"), *(ROOT / "examples").glob("*.yaml")])
OPENS = {"sinusoid.yaml", "quickstart.yaml", "own_parts.yaml", "rows.yaml", "series.yaml"}
"""Those whose tasks need no data of anybody; the others are read, but not opened."""

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=8),
    st.sampled_from([
        [], {}, [[]], {"": None}, {"choice": []}, {"choice": [1, "a"]}, {"float": [1, 0]},
        {"float": [0, 1], "log": True}, {"int": [1, 10**400]}, {"int": [0.5, 2]}, {"float": "x"},
        {"float": [math.nan, 1]}, {"float": [-math.inf, math.inf]}, "none", "true", "1e5", "../x",
        "\0", "\u202e", 10**400, -1, 0, 1e-320, {"preset": "maml"}, {"kind": "mlp"},
        {"choose": {}}, {"choose": {"a": {}}}, ["ridge"], {"use": "os:getcwd"}, {1: 2},
        {"a": {"b": {"c": {"d": {"e": [1, [2, [3]]]}}}}},
    ]),
)  # fmt: skip
SNIPPETS = st.sampled_from([
    "\t", "&a ", "*a", "<<: *a", "!!python/object:os.system x", "!!int x", "!!float .nan", "? ",
    ": ", "- ", "{", "[", "}", "]", "[" * 3000, "{a: " * 2000, "|", ">", "'", '"', "#", "%YAML 9.9",
    "---", "...", "\r", "\r\n", "\n", "\x00", "\x07", "\ufeff", "\u2028", "日本", "2024-13-45",
    "12:61:61",
    "0o9", "0b2", "1" * 5000, "1e999", ".inf", "- .nan", "!!binary x", "!!set {a}", "!!timestamp x",
    "\\", '"\\q"', '"\\ud800"', "~", "a: &x [*x]", "@", "`",
])  # fmt: skip


def places(value: Any, here: tuple = ()) -> list[tuple]:
    """Every place below a value."""
    inside = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list) else ()
    )  # fmt: skip
    return [place for key, one in inside for place in ((*here, key), *places(one, (*here, key)))]


def changed(draw: st.DrawFn, plain: Any) -> None:
    """Replace, remove, rename or move something."""
    there = places(plain)
    if not there:
        return
    *above, last = draw(st.sampled_from(there))
    owner = plain
    for key in above:
        owner = owner[key]
    match draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "move"])):
        case "replace":
            owner[last] = copy.deepcopy(draw(VALUES))  # may be changed, too
        case "remove":
            del owner[last]
        case "rename" if isinstance(owner, dict):
            keys = st.one_of(st.text(max_size=6), st.integers(-1, 3), st.none())
            owner[draw(keys)] = owner.pop(last)
        case "move":
            value = copy.deepcopy(owner[last])
            *above, last = draw(st.sampled_from(places(plain)))
            owner = plain
            for key in above:
                owner = owner[key]
            owner[last] = value


@st.composite
def texts(draw: st.DrawFn, whole: str) -> str:
    """A space file's text with one to three things changed, in its data or its letters."""
    count = draw(st.integers(1, 3))
    if draw(st.booleans()):
        plain = yaml.safe_load(whole)
        for _ in range(count):
            changed(draw, plain)
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=draw(st.booleans()))
    lines = whole.splitlines()
    for _ in range(count):
        at = draw(st.integers(0, len(lines) - 1))
        within = draw(st.integers(0, len(lines[at])))
        match draw(st.sampled_from(["insert", "insert", "cut", "line", "twice", "indent"])):
            case "insert":
                lines[at] = lines[at][:within] + draw(SNIPPETS) + lines[at][within:]
            case "cut":
                lines[at] = lines[at][:within]
            case "line":
                lines[at] = draw(SNIPPETS)
            case "twice":
                lines.insert(draw(st.integers(0, len(lines))), lines[at])
            case "indent":
                lines[at] = " " * draw(st.integers(0, 8)) + lines[at].lstrip()
    return "\n".join(lines)


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Texts of spaces by name: those that come with metatune, and those that ``init`` writes."""
    folder = tmp_path_factory.mktemp("own")
    plain_rows(rows=12).drop(columns="label").to_csv(folder / "rows.csv", index=False)
    plain_series(shops=8, days=120).to_csv(folder / "series.csv", index=False)
    init([str(folder / "rows.csv")], "task", "y", out=folder / "rows.yaml")
    init_series([str(folder / "series.csv")], ["shop"], "day", "sold", out=folder / "series.yaml")
    return {
        path.name: path.read_text("utf-8")
        for path in [*SHIPPED, folder / "rows.yaml", folder / "series.yaml"]
    }


@fuzzed
@given(data=st.data())
def test_any_space_makes_a_plan_or_is_refused_with_file_and_line(
    data: st.DataObject,
    spaces: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    name = data.draw(st.sampled_from(sorted(spaces)))
    text = data.draw(texts(spaces[name]))
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    event("refused" if judge(path, opens=name in OPENS) else "planned")


def test_a_key_that_breaks_a_line_does_not_break_the_message(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text('family: {name: sinusoid}\n"a\\x85b\\nc": 1\ntasks: {"\\n": 1}\n')
    with pytest.raises(SpaceError, match=r":2: a\?b\?c: found the unknown key a\?b\?c; allowed: "):
        load_space(path)
    judge(path)


def judge(path: Path, *, opens: bool = True) -> MetatuneError | None:
    """Read a space and make its plan; a refusal says where, what was found and what is allowed."""
    refused: MetatuneError | None = None
    try:
        space = load_space(path)
        if opens:
            plan, _ = session.plan_of(space, code=str(ROOT / "examples"))
            assert plan.space.initial
            assert all(rung > 0 for rung in plan.rungs(plan.first_round))
    except MetatuneError as error:
        refused = error
    if isinstance(refused, SpaceError):
        for line in str(refused).splitlines():
            assert re.match(rf"{re.escape(str(path))}:\d+: ", line), line
            assert "found" in line
    elif refused is not None:
        assert re.fullmatch("[^\n]+(allowed|which is missing)[^\n]*", str(refused))
    return refused
