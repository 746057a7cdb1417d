"""Questions to a run, as functions from frames to frames. Needs neither Ray, Optuna nor torch.

``boards``: who is best. ``pairs``: who is better than whom, on which tasks. ``course``: how the
search went. ``knob_importance``: which knobs matter.
"""

from metatune.analysis.boards import defaults_of, leaderboard, pareto, verdict_table
from metatune.analysis.course import best_over_time, generalisation_gap, regret
from metatune.analysis.knob_importance import importance
from metatune.analysis.pairs import pairwise, task_matrix

__all__ = [
    "best_over_time",
    "defaults_of",
    "generalisation_gap",
    "importance",
    "leaderboard",
    "pairwise",
    "pareto",
    "regret",
    "task_matrix",
    "verdict_table",
]
