"""ChEMBL: splits by cluster, molecules without replacement, no query molecule that train knows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.errors import DataError
from metatune.tasks.base import R2, SPLITS, Episode
from metatune.tasks.tables.chembl import ChemblFamily, PotencyData, chembl_splits, open_chembl
from metatune.testing import FamilyConformance

TARGETS, SIZE = 12, 30


def handmade() -> PotencyData:
    """12 targets in 6 clusters of two; a third of each target's molecules are of the next one.

    A molecule's number is its first descriptor, a measurement's target the whole part of its
    potency, so that a test can read both from a task.
    """
    rng = np.random.default_rng(0)
    molecules = TARGETS * SIZE
    rows = [(np.arange(SIZE) + t * SIZE * 2 // 3) % molecules for t in range(TARGETS)]
    return PotencyData(
        bits=rng.integers(0, 2, (molecules, 1024)).astype(np.uint8),
        descriptors=np.arange(molecules, dtype=np.float32)[:, None],
        targets=np.array([f"T{t}" for t in range(TARGETS)]),
        clusters=np.arange(TARGETS) // 2,
        start=np.arange(TARGETS + 1) * SIZE,
        molecule=np.concatenate(rows),
        potency=np.repeat(np.arange(TARGETS), SIZE).astype(np.float32),
    )


SPLIT = {"train": (0, 1, 2), "select": (3,), "confirm": (4,), "test": (5,)}
FAMILY = ChemblFamily(handmade(), SPLIT)


def molecules_of(x: np.ndarray) -> np.ndarray:
    """The molecules of inputs, from the order of their one descriptor."""
    known = np.unique(FAMILY._inputs[:, -1])
    return np.searchsorted(known, x[..., -1])


class TestConformance(FamilyConformance):
    episode = Episode(1, 8, 8)

    @pytest.fixture
    def part(self):
        return FAMILY


@settings(max_examples=30)
@given(split=st.sampled_from(SPLITS), seed=st.integers(0, 2**60))
def test_molecules_are_drawn_without_replacement_from_one_target(split, seed):
    tasks = FAMILY.sample(split, Episode(1, 10, 8), [seed])
    drawn = molecules_of(np.concatenate([tasks.support_x, tasks.query_x], 1)[0])
    assert len(set(drawn.tolist())) == 18
    potency = np.concatenate([tasks.support_y, tasks.query_y], 1)
    assert len(np.unique(potency)) == 1
    assert int(potency[0, 0, 0]) // 2 in SPLIT[split]
    assert tasks.groups == (f"cluster-{int(potency[0, 0, 0]) // 2}",)


@settings(max_examples=30)
@given(split=st.sampled_from(SPLITS[1:]), seed=st.integers(0, 2**60))
def test_query_molecules_of_held_out_splits_are_new_to_train(split, seed):
    data = handmade()
    known = {int(m) for c in SPLIT["train"] for t in np.flatnonzero(data.clusters == c)
             for m in data.molecule[data.rows(int(t))]}  # fmt: skip
    tasks = FAMILY.sample(split, Episode(1, 10, 8), [seed])
    assert not known & set(molecules_of(tasks.query_x[0]).tolist())


def test_descriptors_are_in_standard_units_of_train():
    data = handmade()
    molecules = np.unique(data.molecule[: 6 * SIZE])
    column = FAMILY._inputs[molecules, -1]
    assert column.mean() == pytest.approx(0, abs=1e-5)
    assert column.std() == pytest.approx(1, abs=1e-5)


def test_what_no_target_can_hold_is_refused():
    with pytest.raises(DataError, match="no target of the split"):
        FAMILY.check(Episode(1, 25, 10))
    with pytest.raises(DataError, match="allowed: way 1"):
        FAMILY.check(Episode(2, 5, 5))
    with pytest.raises(DataError, match="cluster twice"):
        ChemblFamily(handmade(), {"train": (0, 1), "test": (1,)})
    with pytest.raises(DataError, match="cluster-0"):
        FAMILY.sample("test", Episode(1, 5, 5), [1], ["cluster-0"])


def test_the_standard_splits_share_the_clusters_out_and_keep_the_largest_for_training():
    sizes = [9, 9, 8, 5, 4, 4, 3, 2, 2, 2, 1]
    splits = chembl_splits(np.repeat(np.arange(11), sizes))
    assert sorted(c for members in splits.values() for c in members) == list(range(11))
    assert {0, 1, 2} <= set(splits["train"])
    assert all(len(splits[split]) == 2 for split in SPLITS[1:])


def test_tasks_may_be_judged_by_ranks_or_in_log_units(data_dir):
    for name, sign in (("r2", 1), ("spearman", 1), ("rmse", -1)):
        metric = open_chembl(data_dir, name).info.metric
        assert (metric.name, metric.sign) == (name, sign)


def test_the_real_data_hold_what_is_told_of_them(data_dir):
    family = open_chembl(data_dir)
    assert family.info.metric == R2
    assert sum(n for groups in family.info.groups.values() for n in groups.values()) == 268
    for shot in (16, 32, 64):
        family.check(Episode(1, shot, 32))
    tasks = family.sample("test", Episode(1, 16, 32), range(20))
    bits = tasks.support_x[..., slice(*family.info.views["fingerprint"])]
    assert set(np.unique(bits)) == {0.0, 1.0}
    assert 4 <= tasks.query_y.min() < tasks.query_y.max() <= 11.5
