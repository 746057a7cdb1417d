"""The verdict: finalists, default, presets and baselines meet on ``test``, which opens once.

Every entrant is trained anew with new seeds. The winner is the finalist that ``confirm`` put
first, and its rival the preset or baseline that ``select`` put first, so neither was chosen by
what ``test`` says. An ensemble, chosen on ``select``, may take part: where it leads on ``confirm``,
it is the winner, and its rival is an ensemble of as many trainings of the rival.

In the order of a verdict: ``choice`` and ``ranking`` of the ensemble, ``trainings`` of all
entrants, ``further`` ones where there is room, the ``duel`` of the two best, ``blends``, and
``conclude``.
"""

from metatune.verdict.conclusion import conclude
from metatune.verdict.ensembles import blends, choice, ranking
from metatune.verdict.entrants import Entrant, entrant_of, entrants
from metatune.verdict.trainings import duel, further, trainings
from metatune.verdict.words import amount_of, gain, is_gain, of_prior

__all__ = [
    "Entrant",
    "amount_of",
    "blends",
    "choice",
    "conclude",
    "duel",
    "entrant_of",
    "entrants",
    "further",
    "gain",
    "is_gain",
    "of_prior",
    "ranking",
    "trainings",
]
