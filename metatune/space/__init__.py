"""The space file: what may be tried, on what, for how long.

``load_space`` reads one, ``resolve`` fits it to a family; ``knobs.py`` holds the tree that the
proposer walks.
"""

from metatune.space.grammar import parse_tree
from metatune.space.knobs import ChoiceKnob, FloatKnob, IntKnob, Knob, KnobTree, Params, deep_merge
from metatune.space.loading import Named, ResolvedSpace, load_space, parse_space, resolve
from metatune.space.method import Incumbent, Method, Seen, fold_file, method_file
from metatune.space.region import Region, Tried, within
from metatune.space.schema import Space
from metatune.space.source import load_yaml

__all__ = [
    "ChoiceKnob",
    "FloatKnob",
    "Incumbent",
    "IntKnob",
    "Knob",
    "KnobTree",
    "Method",
    "Named",
    "Params",
    "Region",
    "ResolvedSpace",
    "Seen",
    "Space",
    "Tried",
    "deep_merge",
    "fold_file",
    "load_space",
    "load_yaml",
    "method_file",
    "parse_space",
    "parse_tree",
    "resolve",
    "within",
]
