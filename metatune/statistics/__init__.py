"""Statistics, for two claims that are never mixed.

*New groups*: the unit is the group. Tasks are averaged within their group, groups with each other,
and the t interval has G - 1 degrees of freedom. *New tasks* of known groups: the unit is the task.
Task-level intervals used for the first claim cover far less than they say.

``estimates`` has means with their intervals and p values, ``grouped`` those of many strategies at
once, ``sequences`` an interval that holds at every look, ``comparisons`` what is said of many tests
or strategies. ``benchmarks/honesty.py`` (``make verify``) simulates whether they keep their word.
"""

from metatune.statistics.comparisons import (
    holm,
    mean_ranks,
    probability_of_improvement,
    share_worse,
)
from metatune.statistics.estimates import (
    MIN_GROUPS,
    Claim,
    Estimate,
    claim_for,
    estimate,
    sign_flip_p,
    unit_means,
)
from metatune.statistics.grouped import Estimates, estimate_each
from metatune.statistics.sequences import confidence_sequence

__all__ = [
    "MIN_GROUPS",
    "Claim",
    "Estimate",
    "Estimates",
    "claim_for",
    "confidence_sequence",
    "estimate",
    "estimate_each",
    "holm",
    "mean_ranks",
    "probability_of_improvement",
    "share_worse",
    "sign_flip_p",
    "unit_means",
]
