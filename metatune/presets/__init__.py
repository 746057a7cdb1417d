"""Published strategies by name: each one a few lines over the parts of ``metatune.strategy``.

A preset is the method, not the experiment: backbones are this project's (four convolution blocks
for images, a small MLP otherwise), batch statistics come from the support set alone, and the
meta-learning rate follows a schedule over the run's resource. Each docstring says what else
differs from the paper.
"""

from metatune.presets import amortised, closed_form, gradient, metric, naive, transfer
from metatune.presets.registry import PRESETS, Preset, preset, presets_for, register

__all__ = [
    "PRESETS",
    "Preset",
    "amortised",
    "closed_form",
    "gradient",
    "metric",
    "naive",
    "preset",
    "presets_for",
    "register",
    "transfer",
]
