"""Checkpoints of a trial: safetensors, never a pickle.

``<trial's folder>/rung-<r>/`` holds ``state.safetensors``, in which names begin with ``params/``
(meta-parameters), ``moments/`` (the meta-optimiser's state), ``average/`` (the weights' moving
average, where there is one) or ``numbers/``, and for each split that the rung was scored on
``<split>.safetensors`` with the query predictions (float16).

A file is written whole or not at all, wherever the run lies, and all that a rung needs to go on
from is in one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from metatune.jobs import rung_folder
from metatune.learners.training import TrainingState
from metatune.place import Place
from metatune.tasks.base import Split

STATE = "state.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A training state and the seconds that it took."""

    state: TrainingState
    train_seconds: float


def save(folder: str | Path, rung: int, state: TrainingState, train_seconds: float) -> None:
    """Write a rung's checkpoint; predictions of an earlier one of the same rung go.

    The rung before stays: the driver may die before it records this one. Older ones go.

    Args:
        folder: the trial's, a path or URI.
        rung: 1 is the first.
        state: what was trained.
        train_seconds: that it took.

    Raises:
        OSError: it cannot be written.
    """
    numbers = {
        "step": torch.tensor(state.step),
        "hopeless": torch.tensor(state.hopeless),
        "spent": torch.tensor(state.spent),
        "train_seconds": torch.tensor(train_seconds, dtype=torch.float64),
    }
    parts = {
        "params": state.params,
        "moments": state.moments,
        "average": state.average,
        "numbers": numbers,
    }
    tensors = {
        f"{part}/{name}": tensor.contiguous()  # tensors that own their memory, as it asks for
        for part, named in parts.items()
        for name, tensor in named.items()
    }
    here, trial = Place.at(rung_folder(folder, rung)), Place.at(folder)
    here.write(STATE, to_bytes(tensors))
    for name in here.listed("").keys() - {STATE}:
        here.remove(name)
    with suppress(OSError):  # nobody misses the room
        for name in {f"rung-{number}" for number in range(1, rung - 1)} & trial.listed("").keys():
            trial.remove_folder(name)


def load(folder: str | Path, rung: int) -> Checkpoint | None:
    """The checkpoint of a rung; None where it is missing or damaged (the rung is trained again)."""
    try:
        tensors = from_bytes(Place.at(rung_folder(folder, rung)).read(STATE))
        parts: dict[str, dict[str, Tensor]] = {"params": {}, "moments": {}, "average": {}}
        numbers: dict[str, float] = {}
        for full, tensor in tensors.items():
            part, _, name = full.partition("/")
            if part == "numbers":
                numbers[name] = tensor.item()
            else:
                parts[part][name] = tensor
        state = TrainingState(
            step=int(numbers["step"]),
            hopeless=int(numbers["hopeless"]),
            spent=int(numbers["spent"]),
            **parts,
        )
        return Checkpoint(state, numbers["train_seconds"])
    except (RuntimeError, OSError, ValueError, KeyError, SafetensorError):
        return None


def save_predictions(folder: str | Path, rung: int, split: Split, predictions: Tensor) -> None:
    """Keep the query predictions ``(T, Q, outputs)`` of a rung on a split.

    Raises:
        OSError: they cannot be written.
    """
    data = to_bytes({"predictions": predictions.contiguous()})
    Place.at(rung_folder(folder, rung)).write(f"{split}.safetensors", data)


def load_predictions(folder: str | Path, split: Split) -> Tensor:
    """The query predictions ``(T, Q, outputs)`` that were kept in a rung's folder, as float32.

    Raises:
        RunError, SafetensorError: they are not there, or damaged.
    """
    return from_bytes(Place.at(folder).read(f"{split}.safetensors"))["predictions"].float()
