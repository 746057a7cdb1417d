"""How the score answers to a knob: each trial's value and gain, and the usual gain near it."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from metatune.analysis.asking import of_each
from metatune.analysis.boards import leaderboard
from metatune.analysis.knob_importance import binned
from metatune.errors import RunError
from metatune.objectives import COSTS, SCORE
from metatune.records.reading import Run

STRUCTURE = "structure"
"""In place of a knob: the structural family, that is the way of learning."""


@of_each
def response(run: Run, knob: str, objective: str = SCORE) -> pd.DataFrame:
    """What trials came to, by the value of one knob; all else differs between them, too.

    Args:
        run: finished or going on.
        knob: by its name in the space, or ``structure``, the structural family.
        objective: ``score``, or a cost such as ``adapt_seconds``.

    Returns:
        A frame indexed by trial, ordered by ``value``, the knob's: ``name``, ``state``, ``rung``;
        ``gain`` over the default at the trial's highest rung in the metric's units (positive is
        better), or the cost in its unit under its name; ``bin``, the values that this one is
        counted with, as in ``importance``; ``median``, that of the bin. Trials without this knob
        or without a gain are left out.

    Raises:
        RunError: there is no such objective.
    """
    what = "gain" if objective == SCORE else objective
    if what not in ("gain", *COSTS):
        raise RunError(f"found objective {objective!r}; allowed: {', '.join((SCORE, *COSTS))}")
    board = leaderboard(run)
    frame = board[["name", "state", "rung", what]].copy()
    frame.insert(0, "value", pd.Series(_values(run, knob), dtype=object).reindex(frame.index))
    frame = frame[frame["value"].notna() & frame[what].notna()]
    if frame.empty:
        return frame.assign(bin=pd.Series(dtype="str"), median=pd.Series(dtype="float64"))
    values = frame["value"].to_list()
    places, labels = binned(values)
    frame["bin"] = [labels[place] for place in places]
    frame["median"] = frame.groupby(places)[what].transform("median")
    numbers = all(_is_number(value) for value in values)
    frame["value"] = frame["value"].astype(float) if numbers else frame["value"].map(_in_words)
    return frame.sort_values("value", kind="stable")


def _values(run: Run, knob: str) -> dict[str, Any]:
    if knob == STRUCTURE:
        known = run.trials.loc[run.trials["origin"] != "ensemble", "structure"]
        return {str(trial): structure for trial, structure in known.items()}
    params = {str(t): json.loads(text) for t, text in run.trials["params"].dropna().items()}
    return {trial: own[knob] for trial, own in params.items() if knob in own}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_words(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
