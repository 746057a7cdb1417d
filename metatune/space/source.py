"""Reading YAML with the line of every key, and telling what is wrong where.

Every complaint about a space file has one form: ``FILE:LINE: PATH: found X; allowed: Y``.

Scalars follow the YAML 1.2 core schema, so that ``1e-3`` is a number and ``no`` is a word (plain
PyYAML reads them as a word and as False).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from metatune.errors import SpaceError, one_line

Place = tuple[str | int, ...]
"""Where something stands in a document: keys and list indices from the top."""

Lines = dict[Place, int]
"""The 1-based line of each place."""

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
MAX_DEPTH = 50
MAX_LINES_TOLD = 10


# --- problems and where they are ----------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        place: where it stands.
        found: what was found.
        allowed: what would do.
        line: its line, where the place alone does not tell.
    """

    place: Place
    found: str
    allowed: str
    line: int | None = None


@dataclass(frozen=True)
class Source:
    """A document's name and the line of each of its places, for messages.

    Attributes:
        file: the file's path as the user gave it.
        lines: 1-based line of each place; empty where a space was not read from a file.
    """

    file: str = "<space>"
    lines: Mapping[Place, int] = field(default_factory=dict)

    def line(self, place: Place) -> int | None:
        """The line of a place, or of the nearest place above it; None without lines."""
        for length in range(len(place), -1, -1):
            if place[:length] in self.lines:
                return self.lines[place[:length]]
        return None

    def sentence(self, problem: Problem) -> str:
        """The problem in the one form of all messages."""
        line = problem.line or self.line(problem.place)
        where = self.file if line is None else f"{self.file}:{line}"
        path = f"{dotted(problem.place)}: " if problem.place else ""
        told = f"{path}found {problem.found}; allowed: {problem.allowed}"
        return f"{where}: {one_line(told)}"


def refuse(problems: Iterable[Problem], source: Source) -> None:
    """Raise one SpaceError with a line for each problem (at most 10); nothing if there is none."""
    told = list(dict.fromkeys(source.sentence(problem) for problem in problems))
    if not told:
        return
    more = len(told) - MAX_LINES_TOLD
    if more > 0:
        told = told[:MAX_LINES_TOLD]
        told[-1] += f" (and {more} more problem{'s' if more > 1 else ''})"
    raise SpaceError("\n".join(told))


def dotted(place: Place) -> str:
    """``("initial", 2, "head")`` as ``initial[2].head``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return re.sub(r"[^\x20-\x7e]", "?", text)[:200]


def show(value: Any) -> str:
    """A value as it may stand in one line of a message."""
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, list(value)[:4]))}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def listed(names: Iterable[Any]) -> str:
    """Names as ``a, b, c``."""
    return ", ".join(map(str, names)) or "nothing"


# --- YAML ----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of the YAML 1.2 core schema and a bound on depth."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MAX_DEPTH} levels of nesting",
                problem_mark=parent.start_mark if parent else None,
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


_TAG = "tag:yaml.org,2002:"
_CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's
for _name, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


def read_text(path: Path) -> str:
    """The text of a file; SpaceError if there is none, or if it is not UTF-8."""
    source = Source(str(path))
    allowed = "a YAML file in UTF-8"
    try:
        size = path.stat().st_size
        if path.is_file() and size > MAX_BYTES:
            refuse([Problem((), f"{size} bytes", f"up to {MAX_BYTES} bytes")], source)
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        found = "bytes that are not UTF-8"
        refuse([Problem((), found, allowed)], Source(str(path), {(): line}))
    except FileNotFoundError:
        refuse([Problem((), "no such file", allowed)], source)
    except IsADirectoryError:
        refuse([Problem((), "a directory", allowed)], source)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        refuse([Problem((), f"a file that cannot be read ({reason})", allowed)], source)
    raise AssertionError("unreachable: every branch above refuses")


def load_yaml(path_or_text: Path | str, file: str | None = None) -> tuple[dict[str, Any], Lines]:
    """A YAML mapping as plain data, with the line of every key and list item.

    Args:
        path_or_text: a ``Path`` is read; a ``str`` is the document itself.
        file: the document's name in messages.

    Returns:
        The data, and a mapping from each place in it to its 1-based line.

    >>> data, lines = load_yaml("seed: 1\\nouter:\\n  lr: 1e-3\\n")
    >>> data["outer"]["lr"], lines["outer", "lr"]
    (0.001, 3)
    """
    if isinstance(path_or_text, Path):
        text, name = read_text(path_or_text), file or str(path_or_text)
    else:
        text, name = path_or_text.removeprefix("\ufeff"), file or "<text>"
    root = _compose(text, name)
    if root is None:
        refuse([Problem((), "an empty document", "a mapping of keys")], Source(name, {(): 1}))
    if not isinstance(root, yaml.MappingNode):
        first = Source(name, {(): 1 if root is None else root.start_mark.line + 1})
        refuse([Problem((), "a document that is no mapping", "a mapping of keys")], first)
    assert root is not None
    lines: Lines = {(): root.start_mark.line + 1}
    source = Source(name, lines)
    _expanded_size(root, {}, source)
    problems: list[Problem] = []
    data = _plain(root, (), lines, problems)
    refuse(problems, source)
    return data, lines


def _compose(text: str, file: str) -> yaml.Node | None:
    """The document's node graph; a SpaceError with a line where it is no YAML."""
    try:
        loader = _Loader(text)
        node: yaml.Node | None = loader.get_single_node()
        return node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        found, allowed = f"a syntax error ({error.problem or error.context})", "valid YAML"
        if "'\\t'" in found:
            found, allowed = "a tab in the indentation", "spaces"
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        found, allowed = f"the character U+{ord(text[error.position]):04X}", "printable text"
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible escape or directive
        line, found, allowed = 1, f"a syntax error ({error})", "valid YAML"
    refuse([Problem((), " ".join(found.split()), allowed)], Source(file, {(): line}))
    return None


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _expanded_size(node: yaml.Node, known: dict[int, int], source: Source) -> int:
    """Nodes with all aliases written out; refuses alias bombs and aliases of themselves.

    ``known`` holds the size of each finished node, and 0 for those that are still open.
    """
    here = Source(source.file, {(): node.start_mark.line + 1})
    size = known.get(id(node))
    if size == 0:
        refuse([Problem((), "an alias inside what it stands for", "no circles")], here)
    if size is None:
        known[id(node)] = 0
        size = 1 + sum(_expanded_size(child, known, source) for child in _children(node))
        known[id(node)] = size
    if size > MAX_NODES:
        found = f"aliases that expand to more than {MAX_NODES} values"
        refuse([Problem((), found, "fewer aliases")], here)
    return size


def _plain(node: yaml.Node, place: Place, lines: Lines, problems: list[Problem]) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
        return _plain_mapping(node, place, lines, problems)
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
        items = []
        for index, child in enumerate(node.value):
            lines[*place, index] = child.start_mark.line + 1
            items.append(_plain(child, (*place, index), lines, problems))
        return items
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, place, problems)
    problems.append(Problem(place, f"the tag {node.tag}", "plain YAML without tags"))
    return None


def _plain_mapping(
    node: yaml.MappingNode, place: Place, lines: Lines, problems: list[Problem]
) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        is_text = isinstance(key_node, yaml.ScalarNode) and key_node.tag == f"{_TAG}str"
        key = key_node.value if is_text else None
        if not isinstance(key, str) or not _encodable(key):
            written = key_node.value if isinstance(key_node.value, str) else "a collection"
            found = f"the key {written!a:.60}"
            problems.append(Problem(place, found, "keys that are words (or quoted)", line))
            continue
        inner = (*place, key)
        if key in data:
            found = f"the key {key!a:.60} again (first on line {lines[inner]})"
            problems.append(Problem(place, found, "each key once", line))
            continue
        lines[inner] = line
        data[key] = _plain(value_node, inner, lines, problems)
    return data


def _encodable(text: str) -> bool:
    """False for text with half a surrogate pair, which no file and no JSON can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _scalar(node: yaml.ScalarNode, place: Place, problems: list[Problem]) -> Any:
    text = node.value
    try:
        value = _SCALARS[node.tag](text)
    except KeyError:
        problems.append(Problem(place, f"the tag {node.tag!a:.60}", "plain YAML without tags"))
        return None
    except ValueError:  # `!!int abc`, or an integer of thousands of digits
        kind = node.tag.removeprefix(_TAG)
        problems.append(Problem(place, f"{text!a:.60} as {kind}", "a value of that kind"))
        return None
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(Problem(place, f"{text!a:.60}", "finite numbers"))
        return None
    if isinstance(value, str) and not _encodable(value):
        problems.append(Problem(place, f"{text!a:.60}", "text that UTF-8 can hold"))
        return None
    return value


def _integer(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text if base == 10 else text[2:], base)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


_SCALARS: dict[str, Callable[[str], Any]] = {
    f"{_TAG}null": lambda text: None,
    f"{_TAG}bool": _boolean,
    f"{_TAG}int": _integer,
    f"{_TAG}float": _float,
    f"{_TAG}str": str,
}
