"""Adjust: a leader's child by the gradient, and the region after a round, in whole runs."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest
from handmade import SPACE as SPACE_BY_HAND
from handmade import TWO, Story, plan_of, prototypes
from inline_runner import SPACE, InlineRunner, inline_resume, inline_run, lasting, rows_of
from test_meta_loop import cut_copy

import metatune
from metatune.adjust import adjust
from metatune.confirm import confirmation
from metatune.search import evidence_after
from metatune.space import Method, Region, load_space

GRADIENT = (
    SPACE.replace("trials: 9", "trials: 14")
    .replace("rounds: {count: 1}", "rounds: {count: 1}\nadjust: {gradient: true}")
    .replace("initial:\n", "initial:\n  - {name: gentle, preset: fomaml, inner: {lr: 0.02}}\n")
    .replace("seeds: 2", "seeds: 1")
)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose leader got a child."""
    return inline_run(GRADIENT, tmp_path_factory.mktemp("gradient") / "run")


def made_from_the_leader(run: metatune.Run) -> dict[str, dict[str, object]]:
    own = run.trials[run.trials["parent"].notna()]
    return {str(row["origin"]) + str(i): dict(row) for i, (_, row) in enumerate(own.iterrows())}


def test_the_leader_gets_a_child_after_what_finds_out_where_to_move_it(followed: Path) -> None:
    run = metatune.read_run(followed)
    made = run.trials[run.trials["parent"].notna()]
    assert made["parent"].nunique() == 1
    assert list(made["origin"]) in (
        ["promoted", "probe", "probe", "child"],
        ["probe", "probe", "child"],  # where the leader learns its numbers itself
    )
    assert len(run.trials) <= 14
    assert (made["state"] == "completed").all()


def test_the_child_is_the_leader_with_other_numbers(followed: Path) -> None:
    run = metatune.read_run(followed)
    (child,) = run.trials.query("origin == 'child'").itertuples()
    parent, own = (
        json.loads(run.trials.loc[trial, "strategy"]) for trial in (child.parent, child.Index)
    )
    different = {
        (part, key)
        for part in parent
        if isinstance(parent[part], dict)
        for key in parent[part]
        if parent[part][key] != own[part].get(key)
    }
    assert different
    assert different <= {("outer", "lr"), ("inner", "lr"), ("head", "penalty")}


def test_probes_differ_from_the_leader_in_their_rate(followed: Path) -> None:
    run = metatune.read_run(followed)
    probes = run.trials.query("origin == 'probe'")
    parent = json.loads(run.trials.loc[probes["parent"].iloc[0], "strategy"])
    rates = [json.loads(text)["outer"]["lr"] / parent["outer"]["lr"] for text in probes["strategy"]]
    assert rates == pytest.approx([1 / 1.5, 1.5])


def test_probes_and_the_child_share_the_leaders_seed(tmp_path: Path) -> None:
    runner = InlineRunner()
    run = metatune.read_run(inline_run(GRADIENT, tmp_path / "run", runner=runner))
    common = run.trials.query("origin in ('probe', 'child')")
    assert set(common["origin"]) == {"probe", "child"}
    seeds = {job.trial: job.seed_of for job in runner.jobs if job.split == "select"}
    assert {seeds[trial] for trial in common.index} == set(common["parent"])
    assert all(of is None for trial, of in seeds.items() if trial not in common.index)


def test_only_the_child_is_looked_at_on_confirm(followed: Path) -> None:
    run = metatune.read_run(followed)
    looked = run.trials.loc[run.looks.iloc[0]["trials"], "origin"]
    assert not set(looked) & {"promoted", "probe"}


def test_a_run_killed_on_the_way_to_the_child_ends_with_the_same_records(
    followed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    rows = rows_of(followed)
    first = next(i for i, row in enumerate(rows) if getattr(row, "parent", None) is not None)
    for kept in range(first, min(first + 18, len(rows) - 1), 2):
        copy = cut_copy(followed, tmp_path / str(kept) / "run", rows, kept)
        inline_resume(copy)
        assert lasting(rows_of(copy)) == lasting(rows), f"cut after {kept} rows"
        shutil.rmtree(copy)


def test_the_region_follows_the_leaders_and_says_so(tmp_path: Path) -> None:
    text = SPACE.replace("trials: 9", "trials: 40").replace("count: 1", "count: 2")
    text = text.replace("seeds: 2", "seeds: 1")
    path = inline_run(text, tmp_path / "run")
    run, method = metatune.read_run(path), load_space(path / "method.yaml").method
    moves = [move for moved in run.rounds["moves"] for move in moved]
    assert any("outer.lr: [" in move and "->" in move for move in moves), moves
    low, high = method.region.ranges["outer.lr"]
    assert (low, high) != (1e-3, 1e-2)


def test_a_space_may_keep_its_region(tmp_path: Path) -> None:
    text = SPACE.replace("trials: 9", "trials: 24").replace("seeds: 2", "seeds: 1")
    text = text.replace("rounds: {count: 1}", "rounds: {count: 1}\nadjust: {region: false}")
    path = inline_run(text, tmp_path / "run")
    assert load_space(path / "method.yaml").method.region.ranges == {}
    assert metatune.read_run(path).rounds["moves"].to_list() == [[]]


def test_without_the_default_on_confirm_nobody_is_followed() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    better = story.trial("a", 0.6, 0.6, 0.6)
    driver = story.driver()
    confirmation(driver, Method())
    story.score(better, "confirm", 0.6)  # the default's worker was lost
    adjusted, moves = adjust(Method(), story.driver())
    assert (adjusted.round, adjusted.incumbents, adjusted.region) == (1, (), Region())
    assert moves == []


def test_with_costs_the_region_follows_the_front_below_the_default_too() -> None:
    for text, reaches in ((TWO, True), (SPACE_BY_HAND, False)):
        story = Story(plan_of(text))
        default = story.trial("protonet", 0.5, 0.5, 0.5, seconds=0.2)
        for number in range(6):
            strategy = prototypes(0.5 + number / 100)
            story.trial(f"t{number}", 0.4, 0.4, 0.4, strategy=strategy, seconds=0.3)
        best = story.trial("best", 0.9, 0.9, 0.9, strategy=prototypes(0.6), seconds=0.4)
        fast = story.trial("fast", 0.45, 0.45, 0.45, strategy=prototypes(0.2), seconds=0.1)
        confirmation(story.driver(), Method())
        scores = {default: (0.5, 0.2), best: (0.9, 0.4), fast: (0.45, 0.1)}
        for trial, (score, seconds) in scores.items():
            story.score(trial, "confirm", score, seconds=seconds)
        adjusted, _ = adjust(Method(), story.driver())
        low, _ = adjusted.region.ranges["head.scale"]
        assert (low < 0.15) == reaches


def test_evidence_carries_costs_where_they_are_objectives() -> None:
    for text, known in ((TWO, True), (SPACE_BY_HAND, False)):
        story = Story(plan_of(text))
        story.trial("protonet", 0.5, 0.5, 0.5, seconds=0.2)
        story.trial("fast", 0.4, 0.4, state="stopped", seconds=0.1)
        story.trial("lost", 0.4, state="diverged")
        _, stopped, lost = evidence_after(story.driver(), Method())
        half = pytest.approx(math.log(0.5))
        expected = {"adapt_seconds": ((1, half), (2, half))} if known else {}
        assert stopped.costs == expected
        assert lost.costs == {}
        again = Method.model_validate(Method(evidence=(stopped,)).model_dump(mode="json"))
        assert again.evidence == (stopped,)
