"""Checkpoints of a trial: safetensors, never a pickle.

``<trial's folder>/rung-<r>/`` holds ``state.safetensors``, in which names begin with ``params/``
(meta-parameters), ``moments/`` (the meta-optimiser's state), ``average/`` (the weights' moving
average, where there is one) or ``numbers/``, and for each split that the rung was scored on
``<split>.safetensors`` with the query predictions (float16).

A file is written whole or not at all, wherever the run lies, and all that a rung needs to go on
from is in one.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from metatune.errors import RunError, StorageError
from metatune.jobs import rung_folder
from metatune.learners.training import TrainingState
from metatune.patience import Patience, passes
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
        StorageError: it cannot be written, whatever the patience.
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
    data = to_bytes(tensors)

    def write() -> None:
        _look_for_run(here)
        here.write(STATE, data)
        for name in here.listed("").keys() - {STATE}:
            here.remove(name)

    Patience().keep_trying(write, f"{here.shown(STATE)} could not be written")
    with suppress(OSError):  # nobody misses the room
        for name in {f"rung-{number}" for number in range(1, rung - 1)} & trial.listed("").keys():
            trial.remove_folder(name)


def load(folder: str | Path, rung: int) -> Checkpoint | None:
    """The checkpoint of a rung; None where it is missing or damaged (the rung is trained again).

    Raises:
        StorageError: the run is not there, or its storage does not answer, whatever the patience.
    """
    try:
        tensors = from_bytes(_read(Place.at(rung_folder(folder, rung)), STATE))
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
    except StorageError:
        raise
    except (RuntimeError, OSError, ValueError, KeyError, SafetensorError):
        return None


def save_predictions(folder: str | Path, rung: int, split: Split, predictions: Tensor) -> None:
    """Keep the query predictions ``(T, Q, outputs)`` of a rung on a split.

    Raises:
        StorageError: they cannot be written, whatever the patience.
    """
    data = to_bytes({"predictions": predictions.contiguous()})
    here, name = Place.at(rung_folder(folder, rung)), f"{split}.safetensors"

    def write() -> None:
        _look_for_run(here)
        here.write(name, data)

    Patience().keep_trying(write, f"{here.shown(name)} could not be written")


def load_predictions(folder: str | Path, split: Split) -> Tensor:
    """The query predictions ``(T, Q, outputs)`` that were kept in a rung's folder, as float32.

    Raises:
        RunError: they are not there.
        StorageError: the storage does not answer, whatever the patience.
        SafetensorError: they are damaged.
    """
    return from_bytes(_read(Place.at(folder), f"{split}.safetensors"))["predictions"].float()


def _read(rung: Place, name: str) -> bytes:
    """A file in a rung's folder; errors as of ``load_predictions``."""

    def read() -> bytes | RunError:
        _look_for_run(rung)
        try:
            return rung.read(name)
        except RunError as error:
            cause = error.__cause__
            # The run is there: no waiting brings a file that it does not have.
            if isinstance(cause, OSError) and passes(cause) and cause.errno != errno.ENOENT:
                raise cause from None
            return error

    found = Patience().keep_trying(read, f"{rung.shown(name)} could not be read")
    if isinstance(found, RunError):
        raise found
    return found


def _look_for_run(rung: Place) -> None:
    """Make sure that a run is where it was: its workers make nothing of it anew.

    Args:
        rung: a folder of checkpoints, of a trial or of a training of its own within it.

    Raises:
        OSError: the folder of all trials is not there, which stands from the run's beginning on.
    """
    if rung.is_local:  # an object store knows no folders
        trial = Path(rung.root).parent
        trials = trial.parent.parent if trial.name.startswith("replica-") else trial.parent
        trials.stat()
