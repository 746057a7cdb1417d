"""Few-shot potency of molecules: one task a protein target, from ChEMBL 22.1 as DeepChem has it.

Gaulton et al. (2017), "The ChEMBL database in 2017", Nucleic Acids Research 45(D1), D945-D954; Wu
et al. (2018), "MoleculeNet", Chemical Science 9, 513-530. ChEMBL data are CC BY-SA 3.0 (EMBL-EBI).

A *group* is a cluster of targets that were measured on much the same molecules: related targets
have related labels, so splits are made by cluster, never by target.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metatune.errors import DataError
from metatune.tasks.base import (
    R2,
    RMSE,
    SPEARMAN,
    SPLITS,
    Episode,
    FamilyInfo,
    Metric,
    Split,
    TaskBatch,
)
from metatune.tasks.files import find_file

FILE = "chembl_fewshot.npz"
BITS = 1024
HELD_OUT: tuple[Split, ...] = ("test", "select", "confirm")


@dataclass(frozen=True)
class PotencyData:
    """Measurements of ``M`` molecules on ``T`` targets.

    Attributes:
        bits: ``(M, 1024)`` uint8, Morgan fingerprints of radius 2.
        descriptors: ``(M, D)`` float32, raw units.
        targets: ``(T,)`` names.
        clusters: ``(T,)`` integers: the cluster of each target.
        start: ``(T + 1,)``: target t's measurements are ``start[t]:start[t + 1]``.
        molecule: ``(R,)`` the molecule of each measurement.
        potency: ``(R,)`` float32, minus log10 of the molar concentration.
    """

    bits: NDArray[np.uint8]
    descriptors: NDArray[np.float32]
    targets: NDArray[np.str_]
    clusters: NDArray[np.integer]
    start: NDArray[np.integer]
    molecule: NDArray[np.integer]
    potency: NDArray[np.float32]

    def rows(self, target: int) -> NDArray[np.int64]:
        """The numbers of a target's measurements."""
        return np.arange(self.start[target], self.start[target + 1])


def read_chembl(data_dir: str | None = None) -> PotencyData:
    """The data of ``chembl_fewshot.npz`` in ``data_dir`` or its folder ``chembl_fewshot``.

    Raises:
        DataError: where the file is missing or not the one that is expected.
    """
    path = find_file("chembl", FILE, "chembl_fewshot", data_dir)
    return _read(path)


def _read(path: Path) -> PotencyData:
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file) as stored:
            return PotencyData(
                bits=np.unpackbits(stored["fp"], axis=1, count=BITS),
                descriptors=stored["desc"],
                targets=stored["task_ids"],
                clusters=stored["task_cluster"],
                start=stored["task_ptr"],
                molecule=stored["row"],
                potency=stored["y"],
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not the ChEMBL file that is expected: {error}") from error


METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (R2, SPEARMAN, RMSE)}
"""How a task can be judged; the root of the squared error is in log units."""


def open_chembl(data_dir: str | None = None, metric: str = "r2") -> ChemblFamily:
    """The family with its standard splits.

    Args:
        data_dir: as of ``read_chembl``, errors, too.
        metric: one of ``METRICS``.
    """
    data = read_chembl(data_dir)
    return ChemblFamily(data, chembl_splits(data.clusters), METRICS[metric])


def chembl_splits(clusters: NDArray[np.integer]) -> dict[Split, tuple[int, ...]]:
    """The clusters of each split, by a rule that looks at sizes only.

    Clusters stand in order of size. The three largest are ``train``: no held-out split should hang
    on one of them. The others are dealt out in turn, train, test, select, confirm, so that each
    split has large and small ones.

    Args:
        clusters: the cluster of each target.
    """
    numbers, sizes = np.unique(clusters, return_counts=True)
    ordered = [int(n) for n in numbers[np.lexsort((numbers, -sizes))]]
    found: dict[Split, list[int]] = {split: [] for split in SPLITS}
    found["train"] = ordered[:3]
    for place, cluster in enumerate(ordered[3:]):
        found[("train", *HELD_OUT)[place % 4]].append(cluster)
    return {split: tuple(sorted(members)) for split, members in found.items()}


class ChemblFamily:
    """Regression of potency from fingerprint and descriptors; R2 against the support mean.

    Args:
        data: the measurements.
        splits: the clusters of each split; one that is left out or empty cannot be drawn from.
        metric: how a task is judged.

    Raises:
        DataError: a cluster is unknown or in two splits.
    """

    def __init__(
        self, data: PotencyData, splits: Mapping[Split, Sequence[int]], metric: Metric = R2
    ) -> None:
        self._data = data
        self._splits = {split: tuple(splits.get(split, ())) for split in SPLITS}
        listed = [c for members in self._splits.values() for c in members]
        unknown = set(listed) - {int(c) for c in data.clusters}
        if unknown or len(set(listed)) != len(listed):
            raise DataError(
                f"chembl: splits {self._splits} name a cluster twice, or an unknown one"
            )
        self._inputs = self._standardised()
        self._pools = self._query_pools()
        self._sizes = np.diff(data.start).tolist()
        self._pool_sizes = [len(pool) for pool in self._pools]
        self._targets = {
            split: {_name(c): [int(t) for t in np.flatnonzero(data.clusters == c)] for c in members}
            for split, members in self._splits.items()
        }
        self.info = FamilyInfo(
            name="chembl",
            kind="regression",
            input_shape=(self._inputs.shape[1],),
            outputs=1,
            metric=metric,
            train_classes=0,
            groups={
                split: {group: len(targets) for group, targets in groups.items()}
                for split, groups in self._targets.items()
            },
            grouped=True,
            baselines=("support_mean", "ridge", "tanimoto_neighbours", "tanimoto_gp"),
            about="Potency of molecules on protein targets, a task a target (ChEMBL 22.1).",
            views={"fingerprint": (0, BITS), "descriptors": (BITS, self._inputs.shape[1])},
            licence="CC BY-SA 3.0 Unported: attribute ChEMBL, EMBL-EBI; adaptations that are "
            "passed on stay under it.",
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of measurements and splits, in hex digits."""
        digest = hashlib.sha256(repr(self._splits).encode())
        for array in vars(self._data).values():
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def usable_groups(self, split: Split, episode: Episode) -> tuple[str, ...]:
        """The clusters of a split that have a target with enough measurements."""
        groups = self._targets[split]
        return tuple(name for name in groups if self._usable(split, name, episode))

    def check(self, episode: Episode) -> None:
        """Raise DataError unless every split has a target with enough measurements."""
        if episode.way != 1 or episode.shot < 1 or episode.query < 1:
            found = f"way {episode.way}, shot {episode.shot}, query {episode.query}"
            raise DataError(f"chembl: {found}; allowed: way 1, shot and query from 1")
        for split in SPLITS:
            if not self.usable_groups(split, episode):
                found = f"{episode.shot} support and {episode.query} query molecules"
                raise DataError(f"chembl: no target of the split {split} has {found}")

    def sample(
        self,
        split: Split,
        episode: Episode,
        seeds: Sequence[int],
        groups: Sequence[str] | None = None,
    ) -> TaskBatch:
        """Draw one task a seed: x ``(T, S, 1034)``, y ``(T, S, 1)`` in log units.

        A seed draws its group evenly, then one of the group's targets evenly, then molecules
        without replacement. Query molecules that ``train`` has measured on any target are left
        out of the other splits: they are not new.

        Raises:
            DataError: where no group, or a group asked for, can hold such a task.
        """
        usable = self.usable_groups(split, episode)
        if not usable or (groups is not None and not set(groups) <= set(usable)):
            found = groups if usable else "none"
            raise DataError(f"chembl: groups {found} of the split {split}; allowed: {usable}")
        support = np.empty((len(seeds), episode.shot), np.int64)
        query = np.empty((len(seeds), episode.query), np.int64)
        names, ids = [], []
        for task, seed in enumerate(seeds):
            rng = np.random.default_rng(int(seed))
            # The group is drawn even where it is given: the rest of the draw does not shift.
            drawn = usable[rng.integers(len(usable))]
            names.append(drawn if groups is None else groups[task])
            targets = self._usable(split, names[-1], episode)
            target = targets[rng.integers(len(targets))]
            support[task], query[task] = self._draw(split, target, episode, rng)
            ids.append(f"{self._data.targets[target]}-{int(seed):012x}")
        return TaskBatch(
            support_x=self._inputs[self._data.molecule[support]],
            support_y=self._data.potency[support][..., None],
            query_x=self._inputs[self._data.molecule[query]],
            query_y=self._data.potency[query][..., None],
            ids=tuple(ids),
            groups=tuple(names),
        )

    def _draw(
        self, split: Split, target: int, episode: Episode, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Measurements of support and query: the query first, since fewer can serve for it."""
        query = rng.permutation(self._pool(split, target))[: episode.query]
        rest = np.setdiff1d(self._data.rows(target), query)
        return rng.permutation(rest)[: episode.shot], query

    def _usable(self, split: Split, group: str, episode: Episode) -> list[int]:
        sizes = self._sizes
        pools = sizes if split == "train" else self._pool_sizes
        return [
            target
            for target in self._targets[split][group]
            if pools[target] >= episode.query and sizes[target] >= episode.shot + episode.query
        ]

    def _pool(self, split: Split, target: int) -> NDArray[np.int64]:
        return self._data.rows(target) if split == "train" else self._pools[target]

    def _query_pools(self) -> list[NDArray[np.int64]]:
        """For each target the measurements of molecules that ``train`` has not measured."""
        in_train = np.zeros(len(self._data.bits), bool)
        in_train[self._train_molecules()] = True
        return [
            rows[~in_train[self._data.molecule[rows]]]
            for rows in (self._data.rows(t) for t in range(len(self._data.targets)))
        ]

    def _train_molecules(self) -> NDArray[np.int64]:
        targets = np.flatnonzero(np.isin(self._data.clusters, self._splits["train"]))
        rows = [self._data.molecule[self._data.rows(int(t))] for t in targets]
        return np.unique(np.concatenate(rows)) if rows else np.empty(0, np.int64)

    def _standardised(self) -> NDArray[np.float32]:
        """Bits beside descriptors in standard units of the molecules of ``train``."""
        raw = self._data.descriptors.astype(np.float64)
        seen = raw[self._train_molecules()] if self._splits["train"] else raw
        spread = seen.std(0)
        scaled = (raw - seen.mean(0)) / np.where(spread > 0, spread, 1.0)
        return np.concatenate([self._data.bits, scaled], 1).astype(np.float32)


def _name(cluster: int) -> str:
    return f"cluster-{cluster}"
