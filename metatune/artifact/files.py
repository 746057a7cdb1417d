"""What lies in an artifact's folder: plain data and tensors, written whole, read with distrust.

::

    strategy.json         what it is: strategies, shape of the tasks, encoding, provenance
    weights.safetensors   all numbers: meta-parameters, pooled models, calibration, likeness
    card.md               the same for people

Reading executes nothing and follows no path that a file names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metatune.errors import ArtifactError

FORMAT = 1
STRATEGY, WEIGHTS, CARD = "strategy.json", "weights.safetensors", "card.md"
LONGEST = 1 << 24  # bytes of plain data
LARGEST = 1 << 33  # bytes of tensors


@dataclass(frozen=True)
class Stored:
    """An artifact as it is stored.

    Attributes:
        plain: of ``strategy.json``.
        tensors: of ``weights.safetensors``.
        card: of ``card.md``.
    """

    plain: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    card: str


def write(
    stored: Stored, path: str | Path, further: Callable[[Path], None] = lambda folder: None
) -> Path:
    """Write it into a new folder, beside it first, so that none is ever half there.

    Args:
        stored: what to write.
        path: the folder, new or empty.
        further: writes more files into the folder that it is given.

    Raises:
        ArtifactError: the folder is not empty, or cannot be written.
    """
    folder = new_folder(path)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        text = json.dumps(stored.plain, indent=2, allow_nan=False)
        (beside / STRATEGY).write_text(text, encoding="utf-8")
        owned = {name: tensor.detach().contiguous() for name, tensor in stored.tensors.items()}
        save_file(owned, beside / WEIGHTS)
        (beside / CARD).write_text(stored.card, encoding="utf-8")
        further(beside)
        if folder.exists():
            folder.rmdir()  # empty
        beside.rename(folder)
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def new_folder(path: str | Path) -> Path:
    """The absolute path of a folder that is new or empty.

    Raises:
        ArtifactError: it is neither.
    """
    folder = Path(os.path.abspath(Path(path).expanduser()))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArtifactError(f"{folder} exists and is not empty: name a new folder")
    return folder


def read(path: str | Path) -> Stored:
    """What a folder holds; whether it makes sense is for ``loading`` to say.

    Raises:
        ArtifactError: a file is missing, is no plain file, or is damaged.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: found no such folder; allowed: a folder of metatune export")
    plain = read_json(folder / STRATEGY)
    found = plain.get("format")
    if type(found) is not int or found != FORMAT:
        raise ArtifactError(
            f"{folder / STRATEGY}: format: found {str(found)[:40]}; allowed: {FORMAT} "
            "(is it of another version of metatune?)"
        )
    card = _plain_file(folder / CARD, LONGEST).read_text(encoding="utf-8", errors="replace")
    return Stored(plain, read_tensors(folder / WEIGHTS), card)


def read_json(path: Path) -> dict[str, Any]:
    """A file with one JSON object.

    Raises:
        ArtifactError: it is missing, too large, or holds something else.
    """
    data = _plain_file(path, LONGEST).read_bytes()
    try:
        plain = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged: it holds no JSON ({error})") from error
    if not isinstance(plain, dict):
        raise ArtifactError(f"{path}: found a {type(plain).__name__}; allowed: a JSON object")
    return plain


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ArtifactError: it is missing, too large, or damaged.
    """
    try:
        with safe_open(_plain_file(path, LARGEST), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, OverflowError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{path} is damaged: it holds no tensors ({reason})") from error


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _plain_file(path: Path, most: int) -> Path:
    """The file, if it is one: no link, device or folder, and not too large."""
    if path.is_symlink() or not path.is_file():
        kind = "no such file" if not path.exists() else "a link, folder or device"
        raise ArtifactError(f"{path}: found {kind}; allowed: a file that metatune export wrote")
    size = path.stat().st_size
    if size > most:
        raise ArtifactError(f"{path}: found {size} bytes; allowed: {most}")
    return path
