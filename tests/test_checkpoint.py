"""Checkpoints: plain tensors and JSON, whole or not there."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest
import torch
from s3 import S3
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from metatune import patience
from metatune.checkpoint import (
    STATE,
    load,
    load_predictions,
    rung_folder,
    save,
    save_predictions,
)  # fmt: skip
from metatune.errors import StorageError
from metatune.learners.training import TrainingState
from metatune.place import Place
from metatune.tasks.base import Split


def state(
    step: int = 3, hopeless: int = 0, average: dict[str, torch.Tensor] | None = None
) -> TrainingState:
    generator = torch.Generator().manual_seed(step)
    params = {
        "backbone.layer0.weight": torch.randn(4, 3, generator=generator).T,  # not contiguous
        "head.bias": torch.randn(2, generator=generator),
    }
    moments = {"head.bias/exp_avg": torch.ones(2), "head.bias/step": torch.tensor(float(step))}
    return TrainingState(step, params, moments, hopeless, spent=100 * step, average=average or {})


def rung_files(folder: str | Path, rung: int) -> list[Path]:
    return sorted(Path(rung_folder(folder, rung)).iterdir())


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    saved = state(7, hopeless=4, average={"head.bias": torch.full((2,), 0.3)})
    save(tmp_path, 2, saved, 1.2345678901234567)
    found = load(tmp_path, 2)
    assert found is not None
    assert (found.state.step, found.state.hopeless, found.state.spent) == (7, 4, 700)
    assert found.train_seconds == 1.2345678901234567
    for some, others in (
        (found.state.params, saved.params),
        (found.state.moments, saved.moments),
        (found.state.average, saved.average),
    ):
        assert some.keys() == others.keys()
        assert all(torch.equal(value, others[name]) for name, value in some.items())


def test_a_state_without_moments_or_parameters_comes_back_too(tmp_path: Path) -> None:
    save(tmp_path, 1, TrainingState(0, {}, {}), 0.0)
    found = load(tmp_path, 1)
    assert found is not None
    assert (found.state.params, found.state.moments) == ({}, {})


def test_nothing_of_it_is_a_pickle(tmp_path: Path) -> None:
    save(tmp_path, 1, state(average={"head.bias": torch.ones(2)}), 0.0)
    save_predictions(tmp_path, 1, "select", torch.ones(2, 3, 1).half())
    files = {path.name: path.read_bytes() for path in rung_files(tmp_path, 1)}
    assert set(files) == {"state.safetensors", "select.safetensors"}
    for content in files.values():
        # safetensors: the header's length, the header as JSON, then numbers and no more.
        header = int.from_bytes(content[:8], "little")
        described = json.loads(content[8 : 8 + header])
        ends = [t["data_offsets"][1] for key, t in described.items() if key != "__metadata__"]
        assert 8 + header + max(ends) == len(content)


def test_the_newest_two_rungs_are_kept(tmp_path: Path) -> None:
    for rung in (1, 2, 3, 4):
        save(tmp_path, rung, state(rung), 0.0)
        kept = sorted(path.name for path in tmp_path.iterdir())
        assert kept == [f"rung-{r}" for r in range(max(1, rung - 1), rung + 1)]


def test_saving_a_rung_again_replaces_it_as_a_whole(tmp_path: Path) -> None:
    save(tmp_path, 1, state(3), 1.0)
    save_predictions(tmp_path, 1, "select", torch.zeros(1, 1, 1).half())
    save(tmp_path, 1, state(5), 2.0)
    found = load(tmp_path, 1)
    assert found is not None
    assert (found.state.step, found.train_seconds) == (5, 2.0)
    # The old state's predictions are not the new one's.
    assert [path.name for path in rung_files(tmp_path, 1)] == ["state.safetensors"]


def test_predictions_of_each_split_lie_beside_the_weights(tmp_path: Path) -> None:
    save(tmp_path, 1, state(), 0.0)
    splits: tuple[Split, ...] = ("select", "confirm")
    for number, split in enumerate(splits):
        save_predictions(tmp_path, 1, split, torch.full((2, 3, 4), number).half())
    for number, split in enumerate(splits):
        found = load_file(Path(rung_folder(tmp_path, 1), f"{split}.safetensors"))["predictions"]
        assert found.dtype == torch.float16
        assert torch.equal(found, torch.full((2, 3, 4), number).half())
    assert load(tmp_path, 1) is not None


def test_a_rung_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path, 1) is None
    save(tmp_path, 1, state(), 0.0)
    assert load(tmp_path, 2) is None


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "garbage", "a folder"])
def test_a_damaged_rung_is_none(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 1, state(), 0.0)
    path = Path(rung_folder(tmp_path, 1), STATE)
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "empty":
            path.touch()
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "garbage":
            path.write_bytes(b"\x80\x04\x95" + content[::-1])
        case "a folder":
            path.mkdir()
    assert load(tmp_path, 1) is None


def test_no_file_that_ends_too_early_is_taken_for_whole(tmp_path: Path) -> None:
    """Nor one of which only the length came to the disk."""
    save(tmp_path, 1, state(), 0.0)
    save_predictions(tmp_path, 1, "select", torch.ones(2, 3, 1).half())
    folder = Path(rung_folder(tmp_path, 1))
    for name in (STATE, "select.safetensors"):
        whole = (folder / name).read_bytes()
        for content in (*(whole[:cut] for cut in range(len(whole))), bytes(len(whole))):
            (folder / name).write_bytes(content)
            if name == STATE:
                assert load(tmp_path, 1) is None
            else:
                with pytest.raises(SafetensorError):
                    load_predictions(str(folder), "select")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage is waited for no longer than a moment."""
    monkeypatch.setattr(patience, "SECONDS", 0.1)


@pytest.mark.parametrize("training", ["r1-0000", "r1-0000/replica-2"])
@pytest.mark.usefixtures("impatient")
def test_a_run_that_was_removed_is_not_begun_anew_by_its_workers(
    tmp_path: Path, training: str
) -> None:
    run = tmp_path / "run"
    (run / "trials").mkdir(parents=True)
    folder = str(run / "trials" / training)
    save(folder, 1, state(), 0.0)
    for gone in ("removed", "an empty mount point"):
        shutil.rmtree(run, ignore_errors=True)
        if gone != "removed":
            run.mkdir()
        for action in (
            lambda: save(folder, 2, state(), 0.0),
            lambda: save_predictions(folder, 1, "select", torch.ones(1, 1, 1)),
            lambda: load(folder, 1),
            lambda: load_predictions(rung_folder(folder, 1), "select"),
        ):
            with pytest.raises(StorageError, match="No such file or directory after"):
                action()
        assert not run.exists() or list(run.iterdir()) == []


def test_a_checkpoint_waits_for_the_run_to_come_back(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    (run / "trials").mkdir(parents=True)
    folder = str(run / "trials" / "r1-0000")
    for action in (
        lambda: save(folder, 1, state(), 0.0),
        lambda: save_predictions(folder, 1, "select", torch.ones(1, 1, 1)),
        lambda: load(folder, 1),
        lambda: load_predictions(rung_folder(folder, 1), "select"),
    ):
        run.rename(elsewhere)
        back = Timer(0.3, lambda: elsewhere.rename(run))
        back.start()
        action()
        back.join()
    assert load(folder, 1) is not None
    assert len(rung_files(folder, 1)) == 2


@pytest.mark.parametrize("drop", ["numbers/step", "numbers/spent", "numbers/train_seconds"])
def test_a_state_that_lacks_a_number_is_none(tmp_path: Path, drop: str) -> None:
    save(tmp_path, 1, state(), 0.0)
    path = Path(rung_folder(tmp_path, 1), STATE)
    tensors = load_file(path)
    del tensors[drop]
    save_file(tensors, path)
    assert load(tmp_path, 1) is None


@pytest.mark.parametrize("more", [
    {"other/step": torch.tensor(1)}, {"numbers/step": torch.ones(2)},
])  # fmt: skip
def test_a_state_of_another_shape_is_none(tmp_path: Path, more: dict[str, torch.Tensor]) -> None:
    save(tmp_path, 1, state(), 0.0)
    path = Path(rung_folder(tmp_path, 1), STATE)
    save_file(load_file(path) | more, path)
    assert load(tmp_path, 1) is None


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: no file grows beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 30, 300, 900])
def test_a_save_that_breaks_off_leaves_the_state_before(tmp_path: Path, size: int) -> None:
    """It has about 1,000 bytes."""
    save(tmp_path, 1, state(3), 1.0)
    save(tmp_path, 2, state(4), 2.0)
    bigger = TrainingState(5, {"w": torch.ones(20)}, {"w/exp_avg": torch.ones(100)})
    for rung in (2, 3):
        with files_of_at_most(size), pytest.raises(StorageError, match="File too large"):
            save(tmp_path, rung, bigger, 3.0)
    for rung, step in ((1, 3), (2, 4)):
        found = load(tmp_path, rung)
        assert found is not None
        assert found.state.step == step
    assert load(tmp_path, 3) is None
    # What was left lying about is in nobody's way.
    save(tmp_path, 3, bigger, 3.0)
    found = load(tmp_path, 3)
    assert found is not None
    assert torch.equal(found.state.params["w"], torch.ones(20))


def test_in_an_object_store_it_is_as_here(s3: S3, tmp_path: Path) -> None:
    there = s3.uri("bucket/trials/r1-0000")
    for folder in (str(tmp_path), there):
        for rung in (1, 2, 3):
            save(folder, rung, state(rung), 1.5)
            save_predictions(folder, rung, "select", torch.full((2, 3, 4), rung).half())
    assert load(there, 1) is None
    assert Place.at(there).listed("").keys() == {"rung-2", "rung-3"}
    for rung in (2, 3):
        here, found = load(tmp_path, rung), load(there, rung)
        assert here is not None
        assert found is not None
        assert found.train_seconds == 1.5
        assert found.state.step == here.state.step
        assert found.state.params.keys() == here.state.params.keys()
        for name, tensor in found.state.params.items():
            assert torch.equal(tensor, here.state.params[name])
        predictions = load_predictions(rung_folder(there, rung), "select")
        assert torch.equal(predictions, torch.full((2, 3, 4), rung).float())
    save(there, 3, state(4), 2.5)
    assert Place.at(rung_folder(there, 3)).listed("").keys() == {STATE}
