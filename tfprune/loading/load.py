"""Loading of models of either generation of Keras, without running code from the file."""

import dataclasses
import json
import logging
import os
import warnings
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfprune.errors import ArtifactError, TfpruneError
from tfprune.loading.allowed import code_in
from tfprune.loading.budget import BudgetError, check_config_counts, limited_variables
from tfprune.loading.folders import load_weights_into
from tfprune.loading.model_files import CONFIG, WEIGHTS, ModelFile, check_model_file, read_metadata
from tfprune.loading.references import dangling_calls
from tfprune.loading.stored import use_slashes
from tfprune.storage.files import as_path
from tfprune.storage.scratch import scratch_folder
from tfprune.utils.extras import require
from tfprune.workers.pool import run_job

if TYPE_CHECKING:
    import keras

log = logging.getLogger("tfprune")

# Errors of the loaders for invalid configs and weights.
_REFUSALS = (
    ValueError, TypeError, KeyError, OSError, AttributeError, ImportError, IndexError,
    RuntimeError, ArithmeticError, AssertionError, MemoryError, zipfile.BadZipFile,
)  # fmt: skip
_TRUST = "If you trust its source, use load_model(path, allow_code=True), or --allow-code."
_NO_STATE = (
    r"(?s)(A total of 1 objects could not be loaded.*)?Skipping variable loading for optimizer"
)
# Size of the largest array when outputs are compared: half a gigabyte.
_MOST_ELEMENTS = 1 << 27
_SLASHES_LIMIT_S = 600.0
# Where Keras 2 kept its classes before it was named tf_keras.
_OLD_HOMES = (("keras.src.", "tf_keras.src."), ("keras.engine.", "tf_keras.src.engine."))


def load_model(path: str | os.PathLike[str], *, allow_code: bool = False) -> "keras.Model":
    """Load a model from a `.keras` or `.h5` file or a SavedModel folder, as a Keras 3 model.

    The generation is read from the file. A Keras 2 model is loaded by `tf_keras` and converted by
    `to_keras3`, which compares the outputs and drops the optimizer. Training a loaded model with
    zeros warns that they have no mask, since files do not contain masks.

    Args:
        path: The file or folder.
        allow_code: Whether code from the file may run: Lambda layers, pickled functions, classes
            that have to be imported. Only for files from sources you trust.

    Returns:
        The model, as it was saved.

    Raises:
        ArtifactError: The file is missing, truncated, of another format, or contains code and
            `allow_code` is False.
        ModelError: A part of a Keras 2 model has no counterpart in Keras 3.
    """
    from tfprune.sparsity.unheld import watch_zeros

    return watch_zeros(read_model(path, allow_code=allow_code))


def load_as_far_as_plain(
    path: str | os.PathLike[str], *, allow_code: bool = False
) -> "keras.Model":
    """Load as `load_model`; a loss or metric that is code is left out, and the model not compiled.

    That is logged as a warning.
    """
    from tfprune.sparsity.unheld import watch_zeros

    found = read_metadata(as_path(path))
    own = [] if allow_code else list(dict.fromkeys(code_in(_compilation(found), found.generation)))
    if own:
        log.warning("%s: compiled with code (%s), which is not loaded", path, ", ".join(own[:3]))
    try:
        return watch_zeros(read_model(path, allow_code=allow_code, compiled=not own))
    except ArtifactError as error:
        # An .h5 file names a loss of the user's own by a word alone.
        model = read_model(path, allow_code=allow_code, compiled=False)
        log.warning("%s; what it is compiled with was left out", error)
        return watch_zeros(model)


def _compilation(found: ModelFile) -> list[Any]:
    """Return what a file says that its model was compiled with."""
    inside = found.config.get("compile_config") if isinstance(found.config, dict) else None
    return [_renamed(inside) if found.generation == 2 else inside, found.training]


def read_model(
    path: str | os.PathLike[str], *, allow_code: bool = False, compiled: bool = True
) -> "keras.Model":
    """Load as `load_model`, without the warning about zeros without masks.

    The model is not compiled if `compiled` is False.
    """
    found = read_metadata(as_path(path))
    if not compiled:
        found = dataclasses.replace(found, config=_uncompiled(found.config), training=None)
    if found.generation not in (2, 3):
        raise ArtifactError(
            f"{path}: written by Keras {found.version}; only 2 and 3 are supported. Load it with "
            "that version of Keras and save it again."
        )
    dangling = list(dangling_calls(found.config))
    if dangling:
        raise ArtifactError(
            f"{path}: the layer {dangling[0]!r} is called on the output of a missing call. "
            "Copy or save the model again."
        )
    if not allow_code:
        config = [_config(found), found.training]
        code = list(dict.fromkeys(code_in(config, found.generation)))
        if code:
            raise ArtifactError(
                f"{path}: contains code that loading would run: {', '.join(code[:3])}. {_TRUST}"
            )
    import tensorflow as tf

    try:
        if not allow_code:
            check_config_counts([found.config, found.training])
        if found.generation == 3:
            return _load_new(found, allow_code, compiled)
        return _load_old(found, allow_code)
    except BudgetError as error:
        raise ArtifactError(f"{path}: {error}. {_TRUST}") from None
    except TfpruneError:
        raise
    except (*_REFUSALS, tf.errors.OpError) as error:
        from tfprune.bridge.layer_configs import one_line

        raise ArtifactError(
            f"{path}: cannot be loaded by {_loader(found)}: {one_line(error)}"
        ) from error


def _loader(found: ModelFile) -> str:
    import keras

    return f"Keras {keras.__version__}" if found.generation == 3 else "tf_keras (Keras 2)"


def _uncompiled(config: Any) -> Any:
    return config if not isinstance(config, dict) else {**config, "compile_config": None}


def _load_new(found: ModelFile, allow_code: bool, compiled: bool) -> Any:
    import keras

    with scratch_folder() as folder, _budget(found, allow_code):
        path = found.path
        if found.backslashes:
            path = _rewritten(found, folder)
        with warnings.catch_warnings():
            # A model that was compiled and never trained has no state of its optimizer.
            warnings.filterwarnings("ignore", _NO_STATE)
            return keras.saving.load_model(path, compile=compiled, safe_mode=not allow_code)


def _load_old(found: ModelFile, allow_code: bool) -> Any:
    require(f"{found.path}: a model file of Keras 2", "tf-keras", "tf_keras")
    from tfprune.bridge.bridge import to_keras3, to_keras3_within

    with _budget(found, allow_code):
        old = _read_old(found, allow_code)
    with _budget(found, allow_code):
        return to_keras3(old) if allow_code else to_keras3_within(old, _MOST_ELEMENTS)


def _read_old(found: ModelFile, allow_code: bool) -> Any:
    import tf_keras

    if found.format == "saved_model" and not allow_code:
        model = tf_keras.models.model_from_json(json.dumps(found.config))
        load_weights_into(model, found.path)
        return model
    if found.format != "keras":
        # Code in these was searched for above: their loaders have no safe mode.
        return tf_keras.models.load_model(str(found.path), compile=False)
    with scratch_folder() as folder:
        path = _rewritten(found, folder)
        return tf_keras.models.load_model(str(path), compile=False, safe_mode=not allow_code)


def _budget(found: ModelFile, allow_code: bool) -> AbstractContextManager[None]:
    return nullcontext() if allow_code else limited_variables(found.stored_bytes)


def _rewritten(found: ModelFile, folder: Path) -> Path:
    """Write a copy of the archive with current names of classes and weights."""
    path = folder / "model.keras"
    with zipfile.ZipFile(found.path) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if name == CONFIG:
                new.writestr(name, json.dumps(_config(found)))
            elif name == WEIGHTS and found.backslashes:
                weights = Path(old.extract(name, folder))
                run_job(use_slashes, str(weights), limit_s=_SLASHES_LIMIT_S)
                new.write(weights, name)
            else:
                new.writestr(name, old.read(name))
    return path


def _config(found: ModelFile) -> Any:
    """Return the config with current names: only Keras 2 has moved its classes."""
    return _renamed(found.config) if found.generation == 2 else found.config


def _renamed(config: Any) -> Any:
    if isinstance(config, list):
        return [_renamed(item) for item in config]
    if not isinstance(config, dict):
        return config
    result = {key: _renamed(value) for key, value in config.items()}
    for old, new in _OLD_HOMES:
        if str(result.get("module")).startswith(old):
            result["module"] = new + result["module"].removeprefix(old)
    return result


__all__ = ["check_model_file", "load_model"]
