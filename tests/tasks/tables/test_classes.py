"""N-way tasks of tables: each draws some of its own classes, and rows of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.errors import DataError
from metatune.jobs import TrialJob
from metatune.presets import preset, presets_for
from metatune.session import plan_of
from metatune.space import parse_space
from metatune.tasks.base import SPLITS, Episode
from metatune.tasks.tables.classes import ClassRows
from metatune.tasks.tables.options import TableOptions
from metatune.tasks.tables.table import OWN_CLASSES, TableFamily, open_table
from metatune.testing import FamilyConformance
from metatune.trial import run_trial

EPISODE = Episode(3, 2, 2)


def species(sites: int = 24, of_all: int = 30, of_each: int = 5, rows: int = 6) -> pd.DataFrame:
    """Sites with species of their own: ``number`` tells the row, ``code`` the species."""
    rng = np.random.default_rng(1)
    names = np.concatenate(
        [np.repeat(rng.choice(of_all, of_each, replace=False), rows) for _ in range(sites)]
    )
    number = np.arange(len(names))
    frame = pd.DataFrame(
        {"task": [f"t{n // (of_each * rows):02d}" for n in number], "number": number,
         "code": names + rng.normal(0, 0.01, len(names)), "label": [f"s{k:02d}" for k in names]}
    )  # fmt: skip
    return frame.sample(frac=1, random_state=0)  # in no order


def opened(folder: Path, frame: pd.DataFrame, **options: object) -> TableFamily:
    frame.to_csv(folder / "own.csv", index=False)
    plain = {"data": [str(folder / "own.csv")], "task": "task", "target": "label", "way": 3}
    return open_table(TableOptions.of(plain | options))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> TableFamily:
    return opened(tmp_path_factory.mktemp("own"), species())


class TestOwnClasses(FamilyConformance):
    episode = EPISODE

    @pytest.fixture
    def part(self, own):
        return own


def test_a_task_has_some_classes_of_one_task_and_rows_of_each(own: TableFamily) -> None:
    rows = {float(x[0]): n for n, x in enumerate(own.data.x)}
    task_of = np.repeat(np.arange(len(own.data.tasks)), own.data.sizes)
    for split in SPLITS:
        batch = own.sample(split, EPISODE, range(60))
        assert batch.support_class is not None
        assert batch.query_class is not None
        for t, name in enumerate(batch.ids):
            support, query = ([rows[float(x[0])] for x in own_x[t]]
                              for own_x in (batch.support_x, batch.query_x))  # fmt: skip
            assert len({*support, *query}) == EPISODE.n_support + EPISODE.n_query
            assert {own.data.tasks[task_of[n]] for n in (*support, *query)} == {name[:3]}
            assert own.data.y[support].tolist() == batch.support_class[t].tolist()
            assert own.data.y[query].tolist() == batch.query_class[t].tolist()
            named = dict(zip(batch.support_y[t].tolist(), batch.support_class[t], strict=True))
            assert sorted(named) == [0, 1, 2]
            assert len(set(named.values())) == 3
            assert [named[y] for y in batch.query_y[t].tolist()] == batch.query_class[t].tolist()
        assert batch.support_y.tolist() == [[0, 0, 1, 1, 2, 2]] * 60


def test_every_class_of_a_task_is_drawn_under_every_label(own: TableFamily) -> None:
    batch = own.sample("test", EPISODE, range(400))
    assert batch.support_class is not None
    for name in set(batch.groups):
        at = [t for t, group in enumerate(batch.groups) if group == name]
        assert {(int(k), y) for t in at for y, k in enumerate(batch.support_class[t][::2])} == {
            (int(k), y) for k in set(batch.support_class[at].ravel()) for y in range(3)
        }


def test_what_is_known_of_classes_is_that_tasks_do_not_share_them(own: TableFamily) -> None:
    assert not own.info.shared_classes
    assert own.info.train_classes == len(own.data.classes)
    assert own.info.baselines == OWN_CLASSES
    assert own.notes(EPISODE)[0].startswith("24 tasks with 720 rows; 3 a task of ")


def test_a_way_of_all_classes_is_as_ever(tmp_path: Path) -> None:
    frame, shared = species(of_all=4, of_each=4), Episode(4, 6, 6, per_class=False)
    families = [opened(tmp_path, frame, way=way) for way in (None, 4)]
    assert all(family.info.shared_classes for family in families)
    one, other = (family.sample("train", shared, range(20)) for family in families)
    np.testing.assert_array_equal(one.query_x, other.query_x)


def test_tasks_with_too_few_classes_are_told_and_never_drawn(tmp_path: Path) -> None:
    frame = species()
    few = frame[frame["task"] == "t07"]["label"].unique()[:3]
    frame = frame[(frame["task"] != "t07") | frame["label"].isin(few[:2])]
    family = opened(tmp_path, frame)
    told = "1 of 24 tasks have fewer than 3 classes of 4 rows and are never drawn: t07."
    assert told in family.notes(EPISODE)
    assert told not in family.notes(replace(EPISODE, way=2))
    (split,) = (split for split in SPLITS if "t07" in family.info.groups[split])
    assert "t07" not in family.usable_groups(split, EPISODE)
    assert "t07" in family.usable_groups(split, replace(EPISODE, way=2))


@pytest.mark.parametrize(("episode", "told"), [
    (Episode(1, 1, 1), "table: found way 1, shot 1, query 1; allowed: way from 2"),
    (Episode(6, 2, 2), "no task of split 'train' has 6 classes of 4 rows, .* way at most 5 "),
    (Episode(3, 2, 2, fewest=2), "table: found fewest 2 where each task draws .* allowed: none"),
    (Episode(3, 4, 3), "way at most 0 .*, or shot \\+ query at most 6 at way 3"),
])  # fmt: skip
def test_what_no_task_can_hold_is_refused_with_what_some_can(own, episode, told) -> None:
    with pytest.raises(DataError, match=told):
        own.check(episode)
    own.check(Episode(5, 3, 3))


@given(
    tasks=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=1, max_size=6),
    count=st.integers(1, 4),
)
def test_cells_are_the_classes_of_tasks_with_their_rows(tasks, count) -> None:
    y = np.concatenate([np.array(own) for own in tasks])
    start = np.cumsum([0, *map(len, tasks)])
    found = ClassRows.of(y, start)
    cells = found.cells(count)
    for task, own in enumerate(tasks):
        sizes = {k: own.count(k) for k in sorted(set(own))}
        assert found.sizes(task).tolist() == list(sizes.values())
        members = cells.members[cells.first[task] : cells.first[task + 1]].tolist()
        assert [found.classes[c] for c in members] == [k for k, n in sizes.items() if n >= count]
        for c in members:
            rows = found.rows[found.start[c] : found.start[c + 1]]
            assert [own[row - start[task]] for row in rows] == [found.classes[c]] * len(rows)


SPACE = {
    "family": {"name": "table", "task": "task", "target": "label", "way": 3, "shot": 2, "query": 2},
    "budget": {"trials": 3}, "initial": ["protonet"],
    "strategy": {"head": {"kind": "prototypes", "scale": {"float": [0.1, 10.0]}},
                 "meta": {"rule": "none"}},
}  # fmt: skip


@pytest.mark.parametrize(("way", "rows"), [(3, 6), (None, 2)])
def test_shots_of_a_space_are_by_class_where_classes_are_drawn(
    way: int | None, rows: int, tmp_path: Path
) -> None:
    frame = species() if way else species(of_all=3, of_each=3)
    frame.to_csv(tmp_path / "own.csv", index=False)
    space = parse_space(SPACE | {"family": SPACE["family"] | {"data": f"{tmp_path}/own.csv"}})
    plan, _ = plan_of(space)
    assert plan.space.space.episode == Episode(3, 2, 2, per_class=way is not None)
    assert plan.space.space.episode.n_support == rows


def presets() -> list[str]:
    """Those of classification in tables."""
    from families import TABLES

    return list(presets_for(TABLES))


def scored(name: str, family: TableFamily, episode: Episode) -> list[float]:
    strategy = preset(name, family.info)
    outer = strategy.outer.model_copy(update={"tasks_per_batch": 2})
    plain = strategy.model_copy(update={"outer": outer}).model_dump(mode="json")
    job = TrialJob(
        trial=name, round=1, replica=0, strategy=plain, family="table", data_dir=None,
        episode=episode, run_seed=0, rungs=(1000,), recorded=0, split="select", tasks=4,
        train=True, folder=None,
    )  # fmt: skip
    *_, last = run_trial(job, family)
    assert last.outcome == "completed", last.reason
    return list(last.scores)


@pytest.mark.parametrize("name", presets())
def test_every_preset_scores_tasks_of_their_own_classes(name: str, own: TableFamily) -> None:
    assert np.isfinite(scored(name, own, EPISODE)).all()


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> TableFamily:
    """Three classes in all, and each task has one of them only."""
    frame = species(of_all=3, of_each=1, rows=12)
    return opened(tmp_path_factory.mktemp("single"), frame, way=None)


@pytest.mark.parametrize("name", presets())
def test_every_preset_scores_tasks_of_one_class(name: str, single: TableFamily) -> None:
    episode = Episode(3, 4, 4, per_class=False)
    batch = single.sample("select", episode, range(4))
    assert all(len(set(y)) == 1 for y in batch.support_y.tolist())
    assert np.isfinite(scored(name, single, episode)).all()
