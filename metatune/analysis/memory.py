"""Answers that are worked out once: what was read of a run does not change."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import pandas as pd

from metatune.records.reading import Run


def once(ask: Callable[[Run], pd.DataFrame]) -> Callable[[Run], pd.DataFrame]:
    """A question to a run whose answer is kept with it; who asks again has a copy."""

    @wraps(ask)
    def remembered(run: Run) -> pd.DataFrame:
        answers: dict[str, pd.DataFrame] = vars(run).setdefault("_answers", {})
        if ask.__name__ not in answers:
            answers[ask.__name__] = ask(run)
        return answers[ask.__name__].copy()

    return remembered
