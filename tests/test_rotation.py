"""A rotation: a run on each fold, whose searches have not seen their test groups; it can go on."""

from __future__ import annotations

import io
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from inline_runner import SPACE as SINUSOID
from inline_runner import InlineRunner
from rich.console import Console
from user_tables import FOLDS, folds_space, plain_rows

import metatune
from metatune import rotation, session
from metatune.errors import DataError, RunError, SpaceError
from metatune.folds import rotated
from metatune.records.several import is_rotation
from metatune.tasks.splits import group_splits


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    return folds_space(tmp_path)


@pytest.fixture(scope="module")
def cut_off_and_resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A rotation that was cut off before its second fold and went on; what was printed."""
    folder, out = tmp_path_factory.mktemp("rotation"), Console(file=io.StringIO(), width=200)
    drive = session.drive

    def cut_off(folder: Any, *arguments: Any) -> Path:
        if folder.path.name == "fold-1":
            raise KeyboardInterrupt
        return drive(folder, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "on_ray", lambda *anything: nullcontext(InlineRunner()))
        with patch.context() as short:
            short.setattr(session, "drive", cut_off)
            with pytest.raises(KeyboardInterrupt):
                rotation.run(folds_space(folder), out=folder / "run", console=out)
        assert [run.verdicts.empty for run in metatune.read_runs(folder / "run")] == [False, True]
        again = Console(file=io.StringIO(), width=200)
        rotation.resume(folder / "run", console=again)
    return folder / "run", printed(out), printed(again)


def printed(console: Console) -> str:
    return cast(io.StringIO, console.file).getvalue()


def test_every_fold_is_a_run_and_together_they_are_about_all_groups_but_the_largest(
    cut_off_and_resumed,
) -> None:
    path, _, _ = cut_off_and_resumed
    runs = metatune.read_runs(path)
    assert is_rotation(path)
    assert [run.info["family"]["options"]["fold"] for run in runs] == [0, 1]
    found = rotated(runs)
    for run, (_, own) in zip(runs, found.frame.groupby("fold"), strict=True):
        tested = set(run.info["family"]["groups"]["test"])
        assert set(own["group"]) == tested
        assert tested.isdisjoint(run.scores.query("split != 'test'")["group"])
    assert found.claim == "new groups"
    assert found.over_rival.units == 6


def test_nobody_stands_by_at_a_rotation(
    cut_off_and_resumed,
) -> None:
    with pytest.raises(RunError, match=r"--standby: found .* a rotation; allowed: the folder of"):
        rotation.resume(cut_off_and_resumed[0], standby=True)


def test_the_total_is_told_first_and_what_holds_for_all_folds_once(cut_off_and_resumed) -> None:
    path, first, again = cut_off_and_resumed
    total = "2 folds, each a run with the whole budget: 2 x 7 trials, 2 x 5 min.\n"
    assert first.startswith(f"{total}Fold 0 of 0 to 1: {path}/fold-0\nNote: 14 tasks with 280 rows")
    assert first.count("14 tasks with 280 rows") == 1
    assert first.count("results hang on how they fall") == 2  # for they fall otherwise
    assert "Fold 1 of 0 to 1" in again
    assert "[7/7]" in again


def test_a_fold_knows_its_fold_and_so_does_the_method_that_it_ends_with(
    cut_off_and_resumed,
) -> None:
    path, _, _ = cut_off_and_resumed
    kept = yaml.safe_load((path / "fold-1" / "space.yaml").read_text())
    assert kept["family"].pop("fold") == 1
    assert kept == yaml.safe_load(FOLDS)
    assert yaml.safe_load((path / "fold-1" / "method.yaml").read_text())["family"]["fold"] == 1
    _, again, _ = session.reopen(path / "fold-1")
    assert set(again.info.groups["test"]) == set(
        metatune.read_runs(path)[1].info["family"]["groups"]["test"]
    )


def test_a_file_that_names_a_fold_is_one_of_the_same_folds(
    cut_off_and_resumed, space_file: Path, tmp_path: Path
) -> None:
    space_file.write_text(FOLDS.replace("  shot: 4", "  fold: 1\n  shot: 4  # by hand"))
    by_hand, _ = session.create(space_file, out=tmp_path / "hand")
    first, second = metatune.read_runs(cut_off_and_resumed[0])
    info = metatune.read_run(by_hand.path).info
    assert info["rotation_sha256"] == first.info["rotation_sha256"]
    assert info["data"] == second.info["data"] != first.info["data"]


def test_folds_have_studies_of_their_own_in_one_storage(space_file: Path, tmp_path: Path) -> None:
    names = [
        session.create(space_file, out=tmp_path / name / f"fold-{fold}", fold=fold)[0]
        for name in ("one", "two")
        for fold in (0, 1)
    ]
    assert len({metatune.read_run(folder.path).info["run"] for folder in names}) == 4


@pytest.mark.parametrize(("old", "new", "told"), [
    ("  shot: 4", "  fold: 1\n  shot: 4", r":8: family.fold: found 1; allowed: with --folds: none"),
    ("  shot: 4", "  shot: 19", "no task of split 'train' with 23 rows"),
])  # fmt: skip
def test_what_cannot_be_run_on_every_fold_is_refused_before_anything_is_made(
    old: str, new: str, told: str, space_file: Path, tmp_path: Path
) -> None:
    space_file.write_text(FOLDS.replace(old, new))
    with pytest.raises((SpaceError, DataError), match=told):
        rotation.run(space_file, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_fold_whose_groups_are_too_small_is_refused_before_anything_is_made(
    space_file: Path, tmp_path: Path
) -> None:
    rows = plain_rows(tasks=14, groups=7).drop(columns="y")
    shares = yaml.safe_load(FOLDS)["family"]["splits"]
    small = group_splits("table", dict(rows.groupby("region")["task"].nunique()), shares, fold=1)
    rows = rows[~rows["region"].isin(small["confirm"]) | (rows.index % 4 == 0)]  # 5 of 20 rows
    rows.to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(DataError, match="no task of split 'confirm' with 8 rows"):
        rotation.run(space_file, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_family_without_folds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(SINUSOID)
    told = "family.name: found sinusoid; allowed: with --folds: forecast, image_folder, table"
    with pytest.raises(SpaceError, match=told):
        rotation.run(path, out=tmp_path / "run")


def test_a_folder_that_holds_something_is_refused(space_file: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="exists and is not empty"):
        rotation.run(space_file, out=tmp_path)


def test_a_rotation_that_lost_its_count_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folds.json").write_text(json.dumps({"runs": 2}))
    with pytest.raises(RunError, match="holds no runs of folds"):
        rotation.resume(tmp_path)
