"""The user's own table: tasks without leaks, and nothing that is left out in silence."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from user_tables import messy_folder, plain_rows, tables, uneven_rows

from metatune.errors import DataError, MetatuneError, OptionError
from metatune.tasks.base import ACCURACY, MSE, R2, SPLITS, Episode
from metatune.tasks.registry import open_family
from metatune.tasks.tables import columns as columns_module
from metatune.tasks.tables import encoded, frames, rows
from metatune.tasks.tables.columns import Column, encode_more
from metatune.tasks.tables.encoded import read_table, write_table
from metatune.tasks.tables.frames import Frame, find_files, read_frame
from metatune.tasks.tables.options import TableOptions
from metatune.tasks.tables.rows import NO_GROUP
from metatune.tasks.tables.table import TableFamily, open_table
from metatune.testing import FamilyConformance

EPISODE = Episode(1, 6, 8, per_class=False)


def opened(tmp_path: Path, frame: pd.DataFrame, **options: Any) -> TableFamily:
    """The family of a frame, from a CSV file."""
    path = tmp_path / f"table-{len(list(tmp_path.iterdir()))}.csv"
    frame.to_csv(path, index=False)
    asked = {"data": [str(path)], "task": "task", "target": "y", **options}
    return open_table(TableOptions.of(asked))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> TableFamily:
    """24 tasks of 20 rows; ``number`` tells the row."""
    return opened(tmp_path_factory.mktemp("numbers"), plain_rows().drop(columns="label"))


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> TableFamily:
    frame = plain_rows(groups=12).drop(columns="y")
    folder = tmp_path_factory.mktemp("classes")
    return opened(folder, frame, target="label", group="region")


class TestNumbers(FamilyConformance):
    episode = EPISODE

    @pytest.fixture
    def part(self, numbers):
        return numbers


class TestSmallerTasks(FamilyConformance):
    episode = Episode(1, 12, 16, per_class=False, fewest=4)

    @pytest.fixture
    def part(self, numbers):
        return numbers


class TestClasses(FamilyConformance):
    episode = Episode(3, 2, 2)

    @pytest.fixture
    def part(self, classes):
        return classes


class TestClassesByRows(FamilyConformance):
    episode = Episode(3, 6, 8, per_class=False)

    @pytest.fixture
    def part(self, classes):
        return classes


# --- what a family says of itself -----------------------------------------------------------------


def test_numbers_are_judged_by_r2_and_classes_by_accuracy(numbers, classes, tmp_path) -> None:
    assert (numbers.info.kind, numbers.info.metric, numbers.info.outputs) == ("regression", R2, 1)
    assert numbers.info.views == {"numbers": (0, 1), "categories": (1, 4)}
    assert not numbers.info.shared_classes
    assert numbers.info.baselines == (
        "ridge", "support_mean", "pooled_linear", "boosted_trees", "pooled_ridge"
    )  # fmt: skip
    assert (classes.info.kind, classes.info.metric, classes.info.outputs) == (
        "classification", ACCURACY, 0,
    )  # fmt: skip
    assert classes.info.train_classes == 3
    assert classes.info.shared_classes
    assert classes.info.baselines == (
        "ridge", "support_mean", "logistic", "nearest_neighbour", "pooled_linear", "boosted_trees",
        "pooled_ridge",
    )  # fmt: skip
    assert classes.data.classes == ("maybe", "no", "yes")
    squared = opened(tmp_path, plain_rows(), metric="mse")
    assert squared.info.metric == MSE


def test_a_target_of_numbers_can_be_asked_for_as_classes(tmp_path: Path) -> None:
    frame = plain_rows().assign(y=lambda f: np.arange(len(f)) % 3)
    assert opened(tmp_path, frame).data.classes == ("0", "1", "2")
    assert opened(tmp_path, frame, predict="number").data.classes == ()


def test_each_file_is_a_task_where_that_is_said(tmp_path: Path) -> None:
    for name, own in plain_rows().groupby("task"):
        own.drop(columns="task").to_csv(tmp_path / f"{name}.csv", index=False)
    asked = {"data": [str(tmp_path)], "task": "file", "target": "y"}
    family = open_table(TableOptions.of(asked))
    assert family.data.tasks == tuple(f"t{n:02d}" for n in range(24))
    assert family.data.sizes.tolist() == [20] * 24


def test_a_column_by_the_name_of_file_is_the_task(tmp_path: Path) -> None:
    frame = plain_rows().rename(columns={"task": "file"})
    assert len(opened(tmp_path, frame, task="file").data.tasks) == 24


# --- no leak --------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(split=st.sampled_from(SPLITS), seed=st.integers(0, 2**63 - 1))
def test_no_row_is_in_support_and_query_and_all_are_of_one_task(numbers, split, seed) -> None:
    tasks = numbers.sample(split, EPISODE, [seed])
    drawn = np.concatenate([tasks.support_x, tasks.query_x], 1)[0, :, 0]
    assert len(set(drawn.tolist())) == 14
    data = numbers.data
    rows = [int(np.flatnonzero(data.x[:, 0] == value)[0]) for value in drawn]
    (task,) = {int(np.searchsorted(data.start, row, "right")) - 1 for row in rows}
    assert tasks.groups == (data.tasks[task],)
    assert tasks.ids[0].startswith(f"{data.tasks[task]}-")
    y = np.concatenate([tasks.support_y, tasks.query_y], 1)[0, :, 0]
    np.testing.assert_array_equal(y, data.y[rows])


def test_no_group_is_in_two_splits_and_no_task_in_two_groups(classes) -> None:
    of_split = {
        split: {task for t, task in enumerate(classes.data.tasks)
                if classes.data.groups[t] in classes.info.groups[split]}
        for split in SPLITS
    }  # fmt: skip
    assert sum(len(tasks) for tasks in of_split.values()) == len(set().union(*of_split.values()))
    assert len(set().union(*of_split.values())) == 24
    for split in SPLITS:
        tasks = classes.sample(split, Episode(3, 6, 8, per_class=False), range(40))
        assert {name.rpartition("-")[0] for name in tasks.ids} <= of_split[split]


@pytest.mark.parametrize("target", ["y", "label"])
def test_what_stands_in_other_splits_changes_no_tensor_of_train(tmp_path: Path, target) -> None:
    frame = plain_rows().drop(columns="label" if target == "y" else "y")
    family = opened(tmp_path, frame, target=target)
    held_out = {name for split in SPLITS[1:] for name in family.info.groups[split]}
    rows = frame["task"].isin(held_out)
    changed = frame.copy()
    changed.loc[rows, "number"] = 1e6 - changed.loc[rows, "number"]
    changed.loc[rows, "kind"] = "another"
    if target == "y":
        changed.loc[rows, "y"] = changed.loc[rows, "number"] * 3
    other = opened(tmp_path, changed, target=target)
    episode = replace(EPISODE, way=3 if target == "label" else 1)
    one, two = (f.sample("train", episode, range(50)) for f in (family, other))
    for name in ("support_x", "support_y", "query_x", "query_y"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    assert one.ids == two.ids
    assert family.fingerprint != other.fingerprint


def test_inputs_and_targets_are_in_standard_units_of_train(numbers) -> None:
    data = numbers.data
    train = np.isin(data.groups, list(numbers.info.groups["train"]))
    rows = np.repeat(train, data.sizes)
    for values in (data.x[rows, 0], data.y[rows]):
        assert values.mean() == pytest.approx(0, abs=1e-4)
        assert values.std() == pytest.approx(1, abs=1e-4)


def test_query_labels_change_no_input(tmp_path: Path) -> None:
    frame = plain_rows().drop(columns="label")
    family = opened(tmp_path, frame)
    other = opened(tmp_path, frame.assign(y=lambda f: -f["y"] * 7 + np.arange(len(f)) % 5))
    np.testing.assert_array_equal(family.data.x, other.data.x)


# --- nothing is left out in silence ---------------------------------------------------------------


def test_rows_without_task_or_target_are_left_out_and_counted(tmp_path: Path) -> None:
    frame = plain_rows().astype({"y": object})
    frame.loc[[0, 5], "task"] = None
    frame.loc[[5, 30], "y"] = None
    frame.loc[[100, 101], "y"] = ["oops", "1e999"]
    family = opened(tmp_path, frame)
    assert len(family.data.x) == 480 - 5
    told = [note for note in family.data.notes if "left out" in note]
    assert told[:2] == [
        "2 of 480 rows are left out: task, the task, is missing.",
        "1 of 480 rows are left out: y, the target, is missing.",
    ]
    assert told[2].startswith("2 of 480 rows are left out: y, the target, is no number (first:")
    assert told[2].endswith("'oops' in " + str(tmp_path / "table-0.csv") + ", row 101).")


def test_tasks_whose_target_never_changes_are_left_out_of_r2_and_counted(tmp_path: Path) -> None:
    frame = plain_rows()
    frame.loc[frame["task"].isin(["t03", "t07"]), "y"] = 4.0
    family = opened(tmp_path, frame)
    assert len(family.data.tasks) == 22
    expected = "40 of 480 rows are left out: the target never changes within their task (2)."
    assert expected in family.data.notes
    assert len(opened(tmp_path, frame, metric="mse").data.tasks) == 24


def test_tasks_with_too_few_rows_are_counted_and_never_drawn(tmp_path: Path) -> None:
    frame = plain_rows()
    frame = frame[(frame["task"] != "t05") | (frame.index % 2 == 0)]
    family = opened(tmp_path, frame)
    told = "1 of 24 tasks have fewer than 14 rows and are never drawn: t05."
    assert told in family.notes(EPISODE)
    assert told not in family.notes(Episode(1, 4, 4, per_class=False))
    (split,) = (split for split in SPLITS if "t05" in family.info.groups[split])
    assert "t05" not in family.usable_groups(split, EPISODE)
    assert "t05" in family.usable_groups(split, Episode(1, 4, 4, per_class=False))
    assert "t05" not in family.sample(split, EPISODE, range(200)).groups


# --- tasks of differing sizes ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> TableFamily:
    """38 tasks of 3 to 40 rows; ``number`` tells the row."""
    frame = uneven_rows().drop(columns="label")
    return opened(tmp_path_factory.mktemp("uneven"), frame, metric="mse")


@settings(max_examples=60)
@given(
    shot=st.integers(1, 40), query=st.integers(1, 40), fewest=st.integers(1, 50),
    rows=st.lists(st.integers(1, 100), min_size=1),
)  # fmt: skip
def test_rows_of_smaller_tasks_are_divided_as_shot_to_query(shot, query, fewest, rows) -> None:
    episode = Episode(1, shot, query, per_class=False, fewest=fewest)
    fewest = min(fewest, shot)
    assert episode.least_support == fewest
    sizes = np.array([n for n in rows if n >= episode.least_examples], np.int64)
    for n, own, others in zip(sizes, *episode.divided(sizes), strict=True):
        assert fewest <= own <= shot
        assert 1 <= others <= query
        assert own + others == min(n, shot + query)
        if own > fewest:
            assert own == min(n, shot + query) * shot // (shot + query)


def test_without_fewest_tasks_are_whole_or_not_drawn(uneven) -> None:
    assert Episode(1, 16, 16).least_examples == 32
    tasks = uneven.sample("train", Episode(1, 16, 16, per_class=False), range(40))
    assert tasks.support_mask is None
    assert tasks.query_mask is None
    sizes = dict(zip(uneven.data.tasks, uneven.data.sizes, strict=True))
    assert min(sizes[group] for group in tasks.groups) >= 32


@pytest.mark.parametrize("fewest", [1, 2, 8, 16])
def test_every_task_with_a_row_more_than_fewest_takes_part(uneven, fewest: int) -> None:
    episode = Episode(1, 16, 16, per_class=False, fewest=fewest)
    sizes = dict(zip(uneven.data.tasks, uneven.data.sizes, strict=True))
    drawn: set[str] = set()
    for split in SPLITS:
        groups = uneven.usable_groups(split, episode)
        drawn |= set(groups)
        tasks = uneven.sample(split, episode, range(len(groups)), groups)
        if tasks.support_mask is None:
            continue
        for task, group in enumerate(groups):
            support, query = tasks.support_mask[task], tasks.query_mask[task]
            own, others = (int(n[0]) for n in episode.divided(sizes[group][None]))
            assert (support.sum(), query.sum()) == (own, others)
            x, y = tasks.support_x[task], tasks.support_y[task]
            rows = np.concatenate([x[support], tasks.query_x[task][query]])[:, 0]
            assert len(set(rows.tolist())) == min(sizes[group], 32)
            first = np.broadcast_to(x[:1], x[~support].shape)
            np.testing.assert_array_equal(x[~support], first)
            np.testing.assert_array_equal(y[~support], np.broadcast_to(y[:1], y[~support].shape))
    assert drawn == {name for name, n in sizes.items() if n > fewest}


def test_a_whole_task_is_the_same_whether_or_not_smaller_ones_may_take_part(uneven) -> None:
    whole = Episode(1, 10, 12, per_class=False)
    (group, *_) = uneven.usable_groups("train", whole)
    (small, *_) = set(uneven.usable_groups("train", replace(whole, fewest=2))) - set(
        uneven.usable_groups("train", whole)
    )
    one = uneven.sample("train", whole, [5], [group])
    other = uneven.sample("train", replace(whole, fewest=2), [5, 6], [group, small])
    np.testing.assert_array_equal(one.support_x[0], other.support_x[0])
    np.testing.assert_array_equal(one.query_y[0], other.query_y[0])
    assert other.support_mask[0].all()
    assert other.query_mask[0].all()
    assert not (other.support_mask[1].all() and other.query_mask[1].all())


def test_smaller_tasks_that_take_part_are_counted_beside_those_that_do_not(uneven) -> None:
    told = uneven.notes(Episode(1, 16, 16, per_class=False, fewest=4))
    assert (
        "27 of 38 tasks have fewer than 32 rows and take part with what they have, 5 or more."
        in told
    )
    assert "2 of 38 tasks have fewer than 5 rows and are never drawn: t00, t01." in told
    told = uneven.notes(Episode(1, 16, 16, per_class=False, fewest=2))
    assert not any("never drawn" in note for note in told)
    with pytest.raises(DataError, match="with 61 rows, support and query together"):
        uneven.check(Episode(1, 80, 16, per_class=False, fewest=60))


def test_query_sets_that_are_too_small_for_r2_are_told(tmp_path: Path, uneven) -> None:
    told = "8 of them have fewer than 3 query rows: their R2 may be far below 0 by chance alone, "
    told += "and metric: mse says more."
    family = opened(tmp_path, uneven_rows())
    assert told in family.notes(Episode(1, 16, 4, per_class=False, fewest=2))
    assert not any("R2" in note for note in family.notes(Episode(1, 16, 16, per_class=False)))
    assert not any(
        "R2" in note for note in uneven.notes(Episode(1, 16, 4, per_class=False, fewest=2))
    )


def test_few_groups_are_told_with_how_the_splits_fall(tmp_path: Path) -> None:
    few = opened(tmp_path, plain_rows(groups=7), group="region")
    (told,) = (note for note in few.notes(EPISODE) if "groups" in note)
    assert told.startswith("With 7 groups, fewer than 12, results hang on how they fall: train has")
    assert "A claim about new groups takes 6 in test." in told
    enough = opened(tmp_path, plain_rows(groups=12), group="region")
    assert not any("hang on" in note for note in enough.notes(EPISODE))


def test_over_the_folds_each_group_is_in_test_once(tmp_path: Path) -> None:
    frame = plain_rows(groups=7)
    folds = [opened(tmp_path, frame, group="region", fold=fold) for fold in range(6)]
    assert folds[0].folds == 6
    assert sorted(group for f in folds for group in f.data.splits["test"]) == sorted(
        set(frame["region"]) - set.intersection(*(set(f.data.splits["train"]) for f in folds))
    )
    assert len({f.fingerprint for f in folds}) == 6
    assert any("this is fold 5" in note for note in folds[5].notes(EPISODE))
    with pytest.raises(OptionError, match=r"table: fold: found 6; allowed: 0 to 5"):
        opened(tmp_path, frame, group="region", fold=6)


def test_tasks_without_a_group_are_a_group_of_their_own(tmp_path: Path) -> None:
    frame = plain_rows(groups=8)
    frame.loc[frame["task"].isin(["t01", "t02"]), "region"] = None
    family = opened(tmp_path, frame, group="region")
    sizes = {g: n for split in SPLITS for g, n in family.info.groups[split].items()}
    assert sizes[NO_GROUP] == 2


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "key", "words"), [
    ({"target": "z"}, "target", "no column 'z' in"),
    ({"task": "z"}, "task", "no column 'z' in"),
    ({"group": "z"}, "group", "no column 'z' in"),
    ({"columns": {"z": "skip"}}, "columns", "no column 'z'"),
    ({"target": "kind", "predict": "number"}, "target", "no number in 'kind'"),
    ({"target": "number", "predict": "class"}, None, None),
    ({"group": "kind"}, "group", "within the task t00"),
    ({"data": ["/nowhere/at/all"]}, "data", "no CSV or Parquet file"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused_with_what_would(
    tmp_path: Path, options: dict[str, Any], key: str | None, words: str | None
) -> None:
    if key is None:
        assert opened(tmp_path, plain_rows(), **options).info.train_classes == 480
        return
    with pytest.raises(OptionError, match=words) as refused:
        opened(tmp_path, plain_rows(), **options)
    assert refused.value.key == key
    assert "; allowed: " in str(refused.value)


def test_a_table_with_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    frame = plain_rows()
    with pytest.raises(DataError, match="found no column to predict from; allowed: a column"):
        opened(tmp_path, frame[["task", "y"]])
    with pytest.raises(DataError, match="found no rows"):
        opened(tmp_path, frame[:0])
    with pytest.raises(DataError, match="no number in 'y'"):
        opened(tmp_path, frame.assign(y=None), predict="number")
    with pytest.raises(DataError, match="0 classes in 'y'"):
        opened(tmp_path, frame.assign(y=None))
    with pytest.raises(DataError, match=r"found 2 groups \(t00, t01\); allowed: 4 or more"):
        opened(tmp_path, frame[:40])


def test_what_no_task_can_hold_is_refused_with_what_some_can(numbers, classes) -> None:
    numbers.check(Episode(1, 10, 10))
    with pytest.raises(DataError, match=r"with 21 rows, .*; allowed: at most 20"):
        numbers.check(Episode(1, 11, 10))
    with pytest.raises(DataError, match=r"found way 2, .* allowed: way 1"):
        numbers.check(Episode(2, 5, 5))
    with pytest.raises(DataError, match=r"allowed: way 3 \(classes maybe, no, yes\)"):
        classes.check(Episode(2, 5, 5))
    with pytest.raises(DataError, match="groups none for 1 seeds"):
        numbers.sample("train", Episode(1, 30, 10), [0])
    with pytest.raises(DataError, match="groups nobody for 1 seeds"):
        numbers.sample("train", EPISODE, [0], ["nobody"])


# --- the same everywhere --------------------------------------------------------------------------


def test_equal_options_give_equal_tasks_in_another_process(tmp_path: Path) -> None:
    plain_rows().to_parquet(tmp_path / "a.parquet")
    options = {"data": [str(tmp_path / "a.parquet")], "task": "task", "target": "y"}
    program = (
        "import hashlib; from metatune.tasks.base import Episode;"
        "from metatune.tasks.registry import open_family;"
        f"f = open_family('table', None, {options!r});"
        "b = f.sample('test', Episode(1, 5, 5), [3, 2**62]);"
        "print(f.fingerprint, *b.ids, hashlib.sha256(b.query_x.tobytes()).hexdigest())"
    )
    done = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                       env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)})
        for seed in ("1", "2")
    ]  # fmt: skip
    assert done[0].stdout == done[1].stdout
    assert done[0].stdout.startswith(open_family("table", None, options).fingerprint)


def test_files_in_another_order_or_format_are_the_same_tasks(tmp_path: Path) -> None:
    frame = plain_rows()
    for place, name in enumerate(("b", "a")):
        frame[frame["task"].isin([f"t{n:02d}" for n in range(24) if n % 2 == place])].to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    frame.to_parquet(tmp_path / "c.parquet")
    asked = {"task": "task", "target": "y"}
    ab = read_table(TableOptions.of({"data": [str(tmp_path / "*.csv")], **asked}))
    c = read_table(TableOptions.of({"data": [str(tmp_path / "c.parquet")], **asked}))
    assert (ab.tasks, ab.splits, ab.inputs) == (c.tasks, c.splits, c.inputs)
    np.testing.assert_allclose(ab.x, c.x, atol=1e-5)
    np.testing.assert_allclose(ab.y, c.y, atol=1e-5)


# --- read once, and shared ------------------------------------------------------------------------

KINDS: dict[str, Callable[[np.random.Generator, int], object]] = {
    "number": lambda rng, n: rng.normal(size=n),
    "holes": lambda rng, n: np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
    "whole": lambda rng, n: rng.integers(0, 5, n),
    "truth": lambda rng, n: rng.random(n) < 0.5,
    "level": lambda rng, n: rng.choice(["a", "b", " c ", ""], n),
    "untidy": lambda rng, n: rng.choice(["1", "2.5", "x"], n, p=[0.6, 0.37, 0.03]),
    "day": lambda rng, n: (
        pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "h")
    ),
}


def csv_in_memory(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, skipinitialspace=True)


def parquet_in_memory(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).replace({True: "true", False: "false"})


@settings(deadline=None, max_examples=25)
@given(
    columns=st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=4),
    forms=st.lists(st.sampled_from(["csv", "parquet"]), min_size=1, max_size=3),
    unequal=st.booleans(),
    options=st.fixed_dictionaries(
        {"target": st.sampled_from(["y", "label"])}, optional={"group": st.just("region")}
    ),
    seed=st.integers(0, 99),
)
def test_mapped_tables_are_those_that_one_frame_in_memory_gives(
    tmp_path_factory, columns, forms, unequal, options, seed
) -> None:
    folder, rng = tmp_path_factory.mktemp("mapped"), np.random.default_rng(seed)
    frame = plain_rows(tasks=12, rows=6, groups=6).sample(frac=1, random_state=seed)
    for place, kind in enumerate(columns):
        frame[f"c{place}"] = KINDS[kind](rng, len(frame))
    read = []
    for place, form in enumerate(forms):
        part = frame.iloc[place :: len(forms)]
        part = part.drop(columns="c0") if unequal and place else part
        path = folder / f"{place}.{form}"
        if form == "csv":
            part.to_csv(path, index=False)
        else:
            part.to_parquet(path, index=False, row_group_size=7)
        read.append(csv_in_memory(path) if form == "csv" else parquet_in_memory(path))
    asked = TableOptions.of({"data": [str(folder)], "task": "task", **options})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "CELLS", 40)
        patch.setattr(columns_module, "PIECE", 5)
        patch.setattr(columns_module, "BLOCK", 30)
        found = read_table(asked)
    rows, sizes = pd.concat(read, ignore_index=True), tuple(len(part) for part in read)
    (folder / "held").mkdir()
    (folder / "scratch").mkdir()
    held = Frame(rows, sizes, tuple(sorted(folder.glob("*.*"))), ())
    write_table(held, asked, folder / "held", folder / "scratch")
    about = json.loads(np.load(folder / "held" / "about.npy").tobytes())
    for name in ("x", "y", "start"):
        expected = np.load(folder / "held" / f"{name}.npy")
        np.testing.assert_array_equal(getattr(found, name), expected, strict=True)
    for name in ("tasks", "groups", "classes", "inputs"):
        assert getattr(found, name) == tuple(about[name])
    assert (found.kinds, found.numbers) == (about["kinds"], about["numbers"])
    assert found.fingerprint == about["fingerprint"]
    told = [note for note in found.notes if "counted as missing there" not in note]
    assert told == about["notes"]


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[TableOptions, Path]:
    """A table, and an empty folder for the cache."""
    monkeypatch.setenv("METATUNE_CACHE", str(tmp_path / "cache"))
    plain_rows().to_csv(tmp_path / "a.csv", index=False)
    plain = {"data": [str(tmp_path / "*.csv")], "task": "task", "target": "y"}
    return TableOptions.of(plain), tmp_path / "cache"


def refuse_to_read(*_: object) -> None:
    raise AssertionError("read again")


def test_files_are_read_once_and_afterwards_mapped(shared, monkeypatch) -> None:
    options, cache = shared
    first = read_table(options)
    (folder,) = cache.iterdir()
    names = {"x.npy", "y.npy", "start.npy", "about.npy", "arrays"}
    assert {path.name for path in folder.iterdir()} == names
    monkeypatch.setattr(rows, "read_frame", refuse_to_read)
    second = read_table(options)
    assert not second.x.flags.writeable
    assert not second.x.flags.owndata
    np.testing.assert_array_equal(first.x, second.x)
    assert replace(first, x=second.x, y=second.y, start=second.start) == second
    with pytest.raises(AssertionError, match="read again"):
        read_table(replace(options, levels=3))


def test_a_changed_file_and_a_further_one_are_noticed(shared) -> None:
    options, _ = shared
    (path,) = find_files(options.data)[0]
    first = read_table(options)
    plain_rows().assign(y=lambda f: -f["y"]).to_csv(path, index=False)
    changed = read_table(options)
    assert changed.fingerprint != first.fingerprint
    plain_rows().replace({"task": "t03"}, "t99").to_csv(path.with_name("b.csv"), index=False)
    more = read_table(options)
    assert len(more.x) == 2 * len(changed.x)
    path.with_name("b.csv").unlink()
    assert read_table(options).fingerprint == changed.fingerprint


def test_a_file_that_was_only_touched_has_the_same_fingerprint(shared) -> None:
    options, cache = shared
    (path,) = find_files(options.data)[0]
    first = read_table(options)
    os.utime(path, (1, 1))
    assert read_table(options).fingerprint == first.fingerprint
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("name", ["x", "y", "start", "about"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_cache_is_made_again(shared, name, damage) -> None:
    options, cache = shared
    first = read_table(options)
    (folder,) = cache.iterdir()
    path = folder / f"{name}.npy"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    again = read_table(options)
    np.testing.assert_array_equal(again.x, first.x)
    assert again.fingerprint == first.fingerprint


def test_tables_are_read_where_the_cache_cannot_be_written(shared, monkeypatch, tmp_path) -> None:
    options, _ = shared
    first = read_table(options)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METATUNE_CACHE", str(tmp_path / "file"))
    found = open_table(options)
    assert found.fingerprint == first.fingerprint
    assert found.sample("train", EPISODE, range(3)).support_x.shape == (3, 6, len(first.inputs))


def test_a_full_disk_is_told_in_a_sentence(shared, monkeypatch) -> None:
    options, cache = shared

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(encoded, "_save_rows", full)
    with pytest.raises(DataError, match=r"No space left.*; allowed: room for .*METATUNE_CACHE"):
        read_table(options)
    assert list(cache.iterdir()) == []


def test_two_processes_at_once_give_the_same_table_and_one_copy(shared) -> None:
    options, cache = shared
    program = (
        "from metatune.tasks.registry import open_family;"
        f"f = open_family('table', None, {asdict(options)!r});"
        "print(f.fingerprint, f.data.x.sum())"
    )
    run = [sys.executable, "-c", program]
    both = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[0] for process in both]
    assert told[0] == told[1] != ""
    assert [process.returncode for process in both] == [0, 0]
    assert [path.name.startswith("table-") for path in cache.iterdir()] == [True]


# --- whatever a table holds -----------------------------------------------------------------------

OPTIONS = st.fixed_dictionaries(
    {"task": st.sampled_from(["task", "task", "file"]), "target": st.sampled_from(["y", "y", "x"])},
    optional={
        "group": st.sampled_from(["region", "region", "z"]),
        "predict": st.sampled_from(["number", "class"]),
        "metric": st.sampled_from(["r2", "mse"]),
        "columns": st.dictionaries(
            st.sampled_from(["x", "z", "ü", "nobody"]),
            st.sampled_from(["number", "category", "date", "date %d.%m.%Y", "skip"]), max_size=2,
        ),
        "levels": st.integers(1, 3),
    },
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(frame=tables(), options=OPTIONS, parquet=st.booleans())
def test_a_table_is_refused_in_a_sentence_or_gives_sound_tasks(
    tmp_path_factory, frame, options, parquet
) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        if parquet:
            frame.to_parquet(folder / "a.parquet")
        else:
            frame.to_csv(folder / "a.csv", index=False)
    except (ValueError, TypeError, OverflowError):
        return  # no table that pandas would write
    try:
        family = open_table(TableOptions.of({"data": [str(folder)], **options}))
    except MetatuneError as error:
        told = str(error)
    else:
        told = ""
    assert "\n" not in told
    if told:
        return
    data = family.data
    counted = sum(int(note.split()[0]) for note in data.notes if " rows are left out: " in note)
    assert len(data.x) + counted == len(frame)
    assert np.isfinite(data.x).all()
    assert np.isfinite(data.y).all()
    way = len(data.classes) or 1
    episode = Episode(way, 1, 1, per_class=False)
    for split in SPLITS:
        if family.usable_groups(split, episode):
            tasks = family.sample(split, episode, range(5))
            assert np.isfinite(tasks.support_x).all()
            assert tasks.support_x.shape == (5, 1, len(data.inputs))
    assert family.notes(episode)


# --- rows that come later -------------------------------------------------------------------------


def test_further_rows_become_inputs_as_those_of_the_run_did(tmp_path: Path) -> None:
    """The encoding goes through JSON, and meets all files' rows again, in another order."""
    files = messy_folder(tmp_path / "data", tasks=30)
    options = TableOptions((str(files),), "file", "y", columns={"day": "date"})
    family = open_table(options)
    told = json.loads(json.dumps(family.encoding))
    frame = read_frame(find_files(options.data)[0], tmp_path)
    columns = [Column.of(column) for column in told["columns"]]
    found, notes = encode_more(frame.rows, columns, told["inputs"])
    kept = frame.rows["y"].notna().to_numpy()  # the files are in the order of the tasks
    np.testing.assert_array_equal(found[kept], family.data.x)
    y = (pd.to_numeric(frame.rows["y"]).to_numpy()[kept] - told["mean"]) / told["spread"]
    np.testing.assert_array_equal(y.astype(np.float32), family.data.y)
    assert notes == ()
    turned, _ = encode_more(pd.DataFrame({c.name: frame.rows[c.name][::-1] for c in columns}),
                            columns, told["inputs"])  # fmt: skip
    np.testing.assert_array_equal(turned[::-1], found)


def test_further_rows_need_the_columns_and_tell_what_cannot_be_read() -> None:
    columns = [Column("age", "number", scales={"age": (1.0, 2.0), "age is missing": None})]
    with pytest.raises(DataError, match=r"no column 'age'; allowed: price"):
        encode_more(pd.DataFrame({"price": [1]}), columns, ["age"])
    found, notes = encode_more(
        pd.DataFrame({"age": ["3", "old", None]}), columns, ["age", "age is missing"]
    )
    np.testing.assert_array_equal(found, [[1, 0], [0, 1], [0, 1]])
    assert notes == ("age: 1 cells are no numbers (first: 'old'): counted as missing.",)
