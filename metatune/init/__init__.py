"""``metatune init``: looks at data and writes a space file that runs as it is.

What it assumes (what is predicted, kinds of columns, steps of time, shots) is printed and written
down, so that it can be changed.
"""

from metatune.init.series import init_series, look_at_series, shot_and_query
from metatune.init.space_file import Look, space_text, word
from metatune.init.table import init, look, shape_of, shots_and_query

__all__ = [
    "Look",
    "init",
    "init_series",
    "look",
    "look_at_series",
    "shape_of",
    "shot_and_query",
    "shots_and_query",
    "space_text",
    "word",
]
