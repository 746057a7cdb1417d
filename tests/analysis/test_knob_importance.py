"""Which knobs matter: a knob that decides is found, one that does not is not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

import metatune
from metatune.analysis.knob_importance import _divergence, binned, importance
from metatune.records.reading import Run


@pytest.fixture
def run(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """200 trials: `lr` decides, `width` does nothing, `steps` is there with one choice alone."""
    random = np.random.default_rng(0)
    params, gains = [], []
    for _ in range(200):
        lr, width = 10 ** random.uniform(-4, 0), int(random.integers(1, 5))
        choice = str(random.choice(["a", "b"]))
        own: dict[str, Any] = {"lr": lr, "width": width, "choose": choice}
        if choice == "b":
            own["choose.b.steps"] = int(random.integers(1, 100))
        params.append(own)
        gains.append(-abs(np.log10(lr) + 1.5) + 0.1 * random.normal())
    index = [f"r1-{n:04d}" for n in range(200)]
    board = pd.DataFrame({"rung": 3, "state": "completed", "gain": gains}, index)
    monkeypatch.setattr("metatune.analysis.knob_importance.leaderboard", lambda run: board)
    trials = pd.DataFrame({"params": [json.dumps(own) for own in params]}, index)
    return cast(Run, SimpleNamespace(read=lambda frame, columns: trials[columns]))


def test_the_knob_that_decides_comes_first_with_the_values_that_it_favours(run: Run) -> None:
    frame = importance(run)
    assert frame.index[0] == "lr"
    assert frame.loc["lr", "importance"] > 0.8
    low, high = map(float, str(frame.loc["lr", "favoured"]).split(" to "))
    assert low <= 10**-1.5 * 2
    assert high >= 10**-1.5 / 2
    assert frame["importance"].sum() == pytest.approx(1)


def test_a_knob_below_a_choice_is_judged_among_those_that_have_it(run: Run) -> None:
    frame = importance(run)
    assert 80 < frame.loc["choose.b.steps", "trials"] < 120
    assert frame.loc["choose", "trials"] == 200


def test_what_chance_brings_is_taken_off() -> None:
    """Of knobs that do nothing, what is left is nothing on average."""
    random, left = np.random.default_rng(1), []
    for _ in range(2000):
        bins = random.integers(0, 4, 60)
        top = np.zeros(60, bool)
        top[random.permutation(60)[:15]] = True
        every = np.bincount(bins, minlength=4) / 60
        best = np.bincount(bins[top], minlength=4) / 15
        left.append((every * (best / every - 1) ** 2).sum())
        assert _divergence(bins, top, 4)[0] >= 0
    by_chance = 3 / 15 * (60 - 15) / 59
    assert np.mean(left) == pytest.approx(by_chance, rel=0.05)


def test_numbers_fall_into_bins_of_equally_many_and_few_values_stay_as_they_are() -> None:
    bins, labels = binned(list(np.geomspace(1e-4, 1, 80)))
    assert np.bincount(bins).tolist() == [10] * 8
    assert labels[0].startswith("0.0001 to ")
    bins, labels = binned([1, 4, 1, 16])
    assert (bins.tolist(), labels) == ([0, 1, 0, 2], ["1", "4", "16"])
    bins, labels = binned([True, "ridge", True])
    assert (bins.tolist(), labels) == ([1, 0, 1], ["ridge", "true"])


def test_of_few_trials_nothing_is_said(finished: Path) -> None:
    few = metatune.read_run(finished)
    assert importance(few).empty
    assert list(importance(few).columns) == ["importance", "trials", "favoured"]
