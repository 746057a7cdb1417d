"""From a run to an artifact: the same strategy, learned on what the card says."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from inline_runner import SPACE, inline_run, rows_of
from safetensors.torch import load_file

import metatune
from metatune.artifact.export import export
from metatune.errors import ArtifactError, MetatuneError, RunError
from metatune.evaluation import evaluation_tasks, judge
from metatune.learners.interface import to_tensors
from metatune.records.rows import Asked, Scored
from metatune.session import planned
from metatune.tasks.registry import open_family


def recorded(run, trial):
    """What a trial scored on ``select`` at its last rung."""
    own = [r for r in rows_of(run) if isinstance(r, Scored) and r.trial == trial]
    return max((r for r in own if r.split == "select"), key=lambda r: r.rung)


def scores_of(artifact, run, round_=1):
    """What an artifact scores on the tasks that trials were scored on."""
    _, plan = planned(run)
    space = plan.space.space
    family = open_family(space.family.name, space.family.data_dir, plan.options)
    found = []
    for batch in evaluation_tasks(
        family, "select", space.episode, plan.tasks("select"), plan.seed, round_
    ):
        tasks = to_tensors(batch)
        each = [
            artifact.learned(tasks.support_x[t], tasks.support_y[t], space.episode.way)(
                tasks.query_x[t]
            )
            for t in range(len(tasks))
        ]
        found += judge(family.info.metric, torch.stack(each), tasks).tolist()
    return found


@pytest.mark.parametrize(("run", "trial"), [
    ("finished", "r1-0000"), ("finished", "winner"), ("table_run", "r1-0000"),
    ("table_run", "r1-0001"),
])  # fmt: skip
def test_what_was_exported_as_trained_scores_as_the_trial_did(run, trial, tmp_path, request):
    path = request.getfixturevalue(run)
    name = None if trial == "winner" else trial
    artifact = metatune.load(export(path, tmp_path / "artifact", trial=name, refit=False))
    own = artifact.stored.plain["provenance"]["trials"][0]
    np.testing.assert_allclose(scores_of(artifact, path), recorded(path, own).scores, atol=1e-6)


def test_after_the_verdict_the_winner_is_trained_once_more_on_all_groups(table_run, table_artifact):
    artifact = metatune.load(table_artifact)
    assert artifact.stored.plain["provenance"]["refitted_on_all_groups"]
    assert scores_of(artifact, table_run) != recorded(table_run, "r1-0000").scores
    text = (table_artifact / "card.md").read_text()
    assert "**The scores below are the strategy's, from before**" in " ".join(text.split())


def test_the_card_says_what_was_measured_and_what_not(sine, finished, table_artifact):
    winner = metatune.read_run(finished).verdicts.iloc[-1]
    text = " ".join((sine / "card.md").read_text().split())
    assert winner["sentence"] in text
    assert "95 % interval" in text
    assert "Not stated." in text
    assert "8 tasks of `confirm`" in text  # tasks of a formula have no groups
    own = (table_artifact / "card.md").read_text()
    assert "CC0" in own
    assert "groups of `confirm`" in own


def test_the_origin_is_written_down(sine, finished):
    origin = json.loads((sine / "strategy.json").read_text())["provenance"]
    about = metatune.read_run(finished).info
    assert origin["run"] == about["run"]
    assert origin["data"] == about["data"]
    assert origin["seed"] == about["seed"]
    assert origin["versions"]["torch"] == torch.__version__
    asked = {r.trial: r.digest for r in rows_of(finished) if isinstance(r, Asked)}
    assert origin["digests"] == [asked[trial] for trial in origin["trials"]]


def test_an_artifact_is_three_files_and_none_is_a_pickle(table_artifact):
    files = sorted(path.name for path in table_artifact.iterdir())
    assert files == ["card.md", "strategy.json", "weights.safetensors"]
    assert any("pooled" in name for name in load_file(table_artifact / "weights.safetensors"))
    for path in table_artifact.iterdir():
        assert b"\x80\x04" not in path.read_bytes()[:64]  # how a pickle begins
        assert not path.read_bytes().startswith(b"PK")


def test_an_export_repeats_exactly(finished, sine, tmp_path):
    again = export(finished, tmp_path / "again")
    for name in ("strategy.json", "weights.safetensors", "card.md"):
        assert (again / name).read_bytes() == (sine / name).read_bytes()


def test_parts_of_ones_own_are_named_and_loaded_from_a_module(tmp_path):
    """A run over a head of the user's own: its code stays with the user."""
    shutil.copy(Path(__file__).parents[2] / "examples" / "own_parts.py", tmp_path / "my_parts.py")
    space = (
        SPACE[: SPACE.index("common:")]
        + """\
default: mine
initial:
  - {name: mine, head: {kind: own, use: "my_parts:Smoother"}, meta: {rule: first_order}}
strategy:
  head: {kind: ridge, penalty: {float: [0.1, 10.0], log: true}}
verdict: {seeds: 1, best_seeds: 1, finalists: 1}
"""
    )
    run = inline_run(space, tmp_path / "run", trials=1)
    folder = export(run, tmp_path / "artifact")
    with pytest.raises(ArtifactError, match=r"parts of its maker's own \(head my_parts:Smoother\)"):
        metatune.load(folder)
    artifact = metatune.load(folder, parts=sys.modules["my_parts"])
    assert artifact.adapt([[-2.0], [2.0]], [-1.0, 1.0]).predict([[-2.0], [2.0]]).shape == (2,)


# --- what cannot be exported ----------------------------------------------------------------------


@pytest.mark.parametrize(("trial", "said"), [
    ("r1-0001", r"found r1-0001, which is diverged; allowed: a completed one"),
    ("r9-0000", r"found 'r9-0000', which .* does not have; allowed: r1-"),
])  # fmt: skip
def test_only_completed_trials_are_exported(finished, tmp_path, trial, said):
    with pytest.raises(ArtifactError, match=said):
        export(finished, tmp_path / "artifact", trial=trial)
    assert not (tmp_path / "artifact").exists()


def test_a_folder_with_something_in_it_stays_as_it_is(finished, tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(ArtifactError, match=r"exists and is not empty: name a new folder"):
        export(finished, tmp_path)


def damage(run, what):
    match what:
        case "no run.json":
            (run / "run.json").unlink()
        case "half a run.json":
            (run / "run.json").write_bytes((run / "run.json").read_bytes()[:99])
        case "an empty run.json":
            (run / "run.json").write_text("{}")
        case "another space":
            (run / "space.yaml").write_text((run / "space.yaml").read_text() + "\n# changed\n")
        case "no verdict":
            for log in (run / "records").glob("log-*"):
                log.write_bytes(b"".join(log.read_bytes().splitlines(True)[:5]))
            shutil.rmtree(next((run / "records").glob("parquet-*")))


@pytest.mark.parametrize(("what", "said"), [
    ("no run.json", r"is not a run folder: run.json is missing"),
    ("half a run.json", r"run.json cannot be read"),
    ("an empty run.json", r"run.json is incomplete: it lacks 'space_sha256'"),
    ("another space", r"was changed since the run started"),
    ("no verdict", r"has given no verdict: name a trial by --trial"),
])  # fmt: skip
def test_of_a_damaged_run_one_sentence_is_said(finished, tmp_path, what, said):
    run = shutil.copytree(finished, tmp_path / "run")
    damage(run, what)
    with pytest.raises((RunError, ArtifactError), match=said) as caught:
        export(run, tmp_path / "artifact")
    assert isinstance(caught.value, MetatuneError)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_was_lost_is_trained_again_alike(finished, sine, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    for weights in (run / "trials").rglob("weights.safetensors"):
        weights.write_bytes(b"half")
    again = export(run, tmp_path / "artifact")
    assert (again / "weights.safetensors").read_bytes() == (
        sine / "weights.safetensors"
    ).read_bytes()
