"""What earlier runs learned, for the next one: a portfolio, a baseline and lessons.

``metatune prior RUN... -o prior.parquet`` gathers the strategies that runs completed, with their
paired gains on every task; ``prior: prior.parquet`` in a space file starts a run from them:

- the *portfolio*, the short list of strategies that covers the earlier tasks best, is tried first;
- the *baseline*, the strategy with the best average rank, is one more that a winner has to beat;
- *lessons* are observations for the proposer, discounted, as far as the run agrees with them.

A prior never excludes a strategy: it says where to look first, and is outvoted by measurements.
"""

from metatune.prior.fitting import Fitted, fit
from metatune.prior.lessons import Lesson, agreement, discounted
from metatune.prior.portfolio import Pick, average_ranks, portfolio, short_list
from metatune.prior.table import SCHEMA, Prior, learn_prior, prior_of, read_prior, write_prior

__all__ = [
    "SCHEMA",
    "Fitted",
    "Lesson",
    "Pick",
    "Prior",
    "agreement",
    "average_ranks",
    "discounted",
    "fit",
    "learn_prior",
    "portfolio",
    "prior_of",
    "read_prior",
    "short_list",
    "write_prior",
]
