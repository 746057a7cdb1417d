"""Strategies: complete ways of learning, as plain data. No torch here: drivers need none.

Each file holds the settings of one part; ``metatune/learners/`` has what the part does, in a file
of the same name. ``composition.py`` puts parts together, ``sense.py`` refuses what makes none.
"""

from metatune.strategy.backbones import (
    MLP,
    Backbone,
    Conv4,
    NoBackbone,
    OwnBackbone,
    ResidualMLP,
    SetEncoder,
)
from metatune.strategy.composition import Combination, Seeds, Single, Strategy
from metatune.strategy.diet import Diet, ImageAugmentation, NoAugmentation, TableAugmentation
from metatune.strategy.heads import (
    GP,
    Amortised,
    Head,
    Linear,
    Logistic,
    NearestNeighbour,
    OwnHead,
    Prototypes,
    Ridge,
)
from metatune.strategy.inner import Inner, NoInner, Steps
from metatune.strategy.meta import Meta, Outer
from metatune.strategy.parts import OwnPart, Part
from metatune.strategy.prior import Forecast, Pooled, PriorMean, SupportMean, ZeroMean
from metatune.strategy.sense import problems

__all__ = [
    "GP",
    "MLP",
    "Amortised",
    "Backbone",
    "Combination",
    "Conv4",
    "Diet",
    "Forecast",
    "Head",
    "ImageAugmentation",
    "Inner",
    "Linear",
    "Logistic",
    "Meta",
    "NearestNeighbour",
    "NoAugmentation",
    "NoBackbone",
    "NoInner",
    "Outer",
    "OwnBackbone",
    "OwnHead",
    "OwnPart",
    "Part",
    "Pooled",
    "PriorMean",
    "Prototypes",
    "ResidualMLP",
    "Ridge",
    "Seeds",
    "SetEncoder",
    "Single",
    "Steps",
    "Strategy",
    "SupportMean",
    "TableAugmentation",
    "ZeroMean",
    "problems",
]
