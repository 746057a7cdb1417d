"""Questions to a run, as functions to frames. Needs neither Ray, Optuna nor torch.

``boards``: who is best while it searches. ``verdicts``: who is best on ``test``. ``pairs``: who is
better than whom, on which tasks. ``against``: what the winner is to the others there. ``course``:
how the search went. ``knob_importance``: which knobs matter, ``responses``: how the score answers
to them. ``origins``: where a strategy comes from, how trials ended. Of several runs
(``metatune.read_runs``) each answers by itself.
"""

from metatune.analysis.against import paired_differences, performance_profile
from metatune.analysis.boards import candidates, costs_of, defaults_of, leaderboard, pareto
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
from metatune.analysis.verdicts import verdict_table

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
