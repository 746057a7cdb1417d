"""The report's figures: each draws the frame that one question of ``metatune.analysis`` gives.

``plot``: a question, its frame and its picture. ``style``: colours and typefaces. ``svg``: a
picture as part of a page, or as a file. ``verdict``, ``knobs`` and ``course`` hold the figures.
"""

from metatune.report.figures.plot import Plot, Question, question
from metatune.report.figures.svg import inline_svg, write_files

__all__ = ["Plot", "Question", "inline_svg", "question", "write_files"]
