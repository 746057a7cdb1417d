"""The pages of the documentation, their code blocks, and what writes the reference."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
CHECKED_ONLY = "<!-- docs: checked only -->"
"""Stands above a block that is not executed: see ``test_code_blocks.CHECKED``."""


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        page: where it stands.
        line: of its fence, from 1.
        language: what stands behind the fence.
        text: what stands within.
        checked_only: it is not executed.
    """

    page: Path
    line: int
    language: str
    text: str
    checked_only: bool

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that it is, which its first line tells; None where it is none."""
        named = re.match(r"# ([\w./]+\.(?:py|yaml))$", self.text.partition("\n")[0])
        return named[1] if named else None

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block; comments are left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        words = (shlex.split(line, comments=True) for line in lines)
        return [command for command in words if command]


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of a page, in order."""
    lines, above = page.read_text("utf-8").splitlines(), ""
    number = 0
    while number < len(lines):
        fence = re.match(r"(`{3,})(.*)$", lines[number])
        if fence is None:
            above = lines[number].strip() or above
            number += 1
            continue
        end = lines.index(fence[1], number + 1)
        text = "".join(f"{line}\n" for line in lines[number + 1 : end])
        yield Block(page, number + 1, fence[2], text, above == CHECKED_ONLY)
        above, number = "", end + 1


def headings(page: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    text = page.read_text("utf-8")
    for block in blocks(page):
        text = text.replace(block.text, "")
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles]


def links(page: Path) -> list[tuple[str, str]]:
    """The targets of a page's links, path and anchor, but those to other sites."""
    text = page.read_text("utf-8")
    for block in blocks(page):
        text = text.replace(block.text, "")
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text)
    return [(path, anchor) for path, anchor in found if "://" not in path]


def _reference() -> Any:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _reference()
"""``docs/reference.py``, which is no module of the package."""
