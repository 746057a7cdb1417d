"""What a section of the page is made of. The page's template says how each kind looks."""

from __future__ import annotations

from dataclasses import dataclass

from metatune.report.figures import Plot, Question
from metatune.tables import Sheet


@dataclass(frozen=True)
class Words:
    """A paragraph; ``missing``: it says what the run does not have, or not yet."""

    text: str
    missing: bool = False


@dataclass(frozen=True)
class Facts:
    """Terms and what is to be said of each."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Board:
    """A table, what to know to read it, and the line of code that gives its numbers."""

    sheet: Sheet
    caption: str = ""
    question: Question | None = None
    strong: str = ""
    """The key of the row that stands out."""


@dataclass(frozen=True)
class Fold:
    """A text that is shown when somebody asks for it."""

    title: str
    text: str


@dataclass(frozen=True)
class Command:
    """A line for the shell, and what to know before it is typed."""

    line: str
    about: str


@dataclass(frozen=True)
class Links:
    """Other pages: the words and the relative address of each."""

    to: tuple[tuple[str, str], ...]


Block = Words | Facts | Board | Fold | Command | Links | Plot


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        anchor: by which the page's contents refer to it.
        title: its heading.
        blocks: what it holds, in order.
    """

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Content:
    """All that a page says.

    Attributes:
        title: of the page.
        about: one line below it.
        verdict: the sentences, the first of which says the most.
        numbers: the few that are read first, with what each is.
        sections: in the order of reading.
        code: the lines that the code of tables and figures builds on.
        made: when and by what.
        given: whether there is a verdict.
    """

    title: str
    about: str
    verdict: tuple[str, str]
    numbers: tuple[tuple[str, str, str], ...]
    sections: tuple[Section, ...]
    code: str
    made: str
    given: bool = True

    @property
    def plots(self) -> list[Plot]:
        """All figures, in order."""
        return [b for section in self.sections for b in section.blocks if isinstance(b, Plot)]
