"""What a model file is, read from the file itself: its format, its generation, code inside.

Nothing here runs what a file holds.
"""

import json
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfprune.errors import ArtefactError

HDF5 = b"\x89HDF\r\n\x1a\n"
_AGAIN = "Copy or save the model again."
# What zipfile raises for damaged archives, beside its own error.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError,
            ValueError, OverflowError, struct.error)  # fmt: skip
# Deflate cannot shrink more than this; a size beyond it is a damaged field.
_MOST_COMPRESSION = 1032
_H5_LIMIT_S = 60.0
# Where the classes of Keras live. Others would have to be imported, and importing runs code.
_KERAS = {"keras", "tf_keras", "builtins", "tfprune"}


@dataclass(frozen=True)
class ModelFile:
    """A model file and what it says of itself.

    Attributes:
        path: The file or folder.
        format: "keras", "h5" or "saved_model".
        version: The version of Keras that wrote it, "" where it does not say.
        config: The model's config; for a SavedModel those of its parts, one by one.
    """

    path: Path
    format: str
    version: str
    config: Any

    @property
    def generation(self) -> int:
        """2 for Keras 2 (`tf_keras`), 3 for Keras 3."""
        major = self.version.partition(".")[0]
        if major.isdigit():
            return int(major)
        return 2 if self.format == "saved_model" or _is_old(self.config) else 3


def check_model_file(path: Path) -> None:
    """Raise unless `path` is a whole `.keras` archive, an HDF5 file or a SavedModel folder."""
    if not path.exists():
        raise ArtefactError(f"{path}: no such file.")
    if path.is_dir():
        _check_folder(path)
    elif path.suffix == ".keras":
        _check_archive(path)
    elif path.suffix in (".h5", ".hdf5"):
        with path.open("rb") as file:
            if file.read(len(HDF5)) != HDF5:
                raise ArtefactError(f"{path}: not an HDF5 file. Save the model again.")
    else:
        raise ArtefactError(
            f"{path}: expected a name ending in .keras, .h5 or .hdf5, or a SavedModel's folder."
        )


def look_into(path: Path) -> ModelFile:
    """Return what a model file says of itself.

    Raises:
        ArtefactError: It is missing, damaged, or no model file.
    """
    check_model_file(path)
    if path.is_dir():
        return ModelFile(path, "saved_model", "2", _configs_of_folder(path))
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            config = _json(path, "config.json", archive.read("config.json"))
            about = {}
            if "metadata.json" in names:
                about = _json(path, "metadata.json", archive.read("metadata.json"))
        return ModelFile(path, "keras", _version(about), config)
    about = _ask_for_h5(path)
    if about["model_config"] is None:
        raise ArtefactError(
            f"{path}: holds weights without a model. Build the model, and call its load_weights."
        )
    config = _json(path, "its model_config", about["model_config"].encode())
    return ModelFile(path, "h5", _version(about), config)


def code_in(config: Any) -> Iterator[str]:
    """Name what in a config is code, or would be imported to be had."""
    if isinstance(config, list):
        for item in config:
            yield from code_in(item)
    if not isinstance(config, dict):
        return
    kind, inner = config.get("class_name"), config.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    if kind in ("Lambda", "__lambda__"):
        yield f"the Lambda layer {name!r}" if kind == "Lambda" else "a pickled function"
        return
    module = config.get("module")
    if isinstance(kind, str) and isinstance(module, str) and not _is_known(module, kind, config):
        yield f"the class {module}.{kind}"
    for value in config.values():
        yield from code_in(value)


def read_h5(path: str) -> dict[str, str | None]:
    """Return what an HDF5 file says of its model, after reading all of it once.

    Made to be run in a process of its own: a damaged file can end it.

    Raises:
        ValueError: An array is larger than the file can hold.
    """
    import h5py  # type: ignore[import-untyped]

    limit = os.path.getsize(path) * _MOST_COMPRESSION
    with h5py.File(path, "r") as file:
        found = {key: file.attrs.get(key) for key in ("model_config", "keras_version")}

        def visit(name: str, item: Any) -> None:
            for key in item.attrs:
                _ = item.attrs[key]
            if isinstance(item, h5py.Dataset):
                if item.nbytes > limit:
                    raise ValueError(f"{name} claims {item.nbytes} bytes")
                _ = item[()]

        file.visititems(visit)
        if found["model_config"] is not None and "model_weights" not in file:
            raise ValueError("no model_weights inside")
    return {key: _text(value) for key, value in found.items()}


def _text(value: Any) -> str | None:
    if isinstance(value, str):  # what is no UTF-8 comes from h5py as surrogates
        value = value.encode("utf-8", "surrogateescape")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def _ask_for_h5(path: Path) -> dict[str, Any]:
    from tfprune.workers.pool import ChildError, run_job

    limit_s = _H5_LIMIT_S + path.stat().st_size / 20e6
    try:
        reply: dict[str, Any] = run_job(read_h5, str(path.resolve()), limit_s=limit_s)
    except ChildError as error:
        reason = " ".join(str(error).split())
        raise ArtefactError(f"{path}: a damaged HDF5 file: {reason}. {_AGAIN}") from None
    return reply


def _check_folder(path: Path) -> None:
    if not (path / "saved_model.pb").is_file():
        raise ArtefactError(
            f"{path}: a folder without saved_model.pb. Name a .keras or .h5 file, or the folder of "
            "a SavedModel."
        )
    if not (path / "keras_metadata.pb").is_file():
        raise ArtefactError(
            f"{path}: a SavedModel without Keras layers (written by model.export or "
            "tf.saved_model.save): a graph to run, not a model to work on. Save the model itself "
            "as .keras."
        )


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = archive.namelist()
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArtefactError(
            f"{path}: truncated, or not a .keras file: {reason}. {_AGAIN}"
        ) from None
    if damaged:
        raise ArtefactError(f"{path}: {damaged} inside of it is damaged. {_AGAIN}")
    if "config.json" not in names:
        raise ArtefactError(f"{path}: no config.json inside, so not a .keras file. {_AGAIN}")


def _configs_of_folder(path: Path) -> list[Any]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tf_keras.protobuf import saved_metadata_pb2

    metadata = saved_metadata_pb2.SavedMetadata()
    try:
        metadata.ParseFromString((path / "keras_metadata.pb").read_bytes())
    except DecodeError as error:
        raise ArtefactError(f"{path}: keras_metadata.pb is damaged: {error}. {_AGAIN}") from None
    return [_json(path, "keras_metadata.pb", node.metadata.encode()) for node in metadata.nodes]


def _json(path: Path, what: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: {what} is damaged: {error}. {_AGAIN}") from None


def _version(about: Any) -> str:
    version = about.get("keras_version") if isinstance(about, dict) else None
    return version if isinstance(version, str) else ""


def _is_old(config: Any) -> bool:
    """Say whether a config that names no version uses the words of Keras 2."""
    if isinstance(config, list):
        return any(map(_is_old, config))
    if not isinstance(config, dict):
        return False
    module = str(config.get("module"))
    if "batch_input_shape" in config or module.startswith(("tf_keras", "keras.src.engine")):
        return True
    return any(map(_is_old, config.values()))


def _is_known(module: str, kind: str, config: dict[str, Any]) -> bool:
    if module.partition(".")[0] in _KERAS:
        return True
    for api in ("keras", "tf_keras"):
        loaded = sys.modules.get(api)
        name = config.get("registered_name")
        if loaded is not None and name and loaded.saving.get_registered_object(name) is not None:
            return True
    # A Keras class that the caller has imported already: having it runs nothing new.
    found = getattr(sys.modules.get(module), kind, None)
    return isinstance(found, type) and any(
        parent.__module__.partition(".")[0] in ("keras", "tf_keras") for parent in found.__mro__
    )
