"""The examples do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from user_tables import plain_series

from metatune import session
from metatune.errors import SpaceError
from metatune.jobs import RungResult, TrialJob
from metatune.plan import Plan
from metatune.space import load_space
from metatune.strategy import Strategy
from metatune.trial import run_trial

EXAMPLES = Path(__file__).parents[1] / "examples"
OWN_PARTS = EXAMPLES / "own_parts.yaml"


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that are looked in stay with one test."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def scored(plan: Plan, strategy: Strategy, resource: int, tasks: int) -> RungResult:
    """What a trial of the strategy comes to on ``select``."""
    job = TrialJob(
        trial="r1-0000",
        round=1,
        replica=0,
        strategy=strategy.model_dump(mode="json"),
        family=plan.info.name,
        data_dir=None,
        options=plan.options,
        episode=plan.space.space.episode,
        run_seed=0,
        rungs=(resource,),
        recorded=0,
        split="select",
        tasks=tasks,
        train=True,
        folder=None,
        code=plan.code,
    )
    (result,) = run_trial(job)
    assert result.outcome == "completed", result.reason
    return result


def test_the_simplest_meta_learner_learns_to_learn_in_fewer_than_40_lines() -> None:
    example = EXAMPLES / "meta_learner.py"
    assert len(example.read_text().splitlines()) < 40
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = (float(line.split()[-1]) for line in done.stdout.splitlines()[-2:])
    assert after < before / 4
    assert done.stderr == ""


def test_a_space_with_parts_of_ones_own_is_accepted() -> None:
    plan, family = session.plan_of(load_space(OWN_PARTS))
    assert family.info.name == "sinusoid"
    assert plan.code == str(EXAMPLES)
    names = [entry.name for entry in plan.space.initial]
    assert names == ["ridge", "shrunk"]
    assert {knob.name for knob in plan.space.tree.knobs()} >= {"backbone.options.count"}


def test_every_way_through_that_space_trains() -> None:
    plan, _ = session.plan_of(load_space(OWN_PARTS))
    proposed = [
        plan.space.strategy_from(
            plan.space.tree.walk(lambda knob, at=at: at.get(knob.name) or knob.middle())[1]
        )
        for at in plan.space.tree.structures()
    ]
    assert {strategy.head.kind for strategy in proposed} == {"ridge", "own"}
    assert {strategy.backbone.kind for strategy in proposed} == {"own"}
    for strategy in (*proposed, *(entry.strategy for entry in plan.space.initial)):
        assert not scored(plan, strategy, resource=2_000, tasks=4).transductive


def test_a_part_that_is_not_there_is_told(tmp_path: Path) -> None:
    text = OWN_PARTS.read_text().replace("own_parts:Smoother", "own_parts:Smother")
    (tmp_path / "own_parts.py").write_text((EXAMPLES / "own_parts.py").read_text())
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(SpaceError) as caught:
        session.plan_of(load_space(path))
    assert "the module own_parts has no Smother" in str(caught.value)


def test_the_example_of_a_forecast_runs_on_a_table_of_its_form(tmp_path: Path) -> None:
    path = tmp_path / "forecast.yaml"
    path.write_text((EXAMPLES / "forecast.yaml").read_text())
    plain_series(shops=16, days=500, regions=8).to_csv(tmp_path / "sales.csv", index=False)
    plan, family = session.plan_of(load_space(path))
    assert family.info.metric.name == "mase"
    named = {entry.name: entry.strategy for entry in plan.space.initial}
    assert {"seasonal_naive", "ridge", "pooled_linear", "boosted_trees"} <= named.keys()
    scores = {}
    for name in ("seasonal_naive", "seasonal_ridge", "pooled_linear"):
        result = scored(plan, named[name], resource=20_000, tasks=16)
        scores[name] = sum(result.scores) / len(result.scores)
    assert scores["seasonal_naive"] == pytest.approx(1, abs=0.2)  # in units of its own error
    assert scores["pooled_linear"] < scores["seasonal_naive"]
