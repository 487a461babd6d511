"""Saving masks: one `.npz` file with the mask of every held kernel, checked when loaded.

Also all that a pruning keeps beside the weights, so that an interrupted training goes on.
"""

import hashlib
import io
import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfprune.errors import ArtifactError, ModelError, nearest
from tfprune.graph.kernels import find_variables
from tfprune.sparsity.choices import allocation, scores
from tfprune.sparsity.choices.patterns import Unstructured
from tfprune.sparsity.choices.schedules import OneShot
from tfprune.sparsity.masks import Choices, Hold, Pruning, holds_of, prunings_of
from tfprune.sparsity.pruning import retrace
from tfprune.storage.archives import Archive, ArchiveFault, open_archive
from tfprune.storage.files import as_path, check_destination, parse_json, write_atomic

_FORMAT = "tfprune masks 1"
_INDEX_BYTES = 1 << 26  # enough for 100,000 masks

M = TypeVar("M", bound=keras.Model)


def save_masks(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Write the masks of a model's held weights to one `.npz` file, one bit per weight.

    Args:
        model: A model that `prune` or `prune_low_magnitude` has been called on.
        path: The file to write; it is written completely or not at all.

    Returns:
        The path written.

    Raises:
        ModelError: If no mask is held in the model.
    """
    check_destination(path)
    holds = holds_of(model)
    if not holds:
        raise ModelError(
            f"save_masks: the model {model.name!r} has no masks; save masks before "
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
    """Apply the masks in a file to a model and hold them while it trains.

    A kernel that is already held keeps its position on its schedule and gets the mask; the others
    are held without a schedule. Kernels that are not in the file are not changed.

    Args:
        model: A model with the kernels in the file.
        path: A file written by `save_masks`.

    Returns:
        `model` itself.

    Raises:
        ArtifactError: If the file is missing, damaged, or not a file of masks.
        ModelError: If the file has a kernel that the model lacks, or one of another shape; the
            model is not changed then.
    """
    kernels = {kernel.path: kernel for kernel in find_variables([model])}
    try:
        with open_archive(as_path(path)) as archive:
            entries = _index(archive)
            # Check before reading, so that no more is read than the model has.
            _check_fits(path, model, entries, kernels)
            masks = {entry.path: _mask(archive, i, entry) for i, entry in enumerate(entries)}
    except FileNotFoundError:
        raise ArtifactError(f"load_masks: {path}: no such file") from None
    except ArchiveFault as fault:
        raise ArtifactError(
            f"load_masks: {path} is not a file written by save_masks, or it is damaged: {fault}"
        ) from None
    kept = sum(int(mask.sum()) for mask in masks.values())
    sparsity = 1 - kept / max(sum(mask.size for mask in masks.values()), 1)
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


@dataclass(frozen=True)
class _Entry:
    """The entry of one mask in the index of a file."""

    path: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def packed_bytes(self) -> int:
        return -(-math.prod(self.shape) // 8)


def _index(archive: Archive) -> list[_Entry]:
    stored = archive.read("index", _INDEX_BYTES)
    if stored.shape or stored.dtype.kind != "U":
        raise ArchiveFault("its index is not text")
    try:
        index = parse_json(str(stored))
    except ValueError as error:
        raise ArchiveFault(f"its index is damaged: {error}") from None
    if not isinstance(index, dict) or index.get("format") != _FORMAT:
        raise ArchiveFault(f"its format is not {_FORMAT!r}")
    masks = index.get("masks")
    if not isinstance(masks, list) or not masks:
        raise ArchiveFault("its index lists no masks")
    entries = [_entry(fields) for fields in masks]
    paths = Counter(entry.path for entry in entries)
    twice = [path for path, count in paths.items() if count > 1]
    if twice:
        raise ArchiveFault(f"its index lists {twice[0]!r} twice")
    return entries


def _entry(fields: Any) -> _Entry:
    if not isinstance(fields, dict):
        raise ArchiveFault(f"its index lists {fields!r} for a mask")
    path, shape, sha256 = (fields.get(key) for key in ("path", "shape", "sha256"))
    if (
        not isinstance(path, str)
        or not isinstance(sha256, str)
        or not isinstance(shape, list)
        or not all(type(side) is int and side >= 0 for side in shape)
    ):
        raise ArchiveFault("an entry of its index has no path, shape and sha256")
    return _Entry(path, tuple(shape), sha256)


def _check_fits(path: Any, model: Any, entries: list[_Entry], kernels: Mapping[str, Any]) -> None:
    for entry in entries:
        if entry.path not in kernels:
            raise ModelError(
                f"load_masks: {path} has a mask for {entry.path!r}, which is not in the model "
                f"{model.name!r}. {nearest(entry.path, kernels)}"
            )
        if kernels[entry.path].shape != entry.shape:
            raise ModelError(
                f"load_masks: {path}: the mask of {entry.path!r} has the shape {entry.shape}, the "
                f"kernel {kernels[entry.path].shape}"
            )


def _mask(archive: Archive, number: int, entry: _Entry) -> NDArray[np.bool_]:
    bits = archive.read(f"mask_{number}", entry.packed_bytes)
    if bits.dtype != np.uint8 or bits.shape != (entry.packed_bytes,):
        raise ArchiveFault(f"the mask of {entry.path!r} does not have its shape {entry.shape}")
    mask = np.unpackbits(bits, count=math.prod(entry.shape)).astype(bool).reshape(entry.shape)
    if _hash(mask) != entry.sha256:
        raise ArchiveFault(f"the mask of {entry.path!r} is damaged")
    return mask


def state_of(model: keras.Model) -> dict[str, Any]:
    """Return all that the prunings of a model keep beside its weights, as arrays and numbers."""
    return {
        "prunings": [[p.step, p.sparsity, p.offset] for p in prunings_of(model)],
        "holds": [
            {
                "mask": hold.mask_array(),
                "revived": hold.revived,
                "movement": [
                    np.array(tf.convert_to_tensor(variable))
                    for variable in (hold.movement, hold.previous)
                    if variable is not None
                ],
            }
            for hold in holds_of(model)
        ],
    }


def set_state(model: keras.Model, state: Mapping[str, Any]) -> None:
    """Give a model that is pruned in the same way what `state_of` returned, beside its weights."""
    for pruning, values in zip(prunings_of(model), state["prunings"], strict=True):
        pruning.step, pruning.sparsity, pruning.offset = values
    for hold, values in zip(holds_of(model), state["holds"], strict=True):
        hold.set_mask(values["mask"])
        hold.revived = values["revived"]
        variables = [v for v in (hold.movement, hold.previous) if v is not None]
        for variable, value in zip(variables, values["movement"], strict=True):
            variable.assign(value)
