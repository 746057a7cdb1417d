"""Hypothesis strategies for rows, and rows to write by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

from metatune.records.folder import RunFolder
from metatune.records.folding import tables
from metatune.records.reading import Run
from metatune.records.rows import (
    STATES,
    Asked,
    Concluded,
    Ended,
    Looked,
    Retried,
    Row,
    Scored,
    Turned,
)
from metatune.tasks.base import SPLITS

TABLES = ("trials", "scores", "curves", "rounds", "looks", "verdicts")

# Few ids, so that rows of one trial meet.
trial_ids = st.integers(0, 3).map(lambda number: f"r1-{number:04d}")
numbers = st.floats(allow_nan=True, allow_infinity=True)
finite = st.floats(-1e6, 1e6)
texts = st.text(max_size=8)
knobs = st.dictionaries(
    st.sampled_from(["lr", "width", "norm", "layers"]),
    st.none() | st.booleans() | st.integers(-5, 5) | finite | texts | st.lists(st.integers(0, 9)),
    max_size=3,
)
plans: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["head", "outer", "start", "score"]), knobs | finite | texts, max_size=3
)


learned = st.dictionaries(
    st.sampled_from(["inner.lr", "head.penalty", "prior.mean"]), finite, max_size=2
)


@st.composite
def scored(draw: st.DrawFn) -> Scored:
    count = draw(st.integers(0, 3))
    some_texts = st.lists(texts, min_size=count, max_size=count)
    return Scored(
        trial=draw(trial_ids),
        round=draw(st.integers(1, 2)),
        rung=draw(st.integers(1, 3)),
        split=draw(st.sampled_from(SPLITS)),
        replica=draw(st.integers(0, 1)),
        resource=draw(st.integers(0, 2**40)),
        train_seconds=draw(numbers),
        score_seconds=draw(numbers),
        train_loss=draw(st.none() | numbers),
        tasks=draw(some_texts),
        groups=draw(some_texts),
        scores=draw(st.lists(finite, min_size=count, max_size=count)),
        transductive=draw(st.booleans()),
        learned=draw(learned),
    )


asked = st.builds(
    Asked,
    trial=trial_ids,
    round=st.integers(1, 2),
    number=st.integers(0, 9),
    strategy=plans,
    params=st.none() | knobs,
    members=st.lists(trial_ids, max_size=2),
)
ended = st.builds(
    Ended,
    trial=trial_ids,
    state=st.sampled_from(STATES),
    reason=texts,
    seconds=numbers,
    replica=st.integers(0, 1),
)
retried = st.builds(
    Retried,
    trial=trial_ids,
    split=st.sampled_from(SPLITS),
    replica=st.integers(0, 1),
    rung=st.integers(0, 3),
    reason=texts,
)
looked = st.builds(
    Looked, split=st.sampled_from(SPLITS), round=st.integers(1, 2), trials=st.lists(trial_ids)
)
turned = st.builds(
    Turned,
    round=st.integers(1, 2),
    incumbents=st.lists(trial_ids),
    moves=st.lists(texts, max_size=2),
    seconds=numbers,
    front=st.lists(trial_ids, max_size=2),
)
concluded = st.builds(Concluded, winner=trial_ids, rival=trial_ids, sentence=texts)
rows: st.SearchStrategy[list[Row]] = st.lists(
    scored() | asked | ended | retried | looked | turned | concluded, max_size=16
)


def an_asked(number: int = 0, **changes: Any) -> Asked:
    """A trial as it is asked; ``changes`` replaces fields."""
    values: dict[str, Any] = {
        "trial": f"r1-{number:04d}",
        "round": 1,
        "number": number,
        "name": f"proposed {number}",
        "origin": "proposed",
        "strategy": {"start": "none", "head": {"kind": "ridge", "penalty": 0.5}},
        "digest": f"{number:08x}",
        "structure": "ridge",
        "params": {"penalty": 0.5},
    }
    return Asked(**(values | changes))


def a_scored(number: int = 0, rung: int = 1, score: float = 0.5, **changes: Any) -> Scored:
    """A trial's rung over two tasks whose scores have the mean ``score``."""
    values: dict[str, Any] = {
        "trial": f"r1-{number:04d}",
        "round": 1,
        "rung": rung,
        "split": "select",
        "replica": 0,
        "resource": 100 * rung,
        "train_seconds": 2.0 * rung,
        "score_seconds": 0.25,
        "train_loss": 1.5,
        "tasks": ["a", "b"],
        "groups": ["north", "south"],
        "scores": [score - 0.25, score + 0.25],
        "transductive": False,
    }
    return Scored(**(values | changes))


def an_ended(number: int = 0, **changes: Any) -> Ended:
    """A trial's end."""
    values: dict[str, Any] = {
        "trial": f"r1-{number:04d}",
        "state": "completed",
        "reason": "",
        "seconds": 9.0,
    }
    return Ended(**(values | changes))


def a_run(trials: int = 3) -> list[Row]:
    """The rows of a small run, one of every kind at least."""
    found: list[Row] = []
    for number in range(trials):
        found += [an_asked(number), a_scored(number, 1), a_scored(number, 2), an_ended(number)]
    found.append(Looked("confirm", 1, ["r1-0000"]))
    found.append(Turned(1, ["r1-0001", "r1-0000"], ["penalty: smaller"], 12.5, front=["r1-0001"]))
    found.append(Concluded("r1-0001", "r1-0000", "new groups", "nothing beats the default"))
    return found


def same_frames(left: Any, right: Any) -> None:
    """Asserts that two runs read alike, frame by frame, types and order included."""
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(left, name), getattr(right, name), check_exact=True)


def same_tables(left: Mapping[str, pa.Table], right: Mapping[str, pa.Table]) -> None:
    """Asserts that tables are equal, types and order included, where NaN equals NaN."""
    assert [*left] == [*right] == [*TABLES]
    for name in TABLES:
        assert left[name].schema.equals(right[name].schema)
        assert repr(left[name].to_pylist()) == repr(right[name].to_pylist())


def same_rows(left: list[Row], right: list[Row]) -> bool:
    """Equality of rows under which NaN equals NaN."""
    return [repr(row) for row in left] == [repr(row) for row in right] and all(
        type(a) is type(b) for a, b in zip(left, right, strict=True)
    )


def in_memory(folder: RunFolder, found: list[Row]) -> Run:
    """A run with the tables of rows, without a look at its folder's records."""
    return Run(folder.path, {"seed": 7}, tables(found))
