"""Masks as data: one `.npz` with the mask of every held kernel, checked when it is loaded."""

import hashlib
import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import TypeVar

import keras
import numpy as np
from numpy.typing import NDArray

from tfprune.errors import ArtefactError, ModelError, nearest
from tfprune.sparsity.choices import allocation, scores
from tfprune.sparsity.choices.patterns import Unstructured
from tfprune.sparsity.choices.schedules import OneShot
from tfprune.sparsity.kernels import find_variables
from tfprune.sparsity.masks import Choices, Hold, Pruning, holds_of
from tfprune.sparsity.pruning import retrace
from tfprune.utils.files import as_path, check_destination, write_atomic

_FORMAT = "tfprune masks 1"

M = TypeVar("M", bound=keras.Model)


def save_masks(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Write the masks of a model's held weights to one `.npz` file, one bit a weight.

    Args:
        model: A model that `prune` or `prune_low_magnitude` has been called on.
        path: The file to write; it appears whole or not at all.

    Returns:
        The path written.

    Raises:
        ModelError: If nothing of the model is held.
    """
    check_destination(path)
    holds = holds_of(model)
    if not holds:
        raise ModelError(
            f"save_masks: nothing of the model {model.name!r} is held; save masks before "
            "strip_pruning, or prune the model first"
        )
    masks = {hold.kernel.path: hold.mask_array() for hold in holds}
    entries = [
        {"path": name, "shape": mask.shape, "sha256": _hash(mask)} for name, mask in masks.items()
    ]
    arrays = {f"mask_{i}": np.packbits(mask) for i, mask in enumerate(masks.values())}
    arrays["index"] = np.array(json.dumps({"format": _FORMAT, "masks": entries}))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return write_atomic(path, buffer.getvalue())


def load_masks(model: M, path: str | os.PathLike[str]) -> M:
    """Return the model with the masks of a file applied and held while it trains on.

    A kernel that is held already keeps its place on its schedule and takes the mask; the others
    are held as they are. Kernels that the file does not name stay as they were.

    Args:
        model: A model with the kernels the file names.
        path: What `save_masks` wrote.

    Returns:
        `model` itself.

    Raises:
        ArtefactError: If the file is missing, damaged, or no file of masks.
        ModelError: If the file names a kernel that the model has not, or one of another shape.
            Nothing is changed then.
    """
    masks = _read(as_path(path))
    kernels = {kernel.path: kernel for kernel in find_variables([model])}
    for name, mask in masks.items():
        if name not in kernels:
            raise ModelError(
                f"load_masks: {path} has a mask for {name!r}, which the model {model.name!r} has "
                f"not. {nearest(name, kernels)}"
            )
        if kernels[name].shape != mask.shape:
            raise ModelError(
                f"load_masks: {path}: the mask of {name!r} has the shape {mask.shape}, the kernel "
                f"{kernels[name].shape}"
            )
    kept = sum(int(mask.sum()) for mask in masks.values())
    sparsity = 1 - kept / sum(mask.size for mask in masks.values())
    fixed = Choices(
        scores.SCORES["magnitude"], Unstructured(), allocation.uniform, OneShot(sparsity)
    )
    pruning = Pruning(fixed, step=0, sparsity=sparsity)
    for name, mask in masks.items():
        hold = kernels[name].variable.constraint
        if not isinstance(hold, Hold):
            hold = Hold(kernels[name], pruning)
            pruning.holds.append(hold)
        hold.set_mask(mask)
    retrace(model)
    return model


def _hash(mask: NDArray[np.bool_]) -> str:
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()


def _read(path: Path) -> dict[str, NDArray[np.bool_]]:
    if not path.is_file():
        raise ArtefactError(f"load_masks: {path}: no such file")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            index = json.loads(str(file["index"]))
            entries = index["masks"] if index["format"] == _FORMAT else None
            packed = [file[f"mask_{i}"] for i in range(len(entries or []))]
        if entries is None:
            raise ValueError(f"format {index['format']!r}")
        masks = {
            entry["path"]: _unpack(bits, tuple(entry["shape"]))
            for entry, bits in zip(entries, packed, strict=True)
        }
        damaged = [e["path"] for e in entries if _hash(masks[e["path"]]) != e["sha256"]]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ArtefactError(
            f"load_masks: {path} is not a file that save_masks wrote, or it is damaged: {error}"
        ) from error
    if damaged:
        raise ArtefactError(f"load_masks: {path}: the mask of {damaged[0]!r} is damaged")
    return masks


def _unpack(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)
