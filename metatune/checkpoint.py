"""Checkpoints of a trial: safetensors and JSON, never a pickle.

``<trial's folder>/rung-<r>/`` holds ``weights.safetensors`` (the meta-parameters),
``moments.safetensors`` (the meta-optimiser's state), ``average.safetensors`` (the weights' moving
average, where there is one), ``state.json``, and for each split that the rung was scored on
``<split>.safetensors`` with the query predictions (float16).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from metatune.jobs import rung_folder
from metatune.learners.training import TrainingState
from metatune.tasks.base import Split


@dataclass(frozen=True)
class Checkpoint:
    """A training state and the seconds that it took."""

    state: TrainingState
    train_seconds: float


def save(folder: Path, rung: int, state: TrainingState, train_seconds: float) -> None:
    """Write a rung's checkpoint beside, then rename it into place.

    The rung before stays: the driver may die before it records this one. Older ones go.
    """
    target = rung_folder(folder, rung)
    beside = target.with_name(f"{target.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file(_owned(state.params), beside / "weights.safetensors")
    save_file(_owned(state.moments), beside / "moments.safetensors")
    if state.average:
        save_file(_owned(state.average), beside / "average.safetensors")
    numbers = {
        "step": state.step,
        "hopeless": state.hopeless,
        "spent": state.spent,
        "train_seconds": train_seconds,
        "averaged": bool(state.average),
    }
    (beside / "state.json").write_text(json.dumps(numbers))
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)
    for old in range(1, rung - 1):
        shutil.rmtree(rung_folder(folder, old), ignore_errors=True)


def load(folder: Path, rung: int) -> Checkpoint | None:
    """The checkpoint of a rung; None where it is missing or damaged (the rung is trained again)."""
    source = rung_folder(folder, rung)
    try:
        numbers = json.loads((source / "state.json").read_text())
        average = load_file(source / "average.safetensors") if numbers["averaged"] else {}
        state = TrainingState(
            step=int(numbers["step"]),
            params=load_file(source / "weights.safetensors"),
            moments=load_file(source / "moments.safetensors"),
            hopeless=int(numbers["hopeless"]),
            spent=int(numbers["spent"]),
            average=average,
        )
        return Checkpoint(state, float(numbers["train_seconds"]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def save_predictions(folder: Path, rung: int, split: Split, predictions: Tensor) -> None:
    """Keep the query predictions ``(T, Q, outputs)`` of a rung on a split."""
    target = rung_folder(folder, rung) / f"{split}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(f".{os.getpid()}.part")
    save_file({"predictions": predictions.contiguous()}, beside)
    beside.rename(target)


def load_predictions(folder: Path, split: Split) -> Tensor:
    """The query predictions ``(T, Q, outputs)`` that were kept in a rung's folder, as float32.

    Raises:
        OSError, SafetensorError: they are not there, or damaged.
    """
    return load_file(folder / f"{split}.safetensors")["predictions"].float()


def _owned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that own their memory, as safetensors asks for."""
    return {name: tensor.contiguous() for name, tensor in tensors.items()}
