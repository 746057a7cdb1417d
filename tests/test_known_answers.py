"""Families whose answer is known: the whole loop finds it, from a bad default, on fresh tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inline_runner import inline_run, rows_of

from metatune.history import History
from metatune.tasks.formulas import noisy_quadratic, quadratic

QUADRATIC = """\
family: {name: quadratic, shot: 16, query: 8}
seed: SEED
resource: {full: 30000, rungs: 2, reduction: 3}
tasks: {select: 200, confirm: 200, test: 400}
rounds: {count: 2, growth: 1}
budget: {trials: 32}
default: timid
initial:
  - name: timid
    head: {kind: linear, start: learned}
    inner: {kind: sgd, scope: head, steps: 1, lr: 0.01}
    meta: {rule: second_order}
    outer: {kind: adam, lr: 0.1, tasks_per_batch: 32}
strategy:
  head: {kind: linear, start: learned}
  inner: {kind: sgd, scope: head, steps: 1, lr: {float: [0.001, 1.0], log: true}}
  meta: {rule: second_order}
  outer: {kind: adam, lr: 0.1, tasks_per_batch: 32}
verdict: {seeds: 1, finalists: 1, best_seeds: 1}
"""

SINUSOID = """\
family: {name: sinusoid, shot: 10, query: 10}
seed: SEED
tasks: {select: 32, confirm: 32, test: 240}
rounds: {count: 2, growth: 1}
budget: {trials: 22}
common: {backbone: {kind: mlp, width: 40, depth: 2}}
default: hasty
initial:
  - name: hasty
    head: {kind: linear, start: zero}
    inner: {kind: adam, scope: all, steps: 2, lr: 0.02}
    meta: {rule: none}
strategy:
  head: {kind: linear, start: zero}
  inner:
    kind: adam
    scope: all
    steps: {int: [1, 40], log: true}
    lr: {float: [0.018, 0.022]}           # makes no difference beside the number of steps
  meta: {rule: none}
verdict: {seeds: 1, finalists: 1, best_seeds: 1}
"""

POINTS, STEPS = 2 * noisy_quadratic.DIMENSIONS, 200
NOISY = f"""\
family: {{name: noisy_quadratic, shot: {POINTS}, query: {POINTS}}}
seed: SEED
resource: {{full: {2 * POINTS * STEPS}, rungs: 1}}
tasks: {{select: 60, confirm: 60, test: 120}}
rounds: {{count: 2, growth: 1}}
adjust: {{gradient: true}}
budget: {{trials: 30}}
default: slow
initial:
  - name: slow
    head: {{kind: linear, start: learned}}
    inner: {{kind: sgd, scope: head, steps: 1, lr: 1.0e-9}}
    meta: {{rule: joint}}
    outer: {{kind: sgd, lr: 0.005, schedule: constant, tasks_per_batch: 1}}
strategy:
  head: {{kind: linear, start: learned}}
  inner: {{kind: sgd, scope: head, steps: 1, lr: 1.0e-9}}
  meta: {{rule: joint}}
  outer:
    kind: sgd
    lr: {{float: [0.001, 0.9], log: true}}
    schedule: constant
    tasks_per_batch: 1
verdict: {{seeds: 1, finalists: 1}}
"""


def winner_of(space: str, folder: Path, seed: int) -> tuple[dict[str, Any], History]:
    """The strategy that a run hands over, and what the run knows."""
    history = History(-1, rows_of(inline_run(space.replace("SEED", str(seed)), folder)))
    assert history.verdict is not None
    return history.trials[history.verdict.winner].asked.strategy, history


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_on_quadratics_the_loop_finds_the_inner_rate_of_the_algebra(tmp_path: Path, seed) -> None:
    strategy, history = winner_of(QUADRATIC, tmp_path / "run", seed)
    best, found = quadratic.best_inner_rate(16), strategy["inner"]["lr"]
    assert best / 1.3 < found < 1.3 * best
    assert history.verdict is not None
    assert "beats the default, timid" in history.verdict.sentence


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_on_sinusoids_without_training_the_loop_finds_that_steps_decide(
    tmp_path: Path, seed
) -> None:
    strategy, history = winner_of(SINUSOID, tmp_path / "run", seed)
    assert strategy["inner"]["steps"] > 30
    assert history.verdict is not None
    assert "beats the default, hasty" in history.verdict.sentence


def test_on_noisy_quadratics_the_loop_finds_the_meta_rate_of_the_whole_horizon(
    tmp_path: Path,
) -> None:
    strategy, _ = winner_of(NOISY, tmp_path / "run", 0)
    best, found = noisy_quadratic.best_rate(STEPS, tasks=1), strategy["outer"]["lr"]
    least, left = (
        noisy_quadratic.excess_loss(rate, STEPS, 1, noisy_quadratic.DISTANCE**2)
        for rate in (best, found)
    )
    assert left / least < 1.2
