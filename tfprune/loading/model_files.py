"""Format, generation and config of a model file, read without running code from it."""

import json
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfprune.errors import ArtifactError
from tfprune.loading.folders import check_model_folder, read_config
from tfprune.loading.stored import examine_h5
from tfprune.storage.scratch import scratch_folder
from tfprune.workers.pool import ChildError, run_job

HDF5 = b"\x89HDF\r\n\x1a\n"
_AGAIN = "Copy or save the model again."
# Errors of zipfile for damaged archives.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError,
            ValueError, OverflowError, struct.error)  # fmt: skip
_H5_LIMIT_S = 60.0
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
"""The members of a `.keras` archive."""
# Limits on the growth of an archive when it is unpacked: bytes, or a factor.
_FREE_BYTES, _MOST_GROWTH = 64 << 20, 100
# Parsed JSON takes twenty times the memory of the text.
_LONGEST_CONFIG_BYTES = 32 << 20


@dataclass(frozen=True)
class ModelFile:
    """A model file and its metadata.

    `format` is "keras", "h5" or "saved_model", and `version` that of the Keras that wrote it, "" if
    unknown. `training` is the compile config, if it is not in `config`. `backslashes`: whether
    Windows wrote it, with backslashes in the names of weights.
    """

    path: Path
    format: str
    version: str
    config: Any
    training: Any = None
    stored_bytes: int = 0
    backslashes: bool = False

    @property
    def generation(self) -> int:
        """Return 2 for Keras 2 (`tf_keras`), 3 for Keras 3."""
        major = self.version.partition(".")[0]
        if major.isdigit():
            return int(major)
        return 2 if self.format == "saved_model" or _is_old(self.config) else 3


def check_model_file(path: Path) -> None:
    """Raise unless `path` is a complete `.keras` archive, an HDF5 file or a SavedModel folder."""
    if not path.exists():
        raise ArtifactError(f"{path}: no such file.")
    if path.is_dir():
        check_model_folder(path)
    elif path.suffix == ".keras":
        _check_archive(path)
    elif path.suffix in (".h5", ".hdf5"):
        with path.open("rb") as file:
            if file.read(len(HDF5)) != HDF5:
                raise ArtifactError(f"{path}: not an HDF5 file. Save the model again.")
    else:
        raise ArtifactError(
            f"{path}: expected a name ending in .keras, .h5 or .hdf5, or a SavedModel folder."
        )


def check_weights_file(path: Path) -> None:
    """Raise unless a file of weights is a complete HDF5 file without external links.

    Raises:
        ArtifactError: It is damaged, or of another format.
    """
    if path.suffix not in (".h5", ".hdf5"):
        raise ArtifactError(f"{path}: expected a file of weights whose name ends in .h5 or .hdf5.")
    _ask_for_h5(path, path)


def read_metadata(path: Path) -> ModelFile:
    """Return the metadata of a model file.

    Raises:
        ArtifactError: It is missing, damaged, or not a model file.
    """
    check_model_file(path)
    if path.is_dir():
        stored = sum(file.stat().st_size for file in (path / "variables").glob("variables.data*"))
        return ModelFile(path, "saved_model", "2", read_config(path), stored_bytes=stored)
    if path.suffix == ".keras":
        return _read_archive(path)
    about = _ask_for_h5(path, path)
    if about["model_config"] is None:
        raise ArtifactError(
            f"{path}: contains weights without a model. Build the model, and call its load_weights."
        )
    config = _json(path, "its model_config", about["model_config"].encode())
    training = about["training_config"]
    if training is not None:
        training = _json(path, "its training_config", training.encode())
    return ModelFile(path, "h5", _version(about), config, training, about["bytes"])


def _read_archive(path: Path) -> ModelFile:
    with zipfile.ZipFile(path) as archive, scratch_folder() as folder:
        names = archive.namelist()
        config = _json(path, CONFIG, archive.read(CONFIG))
        about = {}
        if "metadata.json" in names:
            about = _json(path, "metadata.json", archive.read("metadata.json"))
        if WEIGHTS not in names:
            raise ArtifactError(f"{path}: no {WEIGHTS} inside. {_AGAIN}")
        found = _ask_for_h5(path, Path(archive.extract(WEIGHTS, folder)))
    return ModelFile(
        path, "keras", _version(about), config, None, found["bytes"], found["backslashes"]
    )


def _ask_for_h5(path: Path, content: Path) -> dict[str, Any]:
    """Examine an HDF5 file, which is or is part of a model file, in a child process."""
    limit_s = _H5_LIMIT_S + content.stat().st_size / 20e6
    try:
        reply: dict[str, Any] = run_job(examine_h5, str(content.resolve()), limit_s=limit_s)
    except ChildError as error:
        inside = "" if content == path else f" ({WEIGHTS} inside it)"
        raise ArtifactError(f"{path}: a damaged HDF5 file{inside}: {error}. {_AGAIN}") from None
    return reply


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            _check_growth(path, sizes)
            damaged = archive.testzip()
            names = archive.namelist()
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArtifactError(
            f"{path}: truncated, or not a .keras file: {reason}. {_AGAIN}"
        ) from None
    if damaged:
        raise ArtifactError(f"{path}: {damaged} inside it is damaged. {_AGAIN}")
    if CONFIG not in names:
        raise ArtifactError(f"{path}: no {CONFIG} inside, so not a .keras file. {_AGAIN}")


def _check_growth(path: Path, sizes: dict[str, int]) -> None:
    packed, unpacked = path.stat().st_size, sum(sizes.values())
    if unpacked > max(_FREE_BYTES, _MOST_GROWTH * packed):
        raise ArtifactError(
            f"{path}: {packed:,} bytes that unpack to {unpacked:,}, too much for a model. {_AGAIN}"
        )
    if sizes.get(CONFIG, 0) > _LONGEST_CONFIG_BYTES:
        raise ArtifactError(
            f"{path}: {CONFIG} inside it has {sizes[CONFIG]:,} bytes; "
            f"at most {_LONGEST_CONFIG_BYTES:,} are allowed."
        )


def _json(path: Path, what: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: {what} is damaged: {error}. {_AGAIN}") from None


def _version(about: Any) -> str:
    version = about.get("keras_version") if isinstance(about, dict) else None
    return version if isinstance(version, str) else ""


def _is_old(config: Any) -> bool:
    """Return whether a config without a version is of Keras 2."""
    if isinstance(config, list):
        return any(map(_is_old, config))
    if not isinstance(config, dict):
        return False
    module = str(config.get("module"))
    if "batch_input_shape" in config or module.startswith(("tf_keras", "keras.src.engine")):
        return True
    return any(map(_is_old, config.values()))
