"""Padding: a smaller task is learned, taught from and judged as if it stood alone without it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from families import MOLECULES, SERIES, SMALL_IMAGES, TABLES, WAVES, alone, padded, random_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.learners.interface import Learner, Tensors
from metatune.learners.learner import build_learner
from metatune.learners.padding import BySize, by_size, put, real
from metatune.learners.training import loss_and_gradients
from metatune.presets import PRESETS, presets_for
from metatune.strategy import (
    GP,
    MLP,
    Amortised,
    Conv4,
    Linear,
    Logistic,
    Meta,
    NearestNeighbour,
    OwnBackbone,
    OwnHead,
    Pooled,
    Prototypes,
    ResidualMLP,
    Ridge,
    Seeds,
    SetEncoder,
    Steps,
    Strategy,
    SupportMean,
    problems,
)
from metatune.strategy.parts import OwnPart
from metatune.tasks.base import Episode

sys.path.append(str(Path(__file__).parents[2] / "examples"))

# A smaller task may lack a class, so classes are the same in all tasks.
INFOS = {
    "waves": WAVES,
    "molecules": MOLECULES,
    "series": SERIES,
    "tables": replace(TABLES, shared_classes=True),
    "images": replace(SMALL_IMAGES, shared_classes=True),
}
EPISODES = {name: Episode(1, 7, 6) for name in INFOS} | {
    "tables": Episode(3, 3, 2),
    "images": Episode(3, 3, 2),
}
SIZES = ([7, 2, 4], [6, 1, 3])

NET = MLP(width=5, depth=2, activation="tanh")
SECOND, TRUNCATED = Meta(rule="second_order"), Meta(rule="truncated", truncate=1)
IMPLICIT = Meta(rule="implicit", truncate=5)
STEPS = Steps(steps=2, lr=0.05)
KERNELS = GP(linear="learned", rbf="learned+raw", tanimoto="fingerprint")
CONV = Conv4(width=4, depth=2)


def conv(norm: str) -> Strategy:
    return Strategy(backbone=CONV.model_copy(update={"norm": norm}), head=Prototypes())


PARTS: dict[str, tuple[str, Strategy]] = {
    "a task's statistics": (
        "molecules", Strategy(backbone=MLP(width=5, norm="support"), head=Ridge())
    ),
    "statistics of both sets": (
        "molecules", Strategy(backbone=ResidualMLP(width=5, norm="transductive"), head=Ridge())
    ),
    "statistics through steps": (
        "molecules",
        Strategy(backbone=MLP(width=5, norm="transductive"), inner=STEPS, meta=SECOND),
    ),
    "layer norm": ("tables", Strategy(backbone=MLP(width=5, norm="layer"), head=Ridge())),
    "set encoder": ("waves", Strategy(backbone=SetEncoder(width=6), inner=STEPS, meta=SECOND)),
    "ridge, free": ("molecules", Strategy(backbone=NET, head=Ridge(intercept="free"))),
    "logistic": ("tables", Strategy(backbone=NET, head=Logistic(learn=True))),
    "logistic on unit vectors": ("tables", Strategy(backbone=NET, head=Logistic(normalise=True))),
    "cosine prototypes": (
        "tables", Strategy(backbone=NET, head=Prototypes(distance="cosine", learn=True))
    ),
    "neighbours' mean": (
        "molecules",
        Strategy(
            head=NearestNeighbour(neighbours=3, distance="tanimoto", view="fingerprint"),
            meta=Meta(rule="none"),
        ),
    ),
    "neighbours' vote": (
        "tables", Strategy(head=NearestNeighbour(neighbours=4), meta=Meta(rule="none"))
    ),
    "kernels": ("molecules", Strategy(prior=SupportMean(learn=True), backbone=NET, head=KERNELS)),
    "kernels on classes": ("tables", Strategy(backbone=NET, head=GP())),
    "neural process": ("tables", Strategy(backbone=NET, head=Amortised(width=8))),
    "attention": (
        "tables", Strategy(backbone=NET, head=Amortised(summary="attention", width=8, heads=2))
    ),
    "attention to numbers": (
        "waves", Strategy(backbone=NET, head=Amortised(summary="attention", width=8, heads=2))
    ),
    "zero start": ("tables", Strategy(backbone=NET, head=Linear(start="zero"), inner=STEPS)),
    "ridge start": (
        "waves", Strategy(backbone=NET, head=Linear(start="ridge"), inner=STEPS, meta=SECOND)
    ),
    "prototypes' start": (
        "tables", Strategy(backbone=NET, head=Linear(start="prototypes"), inner=STEPS, meta=SECOND)
    ),
    "cosine start": (
        "tables",
        Strategy(backbone=NET, head=Linear(start="prototypes", similarity="cosine"), inner=STEPS),
    ),
    "momentum, truncated": (
        "waves",
        Strategy(backbone=NET, inner=STEPS.model_copy(update={"kind": "momentum"}), meta=TRUNCATED),
    ),
    "adam, head alone": (
        "waves",
        Strategy(
            backbone=NET,
            inner=STEPS.model_copy(update={"kind": "adam", "scope": "head", "rate": "learned"}),
            meta=SECOND,
        ),
    ),
    "context": (
        "waves",
        Strategy(backbone=NET, inner=STEPS.model_copy(update={"scope": "context"}), meta=SECOND),
    ),
    "implicit": (
        "waves",
        Strategy(backbone=NET, inner=STEPS.model_copy(update={"proximal": 0.5}), meta=IMPLICIT),
    ),
    "loss of many steps": (
        "waves",
        Strategy(
            backbone=NET, inner=STEPS, meta=Meta(rule="second_order", multi_step_until=0.5)
        ),
    ),
    "pooled, learned": (
        "molecules", Strategy(prior=Pooled(model="linear", learn=True), head=Ridge(), backbone=NET)
    ),
    "cross-fitted": (
        "molecules", Strategy(backbone=NET, head=Ridge(), meta=Meta(cross_fit="group", folds=2))
    ),
    "seeds": ("tables", Strategy(backbone=NET, head=Ridge(), combination=Seeds(members=2))),
    "images' support statistics": ("images", conv("support")),
    "images' statistics of both sets": ("images", conv("transductive")),
    "images by layer": ("images", conv("layer")),
    "images by steps": (
        "images",
        Strategy(
            backbone=CONV.model_copy(update={"norm": "support"}), inner=STEPS, meta=SECOND
        ),
    ),
    "images by first-order steps": (
        "images",
        Strategy(
            backbone=CONV.model_copy(update={"norm": "transductive"}), inner=STEPS, meta=Meta()
        ),
    ),
    "own backbone": (
        "waves", Strategy(backbone=OwnBackbone(use="own_parts:Fourier"), head=Ridge())
    ),
    "own head": ("waves", Strategy(backbone=NET, head=OwnHead(use="own_parts:Smoother"))),
    "own learner": ("waves", Strategy(learner=OwnPart(use="own_parts:Shrunk"))),
}  # fmt: skip


def small(strategy: Strategy) -> Strategy:
    """A preset on a small network with smooth layers, and with few steps."""
    changes: dict[str, Any] = {}
    if isinstance(strategy.backbone, Conv4):
        changes["backbone"] = strategy.backbone.model_copy(update={"width": 4, "depth": 2})
    if isinstance(strategy.inner, Steps):
        few = {"steps": min(3, strategy.inner.steps), "test_steps": None}
        changes["inner"] = strategy.inner.model_copy(update=few)
    return strategy.model_copy(update=changes)


CASES: dict[str, tuple[str, Strategy]] = {
    f"{name} on {place}": (place, small(PRESETS[name](info)))
    for place, info in INFOS.items()
    for name in presets_for(info)
} | PARTS


SIDES = ("support", "query")


def tasks_of(place: str, seed: int = 0) -> Tensors:
    """Whole tasks in double precision, their support in random order."""
    batch = random_tasks(INFOS[place], EPISODES[place], seed=seed, dtype=torch.float64)
    if INFOS[place].kind == "regression":
        # Any values will do for what a pooled model says.
        pooled = {f"{s}_pooled": getattr(batch, f"{s}_y").sin() for s in SIDES}
        return replace(batch, **pooled)
    if INFOS[place].shared_classes:
        values = {s: F.one_hot(getattr(batch, f"{s}_y"), EPISODES[place].way) for s in SIDES}
        batch = replace(batch, **{f"{s}_pooled": v.double().sin() for s, v in values.items()})
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(batch.support_x.shape[1], generator=rng)
    names = ("x", "y", "class", "pooled") if INFOS[place].shared_classes else ("x", "y", "class")
    mixed = {f"support_{n}": getattr(batch, f"support_{n}")[:, order] for n in names}
    return replace(batch, **mixed)


def learner_of(case: str) -> Learner:
    place, strategy = CASES[case]
    assert not problems(strategy, INFOS[place], EPISODES[place])
    return build_learner(strategy, INFOS[place], EPISODES[place].way)


def start_of(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.double() for name, p in learner.init(3).items()}


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def assert_learned_as_alone(case: str, batch: Tensors) -> None:
    learner = learner_of(case)
    params = start_of(learner)
    with torch.no_grad():
        found = learner.predict(params, batch)
        for task, own in enumerate(alone(batch)):
            close(found[task, : own.query_x.shape[1]], learner.predict(params, own)[0])


# --- learned --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_a_padded_task_is_predicted_as_the_same_task_without_padding(case: str) -> None:
    assert_learned_as_alone(case, padded(tasks_of(CASES[case][0]), *SIZES))


@settings(max_examples=60)
@given(
    case=st.sampled_from(sorted(CASES)),
    support=st.lists(st.integers(2, 7), min_size=3, max_size=3),
    query=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    seed=st.integers(0, 2**31),
)
def test_so_it_is_whatever_the_sizes(
    case: str, support: list[int], query: list[int], seed: int
) -> None:
    assert_learned_as_alone(case, padded(tasks_of(CASES[case][0], seed), support, query, seed))


@pytest.mark.parametrize("case", CASES)
def test_masks_of_nothing_but_real_examples_change_nothing(case: str) -> None:
    batch = tasks_of(CASES[case][0])
    whole = padded(batch, [batch.support_x.shape[1]] * 3, [batch.query_x.shape[1]] * 3)
    learner = learner_of(case)
    params = start_of(learner)
    with torch.no_grad():
        close(learner.predict(params, whole), learner.predict(params, batch))


# --- taught from ----------------------------------------------------------------------------------


def trained(case: str) -> bool:
    strategy = CASES[case][1]
    return strategy.meta.rule != "none"


@pytest.mark.parametrize("case", [case for case in CASES if trained(case)])
def test_meta_gradients_are_those_of_the_same_tasks_without_padding(case: str) -> None:
    place, strategy = CASES[case]
    learner, batch = learner_of(case), padded(tasks_of(place), *SIZES)
    params = start_of(learner)
    value, grads = loss_and_gradients(learner, params, batch, 0.2)
    if strategy.meta.rule == "joint":
        expected = [(1.0, *loss_and_gradients(learner, params, as_one(alone(batch)), 0.2))]
    else:
        expected = [
            (1 / len(batch), *loss_and_gradients(learner, params, task, 0.2))
            for task in alone(batch)
        ]
    assert value == pytest.approx(sum(w * v for w, v, _ in expected), rel=1e-7)
    for name, found in grads.items():
        if name.startswith("fold"):
            continue  # copies for cross-fitting learn from other tasks than each by itself
        sums = [w * g[name] for w, _, g in expected if g[name] is not None]
        assert (found is None) == (not sums), name
        if found is not None:
            close(found, torch.stack(sums).sum(0))


def as_one(tasks: list[Tensors]) -> Tensors:
    """All examples of all tasks as one task."""
    joined = {
        name: torch.cat([getattr(task, name) for task in tasks], 1)
        for name in vars(tasks[0])
        if isinstance(getattr(tasks[0], name), torch.Tensor)
    }
    return replace(tasks[0], **joined)


@pytest.mark.parametrize("case", [case for case in CASES if trained(case)])
def test_what_stands_in_padding_changes_no_meta_gradient(case: str) -> None:
    learner, tasks = learner_of(case), tasks_of(CASES[case][0])
    params = start_of(learner)
    (one, grads), (other, others) = (
        loss_and_gradients(learner, params, padded(tasks, *SIZES, seed), 0.2) for seed in (1, 2)
    )
    assert one == pytest.approx(other, rel=1e-9)
    for name, found in grads.items():
        if found is not None:
            close(found, others[name])


# --- size by size ---------------------------------------------------------------------------------


@given(
    support=st.lists(st.integers(1, 4), min_size=5, max_size=5),
    query=st.lists(st.integers(1, 3), min_size=5, max_size=5),
)
def test_tasks_of_a_size_go_together_and_come_back_to_their_places(
    support: list[int], query: list[int]
) -> None:
    batch = padded(random_tasks(WAVES, Episode(1, 4, 3), tasks=5), support, query)
    assert batch.support_mask is not None
    found = torch.zeros_like(batch.support_y)
    seen = []
    for tasks, own in by_size(batch):
        assert own.support_mask is None
        assert own.query_mask is None
        assert {(support[task], query[task]) for task in tasks} == {
            (own.support_y.shape[1], own.query_y.shape[1])
        }
        put(found, batch.support_mask, tasks, own.support_y)
        seen += tasks
    assert sorted(seen) == list(range(5))
    assert len({(s, q) for s, q in zip(support, query, strict=True)}) == len(list(by_size(batch)))
    real_ones = batch.support_mask.unsqueeze(2)
    assert torch.equal(found, torch.where(real_ones, batch.support_y, 0))


def test_examples_after_copies_of_padded_support_sets_are_cut_all_the_same() -> None:
    """Augmentation repeats a support set, so padding is not always behind."""
    batch = padded(random_tasks(WAVES, Episode(1, 4, 3)), [4, 2, 2], [3, 3, 3])
    assert batch.support_mask is not None
    twice = torch.cat([batch.support_mask] * 2, 1)[1:]
    values = torch.cat([batch.support_y] * 2, 1)[1:]
    expected = torch.cat([batch.support_y[1:, :2]] * 2, 1)
    assert torch.equal(real(values, twice), expected)


def test_parts_without_a_word_of_masks_never_see_padding() -> None:
    class Seen:
        def __init__(self) -> None:
            self.batches: list[Tensors] = []

        def init(self, seed: int) -> dict[str, torch.Tensor]:
            return {}

        def predict(self, params: dict[str, torch.Tensor], batch: Tensors) -> torch.Tensor:
            self.batches.append(batch)
            return batch.query_y

        def meta_loss(
            self, params: dict[str, torch.Tensor], batch: Tensors, progress: float
        ) -> torch.Tensor:
            return batch.query_y.mean()

    part = Seen()
    learner = BySize(part)
    whole = random_tasks(WAVES, Episode(1, 4, 3))
    assert torch.equal(learner.predict({}, whole), whole.query_y)
    assert part.batches == [whole]
    batch = padded(whole, [4, 2, 2], [3, 3, 3])
    learner.predict({}, batch)
    assert [len(seen) for seen in part.batches[1:]] == [1, 2]
    assert all(seen.support_mask is None for seen in part.batches)
    expected = torch.stack([task.query_y.mean() for task in alone(batch)]).mean()
    close(learner.meta_loss({}, batch, 0.0), expected)
