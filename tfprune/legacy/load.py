"""Models read from files, in safe mode."""

import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from tfprune.errors import ArtefactError

if TYPE_CHECKING:
    import keras

HDF5 = b"\x89HDF\r\n\x1a\n"


def load_model(path: str | os.PathLike[str]) -> "keras.Model":
    """Load a Keras model from a `.keras` or `.h5` file.

    Safe mode: code inside of the file (Lambda layers, pickled functions) is not run. A file that
    needs it raises; load that one with `keras.saving.load_model(path, safe_mode=False)` if you
    trust who made it, and pass on the model.

    Args:
        path: The file.

    Returns:
        The model, as it was saved.

    Raises:
        ArtefactError: One line, if the file is missing, truncated, of another format, or holds
            something that safe mode does not load.
    """
    path = Path(path)
    check_model_file(path)
    import keras

    try:
        model = keras.saving.load_model(path, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise ArtefactError(
            f"{path}: cannot be loaded by Keras {keras.__version__}: {reason}"
        ) from error
    return model


def check_model_file(path: Path) -> None:
    """Raise unless `path` is a whole `.keras` archive or an HDF5 file, without loading Keras."""
    if not path.exists():
        raise ArtefactError(f"{path}: no such file.")
    if path.is_dir():
        raise ArtefactError(f"{path}: a folder. Name a .keras or .h5 file.")
    if path.suffix == ".keras":
        _check_archive(path)
    elif path.suffix in (".h5", ".hdf5"):
        with path.open("rb") as file:
            if file.read(len(HDF5)) != HDF5:
                raise ArtefactError(f"{path}: not an HDF5 file. Save the model again.")
    else:
        raise ArtefactError(f"{path}: expected a name ending in .keras, .h5 or .hdf5.")


def _check_archive(path: Path) -> None:
    again = "Copy or save the model again."
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = archive.namelist()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise ArtefactError(f"{path}: truncated, or not a .keras file: {error}. {again}") from None
    if damaged:
        raise ArtefactError(f"{path}: {damaged} inside of it is damaged. {again}")
    if "config.json" not in names:
        raise ArtefactError(f"{path}: no config.json inside, so not a .keras file. {again}")
