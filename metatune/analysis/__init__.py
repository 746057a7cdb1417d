"""Questions to a run, as functions to frames. Needs neither Ray, Optuna nor torch.

``boards``: who is best while it searches. ``verdicts``: who is best on ``test``. ``pairs``: who is
better than whom, on which tasks. ``course``: how the search went. ``knob_importance``: which knobs
matter. Of several runs (``metatune.read_runs``) each answers by itself.
"""

from metatune.analysis.boards import defaults_of, leaderboard, pareto
from metatune.analysis.course import best_over_time, generalisation_gap, regret
from metatune.analysis.knob_importance import importance
from metatune.analysis.pairs import pairwise, task_matrix
from metatune.analysis.verdicts import verdict_table

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
