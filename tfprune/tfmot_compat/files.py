"""Pruning by `prune_low_magnitude` in `.keras` files: what is needed to go on with it.

It is an asset beside the weights, which Keras ignores when it is loaded without `prune_scope`.
"""

import contextlib
import functools
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfprune.errors import ArtifactError, ScheduleWarning
from tfprune.graph.kernels import PrunableKernel, find_kernels
from tfprune.sparsity.masks import Pruning, prunings_of
from tfprune.sparsity.tfmot_schedules import schedule_from_config
from tfprune.storage.archives import Archive, ArchiveFault, open_archive
from tfprune.storage.files import parse_json
from tfprune.tfmot_compat import adapter
from tfprune.tfmot_compat.options import LowMagnitude, Options, choices_of, show
from tfprune.utils.extras import installed

_FILE = "tfprune_pruning.npz"
_FORMAT = "tfprune pruning 1"
_INDEX_BYTES = 1 << 24


@contextlib.contextmanager
def prune_scope() -> Iterator[None]:
    """Enter the scope in which files of pruned models are loaded so that pruning continues.

    `.keras` files of Keras 3 models have the schedule, its step and the masks, and are loaded
    without the scope as ordinary models. Files of `tf_keras` models have wrappers, and can be
    loaded only in the scope; custom schedules are found by the name of their class.

    Example:
        >>> with prune_scope():
        ...     model = keras.models.load_model("pruned.keras")  # doctest: +SKIP
    """
    with contextlib.ExitStack() as scopes:
        scopes.enter_context(_restoring())
        if installed("tf_keras", "tensorflow_model_optimization"):
            scopes.enter_context(adapter.prune_scope())
        yield


@contextlib.contextmanager
def _restoring() -> Iterator[None]:
    # `load_assets` is what Keras calls, on layers that have it, when it loads a file.
    kind: Any = keras.layers.Layer
    before = vars(kind).get("load_assets")
    kind.load_assets = _restore
    try:
        yield
    finally:
        if before is None:
            del kind.load_assets
        else:
            kind.load_assets = before


def record(roots: Sequence[Any]) -> None:
    """Have `.keras` files of some models or layers record how they are pruned."""
    for root in roots:
        if not hasattr(root, "save_assets"):
            vars(root)["save_assets"] = functools.partial(_save, root)


def forget(roots: Sequence[Any]) -> None:
    """Undo `record`."""
    for root in roots:
        if isinstance(vars(root).get("save_assets"), functools.partial):
            del vars(root)["save_assets"]


def _save(root: Any, folder: str) -> None:
    numbers = {id(kernel.variable): n for n, kernel in enumerate(find_kernels([root])[0])}
    entries: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for pruning in prunings_of(root):
        choices = pruning.choices
        if not isinstance(choices, LowMagnitude) or choices.options is None:
            continue
        held = [
            (numbers[id(hold.kernel.variable)], hold)
            for hold in pruning.holds
            if id(hold.kernel.variable) in numbers and hold.kernel.variable.constraint is hold
        ]
        entries.append(_entry(pruning, choices.options) | {"kernels": [n for n, _ in held]})
        arrays |= {f"mask_{n}": np.packbits(hold.mask_array()) for n, hold in held}
    try:
        index = json.dumps({"format": _FORMAT, "prunings": entries}, default=_plain)
        for entry in entries:
            schedule_from_config(entry["pruning_schedule"])
    except (TypeError, ArtifactError) as error:
        warnings.warn(
            f"the schedule of {root.name!r} cannot be stored in the file ({error}): prune the "
            "loaded model again to continue",
            ScheduleWarning,
            stacklevel=2,
        )
        return
    np.savez_compressed(Path(folder) / _FILE, index=np.array(index), **arrays)


def _entry(pruning: Pruning, options: Options) -> dict[str, Any]:
    return {
        "pruning_schedule": pruning.choices.schedule.get_config(),
        "block_size": list(options.block_size),
        "block_pooling_type": options.block_pooling_type,
        "sparsity_m_by_n": options.sparsity_m_by_n and list(options.sparsity_m_by_n),
        "step": pruning.step,
        "sparsity": pruning.sparsity,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} has no form in JSON")


def _restore(root: Any, folder: str | None) -> None:
    """Continue the pruning that a file records of a model or layer, if it does."""
    path = None if folder is None else Path(folder) / _FILE
    if path is None or not path.exists():
        return
    kernels = find_kernels([root])[0]
    try:
        with open_archive(path) as archive:
            index = parse_json(str(archive.read("index", _INDEX_BYTES)))
            if index["format"] != _FORMAT:
                raise ArchiveFault(f"its format is not {_FORMAT!r}")
            for entry in index["prunings"]:
                _restore_one(root, kernels, entry, archive)
    except (ArchiveFault, KeyError, IndexError, TypeError, ValueError) as fault:
        raise ArtifactError(
            f"the pruning of {root.name!r} in the file is damaged: {fault}"
        ) from None
    record([root])


def _restore_one(
    root: Any, kernels: list[PrunableKernel], entry: dict[str, Any], archive: Archive
) -> None:
    options = Options(
        schedule_from_config(entry["pruning_schedule"]),
        tuple(entry["block_size"]),
        entry["block_pooling_type"],
        entry["sparsity_m_by_n"] and tuple(entry["sparsity_m_by_n"]),
    )
    held = {id(kernels[n].variable): n for n in entry["kernels"]}

    def leave(kernel: PrunableKernel) -> str:
        return "" if id(kernel.variable) in held else "not pruned when it was saved"

    pruning = Pruning(choices_of(options, leave), step=entry["step"], sparsity=entry["sparsity"])
    pruning.attach([root])
    for hold in pruning.holds:
        shape, bits = hold.kernel.shape, archive.read(f"mask_{held[id(hold.kernel.variable)]}")
        count = math.prod(shape)
        hold.set_mask(np.unpackbits(bits, count=count).astype(bool).reshape(shape))
    show(options, [hold.kernel.layer for hold in pruning.holds], None)
