"""Questions to one run, asked of several."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

import pandas as pd

from metatune.records.reading import Run
from metatune.records.several import Runs

P = ParamSpec("P")


def of_each(
    ask: Callable[Concatenate[Run, P], pd.DataFrame],
) -> Callable[Concatenate[Run | Runs, P], pd.DataFrame]:
    """The question, which may be put to several runs, too: each by itself, see ``Runs.each``."""

    @wraps(ask)
    def asked(run: Run | Runs, *args: P.args, **options: P.kwargs) -> pd.DataFrame:
        if isinstance(run, Runs):
            return run.each(ask, *args, **options)
        return ask(run, *args, **options)

    return cast("Callable[Concatenate[Run | Runs, P], pd.DataFrame]", asked)
