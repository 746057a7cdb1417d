"""What a user hands over, as arrays of the kinds that learners take; or a sentence why not."""

from __future__ import annotations

import warnings
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metatune.errors import ArtifactError, DataError, first_of

if TYPE_CHECKING:
    from metatune.artifact.learner import Artifact

Array = NDArray[Any]


def rows_of(artifact: Artifact, x: Any, name: str) -> NDArray[np.float32]:
    """Inputs ``(N, *input_shape)``, finite.

    Args:
        artifact: whose inputs.
        x: an array, or a frame with columns.
        name: for messages.

    Raises:
        ArtifactError: they are none.
    """
    shape = artifact.info.input_shape
    if hasattr(x, "columns"):
        return _checked(_of_frame(artifact, x, name), name, artifact.inputs)
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 is told below
            found = np.asarray(x, np.float32)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{name}: found what is no array of numbers ({error})") from error
    flat = (prod(shape),)
    if found.ndim and found.shape[1:] == flat and flat != shape:
        found = found.reshape(-1, *shape)
    if found.shape[1:] != shape or found.ndim != len(shape) + 1:
        wanted = " x ".join(str(size) for size in shape)
        one = f"{wanted} inputs a row" if len(shape) == 1 else f"rows of {wanted}"
        has = f"{found.shape[1]} inputs a row" if found.ndim == 2 else f"the shape {found.shape}"
        raise ArtifactError(f"{name}: found {has}; allowed: {one}")
    return _checked(found, name, artifact.inputs)


def _checked(found: Array, name: str, inputs: tuple[str, ...]) -> NDArray[np.float32]:
    if not len(found):
        raise ArtifactError(f"{name}: found no rows; allowed: one or more")
    wrong = np.argwhere(~np.isfinite(found.reshape(len(found), -1)))
    if len(wrong):
        row, column = wrong[0].tolist()
        where = inputs[column] if inputs else f"input {column}"
        value = found.reshape(len(found), -1)[row, column]
        raise ArtifactError(f"{name}: found {value} in row {row}, {where}; allowed: finite numbers")
    return np.ascontiguousarray(found, np.float32)


def _of_frame(artifact: Artifact, x: Any, name: str) -> NDArray[np.float32]:
    """The inputs of a frame: encoded as the run's tables were, else by the inputs' names."""
    columns = artifact.stored.plain.get("columns")
    named = [str(column) for column in x.columns]
    if columns:
        # Whoever has a frame has pandas; an artifact itself needs none.
        from metatune.tasks.tables.columns import Column, encode_more

        try:
            made, notes = encode_more(x, [Column.of(one) for one in columns], artifact.inputs)
        except DataError as error:
            raise ArtifactError(f"{name}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"strategy.json: columns: found no encoding ({error})") from error
        for note in notes:
            warnings.warn(f"{name}: {note}", UserWarning, stacklevel=4)
        return made
    missing = [column for column in artifact.inputs if column not in named]
    if missing:
        raise ArtifactError(
            f"{name}: found a frame without {first_of(missing)}; allowed: the columns "
            f"{first_of(artifact.inputs)}"
        )
    size = prod(artifact.info.input_shape)
    if not artifact.inputs and len(named) != size:
        raise ArtifactError(f"{name}: found {len(named)} columns; allowed: {size}, in their order")
    try:
        return np.asarray(x[list(artifact.inputs) or list(x.columns)], np.float32).reshape(
            -1, *artifact.info.input_shape
        )
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{name}: found cells that are no numbers ({error})") from error


def numbers_of(y: Any, outputs: int) -> NDArray[np.float64]:
    """Targets ``(N, outputs)``, finite.

    Raises:
        ArtifactError: they are none.
    """
    try:
        found = np.asarray(y, np.float64)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"y: found what is no array of numbers ({error})") from error
    if found.ndim == 1 and outputs == 1:
        found = found[:, None]
    if found.ndim != 2 or found.shape[1] != outputs:
        allowed = "(N,)" if outputs == 1 else f"(N, {outputs})"
        raise ArtifactError(f"y: found the shape {found.shape}; allowed: {allowed}")
    wrong = np.flatnonzero(~np.isfinite(found).all(1))
    if len(wrong):
        row = int(wrong[0])
        raise ArtifactError(f"y: found {found[row].tolist()} in row {row}; allowed: finite numbers")
    return found


def labels_of(y: Any, known: tuple[str, ...]) -> tuple[NDArray[np.int64], Array]:
    """Numbers of classes ``(N,)``, and the classes by their numbers.

    Args:
        y: the class of each row.
        known: the classes, where all tasks have the same; empty: those that ``y`` has.

    Raises:
        ArtifactError: a class is not known, or there is one only.
    """
    found = np.asarray(y)
    if found.ndim != 1:
        raise ArtifactError(
            f"y: found the shape {found.shape}; allowed: (N,), a class for each row"
        )
    for row, one in enumerate(found.tolist()):
        if one is None or (isinstance(one, float) and not isfinite(one)):
            raise ArtifactError(f"y: found {one} in row {row}; allowed: a class for each row")
    if known:
        place = {name: number for number, name in enumerate(known)}
        words = [str(one).strip() for one in found.tolist()]
        strange = sorted({word for word in words if word not in place})
        if strange:
            raise ArtifactError(f"y: found the class {strange[0]!r}; allowed: {first_of(known)}")
        labels, classes = np.array([place[word] for word in words], np.int64), np.array(known)
    else:
        try:
            classes, labels = np.unique(found, return_inverse=True)
        except TypeError as error:  # of mixed kinds
            raise ArtifactError(f"y: found classes that have no order ({error})") from error
    if len(np.unique(labels)) < 2:
        one = classes[labels[0]] if len(labels) else "none"
        raise ArtifactError(
            f"y: found one class only ({one}); allowed: rows of two classes or more"
        )
    return labels.astype(np.int64), classes
