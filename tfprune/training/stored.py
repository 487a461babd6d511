"""The state of a training in a folder: one checkpoint, replaced as a whole after each epoch."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.storage.archives import open_archive
from tfprune.storage.files import write_atomic

log = logging.getLogger("tfprune.run")

_INDEX, _ARRAYS, _NEW = "state.json", "arrays.npz", "new"


class NotPlain(TypeError):
    """A value is not made of numbers, texts, arrays, lists and tables."""


def pack(value: Any, arrays: list[NDArray]) -> Any:
    """Return a value as JSON takes it; its arrays are appended to a list.

    Raises:
        NotPlain: It contains something else than numbers, texts, arrays, lists and tables.

    Example:
        >>> found = []
        >>> pack({"best": np.float32(0.5), "wait": (1, None)}, found)
        {'table': {'best': {'array': 0}, 'wait': {'tuple': [1, None]}}}
        >>> unpack(_, found)["wait"]
        (1, None)
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1}
    if type(value) in (list, tuple):
        items = [pack(item, arrays) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"table": {key: pack(item, arrays) for key, item in value.items()}}
    raise NotPlain(type(value).__name__)


def unpack(value: Any, arrays: list[NDArray]) -> Any:
    """Return what `pack` was given."""
    if isinstance(value, list):
        return [unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "array":
        return arrays[inner][()]
    if kind == "tuple":
        return tuple(unpack(item, arrays) for item in inner)
    return {key: unpack(item, arrays) for key, item in inner.items()}


def store(folder: Path, state: Mapping[str, Any], write: Callable[[Path], None]) -> None:
    """Replace the checkpoint in a folder; whoever is killed in between leaves the one before.

    Args:
        folder: The folder, which is created if missing.
        state: What `pack` takes.
        write: Writes further files to a folder.
    """
    new = folder / _NEW
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    write(new)
    arrays: list[NDArray] = []
    packed = pack(dict(state), arrays)
    named: dict[str, Any] = {str(number): array for number, array in enumerate(arrays)}
    np.savez(new / _ARRAYS, allow_pickle=False, **named)
    hashes = {}
    for path in new.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    index = {"files": hashes, "arrays": len(arrays), "state": packed}
    write_atomic(new / _INDEX, json.dumps(index))
    before = _numbers(folder)
    new.rename(folder / str(max(before, default=0) + 1))
    for number in before:
        shutil.rmtree(folder / str(number))


def stored(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the folder of the last checkpoint and its state; None if there is none.

    One that is damaged is not used, which the log says.
    """
    numbers = _numbers(folder)
    if not numbers:
        return None
    place = folder / str(max(numbers))
    try:
        index = json.loads((place / _INDEX).read_bytes())
        damaged = [
            name
            for name, expected in index["files"].items()
            if hashlib.sha256((place / name).read_bytes()).hexdigest() != expected
        ]
    except (OSError, ValueError, KeyError) as error:
        damaged = [f"{_INDEX} ({error})"]
    if damaged:
        log.warning("%s: %s damaged; the training begins again", place, ", ".join(damaged))
        return None
    with open_archive(place / _ARRAYS) as archive:
        arrays = [archive.read(str(number)) for number in range(index["arrays"])]
    return place, unpack(index["state"], arrays)


def _numbers(folder: Path) -> list[int]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [int(name) for name in names if name.isdecimal()]
