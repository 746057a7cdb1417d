"""A figure of the report: what is asked of the run, the answer, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from metatune.records.reading import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Question:
    """What is drawn or told, and the line of code that gives the same.

    Attributes:
        code: the line, after the imports that the page names.
        answer: gives the frame.
    """

    code: str
    answer: Callable[[], pd.DataFrame]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The answer, asked for once."""
        return self.answer()


def question(run: Run, ask: Callable[..., pd.DataFrame], **arguments: str) -> Question:
    """One call of a function of ``metatune.analysis``.

    Args:
        run: of which it is asked.
        ask: the function; its first argument is the run.
        arguments: the others.
    """
    more = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return Question(f"analysis.{ask.__name__}(run{more})", lambda: ask(run, **arguments))


@dataclass(frozen=True)
class Plot:
    """A figure.

    Attributes:
        name: of its files, and of its place in the page.
        title: what it shows.
        caption: how to read it.
        question: which numbers it shows.
        drawn: the columns of the frame that are drawn.
        draw: makes the figure from the frame.
    """

    name: str
    title: str
    caption: str
    question: Question
    drawn: tuple[str, ...]
    draw: Callable[[pd.DataFrame], Figure]

    def figure(self) -> Figure:
        """The figure, as matplotlib has it."""
        from metatune.report.figures.style import styled

        with styled(self.name):
            return self.draw(self.question.frame)
