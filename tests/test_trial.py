"""A trial: the same rung by rung, in any process, cut short or not."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from user_tables import uneven_rows

from metatune.checkpoint import STATE, load, rung_folder
from metatune.jobs import RungResult, TrialJob, job_to_json, result_from_json
from metatune.learners.resource import pooled_cost, pooled_tasks, step_cost
from metatune.seeds import derive_seed
from metatune.strategy import (
    MLP,
    Conv4,
    Diet,
    Linear,
    Meta,
    Outer,
    OwnBackbone,
    OwnHead,
    Pooled,
    Prototypes,
    Ridge,
    Seeds,
    Steps,
    Strategy,
    TableAugmentation,
)
from metatune.tasks.base import Episode, TaskFamily
from metatune.tasks.formulas.sinusoid import SinusoidFamily
from metatune.tasks.registry import FAMILIES, open_family
from metatune.trial import run_trial

EXAMPLES = Path(__file__).parents[1] / "examples"
RUNGS = (300, 800, 2000)
EPISODE = Episode(way=1, shot=5, query=5)
MAML = Strategy(
    backbone=MLP(width=8, depth=2),
    head=Linear(start="learned"),
    inner=Steps(steps=1, lr=0.01, scope="all"),
    meta=Meta(rule="second_order"),
    outer=Outer(lr=0.01, tasks_per_batch=2),
)
SCRATCH = MAML.model_copy(update={"head": Linear(start="zero"), "meta": Meta(rule="none")})
POOLED = Strategy(prior=Pooled(model="linear"), head=Ridge(intercept="free"), outer=MAML.outer)
KINDS = {
    "maml": MAML,
    "a pooled model": POOLED,
    "a pooled model alone": POOLED.model_copy(update={"meta": Meta(rule="none")}),
    "an ensemble": MAML.model_copy(update={"combination": Seeds(members=2)}),
    "a moving average": MAML.model_copy(update={"outer": Outer(tasks_per_batch=2, average=0.9)}),
    "a curriculum": MAML.model_copy(update={"diet": Diet(start_shot=10)}),
    "annealed rules": MAML.model_copy(
        update={
            "inner": Steps(steps=2, lr=0.01),
            "meta": Meta(rule="second_order", first_order_until=0.3, multi_step_until=0.6),
        }
    ),
    "noise": MAML.model_copy(update={"diet": Diet(augment=TableAugmentation(noise=0.1))}),
}
"""Strategies with all that a trial has to carry from one rung to the next."""


def plain(strategy: Strategy) -> dict[str, Any]:
    return strategy.model_dump(mode="json")


def job_of(folder: Path | None, strategy: Strategy = MAML, **changes: Any) -> TrialJob:
    job = TrialJob(
        trial="r1-0003",
        round=1,
        replica=0,
        strategy=plain(strategy),
        family="sinusoid",
        data_dir=None,
        episode=EPISODE,
        run_seed=5,
        rungs=RUNGS,
        recorded=0,
        split="select",
        tasks=10,
        train=True,
        folder=None if folder is None else str(folder),
    )
    return replace(job, **changes)


def run(job: TrialJob) -> list[RungResult]:
    return list(run_trial(job))


def cut_short(job: TrialJob, rungs: int) -> None:
    """Run so many rungs, and no further."""
    results = list(islice(run_trial(job), rungs))
    assert [result.outcome for result in results] == ["running"] * rungs


def measured(results: list[RungResult]) -> list[RungResult]:
    """The results without what a clock says."""
    return [replace(result, train_seconds=0.0, score_seconds=0.0) for result in results]


# --- rungs and resource ---------------------------------------------------------------------------


def test_a_trial_is_scored_at_every_rung_and_completed_at_the_last(tmp_path: Path) -> None:
    results = run(job_of(tmp_path))
    assert [result.rung for result in results] == [1, 2, 3]
    assert [result.outcome for result in results] == ["running", "running", "completed"]
    assert all(len(result.scores) == 10 for result in results)
    assert len({result.tasks for result in results}) == 1  # the same tasks all along
    assert len({result.scores for result in results}) == 3
    assert not any(result.transductive for result in results)


def test_no_rung_exceeds_its_resource_or_falls_short_by_a_step() -> None:
    cost = step_cost(MAML, SinusoidFamily.info, EPISODE)
    for result, allowed in zip(run(job_of(None)), RUNGS, strict=True):
        assert allowed - cost < result.resource <= allowed
        assert result.resource % cost == 0


def test_what_a_pooled_model_uses_is_no_longer_there_for_steps() -> None:
    info, rungs = SinusoidFamily.info, (3_000, 9_000)
    cost = step_cost(POOLED, info, EPISODE)
    fits = [
        pooled_cost(POOLED, info, EPISODE, pooled_tasks(POOLED, info, EPISODE, rung))
        for rung in rungs
    ]
    for number, result in enumerate(run(job_of(None, POOLED, rungs=rungs))):
        assert rungs[number] - cost < result.resource <= rungs[number]
        assert (result.resource - sum(fits[: number + 1])) % cost == 0


def test_a_curriculum_costs_what_its_tasks_have_at_the_time() -> None:
    """Ten support points at the start and five from half of the resource on."""
    strategy = MAML.model_copy(update={"diet": Diet(start_shot=10)})
    info = SinusoidFamily.info
    dear, cheap = (step_cost(MAML, info, Episode(1, shot, 5)) for shot in (10, 5))
    first, half, late = run(job_of(None, strategy, rungs=(dear, 20 * dear, 40 * dear)))
    assert first.resource == dear
    assert 19 * dear < half.resource <= 20 * dear
    assert (late.resource - half.resource) % cheap == 0


def test_seconds_add_up_over_rungs() -> None:
    seconds = [result.train_seconds for result in run(job_of(None))]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


def test_training_lowers_loss_and_error() -> None:
    strategy = Strategy(backbone=MLP(), head=Ridge(), outer=Outer(lr=0.01))
    early, late = run(job_of(None, strategy, rungs=(2_000, 20_000), tasks=30))
    assert early.train_loss is not None
    assert late.train_loss is not None
    assert late.train_loss < 0.8 * early.train_loss
    assert sum(late.scores) < 0.8 * sum(early.scores)


def test_what_is_scored_is_the_moving_average_where_there_is_one() -> None:
    averaged = MAML.model_copy(update={"outer": MAML.outer.model_copy(update={"average": 0.9})})
    for one, other in zip(run(job_of(None)), run(job_of(None, averaged)), strict=True):
        assert one.train_loss == other.train_loss
        assert one.scores != other.scores


def test_a_rung_without_room_for_a_step_reports_no_loss() -> None:
    results = run(job_of(None, rungs=(1, 2, 300)))
    cost = step_cost(MAML, SinusoidFamily.info, EPISODE)
    assert [result.resource for result in results[:2]] == [cost, cost]  # at least one step
    assert [result.train_loss is None for result in results] == [False, True, False]


def test_whoever_stops_asking_stops_the_trial(tmp_path: Path) -> None:
    cut_short(job_of(tmp_path), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["rung-1"]


def test_what_needs_no_training_is_done_at_the_first_rung(tmp_path: Path) -> None:
    (result,) = run(job_of(tmp_path, SCRATCH))
    assert (result.rung, result.outcome, result.resource) == (1, "completed", 0)
    assert result.train_loss is None
    assert len(result.scores) == 10


def test_transductive_scores_say_so(tiny: TaskFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "tiny", lambda data_dir: tiny)
    for norm in ("transductive", "support"):
        strategy = Strategy(
            backbone=Conv4.model_validate({"width": 2, "depth": 2, "norm": norm}),
            head=Prototypes(),
        )
        results = run(job_of(None, strategy, family="tiny", episode=Episode(3, 1, 2), rungs=(100,)))
        assert [result.transductive for result in results] == [norm == "transductive"]


@pytest.mark.parametrize("way", [2, 5])
@pytest.mark.parametrize("head", [Prototypes(), Ridge(), Linear(start="zero")])
def test_training_tasks_may_have_another_number_of_classes(
    way: int, head: Linear | Ridge | Prototypes, tiny: TaskFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "tiny", lambda data_dir: tiny)
    steps = {"inner": Steps(scope="head")} if isinstance(head, Linear) else {}
    strategy = Strategy(backbone=MLP(width=30), head=head, diet=Diet(way=way), **steps)
    job = job_of(None, strategy, family="tiny", episode=Episode(3, 2, 3), rungs=(10_000,))
    (result,) = run(job)
    assert result.outcome == "completed", result.reason
    assert sum(result.scores) / len(result.scores) > 0.5  # chance is 1/3


def test_a_part_of_the_users_own_is_found_beside_the_space_file_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "centred_parts.py").write_text(CENTRED)
    for name, jointly in (("OnSupport", False), ("OnAll", True)):
        strategy = Strategy(backbone=OwnBackbone(use=f"centred_parts:{name}"), head=Ridge())
        results = run(job_of(None, strategy, code=str(tmp_path), rungs=(100,)))
        assert [result.transductive for result in results] == [jointly], results[0].reason


CENTRED = """
class OnSupport:
    def __init__(self, input_shape):
        self.features, self.support_shapes_query = input_shape[0], True

    def init(self, generator):
        return {}

    def __call__(self, params, x, n_support):
        return x - x[:, :n_support].mean(1, keepdim=True)


class OnAll(OnSupport):
    def __call__(self, params, x, n_support):
        return x - x.mean(1, keepdim=True)
"""


def test_every_rung_tells_what_is_learned_of_the_knobs(tmp_path: Path) -> None:
    strategy = Strategy(backbone=MLP(width=8), head=Ridge(), outer=Outer(lr=0.05, average=0.9))
    results = run(job_of(tmp_path, strategy))
    values = [result.learned["head.penalty"] for result in results]
    assert len(set(values)) == 3
    saved = load(tmp_path, 3)
    assert saved is not None
    for params, used in ((saved.state.average, True), (saved.state.params, False)):
        value = params["head.log_penalty"].exp().item()
        assert (values[-1] == pytest.approx(value, rel=1e-5)) == used
    (again,) = run(job_of(tmp_path, strategy, split="confirm", train=False, recorded=3))
    assert again.learned == results[-1].learned
    assert run(job_of(None))[-1].learned == {}  # its rate is fixed


# --- the same everywhere --------------------------------------------------------------------------


def test_equal_jobs_give_equal_results() -> None:
    assert measured(run(job_of(None))) == measured(run(job_of(None)))


@pytest.mark.parametrize("change", [
    {"run_seed": 6}, {"trial": "r1-0004"}, {"replica": 1}, {"round": 2}, {"split": "confirm"},
])  # fmt: skip
def test_seed_trial_replica_round_and_split_each_change_the_scores(change: dict[str, Any]) -> None:
    one, other = (run(job)[0] for job in (job_of(None), job_of(None, **change)))
    assert one.scores != other.scores
    shared = set(change) <= {"trial", "replica"}  # all trials of a round meet the same tasks
    assert (one.tasks == other.tasks) == shared


def test_training_does_not_look_at_the_tasks_it_is_scored_on() -> None:
    one, other = (run(job_of(None, tasks=tasks)) for tasks in (10, 4))
    for few, many in zip(other, one, strict=True):
        assert many.scores[:4] == pytest.approx(few.scores, rel=1e-5)
        assert many.train_loss == few.train_loss


def test_a_trial_may_be_trained_with_the_seed_of_another() -> None:
    """Differences between two strategies are then theirs, not their seeds'."""
    one, other = job_of(None), job_of(None, trial="r1-0009")
    assert measured(run(replace(other, seed_of=one.trial))) == measured(run(one))
    assert run(other)[0].scores != run(one)[0].scores


OTHER_PROCESS = """
import sys
from metatune.jobs import job_from_json, result_to_json
from metatune.trial import run_trial
for result in run_trial(job_from_json(sys.stdin.read())):
    print(result_to_json(result))
"""


def test_another_process_gives_the_same_results() -> None:
    job = job_of(None)
    there = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS],
        input=job_to_json(job),
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = [result_from_json(line) for line in there.stdout.splitlines()]
    for own, other in zip(run(job), theirs, strict=True):
        assert other.scores == pytest.approx(own.scores, rel=1e-6)
        assert (other.tasks, other.resource, other.rung) == (own.tasks, own.resource, own.rung)


# --- resuming -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_cut_short_goes_on_as_if_it_had_not_been(tmp_path: Path, kind: str) -> None:
    strategy = KINDS[kind]
    whole = run(job_of(tmp_path / "whole", strategy))
    assert [result.outcome for result in whole] == ["running", "running", "completed"]
    for recorded in (1, 2):
        folder = tmp_path / str(recorded)
        cut_short(job_of(folder, strategy), recorded)
        rest = run(job_of(folder, strategy, recorded=recorded))
        assert measured(rest) == measured(whole[recorded:])
        ends = [load(path, 3) for path in (tmp_path / "whole", folder)]
        assert ends[0] is not None
        assert ends[1] is not None
        for name, p in ends[0].state.usable.items():
            assert torch.equal(p, ends[1].state.usable[name])


def test_a_resumed_trial_counts_the_seconds_before(tmp_path: Path) -> None:
    cut_short(job_of(tmp_path), 1)
    path = Path(rung_folder(tmp_path, 1), STATE)
    longer = torch.tensor(1e4, dtype=torch.float64)
    save_file(load_file(path) | {"numbers/train_seconds": longer}, path)
    assert all(result.train_seconds > 1e4 for result in run(job_of(tmp_path, recorded=1)))


def test_a_rung_that_was_saved_but_not_recorded_is_trained_again(tmp_path: Path) -> None:
    """The driver died between the worker's checkpoint and its own record."""
    whole = run(job_of(tmp_path))
    assert measured(run(job_of(tmp_path, recorded=2))) == measured(whole[2:])


@pytest.mark.parametrize("damage", ["missing", "cut", "no folder"])
def test_a_lost_checkpoint_is_trained_again_to_the_same_scores(tmp_path: Path, damage: str) -> None:
    whole = run(job_of(None))
    cut_short(job_of(tmp_path), 2)
    weights = Path(rung_folder(tmp_path, 2), STATE)
    match damage:
        case "missing":
            shutil.rmtree(rung_folder(tmp_path, 2))
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-9])
    folder = None if damage == "no folder" else tmp_path
    assert measured(run(job_of(folder, recorded=2))) == measured(whole[2:])


# --- scoring what was trained ---------------------------------------------------------------------


def test_scoring_alone_uses_the_checkpoint(tmp_path: Path) -> None:
    run(job_of(tmp_path))
    (result,) = run(job_of(tmp_path, split="confirm", train=False, recorded=3))
    assert (result.rung, result.outcome) == (3, "completed")
    assert result.train_loss is None
    # Other weights in the checkpoint, other scores: nothing was trained for them.
    earlier = tmp_path / "earlier"
    shutil.copytree(rung_folder(tmp_path, 2), rung_folder(earlier, 3))
    (other,) = run(job_of(earlier, split="confirm", train=False, recorded=3))
    assert other.tasks == result.tasks
    assert other.scores != result.scores
    assert other.resource < result.resource


def test_scoring_alone_leaves_predictions_and_the_checkpoint(tmp_path: Path) -> None:
    run(job_of(tmp_path))
    weights = Path(rung_folder(tmp_path, 3), STATE)
    before = weights.read_bytes()
    (result,) = run(job_of(tmp_path, split="confirm", train=False, recorded=3, tasks=4))
    assert weights.read_bytes() == before
    files = {path.name for path in Path(rung_folder(tmp_path, 3)).iterdir()}
    assert {"select.safetensors", "confirm.safetensors"} <= files
    kept = load_file(Path(rung_folder(tmp_path, 3), "confirm.safetensors"))["predictions"].double()
    seeds = [derive_seed(5, "confirm", 1, task) for task in range(4)]
    target = torch.from_numpy(SinusoidFamily().sample("confirm", EPISODE, seeds).query_y)
    assert (kept - target).square().mean((1, 2)).tolist() == pytest.approx(result.scores, rel=1e-2)


def test_scoring_alone_without_the_checkpoint_trains_to_the_same_scores(tmp_path: Path) -> None:
    run(job_of(tmp_path))
    jobs = [
        job_of(folder, split="confirm", train=False, recorded=3)
        for folder in (tmp_path, tmp_path / "nothing there", None)
    ]
    results = [replace(run(job)[0], train_loss=None) for job in jobs]
    assert measured(results) == measured(results[:1]) * 3


def test_an_untrained_strategy_is_scored_alone_too(tmp_path: Path) -> None:
    run(job_of(tmp_path, SCRATCH))
    (result,) = run(job_of(tmp_path, SCRATCH, split="confirm", train=False, recorded=1))
    (anew,) = run(job_of(None, SCRATCH, split="confirm"))
    assert result.scores == anew.scores


# --- tasks of differing sizes ---------------------------------------------------------------------

FEWEST = Episode(way=1, shot=16, query=16, per_class=False, fewest=2)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> TaskFamily:
    """A table whose 38 tasks have 3 to 40 rows."""
    path = tmp_path_factory.mktemp("uneven") / "rows.parquet"
    uneven_rows().drop(columns="label").to_parquet(path)
    options = {"data": [str(path)], "task": "task", "target": "y", "metric": "mse"}
    return open_family("table", options=options)


OWN_HEAD = Strategy(
    backbone=MLP(width=8, depth=2), head=OwnHead(use="own_parts:Smoother"), outer=MAML.outer
)


@pytest.mark.parametrize("kind", [*KINDS, "an own head"])
def test_a_table_of_small_and_large_tasks_is_trained_and_scored_on(
    tmp_path: Path, uneven: TaskFamily, kind: str
) -> None:
    groups = uneven.usable_groups("select", FEWEST)
    assert set(groups) == set(uneven.info.groups["select"])
    job = job_of(tmp_path, KINDS.get(kind, OWN_HEAD), episode=FEWEST, tasks=2 * len(groups),
                 rungs=(1_000, 3_000), code=str(EXAMPLES))  # fmt: skip
    *_, last = run_trial(job, uneven)
    assert last.outcome == "completed", last.reason
    assert set(last.groups) == set(groups)
    assert all(math.isfinite(score) for score in last.scores)
    assert not last.transductive
    # What was kept of it makes a blend that scores the same.
    kept = replace(job, parts=(rung_folder(tmp_path, last.rung),), train=False)
    (blended,) = run_trial(kept, uneven)
    assert blended.scores == pytest.approx(last.scores, rel=2e-2, abs=1e-2)


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_part_that_raises_ends_the_trial_as_failed_with_the_traceback() -> None:
    images_wanted = MAML.model_copy(update={"backbone": Conv4(width=2, depth=1)})
    (result,) = run(job_of(None, images_wanted))
    assert (result.outcome, result.rung, result.scores) == ("failed", 1, ())
    assert result.reason.startswith("Traceback (most recent call last)")
    assert "backbones.py" in result.reason


@pytest.mark.parametrize(("change", "said"), [
    ({"strategy": {"backbone": {"kind": "mpl"}}}, "mpl"),
    ({"family": "sinusiod"}, "sinusiod"),
    ({"family": "omniglot", "data_dir": "/nowhere"}, "/nowhere"),
])  # fmt: skip
def test_a_job_that_cannot_start_ends_as_failed(change: dict[str, Any], said: str) -> None:
    (result,) = run(replace(job_of(None), **change))
    assert result.outcome == "failed"
    assert said in result.reason


def test_training_that_leaves_the_finite_numbers_ends_as_diverged(tmp_path: Path) -> None:
    wild = Outer(kind="sgd", lr=1e6, tasks_per_batch=2, schedule="constant")
    (result,) = run(job_of(tmp_path, MAML.model_copy(update={"outer": wild})))
    assert (result.outcome, result.rung, result.scores) == ("diverged", 1, ())
    assert "at meta-step" in result.reason
    assert "Traceback" not in result.reason
    assert list(tmp_path.iterdir()) == []


def test_scores_that_are_not_finite_end_as_diverged() -> None:
    wild = SCRATCH.model_copy(update={"inner": Steps(steps=50, lr=1e9)})
    (result,) = run(job_of(None, wild))
    assert result.outcome == "diverged"
    assert result.reason == "predictions are not finite at meta-step 0"
    # The one step that the first rung has room for ruins the weights.
    wild = MAML.model_copy(update={"outer": Outer(kind="sgd", lr=1e9)})
    (result,) = run(job_of(None, wild, rungs=(1, 100_000)))
    assert (result.outcome, result.rung) == ("diverged", 1)
    assert result.reason.endswith("at meta-step 1")


def test_a_trial_that_diverges_later_keeps_its_earlier_rungs(tmp_path: Path) -> None:
    cut_short(job_of(tmp_path), 1)
    wild = MAML.model_copy(update={"outer": Outer(kind="sgd", lr=1e8, tasks_per_batch=2)})
    rest = run(job_of(tmp_path, wild, recorded=1))
    assert [(result.rung, result.outcome) for result in rest] == [(2, "diverged")]
    assert load(tmp_path, 1) is not None
