"""Jobs and results: what goes out as text comes back as it was."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.jobs import (
    RungResult,
    TrialJob,
    job_from_json,
    job_to_json,
    result_from_json,
    result_to_json,
)
from metatune.tasks.base import SPLITS, Episode

PROPERTY = settings(deadline=None, max_examples=40)

NUMBERS = st.integers(0, 2**62)
FLOATS = st.floats(allow_nan=False)
NAMES = st.lists(st.text(max_size=8), max_size=4).map(tuple)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
JOBS = st.builds(
    TrialJob,
    trial=st.text(),
    round=NUMBERS,
    replica=NUMBERS,
    strategy=st.dictionaries(st.text(max_size=8), PLAIN, max_size=4),
    family=st.text(),
    data_dir=st.none() | st.text(),
    episode=st.builds(Episode, NUMBERS, NUMBERS, NUMBERS),
    run_seed=NUMBERS,
    rungs=st.lists(NUMBERS, max_size=4).map(tuple),
    recorded=NUMBERS,
    split=st.sampled_from(SPLITS),
    tasks=NUMBERS,
    train=st.booleans(),
    folder=st.none() | st.text(),
    seed_of=st.none() | st.text(),
    options=st.dictionaries(st.text(max_size=8), PLAIN, max_size=3),
)
RESULTS = st.builds(
    RungResult,
    rung=NUMBERS,
    outcome=st.sampled_from(["running", "completed", "diverged", "failed"]),
    reason=st.text(),
    resource=NUMBERS,
    train_seconds=FLOATS,
    score_seconds=FLOATS,
    train_loss=st.none() | FLOATS,
    tasks=NAMES,
    groups=NAMES,
    scores=st.lists(FLOATS, max_size=4).map(tuple),
    transductive=st.booleans(),
    chosen=st.lists(st.integers(0, 7), max_size=5).map(tuple),
    learned=st.dictionaries(st.text(max_size=8), FLOATS, max_size=3),
)


@PROPERTY
@given(job=JOBS)
def test_a_job_comes_back_from_text_as_it_was(job: TrialJob) -> None:
    again = job_from_json(job_to_json(job))
    assert again == job
    assert isinstance(again.episode, Episode)
    assert isinstance(again.rungs, tuple)
    assert isinstance(again.parts, tuple)


@PROPERTY
@given(result=RESULTS)
def test_a_result_comes_back_from_text_as_it_was(result: RungResult) -> None:
    again = result_from_json(result_to_json(result))
    assert again == result
    assert hash(again) == hash(result)  # tuples where results are told apart


@PROPERTY
@given(job=JOBS, other=NUMBERS)
def test_jobs_that_differ_are_different_texts(job: TrialJob, other: int) -> None:
    changed = replace(job, run_seed=other)
    assert (job_to_json(changed) == job_to_json(job)) == (other == job.run_seed)


def test_text_is_one_line_of_json() -> None:
    result = RungResult(1, "failed", "a\nb", 0, 0.0, 0.0, None, (), (), (), False)
    text = result_to_json(result)
    assert "\n" not in text
    assert json.loads(text)["reason"] == "a\nb"


def test_a_job_of_another_version_is_refused() -> None:
    job = {"trial": "r1-0000", "episode": {"way": 1, "shot": 1, "query": 1}, "rungs": []}
    with pytest.raises(TypeError, match="missing"):
        job_from_json(json.dumps(job))
