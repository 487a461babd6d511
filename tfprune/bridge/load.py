"""Models read from files of either generation of Keras, in safe mode."""

import importlib
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfprune.bridge.model_files import ModelFile, check_model_file, code_in, look_into
from tfprune.errors import ArtefactError, TfpruneError
from tfprune.utils.files import as_path
from tfprune.utils.scratch import scratch_folder

if TYPE_CHECKING:
    import keras

# What the loaders raise for configs and weights that make no sense.
_REFUSALS = (
    ValueError, TypeError, KeyError, OSError, AttributeError, ImportError, IndexError,
    RuntimeError, ArithmeticError, AssertionError, MemoryError, zipfile.BadZipFile,
)  # fmt: skip
# Where the layers are that tfprune itself puts into models.
_OWN_LAYERS = (
    "tfprune.structure.gates.layers", "tfprune.deploy.qat.layers", "tfprune.deploy.qat.attention"
)  # fmt: skip
# Where Keras 2 kept its classes before it was named tf_keras.
_OLD_HOMES = (("keras.src.", "tf_keras.src."), ("keras.engine.", "tf_keras.src.engine."))


def load_model(path: str | os.PathLike[str], *, allow_code: bool = False) -> "keras.Model":
    """Load a model from a `.keras` or `.h5` file or a SavedModel folder, as a Keras 3 model.

    The file itself says which Keras wrote it. What Keras 2 wrote is loaded by `tf_keras` and
    brought over by `to_keras3`, which compares the outputs; its optimizer stays behind. If it has
    zeros, training it says that nothing holds them: no file carries masks.

    Args:
        path: The file or folder.
        allow_code: Whether code inside of the file may run: Lambda layers, pickled functions,
            classes that have to be imported. Only for files whose maker you trust.

    Returns:
        The model, as it was saved.

    Raises:
        ArtefactError: One line, if the file is missing, truncated, of another format, or holds
            code that was not allowed.
        ModelError: A Keras 2 model has something that Keras 3 lacks.
    """
    found = look_into(as_path(path))
    if found.generation not in (2, 3):
        raise ArtefactError(
            f"{path}: written by Keras {found.version}; 2 and 3 can be read. Load it with a "
            "Keras of that age and save it again."
        )
    if not allow_code:
        code = list(dict.fromkeys(code_in(found.config)))
        if code:
            raise ArtefactError(
                f"{path}: holds code that loading would run: {', '.join(code[:3])}. If you trust "
                "who made it, say load_model(path, allow_code=True)."
            )
    import tensorflow as tf

    from tfprune.sparsity.unheld import watch_zeros

    try:
        if found.generation == 3:
            return watch_zeros(_load_new(found, allow_code))
        return watch_zeros(_load_old(found, allow_code))
    except TfpruneError:
        raise
    except (*_REFUSALS, tf.errors.OpError) as error:
        from tfprune.bridge.layer_configs import one_line

        raise ArtefactError(
            f"{path}: cannot be loaded by {_loader(found)}: {one_line(error)}"
        ) from error


def _loader(found: ModelFile) -> str:
    import keras

    return f"Keras {keras.__version__}" if found.generation == 3 else "tf_keras (Keras 2)"


def _load_new(found: ModelFile, allow_code: bool) -> Any:
    import keras

    if "tfprune>" in str(found.config):
        # Keras knows layers by what has been imported.
        for module in _OWN_LAYERS:
            importlib.import_module(module)
    return keras.saving.load_model(found.path, safe_mode=not allow_code)


def _load_old(found: ModelFile, allow_code: bool) -> Any:
    import tf_keras

    from tfprune.bridge.bridge import to_keras3

    if found.format != "keras":
        # What is code in these was looked for above: their loaders have no safe mode.
        return to_keras3(tf_keras.models.load_model(str(found.path), compile=False))
    with scratch_folder() as folder:
        path = Path(folder) / "model.keras"
        _copy_with_new_homes(found, path)
        model = tf_keras.models.load_model(str(path), compile=False, safe_mode=not allow_code)
    return to_keras3(model)


def _copy_with_new_homes(found: ModelFile, path: Path) -> None:
    """Write the archive again, its classes named as tf_keras names them today."""
    with zipfile.ZipFile(found.path) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                content = json.dumps(_renamed(found.config)).encode()
            new.writestr(name, content)


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
