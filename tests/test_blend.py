"""Blends: the mean of predictions, which of them are blended, and what that scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor
from user_tables import plain_rows

from metatune.blend import blend, choose, stacked
from metatune.checkpoint import load_predictions
from metatune.evaluation import evaluation_tasks
from metatune.jobs import RungResult, TrialJob, rung_folder
from metatune.presets import preset
from metatune.strategy import MLP, Prototypes, Ridge, Strategy
from metatune.tasks.base import Episode, TaskFamily
from metatune.tasks.registry import open_family
from metatune.trial import run_trial

# --- the mean ------------------------------------------------------------------------------------


def test_in_a_regression_it_is_the_mean_prediction() -> None:
    members = torch.randn(3, 4, 5, 2)
    torch.testing.assert_close(blend(members, classes=False), members.mean(0))


def test_of_classes_it_is_the_logarithm_of_the_mean_probability() -> None:
    members = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 3.0]])[:, None, None]
    expected = members.softmax(3).mean(0).log()
    torch.testing.assert_close(blend(members, classes=True), expected)
    shifted = members + torch.tensor([5.0, -5.0, 0.0])[:, None, None, None]  # logits say the same
    torch.testing.assert_close(blend(shifted, classes=True), expected)


def test_predictions_of_other_queries_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found \[\(4, 5, 2\), \(4, 6, 2\)\]"):
        stacked([torch.zeros(4, 5, 2), torch.zeros(4, 6, 2)])


# --- the choice ----------------------------------------------------------------------------------


def near(target: Tensor) -> object:
    return lambda prediction: -float((prediction - target).square().mean())


def chosen(*errors: tuple[float, ...], most: int = 5) -> tuple[int, ...]:
    """Which candidates are blended whose predictions are wrong by so much on each task."""
    predictions = torch.tensor(errors)[:, :, None, None]
    return choose(predictions, False, most, near(torch.zeros_like(predictions[0])))  # type: ignore[arg-type]


def test_the_best_comes_first_then_what_makes_up_for_its_errors() -> None:
    # The second is the better one alone; the third errs where the first does not.
    assert chosen((1.0, 0.0), (1.1, 0.0), (-1.2, 0.0)) == (0, 2)


def test_it_stops_when_nothing_helps() -> None:
    assert chosen((1.0, 1.0), (2.0, 2.0), (3.0, 3.0)) == (0,)
    assert chosen((1.0, 0.0), (1.0, 0.0)) == (0,)  # the same again is no help


def test_it_stops_at_the_most_members() -> None:
    errors = [tuple(4.0 * (i == j) for j in range(4)) for i in range(4)]
    assert chosen(*errors, most=4) == (0, 1, 2, 3)
    assert chosen(*errors, most=2) == (0, 1)


def test_no_member_is_chosen_twice() -> None:
    # With replacement the first would be taken again, for its weight of two thirds.
    assert chosen((1.0,), (-2.5,), most=3) == (0, 1)


# --- on kept predictions -------------------------------------------------------------------------

MEMBERS = (
    Strategy(backbone=MLP(width=8, depth=1), head=Prototypes()),
    Strategy(backbone=MLP(width=8, depth=1), head=Ridge()),
    Strategy(backbone=MLP(width=4, depth=1), head=Prototypes(scale=3.0)),
)


def job_of(number: int, folder: Path) -> TrialJob:
    return TrialJob(
        trial=f"r1-000{number}",
        round=1,
        replica=0,
        strategy=MEMBERS[number].model_dump(mode="json"),
        family="tiny",
        data_dir=None,
        episode=Episode(4, 1, 3),
        run_seed=5,
        rungs=(600,),
        recorded=0,
        split="select",
        tasks=12,
        train=True,
        folder=str(folder / str(number)),
    )


@pytest.fixture
def kept(tiny: TaskFamily, tmp_path: Path) -> TrialJob:
    """Three strategies were trained; the job that blends what they predicted on ``select``."""
    for number in range(len(MEMBERS)):
        *_, last = run_trial(job_of(number, tmp_path), tiny)
        assert last.outcome == "completed"
    folders = tuple(rung_folder(tmp_path / str(i), 1) for i in range(len(MEMBERS)))
    return replace(
        job_of(0, tmp_path), trial="r1-e0", strategy={}, train=False, recorded=1, parts=folders
    )


def only_result(job: TrialJob, family: TaskFamily) -> RungResult:
    (result,) = run_trial(job, family)
    return result


def by_hand(job: TrialJob, family: TaskFamily, members: tuple[int, ...]) -> NDArray[np.float64]:
    """Accuracy on each task of the members' mean probability."""
    batches = evaluation_tasks(family, "select", job.episode, job.tasks, job.run_seed, 1)
    labels = np.concatenate([batch.query_y for batch in batches])
    total = np.zeros(1)
    for member in members:
        raw = load_file(Path(job.parts[member]) / "select.safetensors")["predictions"]
        odds = np.exp(raw.astype(np.float64))
        total = total + odds / odds.sum(2, keepdims=True)
    means: NDArray[np.float64] = (total.argmax(2) == labels).mean(1)
    return means


def test_a_blend_scores_what_the_mean_probability_of_all_its_parts_scores(
    kept: TrialJob, tiny: TaskFamily
) -> None:
    result = only_result(kept, tiny)
    assert result.outcome == "completed"
    assert result.chosen == (0, 1, 2)
    assert result.scores == pytest.approx(by_hand(kept, tiny, (0, 1, 2)))
    assert len(result.tasks) == len(result.groups) == 12
    assert (result.resource, result.train_seconds) == (0, 0.0)


def test_of_one_alone_it_scores_what_was_recorded(
    kept: TrialJob, tiny: TaskFamily, tmp_path: Path
) -> None:
    folder = tmp_path / "again"
    folder.mkdir()  # a run's, which stands before its trials
    *_, trained = run_trial(job_of(1, folder), tiny)
    result = only_result(replace(kept, parts=kept.parts[1:2]), tiny)
    assert (result.scores, result.tasks, result.groups) == (
        trained.scores, trained.tasks, trained.groups,
    )  # fmt: skip


def test_the_choice_is_greedy_by_the_mean_score(kept: TrialJob, tiny: TaskFamily) -> None:
    result = only_result(replace(kept, most=3), tiny)
    members = result.chosen

    def mean(*some: int) -> float:
        return float(by_hand(kept, tiny, some).mean())

    assert mean(members[0]) == max(mean(i) for i in range(3))
    for count in range(2, len(members) + 1):
        rest = set(range(3)) - set(members[: count - 1])
        assert mean(*members[:count]) == max(mean(*members[: count - 1], i) for i in rest)
        assert mean(*members[:count]) > mean(*members[: count - 1])
    assert all(
        mean(*members, i) <= mean(*members) for i in set(range(3)) - set(members)
    )  # nothing that was left out helps
    assert result.scores == pytest.approx(by_hand(kept, tiny, members))


def test_predictions_that_are_gone_fail_the_job_with_the_traceback(
    kept: TrialJob, tiny: TaskFamily
) -> None:
    (Path(kept.parts[1]) / "select.safetensors").unlink()
    result = only_result(kept, tiny)
    assert result.outcome == "failed"
    assert "select.safetensors" in result.reason
    assert load_predictions(kept.parts[0], "select").dtype == torch.float32


def test_a_blend_opens_its_family_with_the_options_that_its_parts_had(tmp_path: Path) -> None:
    plain_rows().to_csv(tmp_path / "rows.csv", index=False)
    options = {"data": [str(tmp_path / "rows.csv")], "task": "task", "target": "y"}
    options["metric"] = "mse"
    family = open_family("table", None, options)
    part = replace(
        job_of(0, tmp_path),
        strategy=preset("ridge", family.info).model_dump(mode="json"),
        family="table",
        options=options,
        episode=Episode(1, 4, 4, per_class=False),
        rungs=(1_000,),
    )
    *_, alone = run_trial(part)
    blended = replace(
        part, strategy={}, train=False, recorded=1, parts=(rung_folder(tmp_path / "0", 1),)
    )
    (result,) = run_trial(blended)
    assert (alone.outcome, result.outcome, result.reason) == ("completed", "completed", "")
    assert result.tasks == alone.tasks
    assert result.scores == pytest.approx(alone.scores, abs=0.01)  # kept in half precision
