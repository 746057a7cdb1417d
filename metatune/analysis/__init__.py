"""Questions to a run, as functions from frames to frames. Needs neither Ray, Optuna nor torch.

``boards``: who is best. ``pairs``: who is better than whom, on which tasks. ``against``: what the
winner is to the others there. ``course``: how the search went. ``knob_importance``: which knobs
matter, ``responses``: how the score answers to them. ``origins``: where a strategy comes from, how
trials ended.
"""

from metatune.analysis.against import paired_differences, performance_profile
from metatune.analysis.boards import (
    candidates,
    costs_of,
    defaults_of,
    leaderboard,
    pareto,
    verdict_table,
)
from metatune.analysis.course import (
    best_over_time,
    generalisation_gap,
    learning_curves,
    regret,
)
from metatune.analysis.knob_importance import importance
from metatune.analysis.origins import endings, from_prior, lineage
from metatune.analysis.pairs import pairwise, task_matrix
from metatune.analysis.responses import response

__all__ = [
    "best_over_time",
    "candidates",
    "costs_of",
    "defaults_of",
    "endings",
    "from_prior",
    "generalisation_gap",
    "importance",
    "leaderboard",
    "learning_curves",
    "lineage",
    "paired_differences",
    "pairwise",
    "pareto",
    "performance_profile",
    "regret",
    "response",
    "task_matrix",
    "verdict_table",
]
